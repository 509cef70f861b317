"""Wrong kernels of the logarithm of the softmax."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from conformance.adapter import Array
from conformance.faults import steps
from conformance.faults.steps import BFLOAT16, FLOAT16, HALVES, Answer, first_classes, in_dtype, narrow_total, total


def _top(x: Array) -> Array:
    return x.max(-1, keepdims=True)


def _scan(x: Array) -> tuple[Array, Array]:
    """The maximum of each row and the sum of exp(x - max), both (..., 1)."""
    top = _top(x)
    return top, total(np.exp(x - top))[..., None]


@dataclass(frozen=True)
class Steps:
    """The scan of a row; the output; p, the sum of the cotangents, and the gradient."""

    scan: Callable[[Array], tuple[Array, Array]] = _scan
    output: Callable[[Array, Array, Array], Array] = lambda x, top, s: x - top - np.log(s)
    probability: Callable[[Array, Array], Array] = lambda x, output: np.exp(x - _top(x)) / _scan(x)[1]
    add_cotangents: Callable[[Array], Array] = lambda g: total(g)[..., None]
    pull: Callable[[Array, Array, Array], Array] = lambda g, p, s: g - p * s


def log_softmax(one: Steps, *, logits: Array, cotangent: Array | None) -> Answer:
    """x - max - ln sum exp(x - max); g - p sum g."""
    x = steps.wide(logits)
    output = steps.like(one.output(x, *one.scan(x)), logits)
    if cotangent is None:
        return output, {}
    g = steps.wide(cotangent)
    gradient = one.pull(g, one.probability(x, steps.wide(output)), one.add_cotangents(g))
    return output, {"logits": steps.like(gradient, logits)}


OK = Steps()
RIGHT = steps.right("log_softmax", log_softmax, OK)
fault = steps.faults_of("log_softmax", log_softmax)


def _summing(add: Callable[[Array], Array], kept: Callable[[Array], Array] = lambda e: e) -> Steps:
    """The right steps with another sum of the exponentials, each of which is `kept` first."""

    def scan(x: Array) -> tuple[Array, Array]:
        top = _top(x)
        return top, add(kept(np.exp(x - top)))[..., None]

    return replace(OK, scan=scan)


def _online(block: int, rescale: Callable[[Array, Array], Array]) -> Callable[[Array], tuple[Array, Array]]:
    """Online softmax over blocks of classes: when the maximum rises, the sum so far is multiplied by `rescale`(old, new)."""

    def scan(x: Array) -> tuple[Array, Array]:
        edges = [*range(0, x.shape[-1], block), x.shape[-1]]
        top, s = np.full((*x.shape[:-1], 1), -np.inf, x.dtype), np.zeros((*x.shape[:-1], 1), x.dtype)
        for start, stop in pairwise(edges):
            part = x[..., start:stop]
            new = np.maximum(top, _top(part))
            s = s * rescale(top, new) + total(np.exp(part - new))[..., None]
            top = new
        return top, s

    return scan


def _padded_with_zeros(x: Array) -> tuple[Array, Array]:
    """The last block of 4 classes is read whole, with 0 for what isn't there."""
    top, s = _scan(x)
    return top, s + np.asarray(-x.shape[-1] % 4, x.dtype) * np.exp(-top)


def _guarded(x: Array) -> tuple[Array, Array]:
    """A maximum of -inf is replaced by 0, and a sum of 0 by 1."""
    top = _top(x)
    top = np.where(top == -np.inf, 0, top)
    s = total(np.exp(x - top))[..., None]
    return top, np.where(s == 0, 1, s)


def _one_maximum(x: Array) -> tuple[Array, Array]:
    top = np.broadcast_to(x.max(), (*x.shape[:-1], 1)) if x.size else _top(x)
    return top, total(np.exp(x - top))[..., None]


