"""When a loss is a rational number, proved; and the balls of radius 0 that say so.

The boundaries of rounding, the numbers of a format and the points halfway between them, are dyadic rationals. A value that is none of
them is told from them by a ball that is small enough. One that is can only be proved to be, and then its exact form returns a ball of
radius 0. Inputs and parameters are dyadic, so the rational numbers below are known exactly; what is stated of a "row" holds for its
classes that are not masked, of which there are k.

Two theorems carry it (A. Baker, Transcendental Number Theory, Cambridge 1975, chapter 1; I. Niven, Irrational Numbers, 1956, chapter 9):

    T1  Lindemann-Weierstrass: for distinct algebraic a_i, the exp(a_i) are linearly independent over the algebraic numbers.
    T2  A sum of c_i ln a_i with rational c_i and a_i > 0 is irrational or 0. For if it is r != 0, and N c_i are integers, then
        exp(N r) is the rational product of a_i^(N c_i), against T1. It is 0 just if that product is 1: `vanishes` decides it.

Softmax. p_v = r means exp(x_v) = r sum_u exp(x_u). Where two different logits occur, the coefficient of the other one can't agree.
    P1  p_v is rational just if the row is flat (all logits alike; p_v = 1/k) or v is masked (p_v = 0).
    P2  f (p_v C - c_v) with rational f, C, c_v is rational just if f C = 0 or p_v is: the gradients of `softmax_cross_entropy`,
        `smoothed_attention_loss` and, as g_v - p_v G, of `log_softmax`.
    P3  ln p_v is rational just for k = 1, where it is 0. (x_v - r = ln S makes exp(x_v - r) the sum S of the row's exponentials.)
    P4  sum c_v (ln t_v - ln p_v), also over rows, each with C = sum c_v > 0: let it be r and N all denominators' multiple. Then the
        product of the rows' S^(N C) with a rational number is a single exponential. All coefficients being positive, no term of the
        product cancels, so each S is one exponential: each row is flat. There p_v = 1/k, and T2 applies to sum c_v ln(k t_v).
    P5  -g p_v (ln p_v + H), with e_v = exp(-gap_v), S = sum e_u, T = sum gap_u e_u, is g e_v (gap_v S - T)/S^2. Let it be r g. Of
        e_v (gap_v S - T) = r S^2 compare the coefficients of exp(0): on the left it is 0 unless v is a maximum, and then the maxima's
        gap, 0; so r = 0. And gap_v S = T, compared alike, has gap_v = 0, then T = 0, then no gap at all: just flat rows have it.
    The entropy H of a row that isn't flat is ln S + T/S, which neither theorem covers: nothing is claimed of it.

Losses of distributions. T2 covers `entropy`, `cross_entropy`, `kl_divergence` and their slopes, and `kl_div` as p ln p - p log_q: a sum
of logarithms beside a rational number. T1 covers sum exp(l) (l - log_q): rational just if the coefficients of each l != 0 add up to 0.

Beside a rational number. A class with a gap beyond FAR has 0 < p_v < 2^-14400: no ball of 2^14 bits is sure to show that beside what it is
added to. So its gradient lies beside a rational number, on a side that is known. Where all classes below the maximum are like
that, S = k becomes k plus such a number: the row is nearly flat, and P2 to P4 give rational numbers beside which its gradients and
losses lie. All those have denominators below 2^8000, and the boundaries below 2^1076, so none of either lies within 2^-9100 of
another; factors stay below 2^4200, so that the true value lies within 2^-10200. What stands for it is the rational number, moved to its
side by STEP = 2^-10000: no comparison with a number of any format, or with an end of an enclosure, tells the two apart.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from flint import arb
from numpy.typing import NDArray

FAR = 10_000  # exp(-FAR) < 2^-14400
STEP = Fraction(1, 2**10_000)

Form = Iterable[tuple[Fraction, Fraction]]  # of (c, a): the sum of c ln a


def ball(value: Fraction, side: int = 0) -> arb:
    """A rational number, or (side 1, -1) what lies beside it, above or below: of radius 0 where it is dyadic."""
    value += side * STEP
    twos = value.denominator.bit_length() - 1
    if value.denominator == 1 << twos:
        return arb((value.numerator, -twos))
    return arb(value.numerator) / arb(value.denominator)


def known(value: arb) -> Fraction | None:
    """What a ball of radius 0 holds; None for others."""
    if not value.is_exact() or not value.is_finite():
        return None
    mantissa, exponent = (int(part) for part in value.man_exp())
    return Fraction(mantissa << exponent) if exponent >= 0 else Fraction(mantissa, 1 << -exponent)


def sign(value: Fraction) -> int:
    """1, 0 or -1."""
    return (value > 0) - (value < 0)


def summed(values: Iterable[float]) -> Fraction:
    """The exact sum of finite floats."""
    return sum((Fraction(value) * times for value, times in Counter(map(float, values)).items()), Fraction(0))


def inner(pairs: Iterable[tuple[float, float]]) -> Fraction:
    """The exact sum of the products of pairs of finite floats: the numerators over each power of two, then those."""
    numerators: defaultdict[int, int] = defaultdict(int)
    for a, b in pairs:
        (m, n), (k, d) = a.as_integer_ratio(), b.as_integer_ratio()
        numerators[n * d] += m * k
    return sum((Fraction(numerator, denominator) for denominator, numerator in numerators.items()), Fraction(0))


@dataclass(frozen=True)
class Softmax:
    """What is rational about a row's softmax. `count` classes are at its maximum; `near`: those are all but masked and far ones, if any."""

    logits: list[float]
    top: float
    count: int
    near: bool
    far: bool

    def gap(self, v: int) -> Fraction:
        """top - x_v of a class that isn't masked."""
        return Fraction(self.top) - Fraction(self.logits[v])

    def probability(self, v: int) -> tuple[Fraction, int] | None:
        """The rational number that p_v is, or lies beside, and on which side; None if there is none."""
        x = self.logits[v]
        if x == -math.inf:
            return Fraction(0), 0
        if self.top - x > FAR:
            return Fraction(0), 1
        return (Fraction(1, self.count), -int(self.far)) if self.near else None


