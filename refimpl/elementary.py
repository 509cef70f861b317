"""exp, log and log1p in double-double, with error constants proven here. u = 2^-53; errors are relative, in units of u^2.

    function   error   arguments
    exp        10      |x| <= 5000, result as (h + l) * 2^n
    log        32      every positive double-double
    log1p      40      every non-negative double-double

Underflow is left to the callers: below 2^-969 each function may further be off by 8 * 2^-1074.

exp. With k = round(x * 256/ln 2), |k| < 2^21, and r = x - k*(ln 2/256): |r| <= 0.00136 < 2^-9.5 and exp(x) = 2^(k/256) * exp(r).
    Reduction. STEP_1 and STEP_2 have at most 32 significant bits, so k*STEP_1 and k*STEP_2 are exact; x - k*STEP_1 is exact by
    Sterbenz's lemma (for k = 0 there is nothing to subtract); two_sum keeps the rest. What is lost: |k*STEP_3| < 2^21 * 2^-72 is
    rounded twice (2 * 2^-104 at the very ends, |x| near 5000; for the gaps of a softmax |k| < 2^19 and it is 1 u^2 at
    most), STEP_3's own rounding costs half as much, and the sums of errors below 2^-62 cost 2^-115. Together 3 u^2 for |x| <= 1400;
    above that, for exp alone, 10 u^2: see EXP_FAR.
    Series. exp(r) - 1 = r + r^2/2 + r^3/6 + r^4 (1/24 + r Q), where Q = 1/120 + ... + r^4/9! is evaluated in float64: the first
    omitted term is below 2^-95-21; r*Q has a relative error of 4u, so r^5 Q one of 4u * 2^-47.6-6.9 = 2^-105.5, 1.4 u^2.
    The double-double steps for 1/24, 1/6, 1/2, 1 round numbers that are multiplied by r^4, r^3, r^2, r: below 0.1 u^2.
    Table. 2^(j/256) is off by 1 u^2; the last sum rounds two numbers below 2u and one below u: 3 u^2.
    Sum: 3 + 1.4 + 0.1 + 1 + 3 = 8.5 u^2, given as 10.
    (Table-driven reduction: Tang, ACM TOMS 15(2), 1989.)

log. x = 2^k m with m in [sqrt(1/2), sqrt(2)], c = round(128/m)/128, r = m*c - 1: |r| < 2^-7.4, exact in the leading part
    because c has 8 bits, the rest kept with a relative error of u^2. ln x = k ln 2 - ln c + log1p(r).
    Series. log1p(r) to degree 15; the first omitted term is below 2^-115 |r|. Degrees 8 to 15 in float64: 4u * 2^-51.8-3, 0.5 u^2.
    Degrees 7 to 2 in double-double, multiplied by r at least: 0.2 u^2. The sum with 1: 3 u^2, the product with r: 7 u^2. Together 11 u^2.
    Sum. c = 1: 12 u^2. k = 0 and c != 1: |m - 1| >= 1/257, so |ln c| <= 2.6 |ln m| and |log1p(r)| <= 1.6 |ln m|: 2.6 + 1.6*12 + 4 =
    26 u^2. k != 0: |ln x| >= 0.346 and |k ln 2| <= 2 |ln x|: 3*2 for k ln 2, 26/2 for ln m, two sums of 4: 27 u^2. Given as 32.

log1p. For y <= 0.42, m = 1 + y is never rounded: r = (c - 1) + y*c, where the product is exact in its leading part; what is rounded is
    below 5 u^2 y <= 6 u^2 log1p(y). Then as for log with k = 0: 32 u^2. For y > 0.42 the sum 1 + y is off by 2 u^2, which
    the logarithm, at least 0.35, turns into 6 u^2; then log: 38 u^2. Given as 40.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from refimpl.constants import (
    EXP_STEPS,
    INVERSE_FACTORIAL,
    LN2_HI,
    LN2_LO,
    LOG_LOW,
    LOG_SERIES,
    LOG_UNIT,
    MINUS_LOG_HI,
    MINUS_LOG_LO,
    POWER_HI,
    POWER_LO,
    STEP_1,
    STEP_2,
    STEP_3,
    STEP_PER_UNIT,
)
from refimpl.doubledouble import add, add_float, fast_two_sum, mul, mul_float, mul_loose, two_prod, two_sum
from refimpl.jit import bits_from_float, float_from_bits, fma, inline

EXP, LOG, LOG1P = 10.0, 32.0, 40.0  # proven errors, in units of u^2
EXP_FAR = 20.0  # exp for 1400 < |x| <= 5000

_SHIFT = 6755399441055744.0  # 1.5 * 2^52: adding it rounds to an integer
_STEP_BITS = EXP_STEPS.bit_length() - 1
_STEP_MASK = EXP_STEPS - 1
(_F3H, _F3L), (_F4H, _F4L) = INVERSE_FACTORIAL[3:5]
_F5, _F6, _F7, _F8, _F9 = (hi for hi, _ in INVERSE_FACTORIAL[5:10])
_L8, _L9, _L10, _L11, _L12, _L13, _L14, _L15 = (hi for hi, _ in LOG_SERIES[8:16])
(_L2H, _L2L), (_L3H, _L3L), (_L4H, _L4L), (_L5H, _L5L), (_L6H, _L6L), (_L7H, _L7L) = LOG_SERIES[2:8]
_SQRT2 = float(np.sqrt(2.0))


@inline
def horner(h: float, l: float, rh: float, rl: float, ch: float, cl: float) -> Any:
    """c + (h + l) * r, for a product smaller than c."""
    h, l = mul_loose(h, l, rh, rl)
    s, e = fast_two_sum(ch, h)
    return s, e + (l + cl)


@inline
def exp_split(xh: float, xl: float) -> Any:
    """(h, l, n) with exp(xh + xl) = (h + l) * 2^n and h in [1 - 2^-8, 2], for |x| <= 5000."""
    t = fma(xh, STEP_PER_UNIT, _SHIFT)
    steps = bits_from_float(t) - bits_from_float(_SHIFT)
    k = t - _SHIFT
    rh, e1 = fast_two_sum(xh - k * STEP_1, xl)
    rh, e2 = two_sum(rh, -(k * STEP_2))
    rl = (e1 + e2) - k * STEP_3
    q = fma(fma(fma(fma(_F9, rh, _F8), rh, _F7), rh, _F6), rh, _F5)
    h, e = fast_two_sum(_F4H, rh * q)
    h, l = horner(h, e + fma(rl, _F5, _F4L), rh, rl, _F3H, _F3L)
    h, l = horner(h, l, rh, rl, 0.5, 0.0)
    h, l = horner(h, l, rh, rl, 1.0, 0.0)
    h, l = mul_loose(h, l, rh, rl)
    j = steps & _STEP_MASK
    ph, pl = mul_loose(h, l, POWER_HI[j], POWER_LO[j])
    h, e = fast_two_sum(POWER_HI[j], ph)
    h, l = fast_two_sum(h, e + (pl + POWER_LO[j]))
    return h, l, steps >> _STEP_BITS


@inline
def power_of_two(n: int) -> float:
    """2^n for -1022 <= n <= 1023."""
    return float_from_bits((n + 1023) << 52)


@inline
def ldexp(h: float, l: float, n: int) -> Any:
    """(h + l) * 2^n for |n| <= 2000, h in [1, 2]; rounds only where the result is subnormal (each part by at most 2^-1075)."""
    half = n >> 1  # the first product is exact, so nothing is rounded twice
    first, second = power_of_two(half), power_of_two(n - half)
    return (h * first) * second, (l * first) * second


@inline
def _log1p_series(rh: float, rl: float) -> Any:
    """log1p(r) for |r| < 2^-7.4, with a relative error of 11 u^2."""
    q = fma(fma(fma(fma(fma(fma(fma(_L15, rh, _L14), rh, _L13), rh, _L12), rh, _L11), rh, _L10), rh, _L9), rh, _L8)
    h, e = fast_two_sum(_L7H, rh * q)
    h, l = horner(h, e + _L7L, rh, rl, _L6H, _L6L)
    h, l = horner(h, l, rh, rl, _L5H, _L5L)
    h, l = horner(h, l, rh, rl, _L4H, _L4L)
    h, l = horner(h, l, rh, rl, _L3H, _L3L)
    h, l = horner(h, l, rh, rl, _L2H, _L2L)
    h, l = horner(h, l, rh, rl, 1.0, 0.0)
    return mul(h, l, rh, rl)


@inline
def log(xh: float, xl: float) -> Any:
    """ln(xh + xl) for a positive finite double-double."""
    shift = 0
    if xh < 2.0**-960:  # a mantissa with all its bits
        xh, xl, shift = xh * 2.0**120, xl * 2.0**120, 120
    bits = bits_from_float(xh)
    k = (bits >> 52) - 1023
    if float_from_bits((bits & 0x000FFFFFFFFFFFFF) | 0x3FF0000000000000) > _SQRT2:
        k += 1
    half = k >> 1  # two factors, as 2^-k alone may not be a float64
    scale, rescale = power_of_two(-half), power_of_two(half - k)
    mh, ml = xh * scale * rescale, xl * scale * rescale
    j = np.int64(LOG_UNIT / mh + 0.5)
    c = j / LOG_UNIT
    p, e = two_prod(ml, c)
    rh, rl = two_sum(fma(mh, c, -1.0), p)
    rh, rl = fast_two_sum(rh, rl + e)
    h, l = _log1p_series(rh, rl)
    h, l = add(MINUS_LOG_HI[j - LOG_LOW], MINUS_LOG_LO[j - LOG_LOW], h, l)
    k -= shift
    if k != 0:
        kh, kl = mul_float(LN2_HI, LN2_LO, np.float64(k))
        h, l = add(kh, kl, h, l)
    return h, l


@inline
def log1p(yh: float, yl: float) -> Any:
    """ln(1 + yh + yl) for a non-negative finite double-double."""
    if yh > 0.42:
        h, l = add_float(yh, yl, 1.0)
        return log(h, l)
    j = np.int64(LOG_UNIT / (1.0 + yh) + 0.5)
    c = j / LOG_UNIT
    p, e = two_prod(yh, c)
    rh, rl = two_sum(c - 1.0, p)
    rh, rl = two_sum(rh, rl + (e + yl * c))
    h, l = _log1p_series(rh, rl)
    return add(MINUS_LOG_HI[j - LOG_LOW], MINUS_LOG_LO[j - LOG_LOW], h, l)
