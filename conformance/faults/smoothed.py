"""The right kernel of the two softmax losses, in steps: a fault replaces one step and leaves the others as they are.

    read        rows of logits in the computation dtype, classes, kept rows           Rows
    softmax     log p and p of each row                                               Softmax
    masses      t, what each class of a row is given                                  (rows, V)
    weighted    c = w t                                                               (rows, V)
    losses      -sum c ln p of the kept rows, with + sum c ln t where that is asked   (rows,)
    denominator what the total is divided by, None for no division                    a number
    reduced     the output                                                            the output's shape
    factors     the cotangent of each row                                             (rows,)
    gradient    f (p sum c - c) of the kept rows                                      (rows, V)
    finish      output and gradient as they are returned

The computation dtype is float64 for float64 and else float32; sums are trees of pairs, as the promise of `steps` says.
Where something is wrong in both passes of real code, the loss and the gradient are computed with the same wrong step; where
only the backward pass has it, the loss is computed with the right ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from conformance.adapter import Adapter, Array
from conformance.faults import Fault
from conformance.faults.steps import PROMISES, total
from conformance.kernel import Function, kernel

SINGLE = ("float32",)


@dataclass(frozen=True, eq=False)
class Rows:
    """One call as the steps read it.

    `logits` and `target` as they were passed; `x` (rows, V) in the computation dtype; `index` (rows,) the class of each row, 0 for
    ignored ones, or `given` (rows, V); `weight` (V,) or None; `shape` that of the loss before its reduction ("none", "sum", "mean";
    "batch", "length"); `only_others` where smoothing is shared by the classes that aren't the target, `entropy` where that of the
    target is subtracted.
    """

    logits: Array
    target: Array
    x: Array
    index: Array
    given: Array | None
    kept: Array
    weight: Array | None
    smoothing: float
    reduction: str
    shape: tuple[int, ...]
    only_others: bool = False
    entropy: bool = False

    @property
    def classes(self) -> int:
        return int(self.x.shape[1])

    @property
    def number(self) -> type[np.floating[Any]]:
        """The computation dtype."""
        return self.x.dtype.type

    @property
    def weights(self) -> Array:
        """The class weights, 1 where none were passed."""
        return np.ones(self.classes, self.number) if self.weight is None else self.weight

    @property
    def one_hot(self) -> Array:
        """1 at each row's class, or the distribution that was passed."""
        return (np.arange(self.classes) == self.index[:, None]).astype(self.number) if self.given is None else self.given


@dataclass(frozen=True, eq=False)
class Softmax:
    """log p and p of rows, each (rows, V)."""

    log_p: Array
    p: Array


def softmax(r: Rows) -> Softmax:
    top = r.x.max(axis=1, keepdims=True, initial=-np.inf)
    gap = r.x - top
    e = np.exp(gap)
    sum_e = total(e)[:, None]
    return Softmax(gap - np.log(sum_e), e / sum_e)


def masses(r: Rows) -> Array:
    others = (r.classes - 1 if r.only_others else r.classes) or 1
    shared = r.number(r.smoothing / others)
    if r.only_others:
        return np.where(r.one_hot > 0, r.number(1.0 - r.smoothing), shared)
    return r.number(1.0 - r.smoothing) * r.one_hot + shared


def weighted(r: Rows, t: Array) -> Array:
    return t if r.weight is None else t * r.weight


def losses(r: Rows, s: Softmax, t: Array, c: Array) -> Array:
    terms = np.where(c > 0, -c * s.log_p, 0)
    if r.entropy:
        terms = np.where(c > 0, c * (np.log(t) - s.log_p), 0)
    loss = total(terms)
    loss[np.isnan(s.log_p[:, 0])] = np.nan
    return np.where(r.kept, loss, 0)


def denominator(r: Rows) -> Any:
    if r.reduction in ("none", "sum"):
        return None
    if r.reduction == "batch":
        return r.number(r.shape[0])
    if r.given is not None:
        return r.number(len(r.x))
    return r.number(r.kept.sum()) if r.weight is None else total(r.weight[r.index[r.kept]])


