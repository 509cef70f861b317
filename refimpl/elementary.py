"""exp, log and log1p in double-double, with error constants proven here. u = 2^-53; errors are relative, in units of u^2.

    function   error   arguments
    exp        18      |x| <= 5000, result as (h + l) * 2^n
    log        32      every positive double-double
    log1p      40      double-doubles from 0 to 2^40

Underflow is left to the callers: below 2^-969 each function may further be off by 8 * 2^-1074.

exp. With k = round(x * 1024/ln 2), |k| < 2^23, and r = x - k*(ln 2/1024): |r| < 2^-11.5 and exp(x) = 2^(k/1024) * exp(r).
    Reduction. STEP_1 has 30 bits, so k*STEP_1 is exact, and x_h - k*STEP_1 too by Sterbenz's lemma (for k = 0 there is nothing to
    subtract). It is a multiple of min(ulp(x_h), 2^-40), which ulp(p) of p = RN(k*STEP_2) divides, and a
    fast_two_sum of a and b is exact where a is a multiple of ulp(b), whatever their order (Boldo, Graillat, Muller, "On the
    robustness of the 2Sum and Fast2Sum algorithms", ACM TOMS 44(1), 2017). Their sum is a multiple of ulp(p), and for k != 0
    |p| > 2^-31 |x_h|, so ulp(x_l) divides it in turn; for k = 0, p = 0 and |x_h| >= |x_l|. What is rounded is below 2^-63: 2^-115 is lost.
    Series. exp(r) - 1 = r + r^2 (1/2 + t), t = r/6 + r^2 q, with q = 1/24 + r/120 + r^2/720 + r^3/5040 in float64; the first term
    omitted is r^8/8! < 0.4 u^2. r^2 is kept to 3 u^2 of itself and r/6 to as much. q is off by 1.25 u, 1/24 itself and the last fma,
    and the fma that adds its product with r^2 to t by u: 2.25 u of r^2/24, and r^4/24 < 2^-50.6: 2.25 * 5.3 u^2 = 12 u^2. The
    remaining roundings are multiplied by r^2 or more, or are of numbers below 2^-63: 0.1 u^2; the sum with r 1 u^2.
    Table. 2^(j/1024) is off by 1 u^2; the product with it 0.1 u^2; the last sums round two numbers below 2u: 3 u^2.
    Sum: 0.4 + 12 + 1.1 + 1.1 + 3 = 17.6 u^2, given as 18.
    (Table-driven reduction: Tang, ACM TOMS 15(2), 1989.)

log. x = 2^k m with m in [sqrt(1/2), sqrt(2)], c = round(128/m)/128, r = m*c - 1: |r| < 2^-7.4, exact in the leading part
    because c has 8 bits, the rest kept with a relative error of u^2. ln x = k ln 2 - ln c + log1p(r).
    Series. log1p(r) to degree 15; the first omitted term is below 2^-115 |r|. Degrees 8 to 15 in float64: 4u * 2^-52.5-3, 0.7 u^2.
    Degrees 7 to 2 in double-double, multiplied by r at least: 0.2 u^2. The sum with 1: 3 u^2, the product with r: 7 u^2. Together 11.
    Sum. c = 1: 12 u^2. k = 0 and c != 1: |m - 1| >= 1/257, so |ln c| <= 2.6 |ln m| and |log1p(r)| <= 1.6 |ln m|: 2.6 + 1.6*12 + 4 =
    26 u^2. k != 0: |ln x| >= 0.346 and |k ln 2| <= 2 |ln x|: 3*2 for k ln 2, for ln m
    (|ln c| + 12 |log1p(r)| + 4 |ln m|)/|ln x| <= 5.2, the sum 4: 16 u^2. Given as 32.

log1p. With k and c as for log, of RN(1 + y), and b = c 2^-k, which is exact: r = (b - 1) + y*b, so that 1 + y is never rounded. b - 1 is a
    multiple of 2^-47 below 2 for y <= 2^40, hence exact, as is the product in its leading part; what is rounded is below 5 u^2 y*b. For
    k = 0 that is 5 u^2 y*b <= 6 u^2 log1p(y), and the rest as for log: 32 u^2. For k != 0, y*b <= 1.42 and log1p(y) >= 0.346 make it
    21 u^2; k ln 2 3*2, ln c 1, the series 11 |log1p(r)| 0.2, the sums 6: 35 u^2. Given as 40.
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
from refimpl.doubledouble import add, fast_two_sum, mul, mul_float, mul_loose, two_prod, two_sum
from refimpl.jit import bits_from_float, float_from_bits, fma, inline

EXP, LOG, LOG1P = 18.0, 32.0, 40.0  # proven errors, in units of u^2

_SHIFT = 6755399441055744.0  # 1.5 * 2^52: adding it rounds to an integer
_STEP_BITS = EXP_STEPS.bit_length() - 1
_STEP_MASK = EXP_STEPS - 1
_F3H, _F3L = INVERSE_FACTORIAL[3]
_F4, _F5, _F6, _F7 = (hi for hi, _ in INVERSE_FACTORIAL[4:8])
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
    """(h, l, n) with exp(xh + xl) = (h + l) * 2^n and h in [1 - 2^-10, 2], for |x| <= 5000."""
    t = fma(xh, STEP_PER_UNIT, _SHIFT)
    steps = bits_from_float(t) - bits_from_float(_SHIFT)
    k = t - _SHIFT
    p, e = two_prod(k, STEP_2)
    rh, e1 = fast_two_sum(xh - k * STEP_1, -p)
    rh, e2 = fast_two_sum(rh, xl)
    rl = (e1 + e2) - fma(k, STEP_3, e)
    sh, sl = two_prod(rh, rh)
    sl = fma(rh + rh, rl, sl)
    q = fma(fma(fma(_F7, rh, _F6), rh, _F5), rh, _F4)
    th = rh * _F3H
    tl = fma(sh, q, fma(sl, q, fma(rl, _F3H, fma(rh, _F3L, fma(rh, _F3H, -th)))))
    th, tl = fast_two_sum(th, tl)
    wh, e = fast_two_sum(0.5, th)
    h, l = mul_loose(sh, sl, wh, e + tl)
    h, e = fast_two_sum(rh, h)
    l = e + (l + rl)
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
    """ln(1 + yh + yl) for a double-double from 0 to 2^40; without a branch, so that loops over it are vectorised."""
    bits = bits_from_float(1.0 + yh)
    mantissa = float_from_bits((bits & 0x000FFFFFFFFFFFFF) | 0x3FF0000000000000)
    upper = np.int64(mantissa > _SQRT2)
    k = (bits >> 52) - 1023 + upper
    j = np.int64(LOG_UNIT / (mantissa * (0.5 if upper else 1.0)) + 0.5)
    b = (j / LOG_UNIT) * power_of_two(-k)
    p, e = two_prod(yh, b)
    rh, rl = two_sum(b - 1.0, p)
    rh, rl = two_sum(rh, rl + (e + yl * b))
    h, l = _log1p_series(rh, rl)
    h, l = add(MINUS_LOG_HI[j - LOG_LOW], MINUS_LOG_LO[j - LOG_LOW], h, l)
    kh, kl = mul_float(LN2_HI, LN2_LO, np.float64(k))
    return add(kh, kl, h, l)
