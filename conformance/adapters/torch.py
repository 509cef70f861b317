"""PyTorch: torch.nn.functional, torch.special and torch.distributions, gradients by torch.autograd.grad.

Promises. On a CPU the kernels for float16 and bfloat16 convert to float32 and round what they store. A reduction over the
last axis keeps at least one vector register of partial sums, which is 128 bits on the smallest machine that torch ships
for: four lanes of float32, two of float64.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  (its usual name)
from torch import Tensor

from conformance.adapter import Adapter, Array, Arrays, Unsupported, differentiable, installed
from conformance.bound import Promise, Summation


def entropy(p: Tensor) -> Tensor:
    return torch.special.entr(p).sum(-1)


def entropy_with_logits(logits: Tensor) -> Tensor:
    return torch.distributions.Categorical(logits=logits, validate_args=False).entropy()


def log_softmax(logits: Tensor) -> Tensor:
    return F.log_softmax(logits, -1)


def cross_entropy(p: Tensor, q: Tensor) -> Tensor:
    return -torch.special.xlogy(p, q).sum(-1)


def kl_divergence(p: Tensor, q: Tensor) -> Tensor:
    return -(torch.special.entr(p) + torch.special.xlogy(p, q)).sum(-1)


def kl_div(log_q: Tensor, p: Tensor, *, reduction: str = "mean", log_target: bool = False) -> Tensor:
    return F.kl_div(log_q, p, reduction=reduction, log_target=log_target)  # the prediction comes first


def nll_loss(log_p: Tensor, target: Tensor, weight: Tensor | None = None, *, ignore_index: int | None = None, **options: Any) -> Tensor:
    return F.nll_loss(log_p, target, weight, **_ignoring(ignore_index), **options)


def softmax_cross_entropy(
    logits: Tensor, target: Tensor, weight: Tensor | None = None, *, ignore_index: int | None = None, **options: Any
) -> Tensor:
    if ignore_index is not None and target.is_floating_point():
        raise Unsupported("cross_entropy takes no ignore_index with probability targets")
    return F.cross_entropy(logits, target, weight, **_ignoring(ignore_index), **options)


def _ignoring(ignore_index: int | None) -> dict[str, int]:
    """Where nothing is to be ignored, torch's default (-100) stays."""
    return {} if ignore_index is None else {"ignore_index": ignore_index}


OPERATIONS: Mapping[str, Callable[..., Tensor]] = {
    "entropy": entropy,
    "entropy_with_logits": entropy_with_logits,
    "log_softmax": log_softmax,
    "cross_entropy": cross_entropy,
    "kl_divergence": kl_divergence,
    "kl_div": kl_div,
    "nll_loss": nll_loss,
    "softmax_cross_entropy": softmax_cross_entropy,
}


def call(
    operation: str, mode: str, inputs: Arrays, parameters: Mapping[str, Any], cotangent: Array | None
) -> tuple[Array, dict[str, Array]]:
    tensors = {name: to_tensor(value) for name, value in inputs.items()}
    names = differentiable(inputs) if cotangent is not None else ()
    for name in names:
        tensors[name].requires_grad_()
    output = OPERATIONS[operation](**tensors, **parameters)
    gradients: dict[str, Array] = {}
    if cotangent is not None:
        found = torch.autograd.grad(output, [tensors[name] for name in names], to_tensor(cotangent).to(output.dtype))
        gradients = {name: to_numpy(gradient) for name, gradient in zip(names, found, strict=True)}
    return to_numpy(output.detach()), gradients


def to_tensor(array: Array) -> Tensor:
    """The array's memory as a tensor; bfloat16, which torch doesn't take from numpy, by its bits."""
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def to_numpy(tensor: Tensor) -> Array:
    if tensor.dtype == torch.bfloat16:
        from ml_dtypes import bfloat16

        bits: Array = tensor.contiguous().view(torch.int16).numpy()
        return bits.view(bfloat16)
    array: Array = tensor.contiguous().numpy()
    return array


ADAPTER = Adapter(
    name="torch",
    operations=OPERATIONS,
    promises={
        "float64": Promise("A", compute="float64", store=None, summation=Summation("lanes", 2)),
        "float32": Promise("A", compute="float32", store=None, summation=Summation("lanes", 4)),
        "bfloat16": Promise("A", compute="float32", store="bfloat16", summation=Summation("lanes", 4)),
        "float16": Promise("A", compute="float32", store="float16", summation=Summation("lanes", 4)),
    },
    dialect="torch",
    composed=frozenset({"entropy", "cross_entropy", "kl_divergence"}),
    call=call,
    versions=lambda: installed("torch"),
)
