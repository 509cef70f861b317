"""Mistakes in the gradients of the two softmax losses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from conformance.adapter import Array
from conformance.faults.smoothed import Rows, Softmax, factors, gradient, softmax, zeroed
from conformance.faults.steps import total


def cotangent_1(r: Rows, cotangent: Array, divisor: Any) -> Array:
    return factors(r, np.ones_like(cotangent), divisor)


def cotangent_of_first(r: Rows, cotangent: Array, divisor: Any) -> Array:
    return factors(r, np.full_like(cotangent, cotangent.flat[0]) if cotangent.size else cotangent, divisor)


def zero_is_absent(r: Rows, cotangent: Array, divisor: Any) -> Array:
    return factors(r, np.where(cotangent == 0, np.ones_like(cotangent), cotangent), divisor)


def none_zero(r: Rows, cotangent: Array, divisor: Any) -> Array:
    return factors(r, cotangent * 0 if r.reduction == "none" else cotangent, divisor)


def factor_in(dtype: Any) -> Any:
    """1/N is rounded to a half dtype, then multiplied with the cotangent."""

    def rounded(r: Rows, cotangent: Array, divisor: Any) -> Array:
        if divisor is None:
            return factors(r, cotangent, None)
        return factors(r, cotangent, None) * (1 / divisor).astype(dtype).astype(r.number)

    return rounded


def without_target(r: Rows, s: Softmax, c: Array, f: Array) -> Array:
    return zeroed(r, f[:, None] * s.p * total(c)[:, None], f)


def without_softmax(r: Rows, s: Softmax, c: Array, f: Array) -> Array:
    return np.where(np.isnan(s.p), zeroed(r, s.p, f), zeroed(r, -f[:, None] * c, f))


def other_sign(r: Rows, s: Softmax, c: Array, f: Array) -> Array:
    return -gradient(r, s, c, f)


def through_probability(r: Rows, s: Softmax, c: Array, f: Array) -> Array:
    """The derivative of the logarithm times that of the softmax: -c/p, and p (... - sum p ...)."""
    slope = -c / s.p
    inner = total(slope * s.p)[:, None]
    return zeroed(r, f[:, None] * s.p * (slope - inner), f)


def dead_where_clipped(r: Rows, s: Softmax, c: Array, f: Array) -> Array:
    dead = np.any((c > 0) & (s.p < 1e-7), axis=1, keepdims=True)
    return np.where(dead, 0, gradient(r, s, c, f))


def nan_where_infinite(r: Rows, s: Softmax, c: Array, f: Array) -> Array:
    lost = np.any((c > 0) & np.isneginf(s.log_p), axis=1, keepdims=True)
    return zeroed(r, np.where(lost, np.nan, gradient(r, s, c, f)), f)


def nan_as_0(r: Rows, s: Softmax, c: Array, f: Array) -> Array:
    g = gradient(r, s, c, f)
    return np.where(np.isnan(g), 0, g)


def floored_at_80(r: Rows) -> Softmax:
    s = softmax(r)
    return Softmax(s.log_p, np.maximum(s.p, np.exp(r.number(-80))))


def flushed(r: Rows) -> Softmax:
    s = softmax(r)
    return Softmax(s.log_p, np.where(s.p < np.finfo(r.number).tiny, 0, s.p))


def of_ignored(r: Rows, s: Softmax, c: Array, f: Array) -> Array:
    """Nothing is subtracted in an ignored row, and nothing zeroed."""
    every = replace(r, kept=np.ones_like(r.kept))
    g = gradient(every, s, np.where(r.kept[:, None], c, 0), f)
    return np.where(r.kept[:, None], g, zeroed(every, f[:, None] * s.p, f))


def ignored_times_0(r: Rows, s: Softmax, c: Array, f: Array) -> Array:
    return gradient(replace(r, kept=np.ones_like(r.kept)), s, c, np.where(r.kept, f, 1)) * r.kept[:, None]


def nan_over_nothing(r: Rows, s: Softmax, c: Array, f: Array) -> Array:
    return gradient(r, s, c, f) if np.isfinite(f).all() else np.full_like(s.p, np.nan)


def first(r: Rows, s: Softmax, c: Array, f: Array, block: int) -> Array:
    g = gradient(r, s, c, f)
    g[:, block:] = 0
    return g


def without_tail(r: Rows, s: Softmax, c: Array, f: Array, block: int) -> Array:
    g = gradient(r, s, c, f)
    if r.classes > block:
        g[:, r.classes // block * block :] = 0
    return g


def target_in_first_block(r: Rows, s: Softmax, c: Array, f: Array, block: int) -> Array:
    """A class beyond the first block is subtracted at its place within the block, in the first."""
    if r.given is not None:
        return gradient(r, s, c, f)
    moved, rows = c.copy(), np.arange(len(c))
    on = c[rows, r.index] - c.min(axis=1)
    moved[rows, r.index] -= on
    moved[rows, r.index % block] += on
    return gradient(r, s, moved, f)
