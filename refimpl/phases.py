"""Rounded losses and gradients of the smoothed family in two phases: float64 where it decides, double-double where it doesn't.

The quick phase (`refimpl.quick`) gives each row a float64 number with a radius, and rounds each element of a gradient at once. What it leaves open
(rows that break one of its assumptions, results too close to a rounding boundary) is computed again by the double-double kernels, and rounded
as every enclosure is, by the exact form in the end. A determined rounding is unique, so the results are theirs, bit for bit.

Memory beyond inputs and outputs: 16 bytes a row, O(V) a thread, and a few rows at a time in the accurate phase.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from refimpl import family, quick, reduce
from refimpl.enclosure import Enclosure, Float, Format, round_parts
from refimpl.family import Setting
from refimpl.jit import over_rows
from refimpl.lanes import WIDTH, viewed
from refimpl.reduce import Parts
from refimpl.smoothing import SMALL

Array = NDArray[np.generic]

_TILES = 4096  # sums of rows that are added up afterwards, at most about as many
_AT_ONCE = 1 << 19  # elements that the accurate phase works on at a time


@dataclass(frozen=True)
class Quick:
    """What the quick phase knows of a call: rows as its kernels take them, the target's masses and the constant E."""

    x: Array
    kept: NDArray[np.uint8]
    off: float
    constant: float

    @staticmethod
    def of(s: Setting, target: Format) -> Quick | None:
        """None where the quick phase doesn't apply: wide formats, one class, weights, distributions, masses that may have underflowed."""
        if s.index is None or s.weight is not None or s.classes == 1 or s.logits.dtype == np.float64 or target.precision == 53:
            return None
        masses = family.target_of(s).masses
        off = float(masses[2])
        if 0.0 < off < SMALL:
            return None
        return Quick(viewed(reduce.raw_rows("logits", s.logits, s.axis)), s.kept.view(np.uint8), off, float(masses[4]))


@dataclass(frozen=True)
class Losses:
    """The rows' losses with their radii, +inf for those left open (which hold 0), and sums of the others."""

    value: Float
    radius: Float
    sums: Parts

    @property
    def left(self) -> NDArray[np.intp]:
        return np.flatnonzero(np.isinf(self.radius))


def rounded(s: Setting, target: Format) -> Array | None:
    """The loss, correctly rounded; None where the quick phase doesn't apply."""
    q = Quick.of(s, target)
    if q is None:
        return None
    rows, classes = q.x.shape
    height = max(WIDTH, -(-rows // _TILES) // WIDTH * WIDTH)
    tiles = -(-rows // height)
    value, radius, sums = np.empty(rows), np.empty(rows), np.empty((3, tiles))
    errors = quick.rest_error(classes, False), quick.additions(classes)
    over_rows(quick.loss_tiles, tiles, q.x.size, height, q.x, s.index, q.kept, q.off, q.constant, value, radius, sums, *errors)
    return _finished(s, target, Losses(value, radius, Parts(np.zeros(tiles, np.uint8), *sums)))


def rounded_with_gradient(s: Setting, target: Format, cotangent: Float) -> tuple[Array, Array] | None:
    """The loss and the gradient with respect to the logits, both correctly rounded; None where the quick phase doesn't apply."""
    q = Quick.of(s, target)
    factor = family.factor_of(s, cotangent)
    if q is None or factor.kind.any():
        return None
    rows, classes = q.x.shape
    value, radius, state = np.empty(rows), np.empty(rows), np.empty(rows, np.uint8)
    gradient = np.empty(q.x.shape, target.dtype)
    error = 1.0 + float(np.max(factor.radius, initial=0.0)) / (abs(float(factor.hi.flat[0])) or 1.0) / quick.U if s.reduced else 0.0
    grid = ((53 - target.precision) << 52) | (1 << 51)
    errors = quick.rest_error(classes, True), quick.additions(classes)
    over_rows(
        quick.gradient_rows,
        rows,
        q.x.size,
        q.x,
        s.index,
        q.kept,
        q.off,
        q.constant,
        np.ascontiguousarray(factor.hi),
        error,
        grid,
        target.normal,
        target.largest,
        value,
        radius,
        viewed(gradient),
        state,
        *errors,
    )
    for some in _chunks(np.flatnonzero(state), classes):
        _settle(s, target, cotangent, gradient, state, some)
    loss = _finished(s, target, Losses(value, radius, reduce.exact_parts(value)._replace(radius)))
    moved = [n for axis, n in enumerate(s.logits.shape) if axis != s.axis]
    return loss, np.moveaxis(gradient.reshape((*moved, classes)), -1, s.axis)
