"""The family of smoothed losses: `softmax_cross_entropy` and `smoothed_attention_loss` in one place.

Both compare rows of logits with a smoothed target and differ in layout, in where the smoothing's mass goes, in whether the
entropy of the target is subtracted, and in what a mean divides by. A `Setting` states those; the functions here evaluate
it by kernel, by exact form, and by bound.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache, cached_property
from typing import Any

import numpy as np
from flint import arb
from numpy.typing import NDArray

from refimpl import ball, rational, reduce
from refimpl.ball import Ball
from refimpl.bounds import MARGIN, Float, LogSoftmax, mean_bound, sum_bound
from refimpl.enclosure import Enclosure, Exact
from refimpl.operation import Arithmetic
from refimpl.reduce import Parts
from refimpl.smoothing import Target, loss_parts, smoothed_masses
from refimpl.smoothing_gradient import gradient_parts


@dataclass(frozen=True)
class Setting:
    """One call of a member of the family, its arguments checked and in rows.

    `logits` as given, with its class axis; `index` (rows,) or `given` (rows, V), the other None; `weight` (V,) or None; `kept`
    (rows,) bool. `only_others` puts the smoothing on the V - 1 other classes; `shape` is the loss's before its reduction.
    `denominator` is None for no division, else the numbers whose sum the total is divided by.
    """

    logits: NDArray[Any]
    axis: int
    index: NDArray[np.int64] | None
    given: NDArray[np.float64] | None
    weight: NDArray[np.float64] | None
    kept: NDArray[np.bool_]
    smoothing: float
    only_others: bool
    entropy: bool
    shape: tuple[int, ...]
    reduced: bool
    denominator: Float | None
    all_ignored: str

    @property
    def classes(self) -> int:
        return self.logits.shape[self.axis]

    @property
    def output_shape(self) -> tuple[int, ...]:
        return () if self.reduced else self.shape

    @property
    def over_nothing(self) -> float:
        """What a division by 0 gives: nan, unless no row is kept and the choice is 0."""
        return 0.0 if self.all_ignored == "zero" and not self.kept.any() else math.nan

    @cached_property
    def _rows(self) -> NDArray[Any]:
        return reduce.class_rows("logits", self.logits, self.axis)

    def rows(self) -> NDArray[Any]:
        """The logits as rows (rows, V)."""
        return self._rows

    def only(self, some: NDArray[np.intp]) -> Setting:
        """The same call for some of its rows, each with what it had, the denominator included."""
        index = None if self.index is None else self.index[some]
        given = None if self.given is None else self.given[some]
        return replace(self, logits=self.rows()[some], axis=1, index=index, given=given, kept=self.kept[some], shape=some.shape)

    def rows64(self) -> Float:
        return self.rows().astype(np.float64)

    def places(self, where: Sequence[int]) -> list[tuple[int, int]]:
        """The row and the class of the logits at flat indices."""
        positions = list(np.unravel_index(np.asarray(where, np.int64), self.logits.shape))
        labels = positions.pop(self.axis)
        rows = np.ravel_multi_index(tuple(positions), self.shape)
        return list(zip(rows.tolist(), labels.tolist(), strict=True))


def target_of(s: Setting) -> Target:
    """What the kernels compare each row with."""
    masses = np.zeros(7)
    smoothed_masses(s.smoothing, float(s.classes), s.only_others, s.entropy, masses)
    if s.given is not None:  # keep = 1 - s instead of the mass on a target class
        shared = np.zeros(7)
        smoothed_masses(s.smoothing, float(s.classes), True, s.entropy, shared)
        masses[:2] = shared[:2]
    rows = s.kept.size
    return Target(
        index=np.zeros(rows, np.int64) if s.index is None else s.index,
        given=np.zeros((0, 0)) if s.given is None else s.given,
        weight=np.zeros(0) if s.weight is None else s.weight,
        masses=masses,
        kept=s.kept.astype(np.uint8),
        entropy=s.entropy,
    )


def forward(s: Setting, exact: Exact) -> Enclosure:
    """The loss by the kernel."""
    scale = reduce.scale_of(s.logits)
    parts = loss_parts(s.rows(), target_of(s), scale)
    if not s.reduced:
        return reduce.finish(parts.reshape(s.shape), scale, exact)
    return reduce.finish(reduce.divided(reduce.total(parts), s.denominator, s.over_nothing), scale, exact)


def factor_of(s: Setting, cotangent: Float) -> Parts:
    """What each row's gradient is multiplied with: its cotangent, or the one of the total over the denominator."""
    if not s.reduced:
        return reduce.exact_parts(cotangent.reshape(-1))
    return reduce.factor(float(cotangent), s.denominator).broadcast(s.kept.shape)


def vjp(s: Setting, cotangent: Float, exact: Exact) -> Enclosure:
    """The gradient with respect to the logits by the kernel."""
    factor = factor_of(s, cotangent)
    rows = gradient_parts(s.rows(), target_of(s), factor, reduce.scale_of(s.logits))
    moved = [n for axis, n in enumerate(s.logits.shape) if axis != s.axis]
    return reduce.finish(rows.reshape((*moved, s.classes)).moveaxis(-1, s.axis), exact=exact)


