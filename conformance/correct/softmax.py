"""Right kernels of the losses of logits: each way to a log-softmax (`conformance.correct.rows`), with the loss and gradient on top.

What a loss adds to a log-softmax is written once: targets, smoothing, weights, masks, reductions. A `Machine` is the arithmetic: a
dtype to compute in, one to keep intermediates in, and one to accumulate in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from conformance.adapter import Adapter, Array
from conformance.bound import Promise
from conformance.case import rounded
from conformance.correct.rows import STYLES, Style, wide
from conformance.kernel import kernel
from refimpl.enclosure import FORMATS

Answer = tuple[Array, dict[str, Array]]
DIALECT = {"all_ignored": "nan"}


@dataclass(frozen=True)
class Machine:
    """A style in the arithmetic that it has for one dtype."""

    style: Style
    compute: Any
    store: Any
    sums: Any

    @staticmethod
    def of(style: Style, dtype: Any) -> Machine:
        """For inputs of a dtype."""
        compute, store = np.dtype(dtype), np.dtype(dtype)
        if compute.itemsize < 4 and style.half not in ("own", "narrow"):
            compute = np.dtype("float64" if style.half == "float64" else "float32")
            store = store if style.half == "store" else compute
        narrow = style.half == "narrow" and compute.name != "float16"  # which has no room for a vocabulary's sum
        return Machine(style, compute, store, compute if narrow else wide(np.zeros(0, compute)).dtype)

    def takes(self, x: Array) -> Array:
        """An input in the computation dtype."""
        return x.astype(self.compute)

    def keeps(self, x: Array) -> Array:
        """An intermediate as it is kept."""
        return x.astype(self.store).astype(x.dtype)

    def total(self, x: Array) -> Array:
        """A sum over the last axis, kept as an axis of length 1, in the accumulator's dtype."""
        return np.asarray(self.style.order.total(x.astype(self.sums)))[..., None]

    def over_rows(self, x: Array) -> Array:
        """A sum of all elements, in float32 at least."""
        return np.asarray(self.style.order.total(wide(x.reshape(-1))))

    def softmax(self, x: Array) -> tuple[Array, Array]:
        """(lp, p) of rows (R, V), as they are kept."""
        lp, p = self.style.rows(x, self.total)
        return self.keeps(lp), self.keeps(p)


def rounded_to(dtype: Any, x: Array) -> Array:
    """A result in the dtype that is asked for, rounded once: numpy reaches bfloat16 from float64 by way of float32, which is twice."""
    return np.asarray(rounded(x, dtype.name) if x.dtype == np.float64 else x.astype(dtype))


def entropy_with_logits(m: Machine, cotangent: Array | None, logits: Array) -> Answer:
    """-sum p lp, and -g p (lp + H)."""
    rows = m.takes(logits.reshape(-1, logits.shape[-1]))
    lp, p = m.softmax(rows)
    h = m.total(m.keeps(np.where(p == 0.0, p, p * -lp)))
    gradients = {}
    if cotangent is not None:
        g = m.takes(cotangent.reshape(-1, 1))
        slope = np.where(p == 0.0, p, -g * p * (lp + h.astype(m.compute)))
        gradients["logits"] = rounded_to(logits.dtype, np.where(g == 0.0, np.zeros_like(slope), slope).reshape(logits.shape))
    return rounded_to(logits.dtype, h.reshape(logits.shape[:-1])), gradients


def log_softmax(m: Machine, cotangent: Array | None, logits: Array) -> Answer:
    """lp, and g - p sum g."""
    lp, p = m.softmax(m.takes(logits.reshape(-1, logits.shape[-1])))
    gradients = {}
    if cotangent is not None:
        g = m.takes(cotangent.reshape(lp.shape))
        gradients["logits"] = rounded_to(logits.dtype, (g - p * m.keeps(m.total(g).astype(m.compute))).reshape(logits.shape))
    return rounded_to(logits.dtype, lp.reshape(logits.shape)), gradients


@dataclass(frozen=True)
class Target:
    """What rows are compared with: c (rows, V) in the accumulator's dtype, which rows count, and what a mean divides by.

    `picked` are the classes where c is 1 at one class of each row and 0 elsewhere: then nothing is multiplied or summed. `entropy` is
    the entropy of each row's target, or None.
    """

    c: Array
    kept: Array
    divisor: float | Array | None
    picked: Array | None
    entropy: Array | None = None


def classes_of(target: Array, ignored: int | None, classes: int) -> tuple[Array, Array]:
    """The class of each row (0 for an ignored one), and which rows are kept; raises `ValueError` for a target that is no class."""
    kept = np.ones(target.size, bool) if ignored is None else target.reshape(-1) != ignored
    index = np.where(kept, target.reshape(-1), 0)
    if ((index < 0) | (index >= classes)).any():
        raise ValueError("a target names no class")
    return index, kept


