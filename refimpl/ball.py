"""Ball arithmetic for the exact forms: python-flint's `arb`, with what it leaves out.

A ball is an interval of real numbers that is certain to hold the true value. Its ends are dyadic rationals, as the numbers of every
format and the points halfway between them are; so a true value that is one of those is known just if its ball has the radius 0, and
`refimpl.rational` says how an exact form knows it. Where a value is not a real number the exact forms return a Python float instead:
+inf, -inf or nan. python-flint keeps its working precision in one global, so `precision` holds a lock for as long as it is set.

Source: F. Johansson, "Arb: efficient arbitrary-precision midpoint-radius interval arithmetic", IEEE Trans. Computers 66(8),
2017.
"""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from functools import lru_cache

from flint import arb, ctx

from refimpl import rational

Ball = arb | float  # a float is +inf, -inf or nan
Interval = tuple[Fraction, Fraction]

MAX_BITS = 2**14  # where `Enclosure.round` gives up
REACH = 4000  # no format has numbers beyond 2^REACH or below 2^-REACH

_lock = threading.RLock()


@contextmanager
def precision(bits: int) -> Iterator[None]:
    """Evaluate ball arithmetic at `bits` bits within this block, one thread at a time."""
    with _lock:
        before = ctx.prec
        ctx.prec = bits
        try:
            yield
        finally:
            ctx.prec = before


def total(terms: Iterable[Ball]) -> Ball:
    """The sum of balls and infinities; nan where one is nan or infinities of both signs meet."""
    result, beyond = arb(0), 0.0
    for term in terms:
        if isinstance(term, float):
            beyond += term
        else:
            result += term
    return result if beyond == 0.0 else beyond


def times(a: Ball, b: Ball) -> Ball:
    """a * b, where an exact 0 annuls even an infinity."""
    if is_zero(a) or is_zero(b):
        return arb(0)
    if isinstance(a, float) or isinstance(b, float):
        return _sign(a) * _sign(b) * math.inf
    return a * b


def divided(a: Ball, parts: Iterable[float] | None, over_nothing: float) -> Ball:
    """a over the sum of `parts` (undivided for None); `over_nothing` where that sum is 0."""
    if parts is None:
        return a
    denominator = rational.summed(parts)
    if denominator == 0:
        return arb(0) if over_nothing == 0.0 else over_nothing
    return a if isinstance(a, float) else scaled(a, 1 / denominator)


def scaled(a: arb, factor: Fraction) -> arb:
    """a * factor, of radius 0 where a is and the product is dyadic."""
    value = rational.known(a)
    return a * rational.ball(factor) if value is None else rational.ball(value * factor)


def is_zero(a: Ball) -> bool:
    """Whether a is exactly 0."""
    return not isinstance(a, float) and a.is_zero()


def _sign(a: Ball) -> float:
    if isinstance(a, float):
        return a if a != a else math.copysign(1.0, a)
    if a > 0:
        return 1.0
    if a < 0:
        return -1.0
    raise ArithmeticError("a ball that contains 0 meets an infinity: the exact form can't tell the sign")


def log_softmax(row: Sequence[float]) -> tuple[Ball, ...] | None:
    """ln p_v for every class of a row of logits, -inf where the logit is; None where the row has no softmax.

    By the definition: p_v = exp(x_v - a) / sum_u exp(x_u - a) with a = max x, all classes summed alike. The last few rows are kept.
    """
    return _log_softmax(tuple(row), ctx.prec)


@lru_cache(maxsize=8)
def _log_softmax(row: tuple[float, ...], bits: int) -> tuple[Ball, ...] | None:
    if not row or any(x != x or x == math.inf for x in row) or all(x == -math.inf for x in row):
        return None
    anchor, counts = arb(max(row)), Counter(row)  # logits that are alike share their exponential
    shifted = {x: arb(x) - anchor for x in counts if x != -math.inf}
    exponentials = arb(0)
    for x, d in shifted.items():
        exponentials += d.exp() * counts[x]
    log_sum = exponentials.log()
    log_p: dict[float, Ball] = {x: d - log_sum for x, d in shifted.items()}
    return tuple(log_p.get(x, -math.inf) for x in row)


def exp(a: Ball) -> Ball:
    """exp(a), with exp(-inf) = 0."""
    if isinstance(a, float):
        return arb(0) if a == -math.inf else a
    return a.exp()


def interval(ball: arb) -> Interval | None:
    """The ends of a ball as exact rationals, or None where the ball is not bounded.

    Magnitudes beyond 2^4000 and below 2^-4000 lie outside every format: they are brought to 2^4000, and outward to 0 or
    2^-4000, so that no rational grows with the exponent.
    """
    if not ball.is_finite():
        return None
    if ball.is_exact():
        return _rational(ball, up=False), _rational(ball, up=True)
    with precision(2 * MAX_BITS):  # the ends are rounded outward to the precision of this moment
        low, high = ball.lower(), ball.upper()
    if not (low.is_finite() and high.is_finite()):
        return None
    return _rational(low, up=False), _rational(high, up=True)


def _rational(exact: arb, *, up: bool) -> Fraction:
    mantissa, exponent = (int(part) for part in exact.man_exp())
    top = mantissa.bit_length() + exponent  # 2^(top-1) <= |exact| < 2^top
    if mantissa == 0:
        return Fraction(0)
    if top > REACH:
        return Fraction(2) ** REACH * (1 if mantissa > 0 else -1)
    if top < -REACH:
        outward = (mantissa > 0) == up
        return (Fraction(1, 2**REACH) if up else -Fraction(1, 2**REACH)) if outward else Fraction(0)
    return Fraction(mantissa * 2**exponent) if exponent >= 0 else Fraction(mantissa, 2**-exponent)
