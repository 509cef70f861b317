"""Enclosures: real numbers known to lie within hi + lo +/- radius, and their one correct rounding.

An `Enclosure` is an array of elements, each with a `Kind`. A finite element is the set [hi + lo - radius, hi + lo + radius]
of real numbers, and the true value lies inside; a radius of +inf says only that the value was not determined. The other
kinds carry their value in `hi` (an infinity or the one canonical nan) with lo = radius = 0.

Rounding. When both ends of an enclosure round to the same number, so does everything between them (`refimpl.rounding`). Where they
differ, the exact form decides at rising precision: a ball is small enough in the end to lie on one side of every boundary, and a
value on a boundary has a ball of radius 0 wherever it could be proved to be (`refimpl.rational`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from fractions import Fraction
from functools import cached_property
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from refimpl.ball import MAX_BITS, Ball, Interval, interval
from refimpl.jit import frozen, over_rows
from refimpl.rounding import round_elements

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

    @cached_property
    def unit(self) -> float:
        """The unit roundoff, half the spacing of the numbers in [1, 2)."""
        return 2.0**-self.precision

    @cached_property
    def tiny(self) -> float:
        """The smallest subnormal number."""
        return 2.0 ** (self.emin - self.precision + 1)

    @cached_property
    def normal(self) -> float:
        """The smallest normal number."""
        return 2.0**self.emin

    @cached_property
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


# What an enclosure rounds to: also the narrow formats that are like IEEE 754's, with infinities. No input has them.
ROUNDINGS = FORMATS | {
    "float8_e5m2": Format("float8_e5m2", 3, -14, 15, np.dtype(ml_dtypes.float8_e5m2)),
    "float8_e4m3": Format("float8_e4m3", 4, -6, 7, np.dtype(ml_dtypes.float8_e4m3)),
    "float8_e3m4": Format("float8_e3m4", 5, -2, 3, np.dtype(ml_dtypes.float8_e3m4)),
}


def format_of(dtype: Any, formats: Mapping[str, Format] = FORMATS) -> Format:
    """The format named by a dtype or its name; raises `TypeError` for one that is not among `formats`."""
    name = dtype if isinstance(dtype, str) else np.dtype(dtype).name
    if name not in formats:
        raise TypeError(f"dtype {name!r} is not supported; use one of {', '.join(formats)}")
    return formats[name]


class Undecided(ArithmeticError):
    """The enclosure straddles a rounding boundary and no exact form could tell on which side the value lies."""


SHOWN = 20  # elements that a notebook shows

# The exact form: (flat indices, bits of precision) -> for each a ball, or a non-finite kind's float.
Exact = Callable[[Sequence[int], int], list[Ball]]


@dataclass(frozen=True, eq=False)
class Enclosure:
    """An array of enclosed real numbers.

    `kind` is uint8 (`Kind`), `hi`, `lo` and `radius` are float64; all four have the same shape. `exact`, when known,
    evaluates the exact form of elements.
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
        """Every element rounded once, to nearest with ties to even, to `dtype`: one of `ROUNDINGS`.

        Subnormals are kept and what lies beyond the format's range becomes an infinity; a zero is +0. An element that is
        `UNDEFINED` becomes nan. Raises `Undecided` where neither the enclosure nor the exact form determines the result, and
        `TypeError` for another dtype.
        """
        target = format_of(dtype, ROUNDINGS)
        values, undecided = round_parts(self.kind, self.hi, self.lo, self.radius, target)
        if undecided.any():
            values[undecided] = self._decided(np.flatnonzero(undecided).tolist(), target)
        return values.astype(target.dtype)

    def _decided(self, where: list[int], target: Format) -> list[float]:
        """The rounding of the elements at flat indices by their exact form, doubling the precision while an interval's ends differ."""
        rounded: dict[int, float] = {}
        left, bits = where, 256
        while left and self.exact is not None and bits <= MAX_BITS:
            for index, ball in zip(left, self.exact(left, bits), strict=True):
                if isinstance(ball, float):
                    rounded[index] = ball
                elif (ends := interval(ball)) is not None:
                    low, high = (round_fraction(end, target) for end in ends)
                    if low == high:
                        rounded[index] = low + 0.0
            left, bits = [index for index in left if index not in rounded], 2 * bits
        if left:
            raise Undecided(self._why(left[0], target))
        return [rounded[index] for index in where]

    def _why(self, index: int, target: Format) -> str:
        where = tuple(int(i) for i in np.unravel_index(index, self.shape))
        hi, lo, radius = (float(part.flat[index]) for part in (self.hi, self.lo, self.radius))
        remedy = "" if self.exact else "; call the operation again to have its exact form decide"
        return f"element {where} lies within {hi!r} + {lo!r} +/- {radius!r}, which straddles two values of {target.name}{remedy}"

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return self.round("float64" if dtype is None else dtype)

    def __getitem__(self, key: Any) -> Enclosure:
        """The enclosures of a part of the array (indexing as numpy does it)."""
        exact = self.exact
        part: Exact | None = None
        if exact is not None:
            positions = np.asarray(np.arange(self.size).reshape(self.shape)[key])

            def part(where: Sequence[int], bits: int) -> list[Ball]:
                return exact([int(positions.flat[index]) for index in where], bits)

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

    def _repr_html_(self) -> str:
        """A table for a notebook: index, value, radius and kind of each element, of many the first `SHOWN`."""
        rows = []
        for flat in range(min(self.size, SHOWN)):
            index = ", ".join(str(int(i)) for i in np.unravel_index(flat, self.shape))
            hi, lo, radius = (float(part.flat[flat]) for part in (self.hi, self.lo, self.radius))
            kind = Kind(int(self.kind.flat[flat]))
            finite = kind == Kind.FINITE
            row = (index, f"{hi!r} {lo:+.17g}" if finite and lo else repr(hi), f"{radius:.3g}" if finite else "", kind.label)
            rows.append("".join(f'<td style="text-align:left">{text}</td>' for text in row))
        head = "".join(f'<th style="text-align:left">{text}</th>' for text in ("index", "value", "radius", "kind"))
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        left = f"<p>... and {self.size - SHOWN} more</p>" if self.size > SHOWN else ""
        return f"<p>Enclosure, shape {self.shape}</p><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{left}"


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


def round_parts(kind: NDArray[np.uint8], hi: Float, lo: Float, radius: Float, target: Format) -> tuple[Float, NDArray[np.bool_]]:
    """Every hi + lo +/- radius rounded to `target`, as float64, and whether the radius leaves the result open.

    An element whose kind isn't FINITE gives its hi. The arrays have one shape, the results' too.
    """
    values, undecided = np.empty(hi.shape), np.zeros(hi.shape, np.bool_)
    parts = [frozen(part.reshape(-1)) for part in (kind, hi, lo, radius)]
    shape = target.precision, target.emin, target.largest
    over_rows(round_elements, hi.size, hi.size, *parts, *shape, values.reshape(-1), undecided.reshape(-1))
    return values, undecided


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
