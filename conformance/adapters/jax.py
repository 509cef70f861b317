"""JAX with optax: jax.nn, jax.scipy.special and optax.losses, gradients by jax.vjp; eagerly and under jax.jit.

Promises. Each function computes in the dtype of its input, so every intermediate is rounded to it; XLA makes no promise
about the order of a sum. Evaluated eagerly, every primitive is compiled anew for each shape, so eager mode is asked the edges
and regressions, and jit everything. float64 needs `jax_enable_x64`, which is set here; float32 inputs stay float32 under it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array as Tensor
from jax.scipy.special import entr, rel_entr, xlogy

from conformance.adapter import Adapter, Array, Arrays, Unsupported, differentiable, installed
from conformance.bound import Promise

jax.config.update("jax_enable_x64", True)


def entropy(p: Tensor) -> Tensor:
    return entr(p).sum(-1)


def entropy_with_logits(logits: Tensor) -> Tensor:
    return entr(jax.nn.softmax(logits, axis=-1)).sum(-1)


def log_softmax(logits: Tensor) -> Tensor:
    return jax.nn.log_softmax(logits, axis=-1)


def cross_entropy(p: Tensor, q: Tensor) -> Tensor:
    return -xlogy(p, q).sum(-1)


def kl_divergence(p: Tensor, q: Tensor) -> Tensor:
    return rel_entr(p, q).sum(-1)


def kl_div(log_q: Tensor, p: Tensor, *, reduction: str = "mean", log_target: bool = False) -> Tensor:
    if reduction == "none" or log_q.ndim == 0:
        raise Unsupported("optax.losses.kl_divergence sums over the last axis")
    rows = optax.losses.kl_divergence_with_log_targets(log_q, p) if log_target else optax.losses.kl_divergence(log_q, p)
    return rows.sum() / {"sum": 1, "batchmean": log_q.shape[0], "mean": log_q.size}[reduction]


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
        raise Unsupported(f"optax has no {'class weights' if weight is not None else 'ignore_index'}")
    logits = jnp.moveaxis(logits, 1, -1)
    if label_smoothing == 0.0 and jnp.issubdtype(target.dtype, jnp.integer):
        rows = optax.losses.softmax_cross_entropy_with_integer_labels(logits, target)
    elif jnp.issubdtype(target.dtype, jnp.integer):
        one_hot = jax.nn.one_hot(target, logits.shape[-1], dtype=logits.dtype)
        rows = optax.losses.softmax_cross_entropy(logits, optax.losses.smooth_labels(one_hot, label_smoothing))
    elif label_smoothing == 0.0:
        rows = optax.losses.softmax_cross_entropy(logits, jnp.moveaxis(target, 1, -1))
    else:
        rows = optax.losses.softmax_cross_entropy(logits, optax.losses.smooth_labels(jnp.moveaxis(target, 1, -1), label_smoothing))
    return {"none": lambda: rows, "sum": rows.sum, "mean": rows.mean}[reduction]()


OPERATIONS: Mapping[str, Callable[..., Tensor]] = {
    "entropy": entropy,
    "entropy_with_logits": entropy_with_logits,
    "log_softmax": log_softmax,
    "cross_entropy": cross_entropy,
    "kl_divergence": kl_divergence,
    "kl_div": kl_div,
    "softmax_cross_entropy": softmax_cross_entropy,
}


@cache
def function(operation: str, mode: str, parameters: tuple[tuple[str, Any], ...], names: tuple[str, ...]) -> Callable[..., Any]:
    """(inputs, cotangent) -> (output, gradients of `names`), one for each set of parameters, so that jit compiles each shape once."""

    def evaluate(inputs: dict[str, Tensor], cotangent: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        fixed = {name: value for name, value in inputs.items() if name not in names}
        varied = {name: inputs[name] for name in names}
        if cotangent is None:
            return OPERATIONS[operation](**inputs, **dict(parameters)), {}
        output, pullback = jax.vjp(lambda varied: OPERATIONS[operation](**varied, **fixed, **dict(parameters)), varied)
        return output, pullback(cotangent.astype(output.dtype))[0]

    return jax.jit(evaluate) if mode == "jit" else evaluate


def call(
    operation: str, mode: str, inputs: Arrays, parameters: Mapping[str, Any], cotangent: Array | None
) -> tuple[Array, dict[str, Array]]:
    evaluate = function(operation, mode, tuple(sorted(parameters.items())), differentiable(inputs))
    tensors = {name: jnp.asarray(value) for name, value in inputs.items()}
    output, gradients = evaluate(tensors, None if cotangent is None else jnp.asarray(cotangent))
    return np.asarray(output), {name: np.asarray(gradient) for name, gradient in gradients.items()}


ADAPTER = Adapter(
    name="jax",
    operations=OPERATIONS,
    promises={
        "float64": Promise("A", compute="float64", store=None),
        "float32": Promise("A", compute="float32", store=None),
        "bfloat16": Promise("A", compute="bfloat16", store=None),
        "float16": Promise("A", compute="float16", store=None),
    },
    dialect="optax",
    modes=("jit", "eager"),
    partial={"eager": ("edges", "regression")},
    composed=frozenset({"entropy", "entropy_with_logits", "cross_entropy", "kl_divergence", "kl_div"}),
    call=call,
    versions=lambda: installed("jax", "jaxlib", "optax"),
)
