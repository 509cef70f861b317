"""exp and log1p in float64 lanes, with error constants proven here. u = 2^-53; errors are in units of u.

    function   error                 arguments
    exp        REDUCTION |d| + COARSE (or FINE), relative      d <= 690; below -690 the result is that of -690
    log1p      LOG1P, relative                                 2^-1000 <= r <= 2^900

exp. With s = RN(d/ln 2) by adding a shift, f = d/ln 2 - s: |f| <= 1/2 and exp(d) = 2^s 2^f.
    Reduction. d itself comes from a subtraction that rounds, 1 |d|. 1/ln 2 is rounded to 0.13 u of itself, 0.13 |d|. The rest of f is one
    fma's rounding, u/2 of f at most: 0.4. REDUCTION = 1.2.
    Polynomial. p of degree 9 or 11, highest coefficients first by Horner's rule in fmas. The approximation: 242 and 0.1 (`constants`,
    over sqrt(1/2) <= 2^f). Rounding, with e_j the absolute error from the coefficient of f^j on, p_j that number itself, c_j the
    coefficient: e_j <= c_j + p_j + e_(j+1)/2. c_1 = 0.694, p_1 <= 0.83; c_2 = 0.241, p_2 <= 0.27; c_3 = 0.056, p_3 <= 0.06; the others
    together below 0.03: e_2 <= 0.6, e_1 <= 1.9; relative to 2^f >= 0.707, e_1/2 is 1.4, and the last fma 1.
    Scaling by 2^s is exact. FINE = 3 and COARSE = 250 cover 0.4 + 0.1 + 2.4 and 0.4 + 242 + 2.4.

log1p. 1 + r = s + c exactly, s = 2^k m with m in [sqrt(1/2), sqrt(2)], z = (m - 1)/(m + 1): log1p(r) = k ln 2 + 2 atanh(z) + c/s.
    m - 1 is exact, so z is off by 2 and z^2 by 5. The series in z^2 <= 0.0295, to its tenth power, leaves out 0.25; its sum 1 + z^2(...)
    is off by 1.2 with its last fma, and 2 atanh(z) by 4.5 with z and the product.
    k = 0: the error of c/s is of second order. Where c and m - 1 differ in sign, c is at most a quarter of m - 1: 4.5 * 4/3 + 1 = 7; but up
    to half of it for m - 1 = 2^-52, whose series is exactly 1, so that the first part is off by 2: 2 * 2 + 1 = 5.
    k > 0: the sum is at least |2 atanh(z)|, and half of k ln 2, whose product with the short part of ln 2 is exact: 4.5, 1 for the
    inner sum, 1 for the outer: 6.5. Given as 8.
"""

from __future__ import annotations

import math
from typing import Any

from refimpl.constants import EXP2_COARSE, EXP2_FINE, LN2, LN2_REST, LN2_SHORT
from refimpl.doubledouble import two_sum
from refimpl.jit import inline
from refimpl.lanes import as_doubles, as_longs, fma, integers, larger, splat, where_less

REDUCTION, COARSE, FINE, LOG1P = 1.2, 250.0, 3.0, 8.0  # proven errors, in units of u

_SHIFT = 6755399441055744.0  # 1.5 * 2^52: adding it rounds to an integer
_PER_LN2 = float(1 / LN2)
_LOWEST = -690.0
_SQRT2 = math.sqrt(2.0)
_C0, _C1, _C2, _C3, _C4, _C5, _C6, _C7, _C8, _C9 = EXP2_COARSE
_F1, _F2, _F3, _F4, _F5, _F6, _F7, _F8, _F9, _F10, _F11 = EXP2_FINE[1:]
_Q1, _Q2, _Q3, _Q4, _Q5, _Q6, _Q7, _Q8, _Q9, _Q10 = (1.0 / (2 * k + 1) for k in range(1, 11))


@inline
def exp(d: Any, fine: bool) -> Any:
    """exp(d) for d <= 690 (beyond, anything); `fine` or coarse."""
    d = larger(d, splat(_LOWEST))
    s = fma(d, splat(_PER_LN2), splat(_SHIFT))
    f = fma(d, splat(_PER_LN2), splat(_SHIFT) - s)
    if fine:
        q = fma(fma(fma(fma(splat(_F11), f, splat(_F10)), f, splat(_F9)), f, splat(_F8)), f, splat(_F7))
        q = fma(fma(fma(fma(q, f, splat(_F6)), f, splat(_F5)), f, splat(_F4)), f, splat(_F3))
        q = fma(fma(fma(q, f, splat(_F2)), f, splat(_F1)), f, splat(1.0))
    else:
        q = fma(fma(fma(splat(_C9), f, splat(_C8)), f, splat(_C7)), f, splat(_C6))
        q = fma(fma(fma(fma(q, f, splat(_C5)), f, splat(_C4)), f, splat(_C3)), f, splat(_C2))
        q = fma(fma(q, f, splat(_C1)), f, splat(_C0))
    return as_doubles(as_longs(q) + (as_longs(s) << integers(52)))


@inline
def exponent(x: Any) -> Any:
    """The exponents of positive normal numbers, as float64."""
    k = (as_longs(x) >> integers(52)) + integers(-1023)
    return as_doubles(k + as_longs(splat(_SHIFT))) - splat(_SHIFT)


@inline
def log1p(r: Any) -> Any:
    """log1p(r) for 2^-1000 <= r <= 2^900."""
    one = splat(1.0)
    s, c = two_sum(one, r)
    bits = as_longs(s)
    m = as_doubles((bits & integers(0x000FFFFFFFFFFFFF)) + integers(0x3FF0000000000000))
    k = exponent(s)
    upper = where_less(splat(_SQRT2), m, one, splat(0.0))
    k = k + upper
    m = m - upper * (m * splat(0.5))
    f = m - one
    z = f / (f + splat(2.0))
    w = z * z
    q = fma(fma(fma(fma(splat(_Q10), w, splat(_Q9)), w, splat(_Q8)), w, splat(_Q7)), w, splat(_Q6))
    q = fma(fma(fma(fma(fma(q, w, splat(_Q5)), w, splat(_Q4)), w, splat(_Q3)), w, splat(_Q2)), w, splat(_Q1))
    atanh = (z + z) * fma(q, w, one)
    return k * splat(LN2_SHORT) + (atanh + (k * splat(LN2_REST) + c / s))
