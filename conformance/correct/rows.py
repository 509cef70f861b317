"""Log-softmax and softmax of rows in ways that kernels really take, each in the arithmetic of the rows' dtype.

A function takes rows (R, V), a total (the order of its sums, in the accumulator's dtype) and gives (lp, p). The accumulator is the
rows' dtype or wider: a half-precision sum over a vocabulary is no sum.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from conformance.adapter import Array
from conformance.bound import Accuracy, Summation
from conformance.correct.sums import LANES, PAIRWISE, SEQUENTIAL, Order, blocked

Total = Callable[[Array], Array]  # (R, V) in the rows' dtype -> (R, 1) in the accumulator's
Pair = tuple[Array, Array]


def highest(x: Array) -> Array:
    """The maximum of each row, (R, 1); a nan where there is one. (ml_dtypes' maximum of bfloat16 does the same.)"""
    return np.asarray(np.maximum.reduce(x, axis=-1, keepdims=True))


def wide(x: Array) -> Array:
    """What sums are kept in: float32 for half precision."""
    return x.astype(np.float32) if x.dtype.itemsize < 4 else x


def shifted(x: Array, total: Total) -> Pair:
    """The textbook: d = x - max, e = exp(d), lp = d - ln S, p = e/S."""
    d = x - highest(x)
    e = np.exp(d)
    s = total(e)
    return d - np.log(s).astype(x.dtype), (wide(e) / s).astype(x.dtype)


def exponentiated(x: Array, total: Total) -> Pair:
    """The softmax as the exponential of the log-softmax."""
    d = x - highest(x)
    lp = d - np.log(total(np.exp(d))).astype(x.dtype)
    return lp, np.exp(lp)


def powers_of_two(x: Array, total: Total) -> Pair:
    """exp2 of a gap times log2 e, as a GPU has it, and log2."""
    d = x - highest(x)
    e = np.exp2(d * x.dtype.type(1.4426950408889634))
    s = total(e)
    return d - (np.log2(s) * s.dtype.type(0.6931471805599453)).astype(x.dtype), (wide(e) / s).astype(x.dtype)


def whole_lse(x: Array, total: Total) -> Pair:
    """lp = x - lse: the maximum is added back before the subtraction."""
    top = highest(x)
    e = np.exp(x - top)
    s = total(e)
    lse = top + np.log(s).astype(x.dtype)
    return x - lse, (wide(e) / s).astype(x.dtype)


def without_maximum(x: Array, total: Total) -> Pair:
    """ln S = log1p(rest): the maximum's own 1 stays out of the sum."""
    d = x - highest(x)
    e = np.exp(d)
    rest, first = e.copy(), np.argmax(wide(x), axis=-1, keepdims=True)
    np.put_along_axis(rest, first, np.take_along_axis(e, first, axis=-1) - x.dtype.type(1.0), axis=-1)  # 0, or a nan that stays
    r = total(rest)
    return d - np.log1p(r).astype(x.dtype), (wide(e) / (r + r.dtype.type(1.0))).astype(x.dtype)


def _blocks(x: Array, block: int) -> list[Array]:
    return [x[:, start : start + block] for start in range(0, x.shape[1], block)]


def _relative(x: Array, top: Array) -> Array:
    """exp(x - top), where a block of nothing but -inf has a top of -inf and exponentials of 0."""
    return np.exp(np.where(np.isneginf(top), x, x - np.where(np.isneginf(top), np.zeros_like(top), top)))


def online(x: Array, total: Total) -> Pair:
    """One pass: a running maximum, and a running sum that is rescaled whenever the maximum grows. Blocks of 32 classes."""
    top, s = np.full((len(x), 1), -np.inf, x.dtype), wide(np.zeros((len(x), 1), x.dtype))
    for part in _blocks(x, 32):
        higher = np.maximum(top, highest(part))
        s = s * wide(_relative(top, higher)) + total(_relative(part, higher))
        top = higher
    d = x - top
    return d - np.log(s).astype(x.dtype), (wide(np.exp(d)) / s).astype(x.dtype)


def chunked(x: Array, total: Total) -> Pair:
    """A maximum and a sum for each chunk of 256 classes, brought together at the end; the softmax from the log-softmax."""
    parts = _blocks(x, 256)
    tops = np.concatenate([highest(part) for part in parts], axis=1)
    sums = np.concatenate([total(_relative(part, tops[:, i : i + 1])) for i, part in enumerate(parts)], axis=1)
    top = highest(tops)
    s = np.add.accumulate(sums * wide(_relative(tops, top)), axis=1)[:, -1:]
    lp = (x - top) - np.log(s).astype(x.dtype)
    return lp, np.exp(lp)


def two_pass(x: Array, total: Total) -> Pair:
    """The first pass finds the maximum, the second sums; the softmax is formed by the reciprocal of the sum."""
    d = x - highest(x)
    s = total(np.exp(d))
    inverse = s.dtype.type(1.0) / s
    return d - np.log(s).astype(x.dtype), (wide(np.exp(d)) * inverse).astype(x.dtype)


@dataclass(frozen=True)
class Style:
    """A way to a log-softmax: the function, the order of its sums, and what it promises.

    `half` says how it treats half precision: "own" computes in it, "store" computes in float32 and keeps in half precision what it
    has computed, "float32" and "float64" only round the results.
    """

    name: str
    rows: Callable[[Array, Total], Pair]
    order: Order
    half: str
    accuracy: Accuracy = "A"
    gap: float = 1.0
    summation: Summation | None = None  # where blocks make another one of it than `order` has
    fused: bool = False  # the gradient is p (f C) - c f, as a fused kernel writes it, not f (p C - c)


STYLES = (
    Style("sequential", shifted, SEQUENTIAL, "store"),
    Style("pairwise", shifted, PAIRWISE, "own"),
    Style("blocked", shifted, blocked(64), "float32"),
    Style("lanes", shifted, LANES, "store"),
    Style("online", online, blocked(32), "float32", summation=Summation("online", 1, 32), gap=2.0),
    Style("chunked", chunked, blocked(256), "own", summation=Summation("online", 1, 256), gap=2.0),
    Style("two-pass", two_pass, LANES, "own"),
    Style("fused", shifted, LANES, "float32", fused=True),
    Style("lse-minus", whole_lse, PAIRWISE, "float32", "B"),
    Style("exp2", powers_of_two, LANES, "store", gap=3.0),
    Style("exp-log-softmax", exponentiated, blocked(64), "store", gap=2.0),
    Style("log1p", without_maximum, PAIRWISE, "float32", "S"),
    Style("narrow-sums", shifted, PAIRWISE, "narrow", "N"),
    Style("float64", without_maximum, LANES, "float64", "S"),
)
