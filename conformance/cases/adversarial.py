"""Adversarial arrays from a counter: what breaks a kernel, made of integers, so that every machine makes the same numbers.

Rows of classes are drawn one style a row, from the draws of `counter`. Integers become floating-point numbers exactly or by one IEEE
operation, never by a function of a mathematics library.

    logits            spreads from 2^-1000 to 8192, common offsets, ties, neighbours, subnormals, gaps at the ends of the exponential,
                      peaks, steps of the exponential's table, sorted rows; masks, and here and there a nan or a +inf
    probability       rows that sum to about 1, one-hot rows, subnormals, numbers up to 2^20 and around 1, zeros; here and there a negative
                      number, a nan or a +inf, but not in a target probability
    log_probability   what a logarithm may be, and a quarter of rows of logits
    weight            from 0.25 to 2, up to 2^60, or all so small that a quotient leaves float64; here and there 0
    huge ...          of logits and of both probabilities: the same, and rows up to the ends of float64
    cotangent         both signs, from 2^-40 to 2^40, and such that products leave float64 or are subnormal, or 0
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from conformance.case import Array, rounded
from conformance.cases.counter import Draws, draw
from refimpl.enclosure import FORMATS

Wide = NDArray[np.float64]
Style = Callable[[Draws, Draws, Draws], Wide]  # draws u, v of each element (rows, V), and one of each row (rows, 1)

INF = math.inf
_TINY = 2.0**-1074
_STEP = float.fromhex("0x1.62e42fefa39efp-10")  # ln 2/1024: a step of the exponential's table
_SCALES = (2.0**-1000, 2.0**-60, 2.0**-17, 0.125, 1.0, 8.0, 64.0, 512.0, 8192.0)
_LARGEST = FORMATS["float64"].largest


def make(holds: str, seed: int, shape: tuple[int, ...], axis: int, dtype: str) -> Array:
    """An array of a dtype with rows of classes along an axis; what lies beyond the dtype's range becomes its largest number."""
    if math.prod(shape) == 0:
        return np.zeros(shape, FORMATS[dtype].dtype)
    classes = shape[axis] if shape else 1
    rows = math.prod(shape) // classes
    draws = draw(seed, 0, 2 * rows * classes + rows)
    u, v = (draws[first : 2 * rows * classes : 2].reshape(rows, classes) for first in (0, 1))
    values = MAKERS[holds](u, v, draws[2 * rows * classes :].reshape(rows, 1))
    limit = FORMATS[dtype].largest
    array = rounded(np.where(np.isinf(values), values, np.clip(values, -limit, limit)), dtype)
    if len(shape) < 2:
        return array.reshape(shape)
    others = [size for n, size in enumerate(shape) if n != axis % len(shape)]
    return np.ascontiguousarray(np.moveaxis(array.reshape(*others, classes), -1, axis))


def near(array: Array, seed: int, dtype: str) -> Array:
    """Neighbours of an array's numbers, at a relative distance of a few units between 2^-3 and 2^-51: where a divergence cancels."""
    wide = array.astype(np.float64)
    draws = draw(seed, 0, array.size + 1)
    distance = _choose([2.0**-n for n in range(3, 52)], draws[-1:])
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        moved = wide * (1.0 + _whole(draws[:-1], 2).reshape(array.shape) * distance)
    limit = FORMATS[dtype].largest
    return rounded(np.where(np.isinf(wide), wide, np.clip(moved, -limit, limit)), dtype)


def _choose(table: Sequence[float], draws: Draws) -> Wide:
    """A number of the table for each draw."""
    return np.asarray(table, np.float64)[(draws % np.uint64(len(table))).astype(np.int64)]


def _whole(draws: Draws, reach: int) -> Wide:
    """A whole number from -reach to reach for each draw."""
    return (draws % np.uint64(2 * reach + 1)).astype(np.float64) - reach


