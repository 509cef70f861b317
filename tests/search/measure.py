"""The true error of an enclosure's elements, as a share of the radius and in units of 2^-106 of the terms' magnitude."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from flint import arb
from numpy.typing import NDArray

from refimpl.ball import MAX_BITS, Ball, precision
from refimpl.doubledouble import U2
from refimpl.enclosure import Enclosure, Kind

Float = NDArray[np.float64]
Evaluate = Callable[[Sequence[int], int], list[Ball]]  # (flat indices, bits) -> the exact form

BITS = (200, 800, 3000, MAX_BITS)
KNOWN = 2.0**-20  # an error is known when its ball is narrower than this share of the radius
SMALL = 2.0**-900  # terms below may have met underflow


@dataclass(frozen=True)
class Errors:
    """For each element looked at: error over radius (above 1 for one that is not contained), and error over 2^-106 of the magnitude."""

    share: Float
    units: Float


def errors(e: Enclosure, where: Sequence[int], evaluate: Evaluate, magnitude: Float, relative: float) -> Errors:
    """The errors of the elements at flat indices; `magnitude` (of e's shape) may be nan where nothing can be said.

    What is undetermined counts as 0; so do the units of an element whose radius is above `relative` units: there, underflow reigns.
    An error is given by its lower bound; an element that no ball shows to be contained counts as not contained.
    """
    share, units = np.zeros(len(where)), np.zeros(len(where))
    with np.errstate(all="ignore"):
        unit = np.where((magnitude > SMALL) & (magnitude < math.inf), magnitude * U2, 0.0)
        unit = np.where(e.radius <= relative * unit, unit, 0.0)
    left = list(range(len(where)))
    for bits in BITS:
        balls = evaluate([where[n] for n in left], bits) if left else []
        unknown = []
        for n, ball in zip(left, balls, strict=True):
            share[n], units[n], decided = _measure(e, where[n], ball, bits, float(unit.flat[where[n]]))
            if not decided:
                unknown.append(n)
        left = unknown
    return Errors(share, units)


def _measure(e: Enclosure, index: int, ball: Ball, bits: int, unit: float) -> tuple[float, float, bool]:
    """(share, units, whether more bits are not needed); at the last precision a ball that may lie outside has the share inf."""
    if isinstance(ball, float) or e.kind.flat[index] != Kind.FINITE:
        contained = e.contains(index, ball)
        return (0.0 if contained else math.inf), 0.0, contained or isinstance(ball, float)
    radius = float(e.radius.flat[index])
    if radius == math.inf:
        return 0.0, 0.0, True
    with precision(bits):
        difference = (ball - arb(float(e.hi.flat[index]))) - arb(float(e.lo.flat[index]))
        low, high = difference.abs_lower(), difference.abs_upper()
        outside = bool(high > arb(radius))
        if outside and (bits == BITS[-1] or bool(low > arb(radius))):
            return math.inf if radius == 0.0 else max(float(low / arb(radius)), math.nextafter(1.0, 2.0)), 0.0, True
        if outside or radius == 0.0:
            return 0.0, 0.0, not outside
        units = float(low / arb(unit)) if unit > 0.0 else 0.0
        return float(low / arb(radius)), units, bool(high - low <= arb(radius) * KNOWN)
