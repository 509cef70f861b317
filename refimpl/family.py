"""The family of smoothed losses: `softmax_cross_entropy` and `smoothed_attention_loss` in one place.

Both compare rows of logits with a smoothed target and differ in layout, in where the smoothing's mass goes, in whether the
entropy of the target is subtracted, and in what a mean divides by. A `Setting` states those; the functions here evaluate
it by kernel and by exact form; `refimpl.family_terms` states the bounds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
from flint import arb
from numpy.typing import NDArray

from refimpl import ball, rational, reduce
from refimpl.ball import Ball
from refimpl.enclosure import Enclosure, Exact, Float
from refimpl.reduce import Parts
from refimpl.smoothing import Target, loss_parts, smoothed_masses
from refimpl.smoothing_gradient import gradient_parts

REPEATED = 64  # gradients of rows that are kept at a time, in case they repeat


@dataclass(frozen=True)
class Setting:
    """One call of a member of the family, its arguments checked and in rows.

    `logits` as given, with its class axis; `index` (rows,) or `given` (rows, V), the other None; `weight` (V,) or None; `kept`
    (rows,) bool. `only_others` puts the smoothing on the V - 1 other classes, or on V - 2 where the class `without` gets no mass
    at all (no kept row has it as its target); `shape` is the loss's before its reduction.
    `denominator` is None for no division, else the numbers whose sum
    the total is divided by.
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
    without: int | None = None

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


def meaning(s: Setting) -> Hashable:
    """What the choices come to: where the smoothing goes, whether an entropy is subtracted, the divisor, the value of 0/0.

    Without smoothing no mass goes anywhere, and the entropy of a class index is 0. Only a divisor of 0 makes a 0/0.
    """
    smoothed = s.smoothing > 0.0
    mass = (s.only_others, s.without) if smoothed and s.given is None else None
    divisor = None if s.denominator is None else rational.summed(s.denominator)
    return mass, s.entropy and (smoothed or s.given is not None), divisor, repr(s.over_nothing) if divisor == 0 else None


def weights_of(s: Setting) -> Float | None:
    """The class weights as the kernels take them: 0 for the class that gets no mass."""
    if s.without is None:
        return s.weight
    weight = np.ones(s.classes) if s.weight is None else s.weight.copy()
    weight[s.without] = 0.0
    return weight


def target_of(s: Setting) -> Target:
    """What the kernels compare each row with. Where a class gets no mass, the others are smoothed as if it didn't exist."""
    masses, weight = np.zeros(7), weights_of(s)
    smoothed_masses(s.smoothing, float(s.classes - (s.without is not None)), s.only_others, s.entropy, masses)
    if s.given is not None:  # keep = 1 - s instead of the mass on a target class
        shared = np.zeros(7)
        smoothed_masses(s.smoothing, float(s.classes), True, s.entropy, shared)
        masses[:2] = shared[:2]
    rows = s.kept.size
    return Target(
        index=np.zeros(rows, np.int64) if s.index is None else s.index,
        given=np.zeros((0, 0)) if s.given is None else s.given,
        weight=np.zeros(0) if weight is None else weight,
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
    keep, others = 1 - eps, s.classes - s.only_others - (s.without is not None)
    shared = eps / others if others else eps  # a single class has no others
    weight = None if s.weight is None else s.weight.tolist()

    def weighted(v: int, t: Any) -> tuple[Any, Any]:
        return t, t if weight is None else t * number(weight[v])

    if s.given is not None:
        given = s.given[row].tolist()
        return lambda v: weighted(v, keep * number(given[v]) + shared)
    assert s.index is not None
    on, y = keep if s.only_others else keep + shared, int(s.index[row])
    return lambda v: weighted(v, on if v == y else number(0.0) if v == s.without else shared)


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


def _likeness(s: Setting, x: NDArray[Any], row: int) -> Hashable:
    """What two rows have in common that have the same loss and, but for their factor, the same gradient."""
    if not s.kept[row]:
        return None
    return x.tobytes(), int(s.index[row]) if s.index is not None else s.given[row].tobytes() if s.given is not None else None


def exact(s: Setting, where: Sequence[int], bits: int) -> list[Ball]:
    """The loss at the given flat indices, by its definition in ball arithmetic."""
    with ball.precision(bits):
        rows = s.rows()
        if not s.reduced:
            return [_proved(s, rows, [i], Fraction(1), _exact_row(s, rows[i], i)) for i in where]
        known: dict[Hashable, Ball] = {}  # rows often repeat

        def once(i: int) -> Ball:
            like = _likeness(s, rows[i], i)
            if like not in known:
                known[like] = _exact_row(s, rows[i], i)
            return known[like]

        loss = ball.divided(ball.total(map(once, range(len(rows)))), s.denominator, s.over_nothing)
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
        known: dict[Hashable, Callable[[int], Ball]] = {}  # rows often repeat
        for row, wanted in by_row.items():
            g = float(cotangent.reshape(-1)[row if not s.reduced else 0])
            if not s.kept[row] or g == 0.0:
                continue
            like = _likeness(s, rows[row], row), g
            if like not in known:
                if len(known) == REPEATED:
                    known.clear()
                known[like] = _gradient(s, rows[row], row, Fraction(g), divisor)
            gradient = known[like]
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

    def evaluated(v: int) -> Ball:
        known = softmax.probability(v)
        if known is None:
            return multiplier * (ball.exp(log_p[v]) * mass - coefficients[v])
        p, side = known
        value = p * mass - coefficients[v] if softmax.near else -exact_pair(v)[1]
        return rational.ball(factor * value, side * rational.sign(factor) if mass > 0 else 0)

    found: dict[Hashable, Ball] = {}

    def gradient(v: int) -> Ball:
        """Classes of one logit and one and the same mass share their value."""
        like = softmax.logits[v], id(coefficients[v])
        if like not in found:
            found[like] = evaluated(v)
        return found[like]

    return gradient


def coefficients(s: Setting) -> tuple[Float, Float, Float]:
    """t and c of each class of each row, and the error in c, in units of u, by the rounding of what the smoothing is made of.

    A share s/V or s/(V-1) has three roundings: of s, of 1/V or the quotient, of a product. The mass on a target class is formed of a
    rounded s, of 1 - s, of a share and of up to two additions: at most 2 + 4 t. A given t_v takes part in 1 - s times t_v, and a sum.
    """
    rows, classes = s.kept.size, s.classes
    eps = s.smoothing
    w = np.ones(classes) if s.weight is None else s.weight
    if s.given is not None:
        t = (1 - eps) * s.given + eps / classes
        error = s.given + 4 * t
    else:
        assert s.index is not None
        shared = (classes - s.only_others - (s.without is not None)) or 1
        t = np.full((rows, classes), eps / shared)
        t[:, [] if s.without is None else s.without] = 0.0
        at = np.where(s.kept, s.index, 0)
        t[np.arange(rows), at] = on = 1 - eps + (0.0 if s.only_others else eps / classes)
        error = 3 * t
        error[np.arange(rows), at] = 2 + 4 * on
    return t, w * t, w * error * (eps > 0)
