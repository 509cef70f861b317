"""The metric: how far an answer is from an enclosure, in units of the allowed error and in ulps. It is total.

An element's error is the distance from the answer, in its own dtype, to the nearest end of the enclosure, so that nobody is
accused by our own uncertainty. Each pair of an answer and an expected kind has its rule:

    expected                    answer            error
    finite                      finite            the distance; a signed zero is a zero
                                an infinity       the distance to 2^(emax + 1), for which it stands, or 0 where the truth lies beyond;
                                                  so it passes where the truth and the allowed error reach what rounds to it
                                nan               inf
    overflow (a real number     its infinity      0
    that float64 can't hold)    finite            the distance to the least such number
                                the rest          inf
    an infinity                 the same          0, all else inf
    nan                         nan               0, all else inf
    undefined                   anything          0

A `ratio` up to 1 passes. An infinity that doesn't pass has the ratio inf. Where the allowed error is not finite only kinds are
compared: any finite number answers a finite truth, and an infinity one that rounds to it.

The arithmetic is float64 with two-sums, off by less than 2^-50 of the ratio: what lies nearer than that to the bound is decided
in rationals.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refimpl.enclosure import FORMATS, Enclosure, Float, Format, Kind, interval_of, two_sum

NEAR = 1e-9  # a ratio computed in float64 that lies this close to 1 is settled by rationals
PAST = math.nextafter(1.0, 2.0)
LEAST_OVERFLOW = Fraction(2) ** 1024 - Fraction(2) ** 970  # the least number that float64 rounds to an infinity

_EXPONENT = np.uint64(0x7FF << 52)  # of a float64


def compared(
    actual: NDArray[Any], expected: Enclosure, bounds: Float, promised: int, target: Format
) -> tuple[Float, Float, NDArray[np.bool_] | None]:
    """`distance` by the promised one of several bounds (several, n), and `keeps` of all; n isn't 0."""
    found = _plain(actual, expected, bounds, promised, target)
    return found or (*distance(actual, expected, bounds[promised], target), keeps(actual, expected, bounds, target))


def _plain(
    actual: NDArray[Any], expected: Enclosure, bounds: Float, promised: int, target: Format
) -> tuple[Float, Float, NDArray[np.bool_]] | None:
    """The same, at once, where numbers answer numbers, all bounds are finite and no error is close to one; else None.

    Of the table only the first rule applies then, and nothing is left to rationals.
    """
    if expected.kind.any():  # not all are `Kind.FINITE`
        return None
    with np.errstate(all="ignore"):
        error = _error(np.asarray(actual).astype(np.float64), expected)  # not finite where the answer isn't
        spare, ratio = bounds - error, error / bounds[promised]
        finite = error.max() < np.inf and expected.radius.max() < np.inf and bounds.max() < np.inf
        if not (finite and (np.abs(spare) > NEAR * error).all() and (np.abs(ratio - 1.0) > NEAR).all()):
            return None
        kept: NDArray[np.bool_] = np.logical_and.reduce(spare >= 0.0, axis=1)
        return ratio, error / spacing_at(magnitude(expected), target), kept


def distance(actual: NDArray[Any], expected: Enclosure, bound: Float, target: Format) -> tuple[Float, Float]:
    """The error of each element in units of `bound`, and in ulps of `target` at the expected value.

    `target` is the format that the answer was rounded to, and `bound` the allowed error with that rounding included. All four
    arrays have one shape; so have both results.
    """
    wide = np.asarray(actual).astype(np.float64)
    kind = expected.kind
    finite, overflow = kind == Kind.FINITE, kind == Kind.OVERFLOW
    with np.errstate(all="ignore"):
        spacing = spacing_at(magnitude(expected), target)
        # A bound that isn't finite says nothing of values: of the infinities, only a rounding leads to one.
        stated = np.isfinite(bound)
        usable = np.where(stated, bound, np.maximum(spacing / 2, FORMATS["float64"].tiny))
        error = _error(wide, expected)
        ratio = np.where(error == 0.0, 0.0, error / usable)
        ulps = error / spacing
    known = expected.radius != np.inf
    ratio, ulps = np.where(known, ratio, 0.0), np.where(known, ulps, 0.0)
    plain = finite & np.isfinite(wide)
    hard = (finite | overflow) & ~np.isnan(wide) & known & ~(plain & np.isfinite(error) & (np.abs(ratio - 1.0) > NEAR))
    for index in np.flatnonzero(hard):
        place = int(index)
        ratio.flat[place], ulps.flat[place] = _in_rationals(
            float(wide.flat[place]), expected, place, float(usable.flat[place]), float(spacing.flat[place]), target
        )
    ratio = np.where(plain & ~stated, 0.0, ratio)
    same = ((kind == Kind.NAN) & np.isnan(wide)) | (kind == Kind.UNDEFINED)
    same |= ((kind == Kind.POSITIVE_INFINITY) | (kind == Kind.NEGATIVE_INFINITY)) & (wide == expected.hi)
    other = ~same & (np.isnan(wide) | ~(finite | overflow) | (np.isinf(wide) & (ratio > 1.0)))
    return (
        np.where(same, 0.0, np.where(other, np.inf, ratio)),
        np.where(same, 0.0, np.where(other, np.inf, ulps)),
    )


