"""Wrong kernels of the entropy of the softmax of logits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from conformance.adapter import Array
from conformance.faults import steps
from conformance.faults.steps import BFLOAT16, FLOAT16, HALVES, Answer, first_classes, first_row, in_dtype, narrow_total, pull, total

Sum = Callable[[Array], Array]


def _top(x: Array) -> Array:
    return x.max(-1, keepdims=True)


def _weighted(e: Array, gap: Array) -> Array:
    """e times its gap, where a masked class has no e."""
    return np.where(e == 0, 0, e * gap)


def _scan(
    x: Array, *, top: Sum = _top, weighted: Callable[[Array, Array], Array] = _weighted, add: Sum = total
) -> tuple[Array, Array, Array]:
    """The maximum of each row, S = sum exp(-gap) and T = sum gap exp(-gap), each (..., 1)."""
    most = top(x)
    gap = most - x
    e = np.exp(-gap)
    return most, add(e)[..., None], add(weighted(e, gap))[..., None]


@dataclass(frozen=True)
class Steps:
    """The scan of a row; the entropy from the maximum and both sums; the cotangent; the gradient from exp(-gap), gap, S and T."""

    scan: Callable[[Array], tuple[Array, Array, Array]] = _scan
    entropy: Callable[[Array, Array, Array], Array] = lambda top, s, t: np.log(s) + t / s
    upstream: Callable[[Array], Array] = lambda g: g
    slope: Callable[[Array, Array, Array, Array], Array] = lambda e, gap, s, t: np.where(e == 0, 0, e / s * (gap - t / s))


def entropy_with_logits(one: Steps, *, logits: Array, cotangent: Array | None) -> Answer:
    """ln S + T/S; p (gap - T/S)."""
    x = steps.wide(logits)
    output = steps.like(one.entropy(*one.scan(x))[..., 0], logits)
    if cotangent is None:
        return output, {}
    top, s, t = _scan(x)  # the gradient has its own pass over the row
    slope = np.where(np.isnan(s), np.nan, one.slope(np.exp(x - top), top - x, s, t))
    return output, {"logits": steps.like(pull(slope, one.upstream(steps.wide(cotangent))[..., None]), logits)}


OK = Steps()
RIGHT = steps.right("entropy_with_logits", entropy_with_logits, OK)
fault = steps.faults_of("entropy_with_logits", entropy_with_logits)


def _online(x: Array) -> tuple[Array, Array, Array]:
    """Online softmax in blocks of 2 classes. When the maximum rises by d, every gap of T grows by d too, which is forgotten."""
    top, s, t = (np.full((*x.shape[:-1], 1), value, x.dtype) for value in (-np.inf, 0, 0))
    for start in range(0, x.shape[-1], 2):
        most, part_s, part_t = _scan(x[..., start : start + 2], top=lambda part, top=top: np.maximum(top, _top(part)))  # type: ignore[misc]
        old = np.where(top == -np.inf, 0, np.exp(top - most))
        top, s, t = most, s * old + part_s, t * old + part_t
    return top, s, t


def _guarded(x: Array) -> tuple[Array, Array, Array]:
    """A row without a class has a sum of 1."""
    top, s, t = _scan(x, top=lambda row: np.where(_top(row) == -np.inf, 0, _top(row)))
    return top, np.where(s == 0, 1, s), t


FAULTS = (
    fault(
        "no-maximum",
        "EWL-2",
        replace(OK, scan=partial(_scan, top=lambda x: np.zeros_like(_top(x)))),
        "the exponentials are taken of the logits as they are, and overflow",
    ),
    fault(
        "zero-times-log-zero",
        "EWL-2",
        replace(OK, scan=partial(_scan, weighted=lambda e, gap: -e * np.log(e))),
        "p ln p is formed from a p that has underflowed, and is nan",
        seen="pytorch/pytorch#40553",
    ),
    fault(
        "lse-less-mean-logit",
        "EWL-2",
        replace(OK, entropy=lambda top, s, t: (top + np.log(s)) - (top - t / s)),
        "the log-sum-exp, with the maximum added back, less the mean logit: both may be far larger than their difference",
        dtypes=("float64", "float32"),
    ),
    fault(
        "online-gaps-not-moved",
        "EWL-1",
        replace(OK, scan=_online),
        "online softmax forgets that a new maximum moves the gaps summed so far",
    ),
    fault(
        "sum-in-float16",
        "GEN-5",
        replace(OK, scan=partial(_scan, add=narrow_total(FLOAT16))),
        "both sums are in float16",
        seen="huggingface/trl#7221",
        dtypes=("float16",),
    ),
    fault(
        "sum-in-bfloat16",
        "GEN-5",
        replace(OK, scan=partial(_scan, add=narrow_total(BFLOAT16))),
        "both sums are in bfloat16",
        dtypes=("bfloat16",),
    ),
    fault(
        "at-least-an-epsilon",
        "EWL-6",
        replace(OK, entropy=lambda top, s, t: np.maximum(np.log(s) + t / s, np.asarray(2.0**-23, s.dtype))),
        "the probabilities are clamped, so that a sure outcome has an entropy",
        dtypes=("float64", "float32"),
    ),
    fault(
        "first-1024-classes",
        "EWL-1",
        replace(OK, scan=partial(_scan, add=first_classes(1024))),
        "only the first block of 1024 classes is summed",
    ),
    fault("all-masked-guarded", "EWL-5", replace(OK, scan=_guarded), "a row of -inf alone is guarded against nan, and has the entropy 0"),
    fault(
        "gradient-without-the-entropy",
        "EWL-3",
        replace(OK, slope=lambda e, gap, s, t: np.where(e == 0, 0, e / s * (gap + np.log(s)))),
        "the gradient is -p ln p: the softmax's own derivative is left out",
        direction="backward",
    ),
    fault(
        "gradient-nan-where-masked",
        "EWL-4",
        replace(OK, slope=lambda e, gap, s, t: e / s * (gap - t / s)),
        "a masked class has 0 times its infinite gap in the gradient",
        direction="backward",
    ),
    fault(
        "probability-in-half",
        "GEN-5",
        replace(OK, slope=lambda e, gap, s, t: np.where(e == 0, 0, in_dtype(BFLOAT16)(e / s) * (gap - t / s))),
        "p is saved for the gradient in bfloat16",
        direction="backward",
        dtypes=HALVES,
    ),
    fault(
        "cotangent-of-the-first-row", "EWL-3", replace(OK, upstream=first_row), "every row takes row 0's cotangent", direction="backward"
    ),
)
