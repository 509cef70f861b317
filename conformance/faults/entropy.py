"""Wrong kernels of the entropy of a distribution."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from conformance.adapter import Array
from conformance.faults import steps
from conformance.faults.steps import BFLOAT16, FLOAT16, Answer, first_classes, first_row, in_dtype, narrow_total, pull, total, whole_blocks


@dataclass(frozen=True)
class Steps:
    """p as it is loaded, its logarithm, a term, the sum over the classes; the cotangent, the slope and their product."""

    load: Callable[[Array], Array] = steps.proper
    log: Callable[[Array], Array] = np.log
    term: Callable[[Array, Array], Array] = lambda p, log: np.where(p == 0, 0, -p * log)
    add: Callable[[Array], Array] = total
    upstream: Callable[[Array], Array] = lambda g: g
    slope: Callable[[Array, Array], Array] = lambda p, log: -(log + 1)
    pull: Callable[[Array, Array], Array] = pull


def entropy(one: Steps, *, p: Array, cotangent: Array | None) -> Answer:
    """-sum p ln p, and -(ln p + 1)."""
    x = one.load(p)
    log = one.log(x)
    output = steps.like(one.add(one.term(x, log)), p)
    if cotangent is None:
        return output, {}
    g = one.upstream(steps.wide(cotangent))[..., None]
    return output, {"p": steps.like(one.pull(one.slope(x, log), g), p)}


OK = Steps()
RIGHT = steps.right("entropy", entropy, OK)
fault = steps.faults_of("entropy", entropy)


def _renormalised(p: Array) -> Array:
    x = steps.proper(p)
    return x / total(x)[..., None]


def _normal(p: Array) -> Array:
    """Subnormal numbers read as zero, at float32's threshold as a GPU does it."""
    x = steps.proper(p)
    return np.where(np.abs(x) < np.finfo(x.dtype).tiny, 0, x)


def _negative_as_zero(p: Array) -> Array:
    x = steps.wide(p)
    return np.where(x < 0, 0, x)


FAULTS = (
    fault(
        "zero-times-log-zero",
        "ENT-3",
        replace(OK, term=lambda p, log: -p * log),
        "0*ln 0 is computed, and is nan",
        seen="pytorch/pytorch#144279",
    ),
    fault("bits", "ENT-1", replace(OK, log=np.log2), "the logarithm has base 2"),
    fault(
        "epsilon-in-the-logarithm",
        "GEN-5",
        replace(OK, log=lambda p: np.log(p + np.asarray(1e-10, p.dtype))),
        "1e-10 is added to p before the logarithm",
        dtypes=("float32",),
    ),
    fault(
        "clipped",
        "ENT-2",
        replace(OK, load=lambda p: np.clip(steps.proper(p), 1e-7, 1)),
        "p is clipped to [1e-7, 1]",
    ),
    fault("renormalised", "ENT-2", replace(OK, load=_renormalised), "p is divided by its sum", seen="scipy/scipy#12553"),
    fault("subnormal-as-zero", "ENT-9", replace(OK, load=_normal), "a subnormal p is read as 0", dtypes=("float64", "float32", "bfloat16")),
    fault("negative-as-zero", "ENT-7", replace(OK, load=_negative_as_zero), "a negative p is taken for 0"),
    fault(
        "masked-unless-positive",
        "ENT-6",
        replace(OK, term=lambda p, log: np.where(p > 0, -p * log, 0)),
        "a class counts only if p > 0, which is false for nan too",
    ),
    fault("sum-in-float16", "GEN-5", replace(OK, add=narrow_total(FLOAT16)), "the terms are summed in float16", dtypes=("float16",)),
    fault("sum-in-bfloat16", "GEN-5", replace(OK, add=narrow_total(BFLOAT16)), "the terms are summed in bfloat16", dtypes=("bfloat16",)),
    fault("first-1024-classes", "ENT-1", replace(OK, add=first_classes(1024)), "only the first block of 1024 classes is summed"),
    fault("tail-lost", "ENT-1", replace(OK, add=whole_blocks(4)), "the classes after the last whole block of 4 are left out"),
    fault(
        "slope-in-bfloat16",
        "GEN-5",
        replace(OK, slope=lambda p, log: -(in_dtype(BFLOAT16)(log) + 1)),
        "ln p is saved for the gradient in bfloat16",
        direction="backward",
        dtypes=("bfloat16",),
    ),
    fault(
        "slope-dead-below-a-clip",
        "ENT-5",
        replace(OK, slope=lambda p, log: np.where(p < 1e-7, 0, -(log + 1))),
        "the gradient stops at a clip: it is 0 for p < 1e-7",
        direction="backward",
        seen="jax-ml/jax#15709",
    ),
    fault(
        "zero-times-infinite-slope",
        "ENT-5",
        replace(OK, pull=lambda slope, g: slope * g),
        "a cotangent of 0 meets an infinite slope, and the gradient is nan",
        direction="backward",
    ),
    fault(
        "cotangent-of-the-first-row", "ENT-4", replace(OK, upstream=first_row), "every row takes row 0's cotangent", direction="backward"
    ),
    fault(
        "gradient-of-the-first-1024-classes",
        "ENT-4",
        replace(OK, slope=lambda p, log: np.where(np.arange(p.shape[-1]) < 1024, -(log + 1), 0)),
        "only the first block of 1024 classes is written, and the rest of the gradient is 0",
        direction="backward",
        dtypes=("float64", "float32"),
    ),
    fault(
        "slope-nan-throughout-a-row",
        "ENT-6",
        replace(OK, load=steps.wide, slope=lambda p, log: np.where(np.isnan(p).any(-1, keepdims=True), np.nan, -(log + 1))),
        "one nan makes the whole row's gradient nan",
        direction="backward",
    ),
)
