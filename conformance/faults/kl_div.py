"""Wrong kernels of PyTorch's pointwise KL loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from conformance.adapter import Array
from conformance.faults import steps
from conformance.faults.steps import BFLOAT16, FLOAT16, HALVES, Answer, first_row, in_dtype, narrow_total, pull, total, whole_blocks


def _of_probability(log_q: Array, p: Array) -> Array:
    return np.where((p == 0) & ~np.isnan(log_q), 0, p * (np.log(p) - log_q))


def _of_logarithm(log_q: Array, p: Array) -> Array:
    nothing = ((p == -np.inf) & ~np.isnan(log_q)) | ((p == log_q) & np.isfinite(p))  # exp(p) may be beyond its dtype
    return np.where(nothing, 0, _mass_times(p, p - log_q))


def _slope_of_logarithm(log_q: Array, p: Array) -> Array:
    return np.where(p == -np.inf, 0, _mass_times(p, p - log_q + 1))


def _mass_times(p: Array, factor: Array) -> Array:
    """exp(p) times a factor that may be infinite: also a mass below its dtype is one."""
    return np.where(np.isposinf(factor) & (p > -np.inf), factor, np.exp(p) * factor)


def _divisor(reduction: str, shape: tuple[int, ...]) -> float:
    """What the sum is divided by, as a number that is exact."""
    count = {"none": 1, "sum": 1, "mean": int(np.prod(shape)), "batchmean": shape[0] if shape else 1}[reduction]
    return float(count)


@dataclass(frozen=True)
class Steps:
    """The target as it is loaded; the term and the slopes of each kind of target; the sum, and its divisor, also in the gradient."""

    load: Callable[[Array], Array] = steps.wide
    of_probability: Callable[[Array, Array], Array] = _of_probability
    of_logarithm: Callable[[Array, Array], Array] = _of_logarithm
    add: Callable[[Array], Array] = total
    divisor: Callable[[str, tuple[int, ...]], float] = _divisor
    divide: Callable[[Array, float], Array] = lambda value, divisor: value / np.asarray(divisor, value.dtype)
    upstream: Callable[[Array], Array] = lambda g: g
    divisor_of_gradient: Callable[[str, tuple[int, ...]], float] = _divisor
    slope_log_q: Callable[[Array, Array], Array] = lambda log_q, p: -p
    slope_log_q_of_logarithm: Callable[[Array, Array], Array] = lambda log_q, p: -np.exp(p)
    slope_p: Callable[[Array, Array], Array] = lambda log_q, p: np.log(p) + 1 - log_q
    slope_p_of_logarithm: Callable[[Array, Array], Array] = _slope_of_logarithm
    pull: Callable[[Array, Array], Array] = pull


def kl_div(one: Steps, *, log_q: Array, p: Array, reduction: str = "mean", log_target: bool = False, cotangent: Array | None) -> Answer:
    """p (ln p - log_q), reduced; its gradients are -p and ln p + 1 - log_q, or those with respect to ln p."""
    x, y = steps.wide(log_q), one.load(p)
    term = (one.of_logarithm if log_target else one.of_probability)(x, y)
    output = term if reduction == "none" else one.divide(one.add(term.reshape(-1)), one.divisor(reduction, x.shape))
    if cotangent is None:
        return steps.like(output, log_q), {}
    g = one.divide(one.upstream(steps.wide(cotangent)), one.divisor_of_gradient(reduction, x.shape)) if term.size else steps.wide(cotangent)
    of_log_q, of_p = (one.slope_log_q_of_logarithm, one.slope_p_of_logarithm) if log_target else (one.slope_log_q, one.slope_p)
    gradients = {"log_q": of_log_q(x, y), "p": of_p(x, y)}
    return steps.like(output, log_q), {name: steps.like(one.pull(slope, g), log_q) for name, slope in gradients.items()}


OK = Steps()
RIGHT = steps.right("kl_div", kl_div, OK)
fault = steps.faults_of("kl_div", kl_div)


def _all_but_classes(reduction: str, shape: tuple[int, ...]) -> float:
    return float(np.prod(shape[:-1])) if reduction == "batchmean" else _divisor(reduction, shape)


def _mean_for_batchmean(reduction: str, shape: tuple[int, ...]) -> float:
    return _divisor("mean" if reduction == "batchmean" else reduction, shape)


def _batchmean_for_mean(reduction: str, shape: tuple[int, ...]) -> float:
    return _divisor("batchmean" if reduction == "mean" else reduction, shape)


def _half_divisor(value: Array, divisor: float) -> Array:
    return value / np.asarray(divisor, np.float16).astype(value.dtype)


FAULTS = (
    fault(
        "zero-times-log-zero",
        "KLP-5",
        replace(OK, of_probability=lambda log_q, p: np.where(p == 0, 0, p * np.log(p)) - p * log_q),
        "p ln p is masked and p log_q isn't: 0*(-inf) is nan",
        seen="google-deepmind/optax#1762",
    ),
    fault(
        "log-target-of-minus-inf",
        "KLP-5",
        replace(OK, of_logarithm=lambda log_q, p: np.exp(p) * (p - log_q)),
        "exp(-inf)*(-inf) is computed, and is nan",
    ),
    fault(
        "log-target-ignored",
        "KLP-2",
        replace(OK, of_logarithm=_of_probability),
        "a target of logarithms is taken for probabilities",
    ),
    fault(
        "prediction-logged-again",
        "KLP-1",
        replace(OK, of_probability=lambda log_q, p: _of_probability(np.log(log_q), p)),
        "the prediction is taken for probabilities, and its logarithm is taken again",
    ),
    fault(
        "negative-as-zero",
        "KLP-10",
        replace(OK, of_probability=lambda log_q, p: np.where(p <= 0, 0, p * (np.log(p) - log_q))),
        "a target of at most 0 contributes nothing",
        seen="pytorch/pytorch#69230",
    ),
    fault(
        "target-clamped",
        "KLP-6",
        replace(OK, of_probability=lambda log_q, p: p * (np.log(np.maximum(p, 1e-10)) - np.maximum(log_q, np.asarray(-100, p.dtype)))),
        "log_q is kept above -100, so that an impossible class has a finite loss",
    ),
    fault(
        "mean-is-batchmean",
        "KLP-3",
        replace(OK, divisor=_batchmean_for_mean),
        "the mean divides by the first axis",
    ),
    fault(
        "batchmean-over-elements",
        "KLP-3",
        replace(OK, divisor=_mean_for_batchmean),
        "batchmean divides by the number of elements",
        seen="facebookresearch/deit#61",
    ),
    fault(
        "batchmean-over-tokens",
        "KLP-3",
        replace(OK, divisor=_all_but_classes),
        "batchmean divides by all axes but the last",
        seen="neuralmagic/sparseml#674",
    ),
    fault(
        "count-in-float16",
        "KLP-3",
        replace(OK, divide=_half_divisor),
        "the number of elements is kept in float16: odd counts above 2048 are rounded, and from 65520 it is inf",
        seen="pytorch/pytorch#61523",
        dtypes=("float16",),
    ),
    fault("sum-in-float16", "KLP-3", replace(OK, add=narrow_total(FLOAT16)), "the terms are summed in float16", dtypes=("float16",)),
    fault("sum-in-bfloat16", "KLP-3", replace(OK, add=narrow_total(BFLOAT16)), "the terms are summed in bfloat16", dtypes=("bfloat16",)),
    fault(
        "mass-in-half",
        "GEN-5",
        replace(OK, of_logarithm=lambda log_q, p: np.where(p == -np.inf, 0, in_dtype(FLOAT16)(np.exp(p)) * (p - log_q))),
        "exp(ln p) is kept in float16",
        dtypes=HALVES,
    ),
    fault(
        "empty-mean-is-zero",
        "KLP-12",
        replace(OK, divisor=lambda reduction, shape: max(_divisor(reduction, shape), 1.0)),
        "the divisor is at least 1, so that a mean over nothing is 0",
    ),
    fault("tail-lost", "KLP-3", replace(OK, add=whole_blocks(8)), "the elements after the last whole block of 8 are left out of the sum"),
    fault(
        "slope-of-the-prediction",
        "KLP-4",
        replace(OK, slope_log_q=lambda log_q, p: -np.exp(log_q)),
        "the gradient with respect to log_q is -exp(log_q)",
        direction="backward",
    ),
    fault(
        "mass-in-half-in-the-gradient",
        "GEN-5",
        replace(OK, slope_log_q_of_logarithm=lambda log_q, p: -in_dtype(FLOAT16)(np.exp(p))),
        "exp(ln p) is saved for the gradient in float16",
        direction="backward",
        dtypes=HALVES,
    ),
    fault(
        "mean-not-in-the-gradient",
        "KLP-4",
        replace(OK, divisor_of_gradient=lambda reduction, shape: _divisor("sum" if reduction == "mean" else reduction, shape)),
        "the mean's divisor is missing in the gradient",
        direction="backward",
        seen="fetchai/ledger#1580",
    ),
    fault(
        "slope-masked-where-p-is-zero",
        "KLP-7",
        replace(OK, slope_p=lambda log_q, p: np.where(p == 0, 0, np.log(p) + 1 - log_q)),
        "the mask that protects the loss stops the gradient where p = 0",
        direction="backward",
        seen="pytorch/pytorch#89558",
    ),
    fault(
        "slope-nan-where-impossible",
        "KLP-6",
        replace(OK, slope_log_q=lambda log_q, p: -p * np.exp(log_q) / np.exp(log_q)),
        "the chain rule goes through q = exp(log_q), which cancels, save where it underflows",
        direction="backward",
    ),
    fault(
        "cotangent-of-the-first-element",
        "KLP-4",
        replace(OK, upstream=first_row),
        "every element takes the first one's cotangent",
        direction="backward",
        seen="linkedin/Liger-Kernel#968",
    ),
    fault(
        "zero-times-infinite-slope",
        "KLP-13",
        replace(OK, pull=lambda slope, g: slope * g),
        "a cotangent of 0 meets an infinite slope, and the gradient is nan",
        direction="backward",
    ),
)
