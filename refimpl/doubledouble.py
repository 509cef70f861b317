"""Error-free transformations and double-double arithmetic.

A double-double is an unevaluated sum h + l of two float64 numbers with |l| <= ulp(h)/2: about 106 bits. u = 2^-53 is the unit
roundoff of float64 and every bound below is relative to the exact result of the given operands, in units of u^2 = 2^-106. The
bounds assume that no operation overflows; an operation whose result lies below 2^-969 may further lose multiples of
2^-1074, the smallest subnormal, which the callers add to their radius. Additions are never affected by underflow (Hauser,
"Handling floating-point exceptions in numeric programs", ACM TOPLAS 18(2), 1996).

    operation     error         why
    two_sum       0             Knuth, TAOCP 2, 4.2.2, theorem B
    fast_two_sum  0             Dekker 1971, for |a| >= |b| or a = 0
    two_prod      0             with fma, for products above 2^-969
    add           3 u^2(1+4u)   accurate sum, any signs: Joldes, Muller, Popescu, ACM TOMS 44(2), 2017, algorithm 6 (AccurateDWPlusDW)
    add_positive  3 u^2         operands of one sign: ibid., algorithm 5 (SloppyDWPlusDW)
    add_float     2 u^2         ibid., algorithm 4 (DWPlusFP)
    mul           6 u^2(1+6u)   here: see `mul`
    mul_float     2 u^2         ibid., algorithm 9 (DWTimesFP3)
    div           15 u^2(1+4u)  here: see `div`; ibid., algorithm 17 (DWDivDW2) has 15 u^2 + 56 u^3
"""

from __future__ import annotations

from typing import Any

from refimpl.jit import fma, inline

U2 = 2.0**-106  # u^2, the unit of every error below
TINY = 2.0**-1074  # what an operation may lose to underflow

ADD, MUL, MUL_FLOAT, DIV = 3.0, 6.0, 2.0, 15.0  # the errors in units of u^2; the factors of 1 + O(u) are left to the radii's rounding up


@inline
def two_sum(a: float, b: float) -> Any:
    """s = RN(a + b) and the exact error."""
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


@inline
def fast_two_sum(a: float, b: float) -> Any:
    """s = RN(a + b) and the exact error, for |a| >= |b| or a = 0."""
    s = a + b
    return s, b - (s - a)


@inline
def two_prod(a: float, b: float) -> Any:
    """p = RN(a * b) and the exact error."""
    p = a * b
    return p, fma(a, b, -p)


@inline
def add(ah: float, al: float, bh: float, bl: float) -> Any:
    """(ah + al) + (bh + bl) for operands of any sign."""
    s, e = two_sum(ah, bh)
    t, f = two_sum(al, bl)
    s, e = fast_two_sum(s, e + t)
    return fast_two_sum(s, e + f)


@inline
def add_positive(ah: float, al: float, bh: float, bl: float) -> Any:
    """(ah + al) + (bh + bl) for operands of one sign."""
    s, e = two_sum(ah, bh)
    return fast_two_sum(s, e + (al + bl))


@inline
def add_float(ah: float, al: float, b: float) -> Any:
    """(ah + al) + b."""
    s, e = two_sum(ah, b)
    return fast_two_sum(s, al + e)


@inline
def mul(ah: float, al: float, bh: float, bl: float) -> Any:
    """(ah + al) * (bh + bl).

    With P = |ah*bh|: p + e is ah*bh exactly, |e| <= u*P, |al| <= u|ah|, |bl| <= u|bh|. Dropping al*bl costs u^2*P. The inner
    fma rounds a number below (u + u)*P, the outer one a number below 3*u*P, up to 1 + 3u: 2u^2*P + 3u^2*P. Together 6u^2*P(1 + 3u), and the
    product of the operands is at least P(1 - u)^2.
    """
    p, e = mul_loose(ah, al, bh, bl)
    return fast_two_sum(p, e)


@inline
def mul_loose(ah: float, al: float, bh: float, bl: float) -> Any:
    """(ah + al) * (bh + bl), not renormalised: for a product that is added to something larger next."""
    p, e = two_prod(ah, bh)
    return p, fma(ah, bl, fma(al, bh, e))


@inline
def mul_float(ah: float, al: float, b: float) -> Any:
    """(ah + al) * b."""
    p, e = two_prod(ah, b)
    return fast_two_sum(p, fma(al, b, e))


@inline
def div(ah: float, al: float, bh: float, bl: float) -> Any:
    """(ah + al) / (bh + bl).

    With A = |ah + al|: t is a quotient of leading parts, rounded, so a - b*t is below 3u*A, of which ah - ph is exact. The product b*t is
    off by 2u^2*A, the difference of the low parts by 2u^2*A, the sum of the differences by 3u^2*A; dividing it by bh for b adds 3u^2, the
    rounding of that quotient 3u^2, and the last sum is exact: 13u^2 + O(u^3).
    """
    t = ah / bh
    ph, pl = mul_float(bh, bl, t)
    rest = (ah - ph) + (al - pl)
    return fast_two_sum(t, rest / bh)