def softmax(row: NDArray[Any]) -> Softmax | None:
    """What is known of a row of logits; None where it has no softmax."""
    x = row.astype(np.float64)
    top = float(x.max(initial=-math.inf))
    if not math.isfinite(top):
        return None
    with np.errstate(over="ignore"):
        gap = top - x
    level, masked = gap == 0.0, x == -math.inf
    far = (gap > FAR) & ~masked
    return Softmax(x.tolist(), top, int(level.sum()), bool((level | masked | far).all()), bool(far.any()))


def settled(enclosed: arb, value: Fraction, form: Form, side: int = 0) -> arb:
    """`enclosed`, a ball of value + sum of c ln a, or of a number to the `side` of it, in the best form: the sum may vanish.

    Decided with the help of the ball, which has to be one of the working precision: mostly it shows that the sum doesn't vanish.
    """
    return ball(value, side) if (enclosed - ball(value)).contains(0) and vanishes(form) else enclosed


def vanishes(form: Form) -> bool:
    """Whether a sum of c ln a with rational c and a > 0 is 0.

    The numerators and denominators of all a are powers of pairwise coprime numbers, whose logarithms are linearly independent over the
    rational numbers, as factorisation is unique; so each of them has to have the exponent 0.
    """
    exponents: defaultdict[int, Fraction] = defaultdict(Fraction)
    for c, a in form:
        exponents[a.numerator] += c
        exponents[a.denominator] -= c
    counts = {number: c for number, c in exponents.items() if number > 1 and c != 0}
    return all(sum(c * _valuation(number, prime) for number, c in counts.items()) == 0 for prime in coprime_base(counts))


def coprime_base(numbers: Iterable[int]) -> list[int]:
    """Pairwise coprime integers above 1 of which the given positive ones are products (Bach, Driscoll, Shallit, J. Algorithms 15, 1993)."""
    base: list[int] = []
    pending = list(numbers)
    while pending:
        number = pending.pop()
        for position, other in enumerate(base):
            shared = math.gcd(number, other)
            if shared > 1:
                del base[position]
                pending += [shared, number // shared, other // shared]
                break
        else:
            if number > 1:
                base.append(number)
    return base


def _valuation(number: int, divisor: int) -> int:
    power = 0
    while number % divisor == 0:
        number, power = number // divisor, power + 1
    return power
