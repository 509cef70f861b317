"""JAX with optax: jax.nn, jax.scipy.special and optax.losses, gradients by jax.vjp; under jax.jit and eagerly, as Flax too has them.

Promises. Each function computes in the dtype of its input, so every intermediate is rounded to it; XLA makes no promise
about the order of a sum.

Modes. JAX has neither float64 nor int64 until `jax_enable_x64` is set: class indices become int32. `jit` and `eager` are without it, as
JAX starts, and `jit-x64` is with it: there float64 is asked, and the regressions of float32, which stays float32. Evaluated eagerly,
every primitive is compiled anew for each shape, so `eager` is asked the edges and regressions of float32 alone.

Flax. `flax.linen` and `flax.nnx` have no loss of their own, and their `log_softmax`, `softmax` and `one_hot` are the objects of
`jax.nn`: an adapter of its own would ask the same functions again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array as Tensor
from jax.scipy.special import entr, rel_entr, xlogy

from conformance.adapter import Adapter, Array, Arrays, Idiom, Mode, Unsupported, differentiable, installed
from conformance.bound import Promise

X64 = "jit-x64"


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


def evaluated(
    function: Callable[..., Tensor],
    inputs: dict[str, Tensor],
    keywords: Mapping[str, Any],
    names: tuple[str, ...],
    cotangent: Tensor | None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The output of a function, and the gradients of `names`."""
    fixed = {name: value for name, value in inputs.items() if name not in names}
    varied = {name: inputs[name] for name in names}
    if cotangent is None:
        return function(**inputs, **keywords), {}
    output, pullback = jax.vjp(lambda varied: function(**varied, **fixed, **keywords), varied)
    return output, pullback(cotangent.astype(output.dtype))[0]


@cache
def compiled(operation: str, parameters: tuple[tuple[str, Any], ...], names: tuple[str, ...]) -> Callable[..., Any]:
    """(inputs, cotangent) -> (output, gradients of `names`), one for each set of parameters, so that jit compiles each shape once."""
    return jax.jit(lambda inputs, cotangent: evaluated(OPERATIONS[operation], inputs, dict(parameters), names, cotangent))


def call(
    operation: str, mode: str, inputs: Arrays, parameters: Mapping[str, Any], cotangent: Array | None
) -> tuple[Array, dict[str, Array]]:
    if mode == "eager":
        return apply(OPERATIONS[operation], inputs, parameters, cotangent, x64=False)
    with jax.enable_x64(mode == X64):
        return to_numpy(*compiled(operation, tuple(sorted(parameters.items())), differentiable(inputs))(*to_tensors(inputs, cotangent)))


def apply(
    function: Callable[..., Tensor], inputs: Arrays, keywords: Mapping[str, Any], cotangent: Array | None, *, x64: bool = True
) -> tuple[Array, dict[str, Array]]:
    """The output of any function of jax arrays, and its gradients."""
    with jax.enable_x64(x64):
        tensors, last = to_tensors(inputs, cotangent)
        return to_numpy(*evaluated(function, tensors, keywords, differentiable(inputs), last))


def to_tensors(inputs: Arrays, cotangent: Array | None) -> tuple[dict[str, Tensor], Tensor | None]:
    return {name: jnp.asarray(value) for name, value in inputs.items()}, None if cotangent is None else jnp.asarray(cotangent)


def to_numpy(output: Tensor, gradients: Mapping[str, Tensor]) -> tuple[Array, dict[str, Array]]:
    return np.asarray(output), {name: np.asarray(gradient) for name, gradient in gradients.items()}


SETUP = 'jax.config.update("jax_enable_x64", True)'
IDIOM = Idiom(
    tensor="jnp.array({values}, dtype=jnp.{dtype})",
    number="float({})",
    total="float(np.asarray({}, np.float64).sum())",
    backward="_, pullback = jax.vjp(lambda {name}: {call}, {name})\n{gradient}, = pullback(cotangent)",
    index="jnp.issubdtype({}.dtype, jnp.integer)",
)
APPLIED = replace(IDIOM, setup=SETUP)  # of `apply`
COMPILED = replace(
    IDIOM,
    forward="output = jax.jit({function})({inputs})",
    backward="pull = jax.jit(lambda {inputs}, cotangent: jax.vjp(lambda {name}: {call}, {name})[1](cotangent))\n"
    "{gradient}, = pull({inputs}, cotangent)",
)

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
    modes=(
        Mode("jit", cases=("*-float32", "*-bfloat16", "*-float16"), idiom=COMPILED),
        Mode(X64, cases=("*-float64", "*/regression/*-float32"), idiom=replace(COMPILED, setup=SETUP)),
        Mode("eager", cases=("*/edges/*-float32", "*/regression/*-float32")),
    ),
    composed=frozenset({"entropy", "entropy_with_logits", "cross_entropy", "kl_divergence", "kl_div"}),
    call=call,
    versions=lambda: installed("jax", "jaxlib", "optax"),
    idiom=IDIOM,
)
