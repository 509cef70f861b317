"""Losses that are sums of pointwise terms p*L, where L is a logarithm or a difference of them; and their derivatives.

    form           term                        slope (the derivatives)
    ENTROPY        -p ln p                     -(ln p + 1)
    CROSS          -p ln q                     -ln q                       with respect to p
    RELATIVE       p ln(p/q)                   ln(p/q) + 1                 with respect to p
    POINTWISE      p (ln p - log_q)            ln p + 1 - log_q            with respect to p
    POINTWISE_LOG  exp(p) (p - log_q)          exp(p) (p - log_q + 1)      with respect to p, which holds a logarithm
    RATIO                                      -p/q                        of CROSS and RELATIVE with respect to q
    MASS, MASS_LOG                             -p, -exp(p)                 of the POINTWISE forms with respect to log_q

The kernels take two arrays (rows, V), p and q; q holds log_q for the forms that have it, p again for ENTROPY.

Range. Every number is kept as (h + l) * 2^n until it is a result: no product leaves float64, and subnormal p and q keep all
their bits. What lies beyond 2^1030 is an overflow; sums are formed of terms times 2^shift.

Error, absolute, in units of u^2; |.| are magnitudes of what stands before it.
    ln p           LOG |.|
    ln(p/q)        LOG_RATIO |.|. For q/2 <= p <= 2q, with a >= b the two numbers: a - b is exact (Sterbenz), its quotient by b has an
                   error of DIV, which log1p does not enlarge: DIV + LOG1P = 56. Else, with mantissas m and exponents k,
                   ln(m_p/m_q) + (k_p - k_q) ln 2 =: a + b with |a| <= ln 2 <= |L| and |b| <= 2 |L|: LOG + DIV/ln 2 for a, 3 * 2 for
                   b, 4 for the sum: 32 + 23.1 + 6 + 4 = 65.1. Given as 72.
    + 1, - log_q   2 |.| each (add_float)
    exp(p)         EXP_FAR |.|
    d = p - log_q  0
    p*L            2 |.| (mul_float; p is a float64)
    exp(p) * d     EXP_FAR + MUL
    p/q            DIV
    row sum        ADD |.| for each of the `depth` additions that a term passes through
    slope * f      MUL and f's own relative error; 0 where both are float64
Scaling by 2^n rounds only where the result is below 2^-900 here: 3 TINY are added there, for h, l and the radius.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from flint import arb
from numpy.typing import NDArray

from refimpl import ball, reduce
from refimpl.ball import Ball
from refimpl.bounds import Float
from refimpl.constants import LN2_HI, LN2_LO
from refimpl.doubledouble import ADD, DIV, MUL, MUL_FLOAT, TINY, U2, add, add_float, div, mul, mul_float, two_prod, two_sum
from refimpl.elementary import EXP_FAR, LOG, exp_split, ldexp, log, log1p, power_of_two
from refimpl.enclosure import Enclosure, Exact, Kind
from refimpl.jit import bits_from_float, frozen, inline, kernel, over_rows
from refimpl.operation import Arithmetic, InvalidInput
from refimpl.reduce import UP, Parts

ENTROPY, CROSS, RELATIVE, RATIO, MASS, POINTWISE, POINTWISE_LOG, MASS_LOG = range(8)  # the first four take a probability q
LOG_RATIO = 72.0

_BLOCK = 1024
_OVERFLOW = 1030  # exponents from here on are beyond float64
_UNDERFLOW = -1900  # exponents from here down are below it, whatever the mantissa's error
_FAR = 4000.0  # exp(+-_FAR) is beyond, whatever float64 it is multiplied with
_FAR_EXPONENT = 5000


@inline
def normal(h: float, l: float) -> Any:
    """(h', l', k) with h + l = (h' + l') * 2^k and |h'| in [1/2, 1), for a finite h other than 0."""
    shift = 0
    if abs(h) < 2.0**-960:
        h, l, shift = h * 2.0**120, l * 2.0**120, 120
    k = ((bits_from_float(h) >> 52) & 0x7FF) - 1022
    half = k >> 1  # two factors, as 2^-k alone may not be a float64
    first, second = power_of_two(-half), power_of_two(half - k)
    return h * first * second, l * first * second, k - shift


@inline
def log_ratio(p: float, q: float) -> Any:
    """ln(p/q) for positive finite p and q, with a relative error of LOG_RATIO."""
    if p <= 2.0 * q and q <= 2.0 * p:
        a, b = max(p, q), min(p, q)
        if b < 2.0**-500:  # so that no product below is subnormal
            a, b = a * 2.0**600, b * 2.0**600
        h, l = div(a - b, 0.0, b, 0.0)
        h, l = log1p(h, l)
        return (h, l) if p >= q else (-h, -l)
    mp, _, kp = normal(p, 0.0)
    mq, _, kq = normal(q, 0.0)
    h, l = div(mp, 0.0, mq, 0.0)
    h, l = log(h, l)
    bh, bl = mul_float(LN2_HI, LN2_LO, np.float64(kp - kq))
    return add(bh, bl, h, l)


@inline
def exp_times(x: float, h: float, l: float, relative: float) -> Any:
    """(h', l', error, n): exp(x) * (h + l), where h + l has that relative error."""
    if h == 0.0:
        return 0.0, 0.0, 0.0, 0
    if abs(x) > _FAR:  # an overflow of h's sign, or less than the smallest float64
        return math.copysign(1.0, h), 0.0, 0.0, _FAR_EXPONENT if x > 0.0 else -_FAR_EXPONENT
    eh, el, n = exp_split(x, 0.0)
    h, l, k = normal(h, l)
    h, l = mul(h, l, eh, el)
    return h, l, (EXP_FAR + MUL + relative) * abs(h), n + k


@inline
def place(h: float, l: float, error: float, n: int) -> Any:
    """(kind, hi, lo, radius) of (h + l +/- error u^2) * 2^n; an undetermined one has the kind 0 and hi = inf."""
    if h == 0.0 and error == 0.0:
        return 0, 0.0, 0.0, 0.0
    if not (abs(h) < np.inf and error < np.inf) or h == 0.0:
        return 0, np.inf, 0.0, 0.0
    unit, _, k = normal(1.0 if h == 0.0 else h, 0.0)
    h, l, k = normal(h, l)
    error *= unit / h * power_of_two(min(max(-k, -1022), 1023))
    n += k
    r = error * U2
    if n > _OVERFLOW and r < 0.25:
        return 4, math.copysign(np.inf, h), 0.0, 0.0
    if n > _OVERFLOW or not r < 2.0**200:
        return 0, np.inf, 0.0, 0.0
    if n < _UNDERFLOW:
        return 0, 0.0, 0.0, TINY
    hi, lo = ldexp(h, l, n)
    half = n >> 1
    r = (r * power_of_two(half)) * power_of_two(n - half)
    if abs(hi) < 2.0**-900:
        back, again = power_of_two(half - n), power_of_two(-half)
        exact = error == 0.0 and hi * back * again == h and lo * back * again == l
        r += 0.0 if exact else 3.0 * TINY
    return 0, hi, lo, r
