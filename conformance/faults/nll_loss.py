"""Wrong kernels of the negative log-likelihood of log-probabilities against a class index."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from conformance.adapter import Array
from conformance.faults import steps
from conformance.faults.steps import FLOAT16, Answer, first_row, narrow_total, pull, total, whole_blocks

Denominator = Callable[[Array, Array, "Array | None"], Any]


def _pick(x: Array, index: Array, kept: Array) -> Array:
    """The log-probability of each row's class, 0 in a row that is ignored."""
    return np.where(kept, np.take_along_axis(x, index[:, None], 1)[:, 0], 0)


def _index(target: Array, classes: int) -> Array:
    if ((target < 0) | (target >= classes)).any():
        raise IndexError("a target is no class")
    return target


def _weigh(weight: Array | None, index: Array, kept: Array, x: Array) -> Array:
    """Each row's weight, 0 in a row that is ignored."""
    return np.where(kept, np.ones((), x.dtype) if weight is None else weight[index], 0).astype(x.dtype)


def _loss(w: Array, picked: Array) -> Array:
    return np.where((w == 0) & ~np.isnan(picked), 0, -w * picked)


def _kept_weights(w: Array, kept: Array, weight: Array | None) -> Any:
    return kept.sum() if weight is None else total(w.reshape(-1))


@dataclass(frozen=True)
class Steps:
    """The rows that are kept, the class of each, its log-probability and weight, the row's loss; sum, denominator and their quotient;
    the cotangent, the weight and the denominator in the gradient, and the gradient of a row.
    """

    keep: Callable[[Array, int | None], Array] = lambda target, ignore_index: target != ignore_index
    index: Callable[[Array, int], Array] = _index
    pick: Callable[[Array, Array, Array], Array] = _pick
    weigh: Callable[[Array | None, Array, Array, Array], Array] = _weigh
    loss: Callable[[Array, Array], Array] = _loss
    add: Callable[[Array], Array] = total
    denominator: Denominator = _kept_weights
    divide: Callable[[Array, Any], Array] = lambda value, count: value / np.asarray(count, value.dtype)
    upstream: Callable[[Array], Array] = lambda g: g
    weight_of_gradient: Callable[[Array, Array], Array] = lambda w, kept: w
    denominator_of_gradient: Denominator = _kept_weights
    pull: Callable[[Array, Array], Array] = lambda w, g: pull(-w, np.where(w == 0, 0, g))


def nll_loss(
    one: Steps,
    *,
    log_p: Array,
    target: Array,
    weight: Array | None = None,
    ignore_index: int | None = None,
    reduction: str = "mean",
    cotangent: Array | None,
) -> Answer:
    """-w_y l_y, reduced; -w_y at the target."""
    x = steps.wide(log_p)
    weights = None if weight is None else steps.wide(weight)
    kept = np.broadcast_to(one.keep(target, ignore_index), target.shape)
    index = one.index(np.where(kept, target, 0), x.shape[1])
    w = one.weigh(weights, index, kept, x)
    loss = one.loss(w, one.pick(x, index, kept))
    output = loss if reduction == "none" else one.add(loss.reshape(-1))
    if reduction == "mean":
        output = one.divide(output, one.denominator(w, kept, weights))
    if cotangent is None:
        return steps.like(output, log_p), {}
    g = one.upstream(steps.wide(cotangent))
    if reduction == "mean":
        g = g / np.asarray(one.denominator_of_gradient(w, kept, weights), x.dtype)
    gradient = np.zeros_like(x)
    np.put_along_axis(gradient, index[:, None], one.pull(one.weight_of_gradient(w, kept), g)[:, None].astype(x.dtype), 1)
    return steps.like(output, log_p), {"log_p": steps.like(gradient, log_p)}


OK = Steps()
RIGHT = steps.right("nll_loss", nll_loss, OK)
fault = steps.faults_of("nll_loss", nll_loss)


def _one_hot_pick(x: Array, index: Array, kept: Array) -> Array:
    classes = np.arange(x.shape[1]).reshape(-1, *(1,) * (index.ndim - 1))
    hot = (classes == index[:, None]) & kept[:, None]
    return total(np.moveaxis(np.where(hot, 1, 0).astype(x.dtype) * x, 1, -1))


def _flat_pick(x: Array, index: Array, kept: Array) -> Array:
    """Rows of V from (N, V, d) read as if the class axis were the last in memory."""
    rows = x.reshape(-1, x.shape[1])
    return np.where(kept, rows[np.arange(index.size), index.reshape(-1)].reshape(index.shape), 0)


def _rows(w: Array, kept: Array, weight: Array | None) -> Any:
    return kept.size


def _kept_rows(w: Array, kept: Array, weight: Array | None) -> Any:
    return kept.sum()


def _class_weights(w: Array, kept: Array, weight: Array | None) -> Any:
    return kept.sum() if weight is None else total(weight)


def _or_one(w: Array, kept: Array, weight: Array | None) -> Any:
    return max(_kept_weights(w, kept, weight), np.asarray(1e-6, w.dtype))


def _wrapped(bits: int) -> Callable[[Array, int], Array]:
    """The class index kept in an unsigned integer of so many bits."""
    return lambda target, classes: _index(target, classes) % 2**bits


