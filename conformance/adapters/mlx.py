"""MLX on a CPU: mlx.nn.log_softmax and mlx.nn.losses, gradients by mlx.core.vjp.

Promises. "The CPU reduces in the dtype of the logits", says the documentation of `cross_entropy`, so every intermediate is rounded to
it; nothing is said about the order of a sum. `log_softmax` is compiled by the library itself, with the system's C++ compiler, once
for each dtype and rank: that is what the allowance is for. Indices are not checked, and a wrong one reads, or in the gradient
writes, beyond the array.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import ml_dtypes
import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.core import array as Tensor  # noqa: N812  (its name is lower-case)

from conformance.adapter import Adapter, Array, Arrays, Idiom, Mode, Unsupported, differentiable, installed
from conformance.bound import Promise

mx.set_default_device(mx.cpu)  # the only device that has float64


def log_softmax(logits: Tensor) -> Tensor:
    return nn.log_softmax(logits, axis=-1)


def kl_div(log_q: Tensor, p: Tensor, *, reduction: str = "mean", log_target: bool = False) -> Tensor:
    if not log_target:
        raise Unsupported("kl_div_loss takes logarithms of both distributions")
    if reduction not in ("sum", "mean"):
        raise Unsupported(f"kl_div_loss sums over the last axis and has no reduction {reduction!r}")
    return nn.losses.kl_div_loss(log_q, p, axis=-1, reduction=reduction)


def nll_loss(
    log_p: Tensor, target: Tensor, weight: Tensor | None = None, *, ignore_index: int | None = None, reduction: str = "mean"
) -> Tensor:
    if weight is not None or ignore_index is not None:
        raise Unsupported(f"nll_loss has no {'class weights' if weight is not None else 'ignore_index'}")
    return nn.losses.nll_loss(log_p, target, axis=1, reduction=reduction)


def softmax_cross_entropy(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> Tensor:
    if weight is not None or ignore_index is not None:
        raise Unsupported(f"cross_entropy has no {'class weights' if weight is not None else 'ignore_index'}")
    return nn.losses.cross_entropy(logits, target, axis=1, label_smoothing=label_smoothing, reduction=reduction)


OPERATIONS: Mapping[str, Callable[..., Tensor]] = {
    "log_softmax": log_softmax,
    "kl_div": kl_div,
    "nll_loss": nll_loss,
    "softmax_cross_entropy": softmax_cross_entropy,
}


def call(
    operation: str, mode: str, inputs: Arrays, parameters: Mapping[str, Any], cotangent: Array | None
) -> tuple[Array, dict[str, Array]]:
    tensors = {name: to_tensor(value) for name, value in inputs.items()}
    if cotangent is None:
        return to_numpy(OPERATIONS[operation](**tensors, **parameters)), {}
    names = differentiable(inputs)

    def loss(*varied: Tensor) -> Tensor:
        return OPERATIONS[operation](**{**tensors, **dict(zip(names, varied, strict=True))}, **parameters)

    (output,), found = mx.vjp(loss, [tensors[name] for name in names], [to_tensor(cotangent)])
    return to_numpy(output), {name: to_numpy(gradient) for name, gradient in zip(names, found, strict=True)}


def to_tensor(array: Array) -> Tensor:
    """The array as a tensor of its own dtype: MLX makes float32 of float64 unless it is told, and knows bfloat16 by its bits.

    Of an array with gaps it would copy the gaps too, gigabytes of them under the layout `far`: they are left out before.
    """
    array = array.copy()
    if array.dtype == ml_dtypes.bfloat16:
        return mx.array(array.view(np.uint16)).view(mx.bfloat16)
    return mx.array(array, mx.float64) if array.dtype == np.float64 else mx.array(array)


def to_numpy(tensor: Tensor) -> Array:
    """The tensor as an array; this is where it is evaluated."""
    if tensor.dtype == mx.bfloat16:
        return np.array(tensor.view(mx.uint16)).view(ml_dtypes.bfloat16)
    return np.array(tensor)


ADAPTER = Adapter(
    name="mlx",
    operations=OPERATIONS,
    promises={
        "float64": Promise("A", compute="float64"),
        "float32": Promise("A", compute="float32"),
        "bfloat16": Promise("A", compute="bfloat16"),
        "float16": Promise("A", compute="float16"),
    },
    dialect="mlx",
    modes=(Mode("eager", allowance=60.0),),
    fragile=True,
    call=call,
    versions=lambda: installed("mlx"),
    idiom=Idiom(
        setup="mx.set_default_device(mx.cpu)",
        tensor="mx.array(np.array({values}), dtype=mx.{dtype})",
        number="{}.item()",
        total="{}.astype(mx.float64).sum().item()",
        backward="_, ({gradient},) = mx.vjp(lambda {name}: {call}, [{name}], [cotangent])",
    ),
)
