"""Losses of distributions: `entropy`, `cross_entropy` and `kl_divergence` in one place, and the scalars of `kl_div`.

Each is a sum of pointwise terms of p and q, taken as given. A `Loss` states the term and its derivatives, for the kernel
(`refimpl.pointwise`) and, separately, as balls; the functions here evaluate it over the classes, the last axis. `entropy` has no q:
p stands in for it.

The balls follow the extended reals: ln 0 = -inf, ln inf = inf, inf - inf = nan, and a nan stands for what is undefined too.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np
from flint import arb
from numpy.typing import NDArray

from refimpl import ball, portable, rational, reduce
from refimpl.ball import Ball
from refimpl.bounds import Float, form, plus, stated, without
from refimpl.enclosure import Enclosure, format_of
from refimpl.operation import InvalidInput, cotangent_of, real, same_shape
from refimpl.pointwise import INF, NAN, shift_of, slope_parts, term_parts

Scalar = Callable[[float, float], Ball | Fraction]  # a fraction where a ball would have to round it


@dataclass(frozen=True)
class Loss:
    """`term(p, q)` and the derivatives `slope[input](p, q)` as balls, and the forms by which the kernels know them.

    `logarithm(p, q)` is (c, a) of a term c ln a with 0 < p, q < inf.
    """

    form: int
    slopes: Mapping[str, int]
    term: Callable[[float, float], Ball]
    logarithm: Callable[[Fraction, Fraction], tuple[Fraction, Fraction]]
    slope: Mapping[str, Scalar]


@dataclass(frozen=True)
class Rows:
    """The inputs of a call, checked, by name, and as float64 rows (rows, V)."""

    inputs: Mapping[str, NDArray[Any]]
    p: Float
    q: Float
    shape: tuple[int, ...]

    @staticmethod
    def of(p: Any, *others: Any) -> Rows:
        """From p, or from p and q; raises `InvalidInput` or `TypeError`."""
        inputs = {name: real(name, value) for name, value in zip(("p", "q"), (p, *others), strict=False)}
        for name, array in inputs.items():
            same_shape("p", inputs["p"], name, array)
        shape = inputs["p"].shape
        if not shape or shape[-1] == 0:
            raise InvalidInput(f"p has shape {shape}; pass (..., V) with at least one class")
        rows = [array.astype(np.float64).reshape(math.prod(shape[:-1]), shape[-1]) for array in inputs.values()]
        return Rows(inputs, rows[0], rows[-1], shape)


def forward(loss: Loss, rows: Rows, exact: Callable[..., list[Ball]]) -> Enclosure:
    """The loss by the kernel; `exact` is the operation's."""
    shift = shift_of(largest(rows.p)) if rows.shape[-1] > 1 else 0  # one term is no sum
    parts = term_parts(loss.form, rows.p, rows.q, shift).reshape(rows.shape[:-1])
    return reduce.finish(parts, 2.0**shift, lambda where, bits: exact(where, bits, **rows.inputs))


def vjp(loss: Loss, rows: Rows, cotangent: Any, exact_vjp: Callable[..., list[Ball]]) -> dict[str, Enclosure]:
    """The gradients by the kernel; `exact_vjp` is the operation's."""
    g = cotangent_of(cotangent, rows.shape[:-1])
    factor = reduce.exact_parts(g.reshape(-1))

    def gradient(name: str) -> Enclosure:
        parts = slope_parts(loss.slopes[name], rows.p, rows.q, factor).reshape(rows.shape)
        return reduce.finish(parts, exact=lambda where, bits: exact_vjp(name, where, bits, cotangent=g, **rows.inputs))

    return {name: gradient(name) for name in rows.inputs}