FAULTS = (
    fault(
        "ignored-rows-counted",
        "NLL-2",
        replace(OK, denominator=lambda w, kept, weight: kept.size if weight is None else _kept_weights(w, kept, weight)),
        "an ignored row counts in the mean's denominator",
        seen="pytorch/xla#859",
    ),
    fault(
        "weighted-mean-over-rows",
        "NLL-2",
        replace(OK, denominator=_kept_rows),
        "the weighted mean divides by the number of kept rows",
        seen="llvm/torch-mlir#3585",
    ),
    fault(
        "weighted-mean-over-class-weights",
        "NLL-2",
        replace(OK, denominator=_class_weights),
        "the weighted mean divides by the sum of all class weights",
    ),
    fault(
        "only-minus-100-is-ignored",
        "NLL-5",
        replace(OK, keep=lambda target, ignore_index: target != -100),
        "the ignored index is -100, whatever the caller says",
        seen="chainer/chainer#2715",
    ),
    fault(
        "negative-ignore-index-unset",
        "NLL-5",
        replace(OK, keep=lambda target, ignore_index: target != (ignore_index if ignore_index is not None and ignore_index >= 0 else None)),
        "a negative ignore_index is taken for none",
        seen="ROCm/AMDMIGraphX#3008",
    ),
    fault(
        "mask-by-multiplication",
        "NLL-5",
        replace(OK, pick=lambda x, index, kept: np.take_along_axis(x, index[:, None], 1)[:, 0], loss=lambda w, picked: -w * picked),
        "an ignored row is multiplied by 0, which is nan where the row holds a nan or an infinity",
        seen="sooftware/kospeech#37",
    ),
    fault(
        "one-hot-product",
        "NLL-3",
        replace(OK, pick=_one_hot_pick),
        "the row is multiplied by a one-hot vector, so that an infinity in another class makes it nan",
        seen="onnx/tensorflow-onnx#1248",
    ),
    fault(
        "zero-weight-times-infinity",
        "NLL-1",
        replace(OK, loss=lambda w, picked: -w * picked),
        "a weight of 0 times a log-probability of -inf is nan",
    ),
    fault(
        "target-clamped",
        "NLL-7",
        replace(OK, index=lambda target, classes: np.clip(target, 0, classes - 1)),
        "a target out of range is clamped to a class",
    ),
    fault(
        "negative-target-wraps",
        "NLL-7",
        replace(OK, index=lambda target, classes: _index(np.where(target < 0, target + classes, target), classes)),
        "a negative target counts from the last class, as an index of Python does",
        seen="pytorch/pytorch#89404",
    ),
    fault("target-in-8-bits", "NLL-1", replace(OK, index=_wrapped(8)), "the class index is kept in 8 bits"),
    fault("target-in-15-bits", "NLL-1", replace(OK, index=_wrapped(15)), "the class index loses its 16th bit"),
    fault(
        "all-ignored-is-zero",
        "NLL-6",
        replace(OK, denominator=_or_one),
        "the denominator is at least 1e-6, so that a mean over no rows is 0 (the dialect says nan)",
    ),
    fault(
        "rows-counted-in-float16",
        "NLL-2",
        replace(OK, divide=lambda value, count: value / np.asarray(count, np.float16).astype(value.dtype)),
        "the rows are counted in float16",
        seen="pytorch/pytorch#29429",
        dtypes=("float16",),
    ),
    fault(
        "rows-counted-in-bfloat16",
        "NLL-2",
        replace(OK, divide=lambda value, count: value / np.asarray(np.minimum(count, 256), value.dtype)),
        "the rows are counted by adding 1 in bfloat16, which stops at 256",
        dtypes=("bfloat16",),
    ),
    fault("sum-in-float16", "NLL-2", replace(OK, add=narrow_total(FLOAT16)), "the rows' losses are summed in float16", dtypes=("float16",)),
    fault(
        "classes-last",
        "NLL-1",
        replace(OK, pick=_flat_pick),
        "further axes are read as if the class axis were the last",
    ),
    fault("tail-lost", "NLL-2", replace(OK, add=whole_blocks(4)), "the rows after the last whole block of 4 are left out of the sum"),
    fault(
        "weight-not-in-the-gradient",
        "NLL-1",
        replace(OK, weight_of_gradient=lambda w, kept: kept.astype(w.dtype)),
        "the class weight is missing in the gradient",
        direction="backward",
    ),
    fault(
        "mean-not-in-the-gradient",
        "NLL-2",
        replace(OK, denominator_of_gradient=lambda w, kept, weight: 1),
        "the mean's denominator is missing in the gradient",
        direction="backward",
        seen="fetchai/ledger#1580",
    ),
    fault(
        "gradient-over-all-rows",
        "NLL-2",
        replace(OK, denominator_of_gradient=_rows),
        "the gradient of the mean is divided by the number of rows",
        direction="backward",
        seen="ROCm/TransformerEngine#336",
    ),
    fault(
        "ignored-rows-have-a-gradient",
        "NLL-5",
        replace(OK, weight_of_gradient=lambda w, kept: np.where(kept, w, 1)),
        "an ignored row has a gradient, at class 0",
        direction="backward",
        seen="PaddlePaddle/Paddle#28622",
    ),
    fault(
        "cotangent-of-the-first-row",
        "NLL-1",
        replace(OK, upstream=first_row),
        "every row takes row 0's cotangent",
        direction="backward",
        seen="linkedin/Liger-Kernel#968",
    ),
)