FAULTS = (
    fault(
        "log-of-softmax",
        "LSM-2",
        replace(OK, output=lambda x, top, s: np.log(np.exp(x - top) / s)),
        "the softmax is formed, underflows, and then its logarithm is taken",
        seen="pytorch/pytorch#94043",
    ),
    fault(
        "no-maximum",
        "LSM-1",
        replace(OK, scan=lambda x: (np.zeros_like(_top(x)), total(np.exp(x))[..., None])),
        "the exponentials are taken of the logits as they are, and overflow",
    ),
    fault(
        "lse-restored",
        "LSM-2",
        replace(OK, output=lambda x, top, s: x - (top + np.log(s))),
        "the maximum is added back to the log-sum-exp before it is subtracted",
        seen="pytorch/pytorch#38839",
        dtypes=("float64", "float32"),
    ),
    fault(
        "saturated",
        "LSM-1",
        replace(OK, output=lambda x, top, s: np.maximum(x - top - np.log(s), np.where(np.isnan(top), np.nan, np.asarray(-64, x.dtype)))),
        "nothing is below -64",
        seen="PaddlePaddle/Paddle#20994",
    ),
    fault(
        "sum-in-float16",
        "GEN-5",
        _summing(narrow_total(FLOAT16)),
        "the exponentials are summed in float16",
        seen="pytorch/pytorch#29429",
        dtypes=("float16",),
    ),
    fault(
        "sum-in-bfloat16",
        "GEN-5",
        _summing(narrow_total(BFLOAT16)),
        "the exponentials are summed in bfloat16",
        seen="pytorch/executorch#20089",
        dtypes=("bfloat16",),
    ),
    fault(
        "exponentials-in-half",
        "GEN-5",
        _summing(total, in_dtype(BFLOAT16)),
        "each exponential is kept in bfloat16, and summed in float32",
        dtypes=HALVES,
    ),
    fault(
        "tail-padded-with-zeros",
        "LSM-1",
        replace(OK, scan=_padded_with_zeros),
        "the last block of 4 is filled up with logits of 0, which have mass",
        seen="volcengine/verl#2899",
    ),
    fault("first-1024-classes", "LSM-1", _summing(first_classes(1024)), "only the first block of 1024 classes is summed"),
    fault(
        "online-not-rescaled",
        "LSM-1",
        replace(OK, scan=_online(2, lambda top, new: np.ones_like(new))),
        "online softmax in blocks of 2: the running sum isn't rescaled when the maximum rises",
    ),
    fault(
        "first-block-masked",
        "LSM-4",
        replace(OK, scan=_online(2, lambda top, new: np.exp(top - new))),
        "online softmax in blocks of 2: a first block of -inf alone makes exp(-inf + inf)",
        seen="Dao-AILab/flash-attention#1930",
    ),
    fault(
        "short-constant",
        "GEN-5",
        replace(OK, scan=lambda x: (_top(x), total(np.exp2((x - _top(x)) * np.asarray(1.4427, x.dtype)))[..., None])),
        "exp2 is used with 1.4427 for log2(e)",
        dtypes=("float64", "float32"),
    ),
    fault("one-maximum-for-all", "LSM-1", replace(OK, scan=_one_maximum), "the maximum is that of the whole tensor, not of the row"),
    fault("all-masked-guarded", "LSM-5", replace(OK, scan=_guarded), "a row of -inf alone is guarded against nan, and gives -inf"),
    fault(
        "gradient-zero-where-masked",
        "LSM-4",
        replace(OK, pull=lambda g, p, s: np.where(p == 0, 0, g - p * s)),
        "where p = 0 the gradient is 0, and not the cotangent",
        direction="backward",
    ),
    fault(
        "probability-of-the-rounded-output",
        "GEN-5",
        replace(OK, probability=lambda x, output: np.exp(output)),
        "the gradient takes p from the output, which has been rounded to half precision",
        direction="backward",
        dtypes=HALVES,
    ),
    fault(
        "cotangents-summed-in-half",
        "GEN-5",
        replace(OK, add_cotangents=lambda g: narrow_total(BFLOAT16)(g)[..., None]),
        "the cotangents are summed in bfloat16",
        direction="backward",
        dtypes=("bfloat16",),
    ),
    fault(
        "cotangents-of-the-first-block",
        "LSM-3",
        replace(OK, add_cotangents=lambda g: first_classes(32)(g)[..., None]),
        "only the cotangents of the first 32 classes, one a thread of a warp, are summed",
        direction="backward",
    ),
    fault(
        "cotangent-sum-of-the-first-row",
        "LSM-3",
        replace(OK, add_cotangents=lambda g: steps.first_row(total(g)[..., None])),
        "every row takes the sum of row 0's cotangents",
        direction="backward",
    ),
)