def _masses(s: Setting, row: int, number: Callable[[float], Any]) -> Callable[[int], tuple[Any, Any]]:
    """(t_v, c_v) of a class of a row, from their definition, in the numbers (balls or fractions) that `number` makes of floats."""
    eps = number(s.smoothing)
    keep, others = 1 - eps, s.classes - 1 if s.only_others else s.classes
    shared = eps / others if others else eps  # a single class has no others
    weight = None if s.weight is None else s.weight.tolist()

    def weighted(v: int, t: Any) -> tuple[Any, Any]:
        return t, t if weight is None else t * number(weight[v])

    if s.given is not None:
        given = s.given[row].tolist()
        return lambda v: weighted(v, keep * number(given[v]) + shared)
    assert s.index is not None
    on, y = keep if s.only_others else keep + shared, int(s.index[row])
    return lambda v: weighted(v, on if v == y else shared)


def _exact_row(s: Setting, x: NDArray[Any], row: int) -> Ball:
    if not s.kept[row]:
        return arb(0)
    log_p = ball.log_softmax([float(value) for value in x])
    if log_p is None:
        return math.nan
    pairs = [*map(_masses(s, row, arb), range(s.classes))]
    terms = [ball.times(-c, lp) for (_, c), lp in zip(pairs, log_p, strict=True)]
    if s.entropy:
        terms += [c * t.log() for t, c in pairs if not ball.is_zero(c)]
    return ball.total(terms)


def _proved(s: Setting, rows: NDArray[Any], where: Sequence[int], divisor: Fraction, loss: Ball) -> Ball:
    """The losses of some rows, summed and divided: as the rational number that they are, or lie beside, if they do.

    By P4 of `refimpl.rational`: over nearly flat rows the loss is sum c_v gap_v, and sum c_v ln(k t_v) (c_v ln k without the target's
    entropy), and C ln(S/k), which is 0 or, by far classes, hardly more.
    """
    if isinstance(loss, float):
        return loss
    value, side, form = Fraction(0), 0, list[tuple[Fraction, Fraction]]()
    for row in where:
        pair = _masses(s, row, Fraction)
        if not s.kept[row] or not any(pair(v)[1] for v in range(s.classes)):
            continue
        softmax = rational.softmax(rows[row])
        if softmax is None or not softmax.near or (softmax.count > 1 and not s.entropy):
            return loss
        side |= softmax.far
        for v, (t, c) in enumerate(map(pair, range(s.classes))):
            if c > 0:
                value += c * softmax.gap(v) / divisor
                form += [(c, softmax.count * t)] if s.entropy else []
    return rational.settled(loss, value, form, side)


def exact(s: Setting, where: Sequence[int], bits: int) -> list[Ball]:
    """The loss at the given flat indices, by its definition in ball arithmetic."""
    with ball.precision(bits):
        rows = s.rows()
        if not s.reduced:
            return [_proved(s, rows, [i], Fraction(1), _exact_row(s, rows[i], i)) for i in where]
        loss = ball.divided(ball.total(_exact_row(s, rows[i], i) for i in range(len(rows))), s.denominator, s.over_nothing)
        divisor = Fraction(1) if s.denominator is None else rational.summed(s.denominator)
        return [loss if divisor == 0 else _proved(s, rows, range(len(rows)), divisor, loss)] * len(where)


def exact_vjp(s: Setting, where: Sequence[int], bits: int, cotangent: Float) -> list[Ball]:
    """The gradient at the given flat indices of the logits, by its definition in ball arithmetic, or in fractions by P2."""
    with ball.precision(bits):
        rows = s.rows()
        divisor = Fraction(1) if s.denominator is None or not s.reduced else rational.summed(s.denominator)
        by_row: dict[int, list[tuple[int, int]]] = {}
        for position, (row, label) in enumerate(s.places(where)):
            by_row.setdefault(row, []).append((position, label))
        result: list[Ball] = [arb(0)] * len(where)
        before, gradient = None, None
        for row, wanted in by_row.items():
            g = float(cotangent.reshape(-1)[row if not s.reduced else 0])
            if not s.kept[row] or g == 0.0:
                continue
            same = rows[row].tobytes(), s.index[row] if s.index is not None else s.given[row].tobytes() if s.given is not None else None, g
            if gradient is None or same != before:  # rows often repeat
                before, gradient = same, _gradient(s, rows[row], row, Fraction(g), divisor)
            for position, v in wanted:
                result[position] = gradient(v)
        return result