def exact_loss(loss: Loss, rows: Rows, where: Sequence[int], bits: int) -> list[Ball]:
    """The loss of the rows at the given indices, term by term; by T2 of `refimpl.rational` where it vanishes."""

    def row(p: list[float], q: list[float]) -> Ball:
        value = ball.total(map(loss.term, p, q))
        if isinstance(value, float) or not value.contains(0):
            return value
        return rational.settled(
            value, Fraction(0), [loss.logarithm(Fraction(a), Fraction(b)) for a, b in zip(p, q, strict=True) if a > 0.0]
        )

    with ball.precision(bits):
        return [row(rows.p[i].tolist(), rows.q[i].tolist()) for i in where]


def exact_gradient(loss: Loss, rows: Rows, name: str, where: Sequence[int], bits: int, cotangent: Any) -> list[Ball]:
    """The gradient with respect to an input at the given flat indices."""
    g = cotangent_of(cotangent, rows.shape[:-1]).reshape(-1)
    with ball.precision(bits):
        places, factors = [divmod(int(flat), rows.shape[-1]) for flat in where], [Fraction(float(value)) for value in g]
        slope = cache(loss.slope[name])  # pairs often repeat
        return [scaled(slope(float(rows.p[i, v]), float(rows.q[i, v])), factors[i]) for i, v in places]


def scaled(slope: Ball | Fraction, factor: Fraction) -> Ball:
    """slope * factor for a finite factor; a factor of 0 gives 0, whatever the slope."""
    if factor == 0:
        return arb(0)
    if isinstance(slope, Fraction):
        return rational.ball(slope * factor)
    return slope * rational.sign(factor) if isinstance(slope, float) else ball.scaled(slope, factor)


def number(x: float) -> Ball:
    """A float as a ball."""
    return arb(x) if math.isfinite(x) else x


def log(x: float) -> Ball:
    """ln x for x >= 0."""
    return -INF if x == 0.0 else x if x == INF else arb(x).log()


def difference(a: Ball, b: Ball) -> Ball:
    """a - b; nan for infinities of one sign."""
    return ball.total((a, -b))


def improper(*values: float) -> bool:
    """Whether one of the values is no probability, normalised or not: a nan, or negative."""
    return any(not value >= 0.0 for value in values)


def ratio_slope(p: float, q: float) -> Ball | Fraction:
    """-p/q, the derivative of -p ln q with respect to q."""
    if improper(p, q) or p == q == 0.0 or p == q == INF:
        return NAN
    if q == 0.0 or p == INF:
        return -INF
    return arb(0) if q == INF else -Fraction(p) / Fraction(q)


def pointwise_term(p: float, log_q: float) -> Ball:
    """p ln p - p log_q."""
    if improper(p) or math.isnan(log_q):
        return NAN
    return ball.times(number(p), difference(log(p), number(log_q)))


def pointwise_log_term(p: float, log_q: float) -> Ball:
    """exp(p) (p - log_q)."""
    if math.isnan(p) or math.isnan(log_q):
        return NAN
    return arb(0) if p == -INF else _exp_times(p, difference(number(p), number(log_q)))


def _exp_times(p: float, other: Ball) -> Ball:
    """exp(p) * other for p > -inf; beyond exp(2^30) every format overflows alike, and so may arb."""
    return other if isinstance(other, float) else ball.times(arb(min(p, 2.0**30)).exp(), other)


def pointwise_sum(p: Sequence[float], log_q: Sequence[float], log_target: bool, divisor: Fraction) -> Ball:
    """The sum of the terms over `divisor`; by T1 and T2 of `refimpl.rational` where it is rational."""
    total = ball.total(map(pointwise_log_term if log_target else pointwise_term, p, log_q))
    if isinstance(total, float):
        return total
    loss, absent = ball.scaled(total, 1 / divisor), -INF if log_target else 0.0
    pairs = [(a, b) for a, b in zip(p, log_q, strict=True) if a != absent]
    if not log_target:
        linear = rational.inner(pairs)
        return rational.settled(loss, -linear / divisor, ((Fraction(a), Fraction(a)) for a, _ in pairs))
    coefficients: defaultdict[Fraction, Fraction] = defaultdict(Fraction)
    for a, b in pairs:
        coefficients[Fraction(a)] += Fraction(a) - Fraction(b)
    constant = coefficients.pop(Fraction(0), Fraction(0))
    return loss if any(coefficients.values()) else rational.ball(constant / divisor)


