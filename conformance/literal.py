"""Arrays as short Python expressions, exact: small ones number by number, large ones by what they are made of.

An expression is a nested list, or one of NumPy (as `np`) in float64 or int64; whoever makes a tensor of it names the dtype. `inf` and
`nan` stand for themselves.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conformance.case import Array, rounded

SMALL = 40  # numbers of an array that are still written out
RUNS = 6  # stretches of one number
CYCLE = 12  # numbers that come over and over


def expression(array: Array) -> str:
    """The array as an expression."""
    wide = _wide(array)
    if array.size == 0:
        return f"np.zeros({_shape(array.shape)})"
    if array.size > SMALL:
        for text, made in _candidates(wide, array):
            if _same(made, wide):
                return text
        return _packed(array)
    return _nested(array)


def _nested(array: Array) -> str:
    if array.ndim == 0:
        return _number(array)
    return "[" + ", ".join(_nested(np.asarray(part)) for part in array) + "]"


def _number(array: Array) -> str:
    """One element in the fewest digits that are read as the same number, whether or not by way of float32."""
    if array.dtype.kind in "iu":
        return str(array[()])
    value = float(array[()])
    short = str(array[()])
    if short.lstrip("-").isdecimal():  # bfloat16 leaves out the point, and with it the sign of zero
        return short + ".0"
    by_float32 = rounded(np.asarray(np.float32(float(short)), np.float64), array.dtype.name) if array.dtype != np.float64 else array
    exact = float(rounded(np.asarray(float(short)), array.dtype.name)) == value == float(by_float32)
    return short if exact or value != value else repr(value)


def _candidates(wide: NDArray[Any], array: Array) -> Iterator[tuple[str, NDArray[Any]]]:
    """Expressions that may give the array, the shortest first, each with what it gives."""
    flat, shape = wide.reshape(-1), wide.shape
    first, given = _number(array.reshape(-1)[0]), _shape(shape)
    if flat[0] == 0 and not np.signbit(flat[0]):
        yield f"np.zeros({given})", np.zeros(shape)
    yield f"np.full({given}, {first})", np.full(shape, flat[0])
    if wide.ndim > 1 and shape[0] > 1 and all(_same(row, wide[0]) for row in (wide[1], wide[-1])):
        ones = (1,) * (wide.ndim - 1)
        yield f"np.tile({expression(array[0])}, {_shape((shape[0], *ones))})", np.tile(wide[0], (shape[0], *ones))
    at = np.flatnonzero((flat[1:] != flat[:-1]) & ~(np.isnan(flat[1:]) & np.isnan(flat[:-1]))) + 1
    if at.size < RUNS:
        begins = [0, *map(int, at)]
        lengths = np.diff([*begins, flat.size]).tolist()
        numbers = ", ".join(_number(array.reshape(-1)[i]) for i in begins)
        yield _shaped(f"np.repeat([{numbers}], {lengths})", shape), np.repeat(flat[begins], lengths).reshape(shape)
    for size in range(2, CYCLE + 1):
        if _same(flat[size : 2 * size], flat[:size]):
            yield f"np.resize({_nested(array.reshape(-1)[:size])}, {given})", np.resize(flat[:size], shape)
    with np.errstate(invalid="ignore"):
        step = flat[1] - flat[0]
        ramp = np.arange(flat.size) * step + flat[0]
    yield _shaped(f"np.arange({flat.size})*{step!s} + {first}", shape), ramp.reshape(shape)


def _packed(array: Array) -> str:
    """The elements' bytes, compressed: for what has no structure."""
    stored = array.astype(np.float32) if array.dtype.name == "bfloat16" else array
    text = base64.b85encode(zlib.compress(np.ascontiguousarray(stored).tobytes(), 9)).decode()
    made = f"np.frombuffer(zlib.decompress(base64.b85decode({text!r})), {stored.dtype.str!r})"
    return f"{made}.reshape({_shape(array.shape)})"


def _shaped(text: str, shape: tuple[int, ...]) -> str:
    if len(shape) == 1:
        return text
    return f"({text}).reshape({_shape(shape)})" if " " in text and not text.startswith("np.repeat") else f"{text}.reshape({_shape(shape)})"


def _shape(shape: tuple[int, ...]) -> str:
    return str(shape[0]) if len(shape) == 1 else str(shape)


def _wide(array: Array) -> NDArray[Any]:
    with np.errstate(invalid="ignore"):  # a nan of bfloat16
        return array if array.dtype.kind in "iu" else array.astype(np.float64)


def _same(a: NDArray[Any], b: NDArray[Any]) -> bool:
    """Whether two arrays hold the same numbers, nan and the sign of zero included."""
    return a.shape == b.shape and bool(((a == b) & (np.signbit(a) == np.signbit(b)) | (np.isnan(a) & np.isnan(b))).all())