def reduced(r: Rows, loss: Array, divisor: Any) -> Array:
    if r.reduction == "none":
        return loss.reshape(r.shape)
    value = total(loss)
    return np.asarray(value if divisor is None else value / divisor if divisor > 0 else np.nan)


def factors(r: Rows, cotangent: Array, divisor: Any) -> Array:
    g = cotangent.astype(r.number).reshape(-1)
    return np.broadcast_to(g if divisor is None else g / divisor, (len(r.x),))


def gradient(r: Rows, s: Softmax, c: Array, f: Array) -> Array:
    mass = total(c)[:, None]
    return zeroed(r, f[:, None] * (s.p * mass - c), f)


def zeroed(r: Rows, g: Array, f: Array) -> Array:
    """0 in the rows that are ignored or have a cotangent of 0."""
    return np.where((r.kept & (f != 0))[:, None], g, 0)


def finish(r: Rows, output: Array, g: Array | None) -> tuple[Array, Array | None]:
    return output, g


def rows_of(logits: Array, axis: int) -> Array:
    """Logits as rows (rows, V)."""
    return np.moveaxis(logits, axis, -1).reshape(-1, logits.shape[axis])


def kept_rows(flat: Array, ignored: int | None) -> Array:
    return np.ones(flat.shape, bool) if ignored is None else flat != ignored


def classes_of(flat: Array, kept: Array, classes: int) -> Array:
    """The class of each row, 0 for ignored ones; raises where a kept target names none."""
    index = np.where(kept, flat, 0)
    if ((index < 0) | (index >= classes)).any():
        raise IndexError("a target is out of range")
    return index


@dataclass(frozen=True)
class Steps:
    """The steps of a pass; each has the right one as its default."""

    rows: Callable[[Array, int], Array] = rows_of
    targets: Callable[[Array], Array] = np.ravel
    kept: Callable[[Array, int | None], Array] = kept_rows
    classes: Callable[[Array, Array, int], Array] = classes_of
    softmax: Callable[[Rows], Softmax] = softmax
    masses: Callable[[Rows], Array] = masses
    weighted: Callable[[Rows, Array], Array] = weighted
    losses: Callable[[Rows, Softmax, Array, Array], Array] = losses
    denominator: Callable[[Rows], Any] = denominator
    reduced: Callable[[Rows, Array, Any], Array] = reduced
    factors: Callable[[Rows, Array, Any], Array] = factors
    gradient: Callable[[Rows, Softmax, Array, Array], Array] = gradient
    finish: Callable[[Rows, Array, Array | None], tuple[Array, Array | None]] = finish


OK = Steps()
Read = Callable[..., Rows]  # read(steps, **call) -> Rows


