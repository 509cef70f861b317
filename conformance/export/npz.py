"""A vector as a .npz file, `<operation>/<group>/<name>.npz`.

input.<name>, cotangent                         the arrays of the call; those of bfloat16 as float32, which holds each exactly
expected.<n>.output.<part>                      of the n-th expectation; <part> is hi, lo, radius, kind, and where there are
expected.<n>.gradient.<input>.<part>            such: where, total (hi, lo, radius), terms
about                                           the rest, as JSON in a text: id, dtype, parameters, choices, ...
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from conformance.case import Array, Expected, Vector
from conformance.export.plain import about


def write(vector: Vector, folder: Path) -> str:
    """Writes the vector's file; nothing is ever left out."""
    case = vector.case
    path = folder / f"{case.id}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {f"input.{name}": array for name, array in case.inputs.items()}
    if case.cotangent is not None:
        arrays["cotangent"] = case.cotangent
    arrays = {name: array.astype(np.float32) if array.dtype.name == "bfloat16" else array for name, array in arrays.items()}
    for number, expectation in enumerate(vector.expectations):
        for name, expected in {"output": expectation.output, **{f"gradient.{k}": e for k, e in expectation.gradients.items()}}.items():
            arrays |= {f"expected.{number}.{name}.{part}": array for part, array in _parts(expected)}
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **{"about": np.array(json.dumps(about(vector), sort_keys=True)), **arrays})
    return ""


def _parts(expected: Expected) -> Iterator[tuple[str, Array]]:
    values = expected.values
    yield "kind", values.kind
    yield from (("hi", values.hi), ("lo", values.lo), ("radius", values.radius))
    if expected.where is not None:
        yield "where", expected.where
    if expected.total is not None:
        yield "total", np.array([expected.total.hi, expected.total.lo, expected.total.radius])
    if expected.terms is not None:
        yield "terms", expected.terms
