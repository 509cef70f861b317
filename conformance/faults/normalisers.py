"""Wrong softmaxes: one mistake each in log p and p of rows, for every operation that begins with logits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np

from conformance.adapter import Array
from conformance.faults.smoothed import Rows, Softmax, softmax
from conformance.faults.steps import total


def of_gap(gap: Array) -> Softmax:
    """The softmax from logits minus what stands for their maximum."""
    e = np.exp(gap)
    sum_e = total(e)[:, None]
    return Softmax(gap - np.log(sum_e), e / sum_e)


def no_maximum(r: Rows) -> Softmax:
    return of_gap(r.x)


def log_of_softmax(r: Rows) -> Softmax:
    p = softmax(r).p
    return Softmax(np.log(p), p)


def log_of_p_plus_epsilon(r: Rows) -> Softmax:
    p = softmax(r).p
    return Softmax(np.log(p + r.number(1e-10)), p)


def clipped_p(r: Rows) -> Softmax:
    p = softmax(r).p
    return Softmax(np.log(np.clip(p, r.number(1e-7), r.number(1.0 - 1e-7))), p)


def minus_lse(r: Rows) -> Softmax:
    """Logits minus the rounded log-sum-exp: the maximum is added and subtracted again."""
    lse = r.x.max(axis=1, keepdims=True) - softmax(r).log_p.max(axis=1, keepdims=True)
    return Softmax(r.x - lse, softmax(r).p)


def from_saved_lse(r: Rows) -> Softmax:
    """p from the log-sum-exp that the forward pass saved."""
    log_p = minus_lse(r).log_p
    return Softmax(log_p, np.exp(log_p))


def from_lse_in_bfloat16(r: Rows) -> Softmax:
    """p from a log-sum-exp that was saved in bfloat16."""
    lse = r.x.max(axis=1, keepdims=True) - softmax(r).log_p.max(axis=1, keepdims=True)
    log_p = r.x - lse.astype(ml_dtypes.bfloat16).astype(r.number)
    return Softmax(log_p, np.exp(log_p))


def saturated_at_64(r: Rows) -> Softmax:
    s = softmax(r)
    return Softmax(np.maximum(s.log_p, -64), s.p)


def lse_in_bits(r: Rows) -> Softmax:
    gap = r.x - r.x.max(axis=1, keepdims=True)
    e = np.exp(gap)
    sum_e = total(e)[:, None]
    return Softmax(gap - np.log2(sum_e), e / sum_e)


def maximum_of_all(r: Rows) -> Softmax:
    return of_gap(r.x - r.x.max(initial=-np.inf))


def maximum_from_0(r: Rows) -> Softmax:
    return of_gap(r.x - r.x.max(axis=1, keepdims=True, initial=0))


def online(r: Rows, block: int, rescale: bool = True) -> Softmax:
    """Blocks in turn, as an online softmax takes them: right where it rescales and meets no row that begins with a masked block."""
    top, sum_e = np.full((len(r.x), 1), -np.inf, r.x.dtype), np.zeros((len(r.x), 1), r.x.dtype)
    for start in range(0, r.classes, block):
        part = r.x[:, start : start + block]
        higher = np.maximum(top, part.max(axis=1, keepdims=True))
        sum_e = (sum_e * np.exp(top - higher) if rescale else sum_e) + total(np.exp(part - higher))[:, None]
        top = higher
    return Softmax(r.x - top - np.log(sum_e), np.exp(r.x - top) / sum_e)


def two_shards(r: Rows) -> Softmax:
    """Each half of the classes has a maximum of its own; the larger goes with the sum of both sums."""
    half = -(-r.classes // 2)
    top, sum_e = r.x.max(axis=1, keepdims=True), np.zeros((len(r.x), 1), r.x.dtype)
    for part in (r.x[:, :half], r.x[:, half:]):
        own = part.max(axis=1, keepdims=True, initial=-np.inf)
        sum_e = sum_e + np.where(np.isneginf(own), 0, total(np.exp(part - own))[:, None])
    return Softmax(r.x - top - np.log(sum_e), np.exp(r.x - top) / sum_e)


def over(x: Array, r: Rows) -> Softmax:
    """The softmax of the rows whose sum runs over other classes, `x`: padded, or some left out."""
    top = x.max(axis=1, keepdims=True)
    sum_e = total(np.exp(x - top))[:, None]
    return Softmax(r.x - top - np.log(sum_e), np.exp(r.x - top) / sum_e)


def zero_padded_tail(r: Rows, block: int) -> Softmax:
    """The last of several tiles is padded with 0 in place of -inf."""
    phantom = -r.classes % block if r.classes > block else 0
    return over(np.pad(r.x, ((0, 0), (0, phantom))), r)


def dropped_tail(r: Rows, block: int) -> Softmax:
    """Only whole blocks are summed, where there is one."""
    return over(r.x[:, : max(r.classes // block * block, min(block, r.classes))], r)


def summed_in(r: Rows, dtype: Any) -> Softmax:
    """The sum of the exponentials is kept in a half dtype, one class after the other."""
    gap = r.x - r.x.max(axis=1, keepdims=True)
    e = np.exp(gap)
    sum_e = np.add.accumulate(e.astype(dtype), axis=1)[:, -1:].astype(r.number)
    return Softmax(gap - np.log(sum_e), e / sum_e)


def gap_in(r: Rows, dtype: Any) -> Softmax:
    """The maximum is subtracted in a half dtype."""
    return of_gap((r.x.astype(dtype) - r.x.max(axis=1, keepdims=True).astype(dtype)).astype(r.number))


def through_float32(r: Rows) -> Softmax:
    """float64 logits are loaded as float32."""
    s = softmax(replace(r, x=r.x.astype(np.float32)))
    return Softmax(s.log_p.astype(r.number), s.p.astype(r.number))


def exponential_of_14_bits(r: Rows) -> Softmax:
    """A fast exponential: a table of 64 steps an octave, and a line between two steps."""
    gap = r.x - r.x.max(axis=1, keepdims=True)
    steps = np.floor(gap * r.number(64 / np.log(2)))
    rest = gap - steps * r.number(np.log(2) / 64)
    e = np.where(np.isneginf(gap), 0, np.exp2(steps / 64) * (1 + rest))
    sum_e = total(e)[:, None]
    return Softmax(gap - np.log(sum_e), e / sum_e)


def nan_to_num(r: Rows) -> Softmax:
    return softmax(replace(r, x=np.nan_to_num(r.x)))


def masked_as_1e9(r: Rows) -> Softmax:
    return softmax(replace(r, x=np.maximum(r.x, r.number(-1e9))))