def _gradient(s: Setting, x: NDArray[Any], row: int, g: Fraction, divisor: Fraction) -> Callable[[int], Ball]:
    """g/divisor (p_v C - c_v) of a row's classes, each evaluated once."""
    log_p, softmax = ball.log_softmax([float(value) for value in x]), rational.softmax(x)
    if log_p is None or softmax is None or divisor == 0:
        return lambda v: math.nan
    factor, exact_pair = g / divisor, _masses(s, row, Fraction)
    coefficients = [c for _, c in map(exact_pair if softmax.near else _masses(s, row, arb), range(s.classes))]
    mass, multiplier = sum(coefficients), rational.ball(factor)

    @cache
    def gradient(v: int) -> Ball:
        known = softmax.probability(v)
        if known is None:
            return multiplier * (ball.exp(log_p[v]) * mass - coefficients[v])
        p, side = known
        value = p * mass - coefficients[v] if softmax.near else -exact_pair(v)[1]
        return rational.ball(factor * value, side * rational.sign(factor) if mass > 0 else 0)

    return gradient


def _coefficient_arrays(s: Setting, u: float) -> tuple[Float, Float, Float]:
    """t, c and the error that rounding the smoothing's parameters leaves in c, as (rows, V) float64 arrays."""
    rows, classes = s.kept.size, s.classes
    eps = s.smoothing
    w = np.ones(classes) if s.weight is None else s.weight
    if s.given is not None:
        t = (1 - eps) * s.given + eps / classes
        error = 2 * u * (s.given + t) if eps > 0 else np.zeros_like(t)
    else:
        assert s.index is not None
        shared = (classes - 1 if s.only_others else classes) or 1
        t = np.full((rows, classes), eps / shared)
        at = np.where(s.kept, s.index, 0)
        t[np.arange(rows), at] = 1 - eps + (0.0 if s.only_others else eps / classes)
        error = 3 * u * t
        error[np.arange(rows), at] = 3 * u
        error *= eps > 0
    return t, w * t, w * error


def _row_bounds(s: Setting, arithmetic: Arithmetic) -> tuple[Float, Float]:
    """The loss of each row in float64, and the error that correct code makes in it."""
    u = arithmetic.unit
    lp = LogSoftmax.of(arithmetic, s.rows64())
    t, c, c_error = _coefficient_arrays(s, u)
    with np.errstate(all="ignore"):
        magnitude = np.where(c > 0.0, c * np.abs(lp.value), 0.0)
        error = np.where(c > 0.0, c * lp.error + c_error * np.abs(lp.value), 0.0) + 4 * u * magnitude
        if s.entropy:
            entropy = np.where(c > 0.0, c * np.abs(np.log(t)), 0.0)
            slope = np.where(c > 0.0, c_error * (np.abs(np.log(t)) + 1.0), 0.0)
            error = error + u * (arithmetic.log + 4) * entropy + slope
            magnitude = magnitude + entropy
        loss = magnitude.sum(axis=1)
        bound = error.sum(axis=1) + arithmetic.sum_error(np.count_nonzero(c, axis=1)) * loss + (arithmetic.store + 2 * u) * loss
    return np.where(s.kept, loss, 0.0), np.where(s.kept, bound, 0.0)


def bound(s: Setting, arithmetic: Arithmetic) -> Float:
    """The error of the loss: those of the rows (`_row_bounds`), then of the reduction."""
    loss, error = _row_bounds(s, arithmetic)
    over_rows = arithmetic.over_rows()
    if not s.reduced:
        result = error.reshape(s.shape)
    elif s.denominator is None:
        result = sum_bound(over_rows, loss, error)
    else:
        result = mean_bound(over_rows, loss, error, float(s.denominator.sum()))
    return np.asarray(result * MARGIN + 4 * arithmetic.tiny)


def bound_vjp(s: Setting, arithmetic: Arithmetic, cotangent: Float) -> Float:
    """The error of the gradient f (p_v C - c_v), f = cotangent/denominator.

    p_v C carries the relative error of p_v, that of a sum for C, and two roundings; c_v those of the smoothing; the difference, the
    product with f and f itself one or two each. What is stored: f, c_v f and with it their sum.
    """
    u = arithmetic.unit
    lp = LogSoftmax.of(arithmetic, s.rows64())
    _, c, c_error = _coefficient_arrays(s, u)
    mass = c.sum(axis=1, keepdims=True)
    f = np.broadcast_to(np.abs(cotangent).reshape(-1, 1), (s.kept.size, 1))
    f_error = 2 * u
    if s.denominator is not None and s.reduced:
        with np.errstate(all="ignore"):
            f = f / s.denominator.sum()
        f_error = f_error + float(arithmetic.over_rows().sum_error(s.denominator.size))
    with np.errstate(all="ignore"):
        first = lp.probability * mass
        error = first * (lp.relative + arithmetic.sum_error(s.classes) + 4 * u) + 4 * u * c + c_error
        error = error + c_error.sum(axis=1, keepdims=True) * lp.probability + 2 * arithmetic.store * (first + c)
        result = f * (error + (f_error + 3 * u) * np.abs(first - c)) * MARGIN + arithmetic.tiny * (4 + 2 * f * mass)
    result = np.where(s.kept[:, None], result, 0.0)
    moved = [n for axis, n in enumerate(s.logits.shape) if axis != s.axis]
    return np.moveaxis(result.reshape((*moved, s.classes)), -1, s.axis)