def evaluate(m: Machine, rows: Array, t: Target, cotangent: Array | None, reduced: bool) -> tuple[Array, Array | None]:
    """The loss, by rows or reduced, and the gradient of the rows."""
    lp, p = m.softmax(m.takes(rows))
    if t.picked is not None:
        loss = m.keeps(-np.take_along_axis(lp, t.picked[:, None], axis=1)).astype(m.sums)
    else:
        loss = m.total(m.keeps(np.where(t.c == 0.0, np.zeros_like(t.c), t.c * -lp.astype(t.c.dtype))))
        if t.entropy is not None:
            loss = loss - t.entropy
        loss = m.keeps(loss)
    loss = np.where(t.kept, loss[:, 0], np.zeros_like(loss[:, 0]))
    divisor = None if t.divisor is None else np.asarray(t.divisor, wide(loss).dtype)
    value = loss
    if reduced:
        value = m.over_rows(loss)
        value = value if divisor is None else value / divisor
    if cotangent is None:
        return value, None
    f = m.takes(cotangent.reshape(-1, 1))
    if divisor is not None:
        f = m.keeps((wide(f) / divisor).astype(m.compute))
    c = t.c.astype(m.compute)
    mass = np.ones((len(rows), 1), m.compute) if t.picked is not None else m.total(t.c).astype(m.compute)
    gradient = p * (f * mass) - c * f if m.style.fused else f * (p * mass - c)
    return value, np.where(t.kept[:, None], gradient, np.zeros_like(gradient))


def softmax_cross_entropy(
    m: Machine,
    cotangent: Array | None,
    logits: Array,
    target: Array,
    weight: Array | None = None,
    *,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> Answer:
    """The loss against classes or distributions, with what PyTorch's has."""
    classes, last = logits.shape[1], np.moveaxis(logits, 1, -1)
    shape = last.shape[:-1]
    rows = last.reshape(-1, classes)
    wider = wide(np.zeros(0, m.compute)).dtype
    w = None if weight is None else weight.astype(wider)
    share = wider.type(label_smoothing) / wider.type(classes)
    keep = wider.type(1.0) - wider.type(label_smoothing)
    picked = None
    if target.dtype.kind in "iu":
        index, kept = classes_of(target, ignore_index, classes)
        hot = np.arange(classes) == index[:, None]
        c = np.where(hot, keep + share, share).astype(wider)
        picked = index if label_smoothing == 0.0 and w is None else None
        weights = kept.astype(wider) if w is None else np.where(kept, w[index], 0.0).astype(wider)
        divisor = float(kept.sum()) if w is None else m.over_rows(weights)
    else:
        kept = np.ones(len(rows), bool)
        c = keep * np.moveaxis(target, 1, -1).reshape(-1, classes).astype(wider) + share
        divisor = float(len(rows))
    c = c if w is None else c * w
    t = Target(c, kept, divisor if reduction == "mean" else None, picked)
    value, gradient = evaluate(m, rows, t, cotangent, reduction != "none")
    value = value.reshape(shape) if reduction == "none" else value
    return rounded_to(logits.dtype, np.asarray(value)), _gradients(gradient, shape, classes, 1, logits)


def smoothed_attention_loss(
    m: Machine,
    cotangent: Array | None,
    logits: Array,
    target: Array,
    *,
    smoothing: float = 0.1,
    padding_idx: int = -1,
    normalize_length: bool = False,
) -> Answer:
    """WeNet's loss: the cross entropy less the target's entropy."""
    batch, _, classes = logits.shape
    rows = logits.reshape(-1, classes)
    wider = wide(np.zeros(0, m.compute)).dtype
    index, kept = classes_of(target, padding_idx, classes)
    share = wider.type(smoothing) / wider.type(max(classes - 1, 1))
    keep = wider.type(1.0) - wider.type(smoothing)
    c = np.where(np.arange(classes) == index[:, None], keep, share).astype(wider)
    logs = np.where(c == 0.0, np.zeros_like(c), c * -np.log(np.where(c == 0.0, np.ones_like(c), c)))
    divisor = float(kept.sum() if normalize_length else batch)
    t = Target(c, kept, divisor, index if smoothing == 0.0 else None, m.total(logs) if smoothing > 0.0 else None)
    value, gradient = evaluate(m, rows, t, cotangent, reduced=True)
    return rounded_to(logits.dtype, np.asarray(value)), _gradients(gradient, target.shape, classes, 2, logits)


def _gradients(gradient: Array | None, shape: tuple[int, ...], classes: int, axis: int, logits: Array) -> dict[str, Array]:
    if gradient is None:
        return {}
    return {"logits": rounded_to(logits.dtype, np.ascontiguousarray(np.moveaxis(gradient.reshape(*shape, classes), -1, axis)))}


LOSSES: dict[str, Callable[..., Answer]] = {
    "entropy_with_logits": entropy_with_logits,
    "log_softmax": log_softmax,
    "softmax_cross_entropy": softmax_cross_entropy,
    "smoothed_attention_loss": smoothed_attention_loss,
}


def promise_of(style: Style, dtype: str) -> Promise:
    """What a style makes true for a dtype."""
    m = Machine.of(style, FORMATS[dtype].dtype)
    store = None if m.store == m.compute else m.store.name
    return Promise(style.accuracy, m.compute.name, store, style.summation or style.order.summation, gap=style.gap)


def kernels() -> Iterator[Adapter]:
    """Every style of every loss."""
    for style in STYLES:
        promises = {dtype: promise_of(style, dtype) for dtype in FORMATS}
        for operation in LOSSES:

            def function(*, cotangent: Array | None, _style: Style = style, _operation: str = operation, **call: Any) -> Answer:
                with np.errstate(all="ignore"):
                    machine = Machine.of(_style, next(iter(call.values())).dtype)
                    return LOSSES[_operation](machine, cotangent, **call)

            yield kernel(f"correct-{style.name}", operation, function, promises, DIALECT)