def keeps(actual: NDArray[Any], expected: Enclosure, bounds: Float, target: Format) -> NDArray[np.bool_] | None:
    """Of bounds (several, n), which every number of an answer (n) keeps that stands where a number is expected; None where none does.

    A bound that isn't finite is kept by any number.
    """
    wide = np.asarray(actual).astype(np.float64)
    there = np.flatnonzero((expected.kind == Kind.FINITE) & np.isfinite(wide) & (expected.radius != np.inf))
    if not there.size:
        return None
    with np.errstate(all="ignore"):
        error = _error(wide, expected)[there]
        spare = bounds[:, there] - error
        stated = np.isfinite(bounds[:, there])
        near = ~(np.abs(spare) > NEAR * error) & (error != 0.0) & stated
    kept: NDArray[np.bool_] = np.logical_and.reduce((spare >= 0.0) | near | ~stated, axis=1)
    for row, column in zip(*np.nonzero(near), strict=True):
        place = int(there[column])
        if kept[row]:
            ratio, _ = _in_rationals(float(wide[place]), expected, place, float(bounds[row, place]), 1.0, target)
            kept[row] = ratio <= 1.0
    return kept


def _error(wide: Float, expected: Enclosure) -> Float:
    """The distance from each number to the nearest end of its enclosure, off by less than 2^-50 of it; for numbers only."""
    hi, lo = two_sum(expected.hi, expected.lo)
    difference, rest = two_sum(wide, -hi)
    return np.asarray(np.maximum(np.abs(difference + (rest - lo)) - expected.radius, 0.0))


def magnitude(expected: Enclosure) -> Float:
    """|hi|, or the float64 below it where hi + lo lies below it: just below a power of two the spacing is half as large."""
    size = np.abs(expected.hi)
    return np.where(expected.lo * np.sign(expected.hi) < 0, np.nextafter(size, 0.0), size)


def spacing_at(size: Float, target: Format) -> Float:
    """The spacing of `target` at a magnitude; at 0 the smallest subnormal, as next to it."""
    binade = (np.fmin(np.abs(size), target.largest).view(np.uint64) & _EXPONENT).view(np.float64)  # 0 below the normal numbers
    return np.maximum(binade * 2.0 ** (1 - target.precision), target.tiny)


def _in_rationals(actual: float, expected: Enclosure, index: int, bound: float, spacing: float, target: Format) -> tuple[float, float]:
    """The ratio, certain to be on its side of 1, and the ulps of a number or an infinity where a real number is expected."""
    low: Fraction | None
    high: Fraction | None
    if expected.kind.flat[index] == Kind.OVERFLOW:
        low, high = (LEAST_OVERFLOW, None) if expected.hi.flat[index] > 0 else (None, -LEAST_OVERFLOW)
    else:
        low, high = interval_of(expected, index)
    beyond = Fraction(2) ** (target.emax + 1)
    if math.isinf(actual):  # it stands for all numbers from `beyond` on
        end = high if actual > 0 else (None if low is None else -low)
        error = Fraction(0) if end is None else beyond - end
    else:
        value = Fraction(actual)
        error = max(low - value if low is not None else Fraction(0), value - high if high is not None else Fraction(0))
    if error <= 0:
        return 0.0, 0.0
    over = error > Fraction(bound)
    ratio = _float(error / Fraction(bound)) if bound > 0 else math.inf
    return max(ratio, PAST) if over else min(ratio, 1.0), _float(error / Fraction(spacing))


def _float(x: Fraction) -> float:
    try:
        return float(x)
    except OverflowError:
        return math.inf
