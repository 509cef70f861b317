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
their bits. What lies beyond 2^1024 is an overflow; sums are formed of terms times 2^shift.

Error, absolute, in units of u^2; |.| are magnitudes of what stands before it.
    ln p           LOG |.|
    ln(p/q)        LOG_RATIO |.|. For q/2 <= p <= 2q, with a >= b the two numbers: a - b is exact (Sterbenz), its quotient by b has an
                   error of DIV, which log1p does not enlarge: DIV + LOG1P = 56. Else, with mantissas m and exponents k,
                   ln(m_p/m_q) + (k_p - k_q) ln 2 =: a + b with |a| <= ln 2 <= |L| and |b| <= 2 |L|: LOG + DIV/ln 2 for a, 3 * 2 for
                   b, 4 for the sum: 32 + 23.1 + 6 + 4 = 65.1. Given as 72.
    + 1, - log_q   2 |.| each (add_float); the slope of POINTWISE adds ln p to 1 - log_q, which is exact (two_sum): ADD |.|
    exp(p)         EXP |.|
    d = p - log_q  0
    p*L            2 |.| (mul_float; p is a float64)
    exp(p) * d     EXP + MUL
    p/q            DIV
    row sum        ADD |.| for each of the additions that a term passes through (`reduce.additions`)
    slope * f      MUL and f's own relative error; 0 where both are float64