def _fraction(draws: Draws) -> Wide:
    """A number in [0, 1), a multiple of 2^-53."""
    return (draws >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _floats(u: Draws, v: Draws, low: int, high: int) -> Wide:
    """Positive numbers with any significand and exponents from low to high, subnormal ones rounded."""
    significand = ((u & np.uint64(2**52 - 1)) | np.uint64(2**52)).astype(np.float64) * 2.0**-52
    exponent = (v % np.uint64(high - low + 1)).astype(np.int64) + low
    first = ((np.maximum(exponent, -1022) + 1023) << 52).view(np.float64)
    second = ((np.minimum(exponent + 1022, 0) + 1023) << 52).view(np.float64)
    with np.errstate(under="ignore"):
        return significand * first * second


def _sign(draws: Draws) -> Wide:
    return np.where(draws >> np.uint64(63) == 1, -1.0, 1.0)


def _bell(u: Draws, v: Draws) -> Wide:
    """About normal, standard deviation 0.58, within +-2: the sum of the four 16-bit pieces of u, with 30 more bits from v."""
    pieces = [((u >> np.uint64(shift)) & np.uint64(0xFFFF)).astype(np.float64) for shift in (0, 16, 32, 48)]
    low = (v & np.uint64(2**30 - 1)).astype(np.float64) * 2.0**-30
    return (pieces[0] + pieces[1] + pieces[2] + pieces[3] - 131070.0 + low) * 2.0**-16


def _far(u: Draws, v: Draws, row: Draws) -> Wide:
    return -_choose((0.0, 36.7, 104.0, 708.4, 745.2, 1339.9, 1340.0, 1340.1, 5000.0), u) - _fraction(v)


def _peaked(u: Draws, v: Draws, row: Draws) -> Wide:
    peak = np.arange(u.shape[1], dtype=np.uint64) == row % np.uint64(u.shape[1])
    return np.where(peak, _choose((30.0, 75.0, 650.0), row >> np.uint64(20)), 0.0) + _bell(u, v)


def _sorted(u: Draws, v: Draws, row: Draws) -> Wide:
    up = np.sort(_bell(u, v) * 64.0, axis=1)
    return np.where(row % np.uint64(2) == 0, up, up[:, ::-1])


_LOGITS: tuple[Style, ...] = (
    lambda u, v, row: _bell(u, v) * _choose(_SCALES, row),
    lambda u, v, row: _bell(u, v) * 4.0,
    lambda u, v, row: _bell(u, v) + _choose((-1e8, 1e4, 1e15, 1e300), row),
    lambda u, v, row: _whole(u, 2) * _choose((_TINY, 0.5, 1.0, 400.0), row),
    lambda u, v, row: _choose((0.25, 1.0, -8.0, 1e4), row) * (1.0 + _whole(u, 3) * 2.0**-52),
    lambda u, v, row: _whole(u, 9) * _TINY * _choose((1.0, 2.0**30, 2.0**51), v),
    lambda u, v, row: _sign(u) * _floats(u, v, -1074, 13),
    _far,
    _peaked,
    lambda u, v, row: -(u % np.uint64(2**13)).astype(np.float64) * _STEP * (1.0 + _whole(v, 2) * 2.0**-52),
    _sorted,
)
_HUGE: tuple[Style, ...] = (
    lambda u, v, row: _choose((1e308, -1e308, 1.7e308, -1.7e308, _LARGEST, -_LARGEST, 0.0, -0.0), u),
    lambda u, v, row: _sign(u) * _floats(u, v, -1074, 1023),
    lambda u, v, row: 2.0**961 * (1.0 + (u % np.uint64(3)).astype(np.float64) * 2.0**-52),
)


def _shares(u: Draws, v: Draws, row: Draws) -> Wide:
    root = (u & np.uint64(0xFFFF)).astype(np.int64) + 1  # squares, so that sums of 2^20 stay below 2^53
    return np.asarray(root * root / (root * root).sum(axis=1, keepdims=True))


def _one_hot(u: Draws, v: Draws, row: Draws) -> Wide:
    return (np.arange(u.shape[1], dtype=np.uint64) == row % np.uint64(u.shape[1])).astype(np.float64)


_PROBABILITY: tuple[Style, ...] = (
    _shares,
    lambda u, v, row: np.where(v % np.uint64(3) == 0, 0.0, _shares(u, v, row)),
    _one_hot,
    lambda u, v, row: (u % np.uint64(9)).astype(np.float64) * _TINY,
    lambda u, v, row: _floats(u, v, -1074, 20),
    lambda u, v, row: 1.0 + _whole(u, 3) * 2.0**-53,
)
_LARGE: tuple[Style, ...] = (
    lambda u, v, row: _floats(u, v, -1074, 1023),
    lambda u, v, row: _floats(u, v, 1000, 1023),
)
_NONE = (math.nan, INF, -0.0, -1.0, -_TINY)  # no probabilities
_LOG_PROBABILITY: tuple[Style, ...] = (lambda u, v, row: -((u & np.uint64(0xFFFF)).astype(np.float64) + 1.0) / 4096.0,)
_COTANGENT: tuple[Style, ...] = (
    lambda u, v, row: np.where(
        v >> np.uint64(60) == 0,
        0.0,
        _sign(u) * _floats(u, v, -40, 40) * _choose((1.0, 1.0, 2.0**-100, 2.0**-1000, 2.0**-1034, 2.0**300), v >> np.uint64(32)),
    ),
)


def _mixed(styles: Sequence[Style], u: Draws, v: Draws, row: Draws) -> Wide:
    """Each row in the style that its draw names."""
    result = np.empty(u.shape)
    style = (row >> np.uint64(32)) % np.uint64(len(styles))
    with np.errstate(under="ignore"):
        for number, values in enumerate(styles):
            chosen = np.flatnonzero(style == number)
            if chosen.size:
                result[chosen] = values(u[chosen], v[chosen], row[chosen])
    return result


def _spoilt(values: Wide, row: Draws, *bad: float) -> Wide:
    """One row in 64 holds a bad number somewhere."""
    rows = np.flatnonzero((row >> np.uint64(56)) % np.uint64(64) == 0)
    places = (row[rows, 0] % np.uint64(values.shape[1])).astype(np.int64)
    values[rows, places] = _choose(bad, row[rows, 0] >> np.uint64(16))
    return values


def _logits(styles: Sequence[Style], u: Draws, v: Draws, row: Draws) -> Wide:
    """Rows of logits: in two of five, some or most classes are masked."""
    values = _mixed(styles, u, v, row)
    masked = (v >> np.uint64(44)) % np.uint64(16) < _choose((0.0, 0.0, 0.0, 6.0, 15.0), row >> np.uint64(40))
    values[masked] = -INF
    return _spoilt(values, row, math.nan, INF, -INF)


def _log_probability(u: Draws, v: Draws, row: Draws) -> Wide:
    usual = _mixed(_LOG_PROBABILITY, u, v, row)
    return np.where((row >> np.uint64(48)) % np.uint64(4) == 0, _logits(_LOGITS, u, v, row), usual)


def _weight(u: Draws, v: Draws, row: Draws) -> Wide:
    usual = ((u % np.uint64(15)).astype(np.float64) + 2.0) / 8.0
    wild = np.where(u >> np.uint64(62) == 0, _floats(u, v, -1074, 60), usual)
    tiny = ((u % np.uint64(11)).astype(np.float64) + 1.0) * _choose((_TINY, 2.0**-1070, 2.0**-1000), row >> np.uint64(8))
    values = np.choose((row % np.uint64(4)).astype(np.int64), (usual, usual, wild, tiny))
    return np.where(v >> np.uint64(61) == 0, 0.0, values)


MAKERS: dict[str, Callable[[Draws, Draws, Draws], Wide]] = {
    "logits": lambda u, v, row: _logits(_LOGITS, u, v, row),
    "huge logits": lambda u, v, row: _logits((*_LOGITS, *_HUGE, *_HUGE), u, v, row),
    "probability": lambda u, v, row: _spoilt(_mixed(_PROBABILITY, u, v, row), row, *_NONE),
    "huge probability": lambda u, v, row: _spoilt(_mixed((*_PROBABILITY, *_LARGE), u, v, row), row, *_NONE),
    "target probability": lambda u, v, row: _mixed(_PROBABILITY, u, v, row),
    "huge target probability": lambda u, v, row: _mixed((*_PROBABILITY, *_LARGE), u, v, row),
    "log_probability": _log_probability,
    "weight": _weight,
    "cotangent": lambda u, v, row: _mixed(_COTANGENT, u, v, row),
}
