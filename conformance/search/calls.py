"""The calls that a search makes: those of `conformance.strategies`, large and hostile ones included, as cases.

To a call come a cotangent and, here and there, how an input lies in memory.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
from hypothesis import strategies as st

from conformance import strategies
from conformance.case import Array, Case, output_shape, rounded
from conformance.search.subject import LIKE
from refimpl.operations import operation

LARGE = 2**17  # elements of the largest array: a pair of classes in as many rows as float16 counts to
FAR = 3  # rows that are laid out gigabytes apart
COTANGENTS = (1.0, 0.0, -1.0, 2.0, 0.5, 1.375, -0.75, 1024.0)  # few bits: that their products are rounded tells nothing of a gradient
PATTERNS = tuple(st.lists(st.sampled_from(COTANGENTS), min_size=1, max_size=most) for most in (1, 2, 3))
OFTEN = st.sampled_from((False,) * 4 + (True,))


@st.composite
def cases(draw: st.DrawFn, /, name: str, dtype: str) -> Case:
    """Cases of the operation of that name in a dtype."""
    stated = operation(name)
    call = draw(_calls(name, dtype))
    inputs = {key: value for key, value in call.items() if key in stated.inputs}
    parameters = {key: value for key, value in call.items() if key in stated.parameters}
    shape = output_shape(stated, call)
    pattern = draw(PATTERNS[min(len(PATTERNS), max(1, math.prod(shape))) - 1])
    cotangent = rounded(np.resize(np.array(pattern), shape), dtype)
    layouts = _layouts(draw, {**inputs, "cotangent": cotangent}) if draw(OFTEN) else {}
    return Case(f"{name}/{LIKE}-{dtype}", name, dtype, inputs, parameters, cotangent, (), layouts=layouts)


@cache
def _calls(name: str, dtype: str) -> st.SearchStrategy[dict[str, Any]]:
    return strategies.inputs(name, dtype=dtype, large=LARGE, hostile=True)


def _layouts(draw: st.DrawFn, arrays: Mapping[str, Array]) -> dict[str, str]:
    """Another layout for one of the arrays."""
    name = draw(st.sampled_from(list(arrays)))
    possible = list(_possible(arrays[name]))
    return {name: draw(st.sampled_from(possible))} if possible else {}


def _possible(array: Array) -> tuple[str, ...]:
    """The layouts that an array can have beside the contiguous one."""
    if array.size == 0 or array.ndim == 0:
        return ()
    rows = array.reshape(len(array), -1)
    return (
        "strided",
        "offset",
        *(("transposed", "padded") if array.ndim > 1 else ()),
        *(("expanded",) if len(rows) > 1 and all(row.tobytes() == rows[0].tobytes() for row in rows) else ()),
        *(("far",) if 1 < len(rows) <= FAR else ()),
    )