def of_cross_entropy(
    steps: Steps,
    logits: Array,
    target: Array,
    weight: Array | None = None,
    *,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> Rows:
    """The call of `softmax_cross_entropy`."""
    x = steps.rows(logits, 1)
    number = np.float64 if logits.dtype == np.float64 else np.float32
    w = None if weight is None else weight.astype(number)
    if target.dtype.kind in "iu":
        flat, given = steps.targets(target), None
        kept = steps.kept(flat, ignore_index)
        index = steps.classes(flat, kept, x.shape[1])
    else:
        given = rows_of(target, 1).astype(number)
        kept, index = np.ones(len(x), bool), np.zeros(len(x), np.int64)
    shape = (logits.shape[0], *logits.shape[2:])
    return Rows(logits, target, x.astype(number), index, given, kept, w, label_smoothing, reduction, shape)


def of_attention(
    steps: Steps, logits: Array, target: Array, *, smoothing: float = 0.1, padding_idx: int = -1, normalize_length: bool = False
) -> Rows:
    """The call of `smoothed_attention_loss`."""
    x, flat = steps.rows(logits, 2), steps.targets(target)
    number = np.float64 if logits.dtype == np.float64 else np.float32
    kept = steps.kept(flat, padding_idx)
    index = steps.classes(flat, kept, x.shape[1])
    reduction = "length" if normalize_length else "batch"
    return Rows(logits, target, x.astype(number), index, None, kept, None, smoothing, reduction, logits.shape[:2], True, True)


READS: Mapping[str, tuple[Read, int]] = {"softmax_cross_entropy": (of_cross_entropy, 1), "smoothed_attention_loss": (of_attention, 2)}


def function(operation: str, forward: Steps = OK, backward: Steps | None = None) -> Function:
    """The kernel of an operation with those steps, the backward pass with its own where it has any."""
    read, axis = READS[operation]
    back = forward if backward is None else backward

    def call(cotangent: Array | None = None, **given: Any) -> tuple[Array, dict[str, Array]]:
        with np.errstate(all="ignore"):
            r = read(forward, **given)
            s, t = forward.softmax(r), forward.masses(r)
            c, divisor = forward.weighted(r, t), forward.denominator(r)
            output, g = forward.reduced(r, forward.losses(r, s, t, c), divisor).astype(r.logits.dtype), None
            if cotangent is not None:
                if back is not forward:
                    r = r if _read_alike(forward, back) else read(back, **given)
                    s = s if (back.rows, back.softmax) == (forward.rows, forward.softmax) else back.softmax(r)
                    c, divisor = back.weighted(r, back.masses(r)), back.denominator(r)
                g = back.gradient(r, s, c, back.factors(r, cotangent, divisor))
                shape = [size for n, size in enumerate(r.logits.shape) if n != axis]
                g = np.moveaxis(g.reshape(*shape, r.classes), -1, axis).astype(r.logits.dtype)
            output, g = back.finish(r, output, g)
        return output, {} if g is None else {"logits": g}

    return call


def _read_alike(a: Steps, b: Steps) -> bool:
    """Whether two passes read the same rows."""
    return (a.rows, a.targets, a.kept, a.classes) == (b.rows, b.targets, b.kept, b.classes)


@dataclass(frozen=True)
class Maker:
    """Makes the faults of one operation, and names them after it."""

    operation: str

    def right(self) -> Adapter:
        """The kernel without a mistake."""
        return kernel(f"{self.operation}/right", self.operation, function(self.operation), PROMISES, {})

    def both(self, name: str, clause: str, mistake: str, seen: str = "", dtypes: tuple[str, ...] = SINGLE, **steps: Any) -> Fault:
        """A step that is wrong in the loss and in the gradient."""
        return self._fault(name, clause, mistake, seen, dtypes, Steps(**steps), None)

    def forward(self, name: str, clause: str, mistake: str, seen: str = "", dtypes: tuple[str, ...] = SINGLE, **steps: Any) -> Fault:
        """A step that is wrong in the loss alone."""
        return self._fault(name, clause, mistake, seen, dtypes, Steps(**steps), OK)

    def backward(self, name: str, clause: str, mistake: str, seen: str = "", dtypes: tuple[str, ...] = SINGLE, **steps: Any) -> Fault:
        """A step that is wrong in the gradient alone."""
        return replace(self._fault(name, clause, mistake, seen, dtypes, OK, Steps(**steps)), direction="backward")

    def split(self, name: str, clause: str, mistake: str, seen: str, forward: Steps, backward: Steps) -> Fault:
        """A gradient that is wrong beside a loss with steps of its own, which is right."""
        return replace(self._fault(name, clause, mistake, seen, SINGLE, forward, backward), direction="backward")

    def _fault(
        self, name: str, clause: str, mistake: str, seen: str, dtypes: tuple[str, ...], forward: Steps, backward: Steps | None
    ) -> Fault:
        promises = {dtype: PROMISES[dtype] for dtype in dtypes}
        made = function(self.operation, forward, backward)
        return Fault(kernel(f"{self.operation}/{name}", self.operation, made, promises, {}), clause, "forward", mistake, seen)
