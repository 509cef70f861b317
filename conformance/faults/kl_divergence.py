"""Wrong kernels of the KL divergence of two distributions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from conformance.adapter import Array
from conformance.faults import steps
from conformance.faults.steps import BFLOAT16, FLOAT16, Answer, first_classes, first_row, in_dtype, narrow_total, pull, total, whole_blocks


def _ratio(p: Array, q: Array) -> Array:
    """ln(p/q), without a quotient that overflows."""
    return np.log(p) - np.log(q)


def _term(p: Array, q: Array, ratio: Array) -> Array:
    return np.where((p == 0) & ~np.isnan(q), 0, p * ratio)


@dataclass(frozen=True)
class Steps:
    """p and q as they are loaded, ln(p/q), a term, the sum, the result; the cotangent, the two slopes and their product with it."""

    load: Callable[[Array, Array], tuple[Array, Array]] = lambda p, q: (steps.proper(p), steps.proper(q))
    ratio: Callable[[Array, Array], Array] = _ratio
    term: Callable[[Array, Array, Array], Array] = _term
    add: Callable[[Array], Array] = total
    finish: Callable[[Array], Array] = lambda loss: loss
    upstream: Callable[[Array], Array] = lambda g: g
    slope_p: Callable[[Array, Array], Array] = lambda p, q: _ratio(p, q) + 1
    slope_q: Callable[[Array, Array], Array] = lambda p, q: -p / q
    pull: Callable[[Array, Array], Array] = pull


def kl_divergence(one: Steps, *, p: Array, q: Array, cotangent: Array | None) -> Answer:
    """sum p ln(p/q); ln(p/q) + 1 and -p/q."""
    x, y = one.load(p, q)
    output = steps.like(one.finish(one.add(one.term(x, y, one.ratio(x, y)))), p)
    if cotangent is None:
        return output, {}
    g = one.upstream(steps.wide(cotangent))[..., None]
    slopes = {"p": one.slope_p(x, y), "q": one.slope_q(x, y)}
    return output, {name: steps.like(one.pull(slope, g), p) for name, slope in slopes.items()}


OK = Steps()
RIGHT = steps.right("kl_divergence", kl_divergence, OK)
fault = steps.faults_of("kl_divergence", kl_divergence)


def _renormalised(p: Array, q: Array) -> tuple[Array, Array]:
    x, y = steps.proper(p), steps.proper(q)
    return x / total(x)[..., None], y / total(y)[..., None]


def _negative_is_infinite(p: Array, q: Array, ratio: Array) -> Array:
    return np.where((p < 0) | (q < 0), np.inf, _term(p, q, ratio))


FAULTS = (
    fault(
        "zero-times-log-zero",
        "KLD-3",
        replace(OK, term=lambda p, q, ratio: p * ratio),
        "0*ln 0 is computed, and is nan",
        seen="google-deepmind/optax#1786",
    ),
    fault(
        "arguments-swapped",
        "KLD-1",
        replace(OK, term=lambda p, q, ratio: _term(q, p, _ratio(q, p))),
        "the divergence is that of q from p",
        seen="advait/c4a0#35",
    ),
    fault(
        "clipped",
        "KLD-4",
        replace(OK, load=lambda p, q: (np.clip(steps.proper(p), 1e-7, 1), np.clip(steps.proper(q), 1e-7, 1))),
        "p and q are clipped to [1e-7, 1]",
        seen="keras-team/keras#9754",
    ),
    fault("renormalised", "KLD-2", replace(OK, load=_renormalised), "p and q are divided by their sums", seen="scipy/scipy#12553"),
    fault(
        "minus-p-plus-q",
        "KLD-1",
        replace(OK, term=lambda p, q, ratio: _term(p, q, ratio) - p + q),
        "the term is p ln(p/q) - p + q, the generalised divergence",
    ),
    fault(
        "zero-of-p-gives-q",
        "KLD-3",
        replace(OK, term=lambda p, q, ratio: np.where(p == 0, q, p * ratio)),
        "a class with p = 0 contributes q",
        seen="jax-ml/jax#21192",
    ),
    fault(
        "nan-is-otherwise",
        "KLD-7",
        replace(OK, term=lambda p, q, ratio: np.where((p > 0) & (q > 0), p * ratio, np.where((p == 0) & (q >= 0), 0, np.inf))),
        "what is neither positive nor zero, nan included, falls to the branch that gives +inf",
        seen="jax-ml/jax#38262",
    ),
    fault(
        "negative-is-infinite",
        "KLD-8",
        replace(OK, load=lambda p, q: (steps.wide(p), steps.wide(q)), term=_negative_is_infinite),
        "a negative number gives +inf, as in scipy.special.rel_entr",
    ),
    fault(
        "quotient-overflows",
        "KLD-2",
        replace(OK, ratio=lambda p, q: np.log(p / q)),
        "p/q is formed and leaves the range of its dtype",
        seen="scipy/scipy#20710",
    ),
    fault("never-negative", "KLD-2", replace(OK, finish=lambda loss: np.maximum(loss, 0)), "a negative divergence becomes 0"),
    fault(
        "masked-where-q-is-zero",
        "KLD-4",
        replace(OK, term=lambda p, q, ratio: np.where(q == 0, 0, _term(p, q, ratio))),
        "the mask that avoids a division by 0 is on q, so that an impossible class costs nothing",
    ),
    fault("sum-in-float16", "GEN-5", replace(OK, add=narrow_total(FLOAT16)), "the terms are summed in float16", dtypes=("float16",)),
    fault(
        "logarithms-in-bfloat16",
        "GEN-5",
        replace(OK, ratio=lambda p, q: in_dtype(BFLOAT16)(np.log(p)) - in_dtype(BFLOAT16)(np.log(q))),
        "both logarithms are kept in bfloat16 before they are subtracted",
        dtypes=("bfloat16",),
    ),
    fault(
        "first-1024-classes",
        "KLD-1",
        replace(OK, add=first_classes(1024)),
        "only the first block of 1024 classes is summed",
        seen="linkedin/Liger-Kernel#259",
    ),
    fault("tail-lost", "KLD-1", replace(OK, add=whole_blocks(4)), "the classes after the last whole block of 4 are left out"),
    fault(
        "slope-of-p-dead-below-a-clip",
        "KLD-3",
        replace(OK, slope_p=lambda p, q: np.where(p < 1e-7, 0, _ratio(p, q) + 1)),
        "the gradient with respect to p stops at a clip: it is 0 where p < 1e-7",
        direction="backward",
    ),
    fault(
        "slope-by-a-reciprocal",
        "KLD-11",
        replace(OK, slope_q=lambda p, q: -p * (1 / q)),
        "the gradient with respect to q multiplies by 1/q, which overflows for a subnormal q",
        direction="backward",
        dtypes=("float64", "float32", "bfloat16"),
    ),
    fault(
        "slope-in-float16",
        "GEN-5",
        replace(OK, slope_p=lambda p, q: in_dtype(FLOAT16)(np.log(p)) - in_dtype(FLOAT16)(np.log(q)) + 1),
        "both logarithms are saved for the gradient in float16",
        direction="backward",
        dtypes=("float16",),
    ),
    fault(
        "slope-of-q-dead-below-a-clip",
        "KLD-4",
        replace(OK, slope_q=lambda p, q: np.where(q < 1e-7, 0, -p / q)),
        "the gradient with respect to q stops at a clip: it is 0 where q < 1e-7",
        direction="backward",
        seen="keras-team/keras#13747",
    ),
    fault(
        "zero-times-infinite-slope",
        "KLD-6",
        replace(OK, pull=lambda slope, g: slope * g),
        "a cotangent of 0 meets an infinite or undefined slope, and the gradient is nan",
        direction="backward",
    ),
    fault(
        "cotangent-of-the-first-row", "KLD-5", replace(OK, upstream=first_row), "every row takes row 0's cotangent", direction="backward"
    ),
)
