"""NumPy: the textbook formulas as a newcomer would write them, with the textbook gradients.

No library stands behind this one. It shows what the suite says of code that looks right: softmax without subtracting the
maximum, a logarithm of it, and 0*log(0).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from conformance.adapter import Adapter, Array, Arrays, Idiom, Unsupported, installed
from conformance.bound import Promise

Gradients = dict[str, Callable[[Array], Array]]  # each input's, as a function of the cotangent
Result = tuple[Array, Gradients]


def softmax(x: Array, axis: int = -1) -> Array:
    e: Array = np.exp(x)
    return e / e.sum(axis, keepdims=True)


def one_hot(target: Array, like: Array) -> Array:
    """1 at the target's class and 0 elsewhere, in the shape and dtype of `like` (N, V, *)."""
    classes = np.arange(like.shape[1]).reshape(-1, *(1,) * (target.ndim - 1))
    return (target[:, None] == classes).astype(like.dtype)


def entropy(p: Array) -> Result:
    return -(p * np.log(p)).sum(-1), {"p": lambda g: -g[..., None] * (np.log(p) + 1)}


def entropy_with_logits(logits: Array) -> Result:
    p = softmax(logits)
    h = -(p * np.log(p)).sum(-1)
    return h, {"logits": lambda g: -g[..., None] * p * (np.log(p) + h[..., None])}


def log_softmax(logits: Array) -> Result:
    p = softmax(logits)
    return np.log(p), {"logits": lambda g: g - p * g.sum(-1, keepdims=True)}


def cross_entropy(p: Array, q: Array) -> Result:
    return -(p * np.log(q)).sum(-1), {"p": lambda g: -g[..., None] * np.log(q), "q": lambda g: -g[..., None] * p / q}


def kl_divergence(p: Array, q: Array) -> Result:
    gradients: Gradients = {"p": lambda g: g[..., None] * (np.log(p / q) + 1), "q": lambda g: -g[..., None] * p / q}
    return (p * np.log(p / q)).sum(-1), gradients


def kl_div(log_q: Array, p: Array, *, reduction: str = "mean", log_target: bool = False) -> Result:
    divisor = {"none": 1, "sum": 1, "mean": p.size, "batchmean": len(p) if p.ndim else 1}[reduction]
    if log_target:
        loss = np.exp(p) * (p - log_q)
        gradients: Gradients = {"log_q": lambda g: -g * np.exp(p) / divisor, "p": lambda g: g * np.exp(p) * (p - log_q + 1) / divisor}
    else:
        loss = p * (np.log(p) - log_q)
        gradients = {"log_q": lambda g: -g * p / divisor, "p": lambda g: g * (np.log(p) - log_q + 1) / divisor}
    return loss if reduction == "none" else loss.sum() / divisor, gradients


def nll_loss(
    log_p: Array, target: Array, weight: Array | None = None, *, ignore_index: int | None = None, reduction: str = "mean"
) -> Result:
    t = one_hot(target, log_p)
    row_weight = np.ones_like(log_p[:, 0]) if weight is None else np.take(weight, target, mode="clip")
    row_weight = row_weight * (target != ignore_index)
    loss = -(log_p * t).sum(1) * row_weight
    divisor = row_weight.sum() if reduction == "mean" else 1
    gradients: Gradients = {"log_p": lambda g: -(g * row_weight / divisor)[:, None] * t}
    return loss if reduction == "none" else loss.sum() / divisor, gradients


def softmax_cross_entropy(
    logits: Array,
    target: Array,
    weight: Array | None = None,
    *,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> Result:
    if weight is not None or (ignore_index is not None and target.dtype == logits.dtype):
        raise Unsupported("the textbook has no class weights, and no ignore_index with probability targets")
    V = logits.shape[1]
    t = target if target.dtype == logits.dtype else one_hot(target, logits)
    t = (1 - label_smoothing) * t + label_smoothing / V
    kept = np.ones_like(logits[:, 0]) if target.dtype == logits.dtype else (target != ignore_index).astype(logits.dtype)
    p = softmax(logits, 1)
    loss = -(t * np.log(p)).sum(1) * kept
    divisor = kept.sum() if reduction == "mean" else 1
    gradients: Gradients = {"logits": lambda g: (g * kept / divisor)[:, None] * (p - t)}
    return loss if reduction == "none" else loss.sum() / divisor, gradients


def smoothed_attention_loss(
    logits: Array, target: Array, *, smoothing: float = 0.1, padding_idx: int = -1, normalize_length: bool = False
) -> Result:
    B, _, V = logits.shape
    kept = (target != padding_idx).astype(logits.dtype)
    t = np.where(np.arange(V) == target[..., None], 1 - smoothing, smoothing / (V - 1)).astype(logits.dtype)
    p = softmax(logits)
    divisor = kept.sum() if normalize_length else B
    loss = ((t * np.log(t / p)).sum(-1) * kept).sum() / divisor
    return loss, {"logits": lambda g: g * (kept / divisor)[..., None] * (p - t)}


OPERATIONS: Mapping[str, Callable[..., Result]] = {
    "entropy": entropy,
    "entropy_with_logits": entropy_with_logits,
    "log_softmax": log_softmax,
    "cross_entropy": cross_entropy,
    "kl_divergence": kl_divergence,
    "kl_div": kl_div,
    "nll_loss": nll_loss,
    "softmax_cross_entropy": softmax_cross_entropy,
    "smoothed_attention_loss": smoothed_attention_loss,
}


def call(
    operation: str, mode: str, inputs: Arrays, parameters: Mapping[str, Any], cotangent: Array | None
) -> tuple[Array, dict[str, Array]]:
    with np.errstate(all="ignore"):
        output, gradients = OPERATIONS[operation](**inputs, **parameters)
        found = {} if cotangent is None else {name: np.asarray(gradient(cotangent)) for name, gradient in gradients.items()}
    return np.asarray(output), found


ADAPTER = Adapter(
    name="numpy",
    operations=OPERATIONS,
    promises={
        "float64": Promise("A", compute="float64", store=None),
        "float32": Promise("A", compute="float32", store=None),
    },
    call=call,
    versions=lambda: installed("numpy"),
    idiom=Idiom(
        tensor="np.array({values}, dtype=np.{dtype})",
        number="float({})",
        total="{}.sum(dtype=np.float64)",
        forward="output, _ = {call}",
        backward="_, gradients = {call}\n{gradient} = gradients['{name}'](cotangent)",
    ),
)
