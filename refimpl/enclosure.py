"""Enclosures: real numbers known to lie within hi + lo +/- radius, and their one correct rounding.

An `Enclosure` is an array of elements, each with a `Kind`. A finite element is the set [hi + lo - radius, hi + lo + radius]
of real numbers, and the true value lies inside; a radius of +inf says only that the value was not determined. The other
kinds carry their value in `hi` (an infinity or the one canonical nan) with lo = radius = 0.

Rounding. A floating-point addition is correctly rounded, so RN(hi + a) is the rounding of the real number hi + a, and
rounding is monotonic: when both ends of the enclosure round to the same number, so does everything between them. For
formats narrower than float64 each end is first rounded to odd at 53 bits, after which a second rounding to at most 51
bits is innocuous (Boldo and Melquiond, "Emulation of FMA and correctly rounded sums: proved algorithms using rounding to
odd", IEEE Trans. Computers 57(4), 2008). Where the ends differ, the exact form decides at rising precision.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from refimpl.ball import MAX_BITS, Ball, Interval, interval

Float = NDArray[np.float64]


class Kind(IntEnum):
    """What an element of an enclosure is; `OVERFLOW` is a real number that float64 rounds to an infinity."""

    FINITE = 0
    POSITIVE_INFINITY = 1
    NEGATIVE_INFINITY = 2
    NAN = 3
    OVERFLOW = 4
    UNDEFINED = 5  # no limit exists, so nothing can be expected

    @property
    def label(self) -> str:
        """The kind as files and messages spell it."""
        return self.name.lower().replace("_", " ")


@dataclass(frozen=True)
class Format:
    """A binary floating-point format: `precision` bits, normal exponents from `emin` to `emax` (IEEE 754-2019, 3.3)."""

    name: str
    precision: int
    emin: int
    emax: int
    dtype: np.dtype[Any]

    @property
    def unit(self) -> float:
        """The unit roundoff, half the spacing of the numbers in [1, 2)."""
        return 2.0**-self.precision

    @property
    def tiny(self) -> float:
        """The smallest subnormal number."""
        return 2.0 ** (self.emin - self.precision + 1)

    @property
    def normal(self) -> float:
        """The smallest normal number."""
        return 2.0**self.emin

    @property
    def largest(self) -> float:
        """The largest finite number."""
        return (2.0 - 2.0 ** (1 - self.precision)) * 2.0**self.emax

    def ulp(self, x: Float) -> Float:
        """The spacing of the format at |x|, elementwise; at 0 and below the normal numbers, the smallest subnormal."""
        magnitude = np.maximum(np.abs(np.where(np.isfinite(x), x, self.largest)), self.normal)
        _, exponent = np.frexp(np.minimum(magnitude, self.largest))
        exponent = exponent - 1
        return np.ldexp(1.0, exponent - (self.precision - 1))


FORMATS = {
    "float64": Format("float64", 53, -1022, 1023, np.dtype(np.float64)),
    "float32": Format("float32", 24, -126, 127, np.dtype(np.float32)),
    "bfloat16": Format("bfloat16", 8, -126, 127, np.dtype(ml_dtypes.bfloat16)),
    "float16": Format("float16", 11, -14, 15, np.dtype(np.float16)),
}


def format_of(dtype: Any) -> Format:
    """The format named by a dtype or its name; raises `TypeError` for one that is not among `FORMATS`."""
    name = dtype if isinstance(dtype, str) else np.dtype(dtype).name
    if name not in FORMATS:
        raise TypeError(f"dtype {name!r} is not supported; use one of {', '.join(FORMATS)}")
    return FORMATS[name]


class Undecided(ArithmeticError):
    """The enclosure straddles a rounding boundary and no exact form could tell on which side the value lies."""


# The exact form of one element: (flat index, bits of precision) -> a ball or a non-finite kind's float.
Exact = Callable[[int, int], Ball]


@dataclass(frozen=True, eq=False)
class Enclosure:
    """An array of enclosed real numbers.

    `kind` is uint8 (`Kind`), `hi`, `lo` and `radius` are float64; all four have the same shape. `exact`, when known,
    evaluates the exact form of one element.
    """

    kind: NDArray[np.uint8]
    hi: Float
    lo: Float
    radius: Float
    exact: Exact | None = field(default=None, repr=False)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.hi.shape

    @property
    def size(self) -> int:
        return self.hi.size

    def round(self, dtype: Any = "float64") -> NDArray[Any]:
        """Every element rounded once, to nearest with ties to even, to `dtype` (float64, float32, bfloat16, float16).

        Subnormals are kept and what lies beyond the format's range becomes an infinity; a zero is +0. An element that is
        `UNDEFINED` becomes nan. Raises `Undecided` where neither the enclosure nor the exact form determines the result, and
        `TypeError` for another dtype.
        """
        target = format_of(dtype)
        exact = self.radius == 0.0
        with np.errstate(over="ignore", invalid="ignore"):
            below = np.where(exact, self.lo, np.nextafter(self.lo - self.radius, -np.inf))
            above = np.where(exact, self.lo, np.nextafter(self.lo + self.radius, np.inf))
            low = np.asarray(_round_sum(self.hi, below, target))
            high = np.asarray(_round_sum(self.hi, above, target))
        finite = self.kind == Kind.FINITE
        rounded = np.array(np.where(finite, low, self.hi) + 0.0)  # + 0.0: a zero is +0
        for index in np.flatnonzero(finite & ~(low == high)):
            rounded.flat[index] = self._decide(int(index), target)
        return rounded.astype(target.dtype)

    def _decide(self, index: int, target: Format) -> float:
        """The rounding of one element by its exact form, doubling the precision until both ends round alike."""
        if self.exact is not None:
            bits = 256
            while bits <= MAX_BITS:
                ball = self.exact(index, bits)
                if isinstance(ball, float):
                    return ball
                ends = interval(ball)
                if ends is not None:
                    low, high = (round_fraction(end, target) for end in ends)
                    if low == high:
                        return low + 0.0
                bits *= 2
        where = tuple(int(i) for i in np.unravel_index(index, self.shape))
        raise Undecided(
            f"element {where} lies within {self.hi.flat[index]!r} + {self.lo.flat[index]!r} +/- {self.radius.flat[index]!r}, which "
            f"straddles two values of {target.name}" + ("" if self.exact else "; call the operation again to have its exact form decide")
        )

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return self.round("float64" if dtype is None else dtype)

    def __getitem__(self, key: Any) -> Enclosure:
        """The enclosures of a part of the array (indexing as numpy does it)."""
        exact = self.exact
        part: Exact | None = None
        if exact is not None:
            positions = np.asarray(np.arange(self.size).reshape(self.shape)[key])

            def part(index: int, bits: int) -> Ball:
                return exact(int(positions.flat[index]), bits)

        kind, hi, lo, radius = (np.asarray(a[key]) for a in (self.kind, self.hi, self.lo, self.radius))
        return Enclosure(kind, hi, lo, radius, part)

    def contains(self, index: int, ball: Ball) -> bool:
        """Whether the element at flat `index` is certain to contain `ball` (for an infinity or a nan: is the same)."""
        kind = Kind(int(self.kind.flat[index]))
        hi, lo, radius = (float(a.flat[index]) for a in (self.hi, self.lo, self.radius))
        if isinstance(ball, float):
            if kind in (Kind.NAN, Kind.UNDEFINED):
                return ball != ball
            return kind in (Kind.POSITIVE_INFINITY, Kind.NEGATIVE_INFINITY) and ball == hi
        ends = interval(ball)
        if ends is None:
            return False
        if kind == Kind.OVERFLOW:
            return all(round_fraction(end, FORMATS["float64"]) == hi for end in ends)
        if kind != Kind.FINITE:
            return False
        if radius == np.inf:
            return True
        centre = Fraction(hi) + Fraction(lo)
        return centre - Fraction(radius) <= ends[0] and ends[1] <= centre + Fraction(radius)

    def __repr__(self) -> str:
        if self.size != 1:
            return f"Enclosure(shape={self.shape}, hi={self.hi!r}, largest radius={self.radius.max(initial=0.0):.3g})"
        kind = Kind(int(self.kind.item()))
        if kind != Kind.FINITE:
            return f"Enclosure({kind.label}, {self.hi.item()})"
        return f"Enclosure({self.hi.item()!r} + {self.lo.item()!r} +/- {self.radius.item():.3g})"


def enclosure(hi: Float, lo: Float, radius: Float, kind: NDArray[np.uint8] | None = None, exact: Exact | None = None) -> Enclosure:
    """An `Enclosure` in canonical form: kinds read off `hi` where `kind` says FINITE, non-finite ones with lo = radius = 0."""
    kind = np.zeros(hi.shape, np.uint8) if kind is None else kind.copy()
    plain = kind == Kind.FINITE
    kind[plain & (hi == np.inf)] = Kind.POSITIVE_INFINITY
    kind[plain & (hi == -np.inf)] = Kind.NEGATIVE_INFINITY
    kind[plain & np.isnan(hi)] = Kind.NAN
    finite = kind == Kind.FINITE
    hi = np.asarray(np.where((kind == Kind.NAN) | (kind == Kind.UNDEFINED), np.nan, hi) + 0.0)
    return Enclosure(kind, hi, np.where(finite, lo, 0.0), np.where(finite, radius, 0.0), exact)


def two_sum(a: Float, b: Float) -> tuple[Float, Float]:
    """s = RN(a + b) and the error a + b - s, exactly (Knuth; any rounding-to-nearest, no overflow)."""
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


def _round_sum(hi: Float, offset: Float, target: Format) -> Float:
    """RN(hi + offset) in `target`, as float64 values."""
    total, error = two_sum(hi, offset)
    if target.precision == 53:
        return total
    # Round to odd: an inexact sum with an even last bit moves one step towards the discarded part.
    error = np.where(np.isfinite(total), error, 0.0)
    even = (np.ascontiguousarray(total).view(np.int64).reshape(np.shape(total)) & 1) == 0
    step = np.nextafter(total, np.where(error > 0, np.inf, -np.inf))
    return round_to_format(np.where((error != 0.0) & even, step, total), target)


def round_to_format(x: Float, target: Format) -> Float:
    """Float64 values rounded to nearest, ties to even, to a narrower format; the result is kept as float64."""
    _, exponent = np.frexp(x)
    quantum = np.maximum(exponent - target.precision, target.emin - target.precision + 1)
    finite = np.isfinite(x)
    quantum = np.where(finite, quantum, 0)
    rounded = np.ldexp(np.rint(np.ldexp(x, -quantum)), quantum)
    return np.where(finite & (np.abs(rounded) > target.largest), np.copysign(np.inf, x), rounded)


def round_fraction(x: Fraction, target: Format) -> float:
    """A rational number rounded to nearest, ties to even, to `target`."""
    if x == 0:
        return 0.0
    magnitude = abs(x)
    exponent = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    if Fraction(2) ** exponent > magnitude:
        exponent -= 1
    quantum = Fraction(2) ** (max(exponent, target.emin) - target.precision + 1)
    rounded = round(magnitude / quantum) * quantum  # round() of a Fraction takes ties to even
    value = float(rounded) if rounded <= Fraction(target.largest) else np.inf
    return value if x > 0 else -value


def interval_of(e: Enclosure, index: int) -> Interval:
    """The ends of a finite element as exact rationals."""
    centre = Fraction(float(e.hi.flat[index])) + Fraction(float(e.lo.flat[index]))
    radius = Fraction(float(e.radius.flat[index]))
    return centre - radius, centre + radius