Scaling by 2^n rounds only where the result is below 2^-900 here: 3 TINY are added there, for h, l and the radius.
"""

from __future__ import annotations

import math
from typing import Any

from refimpl import sums
from refimpl.bounds import Float
from refimpl.constants import LN2_HI, LN2_LO
from refimpl.doubledouble import ADD, DIV, MUL, MUL_FLOAT, TINY, U2, add, add_float, div, mul, mul_float, two_prod, two_sum
from refimpl.elementary import EXP, LOG, exp_split, ldexp, log, log1p, power_of_two
from refimpl.jit import bits_from_float, frozen, inline, kernel, over_rows
from refimpl.reduce import BLOCK, UP, Parts, additions
from refimpl.rows import HUGE

INF, NAN = math.inf, math.nan
ENTROPY, CROSS, RELATIVE, RATIO, MASS, POINTWISE, POINTWISE_LOG, MASS_LOG = range(8)  # the first four take a probability q
LOG_RATIO = 72.0

_OVERFLOW = 1024  # beyond this exponent a number is beyond float64
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
    bh, bl = mul_float(LN2_HI, LN2_LO, float(kp - kq))
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
    return h, l, (EXP + MUL + relative) * abs(h), n + k


@inline
def place(h: float, l: float, error: float, n: int) -> Any:
    """(kind, hi, lo, radius) of (h + l +/- error u^2) * 2^n; an undetermined one has the kind 0 and hi = inf."""
    if h == 0.0 and error == 0.0:
        return 0, 0.0, 0.0, 0.0
    if h == 0.0 or not (abs(h) < INF and error < INF):
        return 0, INF, 0.0, 0.0
    r = error / abs(h) * U2
    h, l, k = normal(h, l)
    n += k
    if n > _OVERFLOW and r < 0.25:
        return 4, math.copysign(INF, h), 0.0, 0.0
    if n > _OVERFLOW or not r < 2.0**200:
        return 0, INF, 0.0, 0.0
    if n < _UNDERFLOW:
        return 0, 0.0, 0.0, TINY
    hi, lo = ldexp(h, l, n)
    half = n >> 1
    r = (r * power_of_two(half)) * power_of_two(n - half)
    if abs(hi) < 2.0**-900:
        first, second = power_of_two(half - n), power_of_two(-half)
        exact = error == 0.0 and hi * first * second == h and lo * first * second == l
        r += 0.0 if exact else 3.0 * TINY
    return 0, hi, lo, r


@inline
def _refused(form: int, p: float, q: float) -> bool:
    """Whether one of the two is a nan, or negative where a probability is due."""
    probability = form != POINTWISE_LOG and form != MASS_LOG
    return p != p or q != q or (probability and p < 0.0) or (form <= RATIO and q < 0.0)


@inline
def _kind(value: float) -> int:
    """The kind of an infinity or a nan."""
    return 1 if value == INF else 2 if value == -INF else 3


@inline
def _term(form: int, p: float, q: float) -> Any:
    """(kind, h, l, error, n): one term is (h + l +/- error u^2) * 2^n."""
    if _refused(form, p, q):
        return 3, 0.0, 0.0, 0.0, 0
    if p == (-INF if form == POINTWISE_LOG else 0.0):
        return 0, 0.0, 0.0, 0.0, 0
    if form == ENTROPY:
        if p == INF:
            return 2, 0.0, 0.0, 0.0, 0
    elif form == CROSS:
        if q == 0.0 or q == INF or p == INF:
            return (1 if q < 1.0 else 2 if q > 1.0 else 3), 0.0, 0.0, 0.0, 0
    elif form == RELATIVE and q == 0.0:
        return 1, 0.0, 0.0, 0.0, 0
    elif abs(p) == INF or abs(q) == INF:
        return _kind(p - q), 0.0, 0.0, 0.0, 0
    if form == POINTWISE_LOG:
        h, l = two_sum(p, -q)
        h, l, error, n = exp_times(p, h, l, 0.0)
        return 0, h, l, error, n
    n, relative = 0, LOG
    if form == RELATIVE:
        h, l = log_ratio(p, q)
        relative = LOG_RATIO
    else:
        h, l = log(q if form == CROSS else p, 0.0)
        if form == POINTWISE:
            size = LOG * abs(h)
            h, l = add_float(h, l, -q)
            if h == 0.0:
                return 0, 0.0, 0.0, size, 0
            relative = size / abs(h) + 2.0
        else:
            h, l = -h, -l
    if h == 0.0:
        return 0, 0.0, 0.0, 0.0, 0
    h, l, n = normal(h, l)
    m, _, k = normal(p, 0.0)
    h, l = mul_float(h, l, m)
    return 0, h, l, (relative + MUL_FLOAT) * abs(h), n + k


@inline
def _slope(form: int, p: float, q: float) -> Any:
    """(kind, h, l, error, n) of one derivative; the kind 5 where there is none."""
    if _refused(form, p, q):  # the term is nan: it has no derivative
        return 5, 0.0, 0.0, 0.0, 0
    if form == MASS_LOG:
        if abs(p) == INF:
            return (2 if p > 0.0 else 0), 0.0, 0.0, 0.0, 0
        h, l, error, n = exp_times(p, -1.0, 0.0, 0.0)
        return 0, h, l, error, n
    if form == MASS:
        if p == INF or p == 0.0:
            return (2 if p > 0.0 else 0), 0.0, 0.0, 0.0, 0
        m, _, k = normal(p, 0.0)
        return 0, -m, 0.0, 0.0, k
    if form == POINTWISE_LOG:
        if p == -INF:
            return (5 if abs(q) == INF else 0), 0.0, 0.0, 0.0, 0
        if p == INF or abs(q) == INF:
            return _kind(p - q), 0.0, 0.0, 0.0, 0
        h, l = two_sum(p, -q)
        if abs(h) < INF:  # beyond, the 1 doesn't count and the error term is a nan
            h, l = add_float(h, l, 1.0)
        h, l, error, n = exp_times(p, h, l, 2.0)
        return 0, h, l, error, n
    if form == RATIO:
        if q == 0.0 or p == INF:
            return (5 if p == 0.0 else 3 if q == INF else 2), 0.0, 0.0, 0.0, 0
        if p == 0.0 or q == INF:
            return 0, 0.0, 0.0, 0.0, 0
        mp, _, kp = normal(p, 0.0)
        mq, _, kq = normal(q, 0.0)
        h, l = div(mp, 0.0, mq, 0.0)
        return 0, -h, -l, DIV * h, kp - kq
    if form == CROSS:
        if q == 0.0 or q == INF:
            return (2 if q > 0.0 else 5 if p == 0.0 else 1), 0.0, 0.0, 0.0, 0
        h, l = log(q, 0.0)
        return 0, -h, -l, LOG * abs(h), 0
    if p == 0.0:
        none = q == (0.0 if form == RELATIVE else -INF) and form != ENTROPY
        return (5 if none else 1 if form == ENTROPY else 2), 0.0, 0.0, 0.0, 0
    if form == RELATIVE and q == 0.0:
        return 1, 0.0, 0.0, 0.0, 0
    if p == INF or abs(q) == INF:
        return (2 if form == ENTROPY else _kind(p - q)), 0.0, 0.0, 0.0, 0
    if form == RELATIVE:
        h, l = log_ratio(p, q)
        error = LOG_RATIO * abs(h)
    else:
        h, l = log(p, 0.0)
        error = LOG * abs(h)
    if form == POINTWISE:
        ch, cl = two_sum(1.0, -q)
        h, l = add(h, l, ch, cl)
        if h == 0.0:
            return 0, 0.0, 0.0, error, 0
        relative = error / abs(h) + ADD
        h, l, n = normal(h, l)
        return 0, h, l, relative * abs(h), n
    h, l = add_float(h, l, 1.0)
    error += 2.0 * abs(h)
    return (0, -h, -l, error, 0) if form == ENTROPY else (0, h, l, error, 0)


@kernel
def term_rows(
    start: int, stop: int, form: int, shift: int, p: Any, q: Any, relative: float, kind: Any, hi: Any, lo: Any, radius: Any
) -> None:
    """2^shift times the sum of the terms of rows start to stop; `relative` is the error of the additions."""
    classes = p.shape[1]
    levels = sums.stack()
    for i in range(start, stop):
        h, l, r, magnitude = 0.0, 0.0, 0.0, 0.0
        positive, negative, nan, beyond = False, False, False, 0.0
        for block in range(0, classes, BLOCK):
            if block > 0:
                sums.push(levels, block // BLOCK, h, l)
            h, l, br, bm = 0.0, 0.0, 0.0, 0.0
            for v in range(block, min(block + BLOCK, classes)):
                code, th, tl, tr, n = _term(form, p[i, v], q[i, v])
                if code == 0:
                    code, th, tl, tr = place(th, tl, tr, n + shift)
                if code == 0:
                    h, l = add(h, l, th, tl)
                    br += tr
                    bm += abs(th)
                elif code == 4:
                    beyond = th
                else:
                    positive, negative, nan = positive or code == 1, negative or code == 2, nan or code == 3
            r += br
            magnitude += bm
        h, l = sums.total(levels, (classes - 1) // BLOCK, h, l)
        hi[i], lo[i], radius[i], kind[i] = h, l, (r + relative * U2 * magnitude) * UP, 0
        if nan or (positive and negative):
            hi[i], kind[i] = NAN, 3
        elif positive or negative:
            hi[i], kind[i] = (INF, 1) if positive else (-INF, 2)
        elif beyond != 0.0:  # one such term alone is an overflow; of more, only the exact form knows the sum
            hi[i], kind[i] = beyond, 4 if classes == 1 else 0


@kernel
def slope_rows(
    start: int,
    stop: int,
    form: int,
    p: Any,
    q: Any,
    factor_hi: Any,
    factor_lo: Any,
    factor_radius: Any,
    shift: int,
    kind: Any,
    hi: Any,
    lo: Any,
    radius: Any,
) -> None:
    """2^shift factor_i times the derivatives of rows start to stop; 0 where the factor is 0."""
    for i in range(start, stop):
        f = factor_hi[i]
        if f == 0.0:
            continue
        fh, fl, fk = normal(f, factor_lo[i])
        relative = factor_radius[i] / abs(f) / U2
        for v in range(p.shape[1]):
            code, h, l, error, n = _slope(form, p[i, v], q[i, v])
            if code == 0:
                error *= abs(fh)
                if l == 0.0 and fl == 0.0:
                    h, l = two_prod(h, fh)
                else:
                    h, l = mul(h, l, fh, fl)
                    error += MUL * abs(h)
                code, h, l, error = place(h, l, error + relative * abs(h), n + fk + shift)
                hi[i, v], lo[i, v], radius[i, v], kind[i, v] = h, l, error * UP, code
            elif code == 1 or code == 2:
                positive = (code == 1) == (f > 0.0)
                hi[i, v], kind[i, v] = (INF, 1) if positive else (-INF, 2)
            else:
                hi[i, v], kind[i, v] = NAN, code


def shift_of(largest: float) -> int:
    """The power of two that terms of at most that magnitude are multiplied with, so that their sums stay within float64."""
    return -64 if largest >= HUGE else 0


def term_parts(form: int, p: Float, q: Float, shift: int) -> Parts:
    """2^shift times the sum of the terms of each row of p and q (rows, V)."""
    rows, classes = p.shape
    parts = Parts.empty(rows)
    over_rows(term_rows, rows, p.size, form, shift, frozen(p), frozen(q), ADD * additions(classes), *parts.arrays())
    return parts


def slope_parts(form: int, p: Float, q: Float, factor: Parts, shift: int = 0) -> Parts:
    """The derivatives at p and q (rows, V), each row times its 2^shift * `factor` (rows,)."""
    parts = Parts.empty(*p.shape)
    factors = (frozen(array) for array in factor.arrays()[1:])
    over_rows(slope_rows, p.shape[0], p.size, form, frozen(p), frozen(q), *factors, shift, *parts.arrays())
    return parts
