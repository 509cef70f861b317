"""Keras on its PyTorch backend: keras.losses and keras.ops, gradients by PyTorch's autograd.

Its cross entropies of probabilities divide q by its sum first, which is another operation than `cross_entropy`.

Promises. A loss computes in its `dtype`, which is float32 unless another is asked for: for float64 it is asked for float64, and
half-precision inputs are converted to float32. keras.ops.log_softmax answers in the dtype of its input, and so it stores bfloat16.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

os.environ["KERAS_BACKEND"] = "torch"  # read once, by the import

import keras
import torch
from keras import losses
from torch import Tensor

from conformance.adapter import Adapter, Array, Arrays, Idiom, Unsupported, installed
from conformance.adapters.torch import apply
from conformance.bound import Promise, Summation


def log_softmax(logits: Tensor) -> Tensor:
    return keras.ops.log_softmax(logits)


def kl_divergence(p: Tensor, q: Tensor) -> Tensor:
    return losses.KLDivergence(reduction=None, dtype=dtype(q))(p, q)


def softmax_cross_entropy(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> Tensor:
    options = {"from_logits": True, "axis": 1, "reduction": reduction, "dtype": dtype(logits)}
    if weight is not None:
        raise Unsupported("Keras' losses weight samples, and not classes")
    if label_smoothing == 0.0 and not target.is_floating_point():
        return losses.SparseCategoricalCrossentropy(ignore_class=ignore_index, **options)(target, logits)
    if ignore_index is not None:
        raise Unsupported("CategoricalCrossentropy has no ignore_class")
    labels = target if target.is_floating_point() else keras.ops.one_hot(target, logits.shape[1], axis=1)
    return losses.CategoricalCrossentropy(label_smoothing=label_smoothing, **options)(labels, logits)


def dtype(tensor: Tensor) -> str | None:
    """The dtype that a loss is asked to compute in; None is Keras' default, float32."""
    return "float64" if tensor.dtype == torch.float64 else None


OPERATIONS: Mapping[str, Callable[..., Tensor]] = {
    "log_softmax": log_softmax,
    "kl_divergence": kl_divergence,
    "softmax_cross_entropy": softmax_cross_entropy,
}


def call(
    operation: str, mode: str, inputs: Arrays, parameters: Mapping[str, Any], cotangent: Array | None
) -> tuple[Array, dict[str, Array]]:
    return apply(OPERATIONS[operation], inputs, parameters, cotangent)


ADAPTER = Adapter(
    name="keras",
    operations=OPERATIONS,
    promises={
        "float64": Promise("A", compute="float64", store=None, summation=Summation("lanes", 2)),
        "float32": Promise("A", compute="float32", store=None, summation=Summation("lanes", 4)),
        "bfloat16": Promise("A", compute="float32", store=None, summation=Summation("lanes", 4)),
        "float16": Promise("A", compute="float32", store=None, summation=Summation("lanes", 4)),
        "log_softmax/bfloat16": Promise("A", compute="float32", store="bfloat16", summation=Summation("lanes", 4)),
    },
    dialect="keras",
    call=call,
    versions=lambda: installed("keras", "torch"),
    idiom=Idiom(
        first="import os\nos.environ['KERAS_BACKEND'] = 'torch'",
        tensor="torch.tensor({values}, dtype=torch.{dtype})",
        number="{}.item()",
        total="{}.double().sum().item()",
        backward="{name}.requires_grad_()\noutput = {call}\n{gradient}, = torch.autograd.grad(output, {name}, cotangent.to(output.dtype))",
        real="{}.is_floating_point()",
    ),
)
