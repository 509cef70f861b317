"""Wrong kernels of the cross entropy of two distributions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from conformance.adapter import Array
from conformance.faults import steps
from conformance.faults.steps import BFLOAT16, FLOAT16, Answer, first_classes, first_row, in_dtype, narrow_total, pull, total, whole_blocks


def _term(p: Array, q: Array, log: Array) -> Array:
    return np.where((p == 0) & ~np.isnan(log), 0, -p * log)


@dataclass(frozen=True)
class Steps:
    """p and q as they are loaded, ln q, a term, the sum; the cotangent, the two slopes and their product with it."""

    load: Callable[[Array, Array], tuple[Array, Array]] = lambda p, q: (steps.proper(p), steps.proper(q))
    log: Callable[[Array], Array] = np.log
    term: Callable[[Array, Array, Array], Array] = _term
    add: Callable[[Array], Array] = total
    upstream: Callable[[Array], Array] = lambda g: g
    slope_p: Callable[[Array, Array, Array], Array] = lambda p, q, log: -log
    slope_q: Callable[[Array, Array], Array] = lambda p, q: -p / q
    pull: Callable[[Array, Array], Array] = pull


def cross_entropy(one: Steps, *, p: Array, q: Array, cotangent: Array | None) -> Answer:
    """-sum p ln q; -ln q and -p/q."""
    x, y = one.load(p, q)
    log = one.log(y)
    output = steps.like(one.add(one.term(x, y, log)), p)
    if cotangent is None:
        return output, {}
    g = one.upstream(steps.wide(cotangent))[..., None]
    slopes = {"p": one.slope_p(x, y, log), "q": one.slope_q(x, y)}
    return output, {name: steps.like(one.pull(slope, g), p) for name, slope in slopes.items()}


OK = Steps()
RIGHT = steps.right("cross_entropy", cross_entropy, OK)
fault = steps.faults_of("cross_entropy", cross_entropy)


def _q_renormalised(p: Array, q: Array) -> tuple[Array, Array]:
    y = steps.proper(q)
    return steps.proper(p), y / total(y)[..., None]


def _q_normal(p: Array, q: Array) -> tuple[Array, Array]:
    y = steps.proper(q)
    return steps.proper(p), np.where(y < np.finfo(y.dtype).tiny, 0, y)


FAULTS = (
    fault(
        "zero-times-log-zero",
        "CE-3",
        replace(OK, term=lambda p, q, log: -p * log),
        "0*ln 0 is computed, and is nan",
        seen="OpenBMB/ModelCenter#14",
    ),
    fault(
        "arguments-swapped",
        "CE-1",
        replace(OK, term=lambda p, q, log: _term(q, p, np.log(p))),
        "the loss is -sum q ln p",
    ),
    fault(
        "q-clipped",
        "CE-4",
        replace(OK, load=lambda p, q: (steps.proper(p), np.clip(steps.proper(q), 1e-7, 1))),
        "q is clipped to [1e-7, 1]: an impossible class has a finite loss",
        seen="keras-team/keras#9754",
    ),
    fault(
        "epsilon-in-the-logarithm",
        "CE-4",
        replace(OK, log=lambda q: np.log(q + np.asarray(1e-20, q.dtype))),
        "1e-20 is added to q before the logarithm",
        dtypes=("float64", "float32", "bfloat16"),
    ),
    fault("q-renormalised", "CE-2", replace(OK, load=_q_renormalised), "q is divided by its sum, as a loss of probabilities in Keras does"),
    fault(
        "masked-where-q-is-zero",
        "CE-4",
        replace(OK, term=lambda p, q, log: np.where(q == 0, 0, _term(p, q, log))),
        "the mask that avoids ln 0 is on q, so that an impossible class costs nothing",
    ),
    fault(
        "masked-unless-p-is-positive",
        "CE-7",
        replace(OK, term=lambda p, q, log: np.where(p > 0, -p * log, 0)),
        "a class counts only if p > 0, so that a nan on either side is dropped",
    ),
    fault(
        "subnormal-q-as-zero",
        "CE-11",
        replace(OK, load=_q_normal),
        "a subnormal q is read as 0",
        dtypes=("float64", "float32", "bfloat16"),
    ),
    fault("sum-in-float16", "GEN-5", replace(OK, add=narrow_total(FLOAT16)), "the terms are summed in float16", dtypes=("float16",)),
    fault(
        "logarithm-in-bfloat16",
        "GEN-5",
        replace(OK, log=lambda q: in_dtype(BFLOAT16)(np.log(q))),
        "ln q is kept in bfloat16",
        dtypes=("bfloat16",),
    ),
    fault("first-1024-classes", "CE-1", replace(OK, add=first_classes(1024)), "only the first block of 1024 classes is summed"),
    fault("tail-lost", "CE-1", replace(OK, add=whole_blocks(4)), "the classes after the last whole block of 4 are left out"),
    fault(
        "slope-dead-below-a-clip",
        "CE-4",
        replace(OK, slope_q=lambda p, q: np.where(q < 1e-7, 0, -p / q)),
        "the gradient with respect to q stops at a clip: it is 0 where q < 1e-7",
        direction="backward",
        seen="keras-team/keras#13747",
    ),
    fault(
        "slope-with-epsilon",
        "CE-5",
        replace(OK, slope_q=lambda p, q: -p / (q + np.asarray(1e-8, q.dtype))),
        "the gradient with respect to q divides by q + 1e-8",
        direction="backward",
        dtypes=("float64", "float32"),
    ),
    fault(
        "slope-masked-where-p-is-zero",
        "CE-5",
        replace(OK, slope_p=lambda p, q, log: np.where(p == 0, 0, -log)),
        "the mask that protects the loss stops the gradient where p = 0",
        direction="backward",
    ),
    fault(
        "zero-times-infinite-slope",
        "CE-6",
        replace(OK, pull=lambda slope, g: slope * g),
        "a cotangent of 0 meets an infinite or undefined slope, and the gradient is nan",
        direction="backward",
    ),
    fault("cotangent-of-the-first-row", "CE-5", replace(OK, upstream=first_row), "every row takes row 0's cotangent", direction="backward"),
    fault(
        "gradient-without-its-tail",
        "CE-5",
        replace(OK, slope_q=lambda p, q: np.where(np.arange(p.shape[-1]) < (p.shape[-1] // 32 * 32 or 32), -p / q, 0)),
        "the gradient's classes after the last whole block of 32 are left at 0",
        direction="backward",
    ),
)
