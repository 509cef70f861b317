"""How often the enclosures of a sweep leave a rounding to the exact form, and how often that can't decide it either."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from refimpl.enclosure import FORMATS, Enclosure, Undecided
from refimpl.operation import Operation
from tests import inputs

INPUTS = 1000  # for each operation
MOST = 60  # elements of an answer that are looked at


def counts(operation: Operation, seed: int = 13, wanted: int = INPUTS) -> dict[str, Any]:
    """Elements of outputs and gradients that were rounded to each format, and of how many the exact form was asked, or knew nothing."""
    rng = np.random.default_rng([seed, *operation.name.encode()])
    elements, asked, undecided = 0, dict.fromkeys(FORMATS, 0), dict.fromkeys(FORMATS, 0)
    for call, _ in inputs.calls(rng, operation, wanted):
        output = operation.forward(**call)
        g = inputs.cotangent(rng, output.shape)
        for answer in (output, *operation.vjp(cotangent=g, **call).values()):
            where = rng.permutation(answer.size)[:MOST]
            e = answer[np.unravel_index(where, answer.shape)] if answer.shape else answer
            elements += e.size
            for dtype in FORMATS:
                open_ones, unknown = _round(e, dtype)
                asked[dtype] += open_ones
                undecided[dtype] += unknown
    return {"elements": elements, "asked": asked, "undecided": undecided}


def _round(e: Enclosure, dtype: str) -> tuple[int, int]:
    """Of how many elements the exact form was asked, and how many stayed undecided."""
    asked: set[int] = set()

    def spy(where: Any, bits: int) -> Any:
        asked.update(np.atleast_1d(where).tolist())
        assert e.exact is not None
        return e.exact(where, bits)

    try:
        replace(e, exact=spy).round(dtype)
    except Undecided:
        if e.size == 1:
            return 1, 1
        pairs = [_round(e[index : index + 1], dtype) for index in range(e.size)]
        return sum(pair[0] for pair in pairs), sum(pair[1] for pair in pairs)
    return len(asked), 0