def pointwise_slope(p: float, log_q: float) -> Ball:
    """ln p + 1 - log_q."""
    if improper(p) or math.isnan(log_q):
        return NAN
    return ball.total((log(p), arb(1), -number(log_q)))


def pointwise_log_slope(p: float, log_q: float) -> Ball:
    """exp(p) (p - log_q + 1)."""
    if math.isnan(p) or math.isnan(log_q) or (p == -INF and math.isinf(log_q)):
        return NAN
    return arb(0) if p == -INF else _exp_times(p, ball.total((number(p), -number(log_q), arb(1))))


def mass_slope(p: float, log_q: float) -> Ball:
    """-p."""
    return NAN if improper(p) or math.isnan(log_q) else -number(p)


def log_mass_slope(p: float, log_q: float) -> Ball:
    """-exp(p)."""
    return NAN if math.isnan(p) or math.isnan(log_q) else -ball.exp(number(p if p == INF else min(p, 2.0**30)))


def largest(values: NDArray[Any]) -> float:
    """The largest finite magnitude."""
    magnitude = np.abs(values)
    return float(np.max(magnitude, initial=0.0, where=np.isfinite(magnitude)))


def log_size(x: Float) -> Float:
    """|ln x|, and 0 where that is no real number."""
    with np.errstate(all="ignore"):
        return np.where((x > 0.0) & (x < INF), np.abs(portable.log(x)), 0.0)


def subnormal(array: NDArray[Any]) -> NDArray[np.bool_]:
    """The positive elements that code which flushes subnormal numbers takes for 0."""
    return (array > 0) & (array < format_of(array.dtype).normal)


def ratio_terms(rows: Rows, cotangent: Any) -> Float:
    """The error of -g p/q. In any order, three roundings and stores; an underflow of g*p is divided by q, one of p/q multiplied by g.

    A p that is flushed is itself below tiny.
    """
    g = np.abs(cotangent_of(cotangent, rows.shape[:-1]))[..., None]
    p, q = rows.p.reshape(rows.shape), rows.q.reshape(rows.shape)
    with np.errstate(all="ignore"):
        value, inverse = g * np.abs(p / q), 1.0 / np.abs(q)
        flushed = np.where(subnormal(rows.inputs["p"]), g * inverse, 0.0)
        error = form(value.shape, unit=3.0 * value, store=3.0 * value, tiny=1.0 + g + inverse + flushed)
    return stated(without(g == 0.0, error))


def slope_error(p: NDArray[Any], log_q: Float, log_target: bool, one: float) -> tuple[Float, Float, Float]:
    """The mass p, |slope| with that `one` (0 gives the term over p), and the slope's error, as a form, in the worst of the usual forms.

    ln p - log_q, or ln p and log_q each times the mass and then subtracted: the logarithm, two roundings and stores of
    each part, and two of their sum. A mass exp(l) adds its relative error to all parts: exp, and where it is an exp2 that of its
    argument. Where the slope isn't finite, all three are 0.
    """
    wide, finite = p.astype(np.float64), np.isfinite(log_q)
    with np.errstate(all="ignore"):
        if log_target:
            parts = np.abs(wide) + np.abs(log_q) + one
            value = np.abs(wide - log_q + one)
            mass = portable.exp(wide)
            error = form(parts.shape, exp=parts, gap=parts * np.abs(wide), store=parts)
            finite &= np.isfinite(wide)
        else:
            logs = log_size(wide)
            parts = logs + np.abs(log_q) + one
            value = np.abs(portable.log(wide) - log_q + one)
            mass, finite = wide, finite & (wide > 0.0) & (wide < INF)
            error = form(parts.shape, log=logs, store=logs)
        both = 2.0 * (parts + value)
        plus(error, unit=both, store=both, tiny=parts + 2.0)
    return np.where(finite, mass, 0.0), np.where(finite, value, 0.0), without(~finite, error)
