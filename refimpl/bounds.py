"""What correct code can get wrong: the pieces of the operations' error bounds, in float64.

A bound is derived from an `Arithmetic`, never from a measurement. With u = unit, a = accumulate, s = store, and per row
d_v = x_v - max x, S = sum of exp(d_v), L = ln S, G = sum of p_v |d_v| (at most the entropy of p), h(V) a = `sum_error(V)`:

    d_v    one subtraction                                        u |d_v|
    S      exponentials (gap * u |d_v| + exp * u), then the sum   relative (h a + exp u + gap u G)
    L      the error of S, then log; S and L may be stored         h a + u (exp + gap G + log L) + s (1 + L)
    lp_v = d_v - L                                                u |d_v| + error(L) + (u + s) |lp_v|
           formed as x_v - (L + max x) instead (subtracts_lse)    adds u (|L + max x| + |x_v|)
    p_v = exp(lp_v) or exp(d_v)/S                                 relative: error(lp_v) + u (exp + gap |d_v| + 2)

These are first-order; a factor of 1 + 2^-6 covers the higher orders, since a promise with a sum_error of 1/4 or more is void
and all other terms are far smaller.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from refimpl.operation import Arithmetic

Float = NDArray[np.float64]

MARGIN = 1.0 + 2.0**-6


@dataclass(frozen=True)
class LogSoftmax:
    """Log-softmax of rows and how far correct code can be from it: arrays of the logits' shape, class axis last.

    A row without a softmax, and a masked class, have an error of nan or inf there: such values are judged by kind alone.
    """

    value: Float
    error: Float  # absolute
    probability: Float
    relative: Float  # of the probability

    @staticmethod
    def of(arithmetic: Arithmetic, logits: Float) -> LogSoftmax:
        """From logits (..., V) as float64."""
        u = arithmetic.unit
        with np.errstate(all="ignore"):
            top = logits.max(axis=-1, keepdims=True)
            gap = top - logits
            e = np.exp(-gap)
            total = e.sum(axis=-1, keepdims=True)
            p = e / total
            spread = np.sum(np.where(e > 0.0, p * gap, 0.0), axis=-1, keepdims=True)
            lse = np.log(total)
            value = -gap - lse
            error = arithmetic.sum_error(logits.shape[-1]) + u * (arithmetic.exp + arithmetic.gap * spread + arithmetic.log * lse)
            error = error + u * gap + (u + arithmetic.store) * np.abs(value) + arithmetic.store * (1.0 + lse)
            if arithmetic.subtracts_lse:
                error = error + u * (np.abs(lse + top) + np.abs(logits))
            relative = error + u * (arithmetic.exp + arithmetic.gap * gap + 2.0)
            relative = np.where(e > 0.0, relative, 0.0)  # of a probability that is 0, masked or underflowed: 0, not 0*inf
        return LogSoftmax(value, error, p, relative)


def sum_bound(arithmetic: Arithmetic, terms: Float, errors: Float, axis: int | None = None) -> Float:
    """The error of a sum along `axis`, of terms that carry `errors` already; infinite terms count as none."""
    count = terms.size if axis is None else terms.shape[axis]
    with np.errstate(all="ignore"):
        magnitude = np.where(np.isfinite(terms), np.abs(terms), 0.0).sum(axis=axis)
        spread = np.where(np.isfinite(errors), errors, 0.0).sum(axis=axis)
    return np.asarray(spread + arithmetic.sum_error(count) * magnitude)


def mean_bound(arithmetic: Arithmetic, terms: Float, errors: Float, denominator: float) -> Float:
    """The error of sum(terms)/denominator, where the denominator may itself be a sum of as many weights."""
    if not denominator > 0.0:
        return np.asarray(np.nan)
    total = sum_bound(arithmetic, terms, errors)
    finite = np.where(np.isfinite(terms), np.abs(terms), 0.0).sum()
    return np.asarray((total + (arithmetic.sum_error(terms.size) + 2 * arithmetic.unit) * finite) / denominator)
