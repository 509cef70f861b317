"""The sum of the magnitudes of the terms that a result is made of, in float64: what a relative error is measured by.

Written from the definitions alone. The terms of a loss of logits are c_v |ln p_v|, and with the target's entropy c_v (|ln t_v| + 1): an
error of t_v moves ln t_v by its own relative size. Those of a gradient are what its definition subtracts: |f| (p_v C + c_v).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]
Call = Mapping[str, Any]


def magnitude(operation: str, wrt: str | None, call: Call, cotangent: Any) -> Float:
    """Of the output (`wrt` None) or of the gradient with respect to an input, in its shape; nan or 0 where none can be given."""
    with np.errstate(all="ignore"):
        return np.asarray(_MAGNITUDES[operation](wrt, call, np.abs(_real(cotangent))), np.float64)


def _real(array: Any) -> Float:
    return np.asarray(array).astype(np.float64)


def _times(a: Any, b: Any) -> Float:
    """a * b, where 0 annuls."""
    return np.where((a == 0.0) | (b == 0.0), 0.0, a * b)


def _abs_log(p: Any, q: Any = 1.0) -> Float:
    """|ln(p/q)|, with a small relative error for p near q."""
    return np.where((p < 2 * q) & (q < 2 * p), np.abs(np.log1p((p - q) / q)), np.abs(np.log(p) - np.log(q)))


def _entropy(wrt: str | None, call: Call, g: Float) -> Float:
    p = _real(call["p"])
    return _times(p, _abs_log(p)).sum(axis=-1) if wrt is None else g[..., None] * (_abs_log(p) + 1.0)


def _cross_entropy(wrt: str | None, call: Call, g: Float) -> Float:
    p, q = _real(call["p"]), _real(call["q"])
    if wrt is None:
        return _times(p, _abs_log(q)).sum(axis=-1)
    return g[..., None] * (_abs_log(q) if wrt == "p" else p / q)


def _kl_divergence(wrt: str | None, call: Call, g: Float) -> Float:
    p, q = _real(call["p"]), _real(call["q"])
    if wrt is None:
        return _times(p, _abs_log(p, q)).sum(axis=-1)
    return g[..., None] * (_abs_log(p, q) + 1.0 if wrt == "p" else p / q)


def _kl_div(wrt: str | None, call: Call, g: Float) -> Float:
    p, log_q = _real(call["p"]), _real(call["log_q"])
    mass = np.exp(p) if call["log_target"] else p
    logs = np.abs(p - log_q) if call["log_target"] else _abs_log(p) + np.abs(log_q)
    mean = p[..., 0].size if call.get("mean_over") == "rows" else p.size
    divisor = {"mean": mean, "batchmean": len(p)}.get(call["reduction"], 1)
    if wrt is None:
        terms = _times(mass, logs)
        return terms if call["reduction"] == "none" else terms.sum() / divisor
    if wrt == "log_q":
        return g / divisor * mass
    return g / divisor * (mass if call["log_target"] else 1.0) * (logs + 1.0)


def _log_softmax_of(x: Float) -> tuple[Float, Float]:
    """|ln p_v| and p_v; the sum of the others' exponentials is kept apart from the maximum's 1."""
    top = np.argmax(x, axis=-1)[..., None]
    gap = np.take_along_axis(x, top, axis=-1) - x
    e = np.exp(-gap)
    rest = e.copy()
    np.put_along_axis(rest, top, 0.0, axis=-1)
    total = rest.sum(axis=-1, keepdims=True)
    return gap + np.log1p(total), e / (1.0 + total)


def _log_softmax(wrt: str | None, call: Call, g: Float) -> Float:
    size, p = _log_softmax_of(_real(call["logits"]))
    return size if wrt is None else g + p * g.sum(axis=-1, keepdims=True)


def _entropy_with_logits(wrt: str | None, call: Call, g: Float) -> Float:
    x = _real(call["logits"])
    size, p = _log_softmax_of(x)
    if wrt is None:
        return _times(p, size).sum(axis=-1)
    gap = x.max(axis=-1, keepdims=True) - x
    return g[..., None] * _times(p, gap + _times(p, gap).sum(axis=-1, keepdims=True))


def _nll_loss(wrt: str | None, call: Call, g: Float) -> Float:
    x, target = _real(call["log_p"]), np.asarray(call["target"])
    kept = target != call["ignore_index"] if call["ignore_index"] is not None else np.ones(target.shape, bool)
    at = np.where(kept, target, 0)
    weight = np.ones(x.shape[1]) if call.get("weight") is None else _real(call["weight"])
    w = np.where(kept, weight[at], 0.0)
    loss = _times(w, np.abs(np.take_along_axis(x, at[:, None], axis=1)[:, 0]))
    divisor = _denominator(call, w.sum(), kept) if call["reduction"] == "mean" else 1.0
    if wrt is None:
        return loss if call["reduction"] == "none" else loss.sum() / divisor
    own = np.broadcast_to(g, w.shape) / divisor * w
    return np.where(np.arange(x.shape[1]) == at[:, None], own[:, None], 0.0)


def _denominator(call: Call, weight: float, kept: NDArray[np.bool_]) -> float:
    """What a mean over class indices divides by."""
    counts = {"weights": weight, "kept": np.count_nonzero(kept), "rows": kept.size, "batch": len(kept)}
    return float(counts[call.get("denominator", "weights")])


def _smoothed(wrt: str | None, call: Call, g: Float, *, smoothing: float, ignored: int | None, reduced: bool) -> Float:
    """Of `softmax_cross_entropy` and `smoothed_attention_loss`; rows of logits (..., V), the denominator of a mean left to the callers."""
    x, target = _real(call["logits"]), np.asarray(call["target"])
    classes = x.shape[-1]
    weight = np.ones(classes) if call.get("weight") is None else _real(call["weight"])
    if target.dtype.kind in "iu":
        kept = target != ignored if ignored is not None else np.ones(target.shape, bool)
        others = {"V": 0, "V-1": 1, "V-2": 2}[call["smoothing_mass"]]
        off = smoothing / max(classes - others, 1)
        own = np.arange(classes) == target[..., None]
        t = np.where(own, 1.0 - smoothing + (0.0 if others else off), off)
        t = np.where((np.arange(classes) == ignored) & (others == 2), 0.0, t)
    else:
        kept, t = np.ones(target.shape[:-1], bool), (1.0 - smoothing) * _real(target) + smoothing / classes
    c = weight * t
    size, p = _log_softmax_of(x)
    if wrt is None:
        terms = _times(c, size)
        if call["target_entropy"] == "kept":
            terms = terms + np.where(t == 1.0, 0.0, _times(c, np.abs(np.log(t)) + 1.0))
        rows = np.where(kept, terms.sum(axis=-1), 0.0)
        return rows.sum() if reduced else rows
    factor = np.where(kept, np.broadcast_to(g, kept.shape), 0.0)
    return factor[..., None] * (p * c.sum(axis=-1, keepdims=True) + c)


def _softmax_cross_entropy(wrt: str | None, call: Call, g: Float) -> Float:
    target, divisor = np.asarray(call["target"]), 1.0
    if call["reduction"] == "mean":
        weight = np.ones(len(call["logits"][0])) if call.get("weight") is None else _real(call["weight"])
        kept = target != call["ignore_index"] if call["ignore_index"] is not None else np.ones(target.shape, bool)
        if target.dtype.kind in "iu":
            divisor = _denominator(call, weight[target[kept]].sum(), kept)
        else:
            by_weight = call.get("distribution_denominator") == "weights"
            divisor = (_real(target) * weight).sum() if by_weight else float(len(target))
    reduced, eps, ignored = call["reduction"] != "none", call["label_smoothing"], call["ignore_index"]
    return _smoothed(wrt, call, g, smoothing=eps, ignored=ignored, reduced=reduced) / divisor


def _smoothed_attention_loss(wrt: str | None, call: Call, g: Float) -> Float:
    kept = np.count_nonzero(np.asarray(call["target"]) != call["padding_idx"])
    divisor = float(kept if call["normalize_length"] else len(call["logits"]))
    return _smoothed(wrt, call, g, smoothing=call["smoothing"], ignored=call["padding_idx"], reduced=True) / divisor


_MAGNITUDES: dict[str, Callable[[str | None, Call, Float], Float]] = {
    "entropy": _entropy,
    "cross_entropy": _cross_entropy,
    "kl_divergence": _kl_divergence,
    "kl_div": _kl_div,
    "log_softmax": _log_softmax,
    "entropy_with_logits": _entropy_with_logits,
    "nll_loss": _nll_loss,
    "softmax_cross_entropy": _softmax_cross_entropy,
    "smoothed_attention_loss": _smoothed_attention_loss,
}
