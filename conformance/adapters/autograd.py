"""HIPS autograd: autograd.numpy and autograd.scipy.special.logsumexp, gradients by autograd.make_vjp.

It has no losses: a softmax's logarithm is the logits less their whole log-sum-exp (class B), and a loss takes the target's element of it.
It computes with NumPy, in the dtype of its inputs, and documents no half-precision types.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import autograd.numpy as anp
import numpy as np
from autograd import make_vjp
from autograd.scipy.special import logsumexp

from conformance.adapter import Adapter, Array, Arrays, Idiom, Unsupported, differentiable, installed
from conformance.bound import Promise


def log_softmax(logits: Array) -> Array:
    return logits - logsumexp(logits, axis=-1, keepdims=True)


def nll_loss(
    log_p: Array, target: Array, weight: Array | None = None, *, ignore_index: int | None = None, reduction: str = "mean"
) -> Array:
    _refuse(weight, ignore_index)
    rows = -anp.moveaxis(log_p, 1, -1).reshape(-1, log_p.shape[1])[np.arange(target.size), target.ravel()].reshape(target.shape)
    return {"none": lambda: rows, "sum": lambda: anp.sum(rows), "mean": lambda: anp.mean(rows)}[reduction]()


def softmax_cross_entropy(
    logits: Array,
    target: Array,
    weight: Array | None = None,
    *,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> Array:
    if label_smoothing != 0.0 or target.dtype == logits.dtype:
        raise Unsupported("composed for class indices without smoothing")
    return nll_loss(logits - logsumexp(logits, axis=1, keepdims=True), target, weight, ignore_index=ignore_index, reduction=reduction)


def _refuse(weight: Array | None, ignore_index: int | None) -> None:
    if weight is not None or ignore_index is not None:
        raise Unsupported(f"composed without {'class weights' if weight is not None else 'ignore_index'}")


OPERATIONS: Mapping[str, Callable[..., Array]] = {
    "log_softmax": log_softmax,
    "nll_loss": nll_loss,
    "softmax_cross_entropy": softmax_cross_entropy,
}


def call(
    operation: str, mode: str, inputs: Arrays, parameters: Mapping[str, Any], cotangent: Array | None
) -> tuple[Array, dict[str, Array]]:
    with np.errstate(all="ignore"):
        if cotangent is None:
            return np.asarray(OPERATIONS[operation](**inputs, **parameters)), {}
        varied = {name: inputs[name] for name in differentiable(inputs)}
        pullback, output = make_vjp(lambda varied: OPERATIONS[operation](**{**inputs, **varied}, **parameters))(varied)
        return np.asarray(output), {name: np.asarray(gradient) for name, gradient in pullback(cotangent).items()}


ADAPTER = Adapter(
    name="autograd",
    operations=OPERATIONS,
    promises={
        "float64": Promise("B", compute="float64"),
        "float32": Promise("B", compute="float32"),
    },
    composed=frozenset({"log_softmax", "nll_loss", "softmax_cross_entropy"}),
    call=call,
    versions=lambda: installed("autograd", "numpy", "scipy"),
    idiom=Idiom(
        tensor="np.array({values}, dtype=np.{dtype})",
        number="float({})",
        total="{}.sum(dtype=np.float64)",
        backward="pullback, _ = make_vjp(lambda {name}: {call})({name})\n{gradient} = pullback(cotangent)",
    ),
)
