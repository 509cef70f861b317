"""The rounding of hi + lo +/- radius to a binary format, element by element.

Ends. A radius of 0 leaves lo as it is; else lo - radius and lo + radius are taken and moved outward by an ulp or two, more than what
their own rounding may have lost.

Sum. RN(hi + end) is the rounding to float64 of a real number, and rounding is monotonic: where both ends round to the same number,
so does everything between them. For narrower formats the sum is first rounded to odd at 53 bits, after which a second rounding to
at most 51 bits is innocuous (Boldo and Melquiond, "Emulation of FMA and correctly rounded sums: proved algorithms using rounding to
odd", IEEE Trans. Computers 57(4), 2008).

Format. With q the spacing of the format at s, |s| < 2^precision q <= 2^24 q, adding 1.5 * 2^52 q gives a number whose ulp is q, and whose
last bit is even where the multiple of q is; so adding and subtracting it rounds s to a multiple of q, to nearest, ties to even.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from refimpl.jit import bits_from_float, float_from_bits, inline, kernel

_TINY = 2.0**-1074


@inline
def _exponent(bits: int) -> int:
    """The exponent of a float64 by its bits; -1023 for a subnormal one."""
    return ((bits >> 52) & 0x7FF) - 1023


@inline
def round_sum(a: float, b: float, precision: int, emin: int, largest: float) -> float:
    """RN(a + b) in the format, for a finite a."""
    s = a + b
    if precision == 53 or not np.isfinite(s):
        return s
    if abs(s) >= 2.0 * largest:
        return s * np.inf
    t = s - a
    error = (a - (s - t)) + (b - t)
    bits = bits_from_float(s)
    beyond = (error > 0.0) != (s > 0.0)  # |s| > |a + b|
    bits = (bits - np.int64(beyond)) | 1 if error != 0.0 else bits  # s != 0: a sum as small as that has no error
    s = float_from_bits(bits)
    quantum = max(_exponent(bits), emin) - precision + 1
    shift = 1.5 * float_from_bits((quantum + 52 + 1023) << 52)
    rounded = (s + shift) - shift
    return rounded * np.inf if abs(rounded) > largest else rounded


@kernel
def round_elements(
    start: int,
    stop: int,
    kind: Any,
    hi: Any,
    lo: Any,
    radius: Any,
    precision: int,
    emin: int,
    largest: float,
    values: Any,
    undecided: Any,
) -> None:
    """Writes the rounded elements, as float64, and whether the radius leaves them open; an element that isn't finite gives its hi."""
    for i in range(start, stop):
        values[i] = hi[i]
        if kind[i] != 0:
            continue
        below, above = lo[i], lo[i]
        if radius[i] != 0.0:
            below, above = lo[i] - radius[i], lo[i] + radius[i]
            below, above = below - (abs(below) * 2.0**-52 + _TINY), above + (abs(above) * 2.0**-52 + _TINY)
        low = round_sum(hi[i], below, precision, emin, largest)
        high = round_sum(hi[i], above, precision, emin, largest)
        values[i] = low + 0.0  # a zero is +0
        undecided[i] = low != high
