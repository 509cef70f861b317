"""Rounded losses and gradients of the smoothed family in two phases: float64 where it decides, double-double where it doesn't.

The quick phase (`refimpl.quick`) gives each row a float64 number with a radius, and rounds each element of a gradient at once. What it
leaves open (rows that break one of its assumptions, results too close to a rounding boundary) is computed again by the double-double
kernels, and rounded as every enclosure is, by the exact form in the end. A determined rounding is unique, so the results are theirs,
bit for bit.

Memory beyond inputs and outputs: at most 100 bytes a row, O(V) a thread, and a few rows at a time in the accurate phase.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refimpl import family, quick, reduce
from refimpl.enclosure import FORMATS, Exact, Float, Format, round_parts
from refimpl.family import Setting
from refimpl.jit import frozen, over_rows
from refimpl.lanes import WIDTH, viewed
from refimpl.reduce import Parts
from refimpl.smoothing import SMALL, loss_parts
from refimpl.smoothing_gradient import gradient_parts_at

Rows = NDArray[np.intp]

_TILES = 4096  # partial sums over rows, at most about as many
_AT_ONCE = 1 << 19  # elements that the accurate phase works on at a time


@dataclass(frozen=True)
class Quick:
    """A call as the quick phase's kernels take it: the rows of logits and the first arguments that the kernels share."""

    rows: int
    classes: int
    shared: tuple[Any, ...]

    @staticmethod
    def of(s: Setting, target: Format) -> Quick | None:
        """None where the quick phase doesn't apply: wide formats, one class, weights, distributions, smoothing that is next to nothing
        or leaves out a class.

        Then masses may have underflowed; and E's error, some 100 u^2 of its terms' magnitude, which is about 1, is to be far below u E.
        """
        if s.index is None or family.weights_of(s) is not None or s.classes == 1 or s.logits.dtype == np.float64 or target.precision == 53:
            return None
        masses = family.target_of(s).masses
        off, constant = float(masses[2]), float(masses[4])
        if 0.0 < off < SMALL or 0.0 < abs(constant) < 2.0**-40:
            return None
        x = s.rows()
        return Quick(len(x), s.classes, (viewed(x), frozen(s.index), s.kept.view(np.uint8), off, constant))


def rounded(s: Setting, target: Format) -> NDArray[Any] | None:
    """The loss, correctly rounded; None where the quick phase doesn't apply."""
    q = Quick.of(s, target)
    if q is None:
        return None
    height = WIDTH * max(1, q.rows // (WIDTH * _TILES))
    tiles = -(-q.rows // height)
    sums, nothing = np.empty((4, tiles)), np.empty(0)
    errors = quick.rest_error(q.classes, False), quick.additions(q.classes)

    def run(value: Float, radius: Float) -> tuple[Float, Float]:
        over_rows(quick.loss_tiles, tiles, q.rows * q.classes, height, *q.shared, value, radius, sums, *errors)
        return value, radius

    value, radius = run(nothing, nothing) if s.reduced else run(np.empty(q.rows), np.empty(q.rows))
    if s.reduced and sums[3].any():  # the rows that are left open must be known
        value, radius = run(np.empty(q.rows), np.empty(q.rows))
    return _losses(s, target, value, radius, sums)


def rounded_with_gradient(s: Setting, target: Format, cotangent: Float) -> tuple[NDArray[Any], NDArray[Any]] | None:
    """The loss and the gradient with respect to the logits, correctly rounded; None where the quick phase doesn't apply."""
    q, factor = Quick.of(s, target), family.factor_of(s, cotangent)
    error = _relative_error(factor)
    if q is None or not error < np.inf:
        return None
    value, radius, state = np.empty(q.rows), np.empty(q.rows), np.empty(q.rows, np.uint8)
    stored = target.dtype if target.name in FORMATS else np.dtype(np.float32)  # the kernel writes no narrower format
    gradient = np.empty((q.rows, q.classes), stored)
    grid = (quick.grid_of(target.precision), target.normal, target.largest)
    errors = quick.rest_error(q.classes, True), quick.additions(q.classes)
    hi = np.ascontiguousarray(factor.hi)
    over_rows(quick.gradient_rows, q.rows, q.rows * q.classes, *q.shared, hi, error, *grid, value, radius, viewed(gradient), state, *errors)
    for some in _chunks(np.flatnonzero(state), q.classes):
        _settle(s, target, factor, cotangent, gradient, state, some)
    left = np.isinf(radius)
    loss = _losses(s, target, value, radius, np.stack([value, np.zeros(q.rows), np.where(left, 0.0, radius), left]))
    moved = [n for axis, n in enumerate(s.logits.shape) if axis != s.axis]
    return loss, np.moveaxis(gradient.astype(target.dtype, copy=False).reshape((*moved, q.classes)), -1, s.axis)


def _relative_error(factor: Parts) -> float:
    """The largest relative error, in units of u, of the factors' hi parts; +inf where one is not known so."""
    if factor.kind.any():
        return np.inf
    inexact = (factor.radius > 0.0) | (factor.lo != 0.0)
    if not inexact.any():
        return 0.0
    with np.errstate(divide="ignore", over="ignore"):
        return 1.0 + float(np.max(factor.radius[inexact] / np.abs(factor.hi[inexact]))) / quick.U


def _losses(s: Setting, target: Format, value: Float, radius: Float, sums: Float) -> NDArray[Any]:
    """The rounded loss from the rows' numbers, radius +inf and value 0 for those left open, and from sums over rows.

    `sums` (4, any) are hi, lo and radius of sums of the rows that were determined, and the number of the others.
    """
    left = np.flatnonzero(np.isinf(radius)) if sums[3].any() else np.zeros(0, np.intp)
    if s.reduced:
        divisor = 1.0 if s.denominator is None else float(s.denominator[0]) if s.denominator.size == 1 else 0.0
        if left.size == 0 and divisor > 0.0:
            total, determined = quick.rounded_total(sums, divisor, target.precision, target.emin, target.largest)
            if determined:
                return np.asarray(total, target.dtype)
        parts = Parts(np.zeros(sums.shape[1], np.uint8), sums[0], sums[1], sums[2])
        parts = reduce.joined(parts, *(_accurate(s, some) for some in _chunks(left, s.classes)))
        e = reduce.finish(reduce.divided(reduce.total(parts), s.denominator, s.over_nothing))
        result, undecided = round_parts(e.kind, e.hi, e.lo, e.radius, target)
        if undecided.any():
            return family.forward(s, _exact(s)).round(target.name)
        return result.astype(target.dtype)
    zeros = np.zeros(value.size)
    result, undecided = round_parts(zeros.astype(np.uint8), value, zeros, radius, target)
    undecided[left] = True
    for some in _chunks(np.flatnonzero(undecided), s.classes):
        result[some] = reduce.finish(_accurate(s, some), exact=_exact(s.only(some))).round(target.name)
    return result.astype(target.dtype).reshape(s.shape)


def _exact(s: Setting) -> Exact:
    return lambda where, bits: family.exact(s, where, bits)


def _accurate(s: Setting, some: Rows) -> Parts:
    """The losses of some rows by the double-double kernel."""
    part = s.only(some)
    return loss_parts(part.rows(), family.target_of(part), 1.0)


def _settle(
    s: Setting, target: Format, factor: Parts, cotangent: Float, gradient: NDArray[Any], state: NDArray[np.uint8], some: Rows
) -> None:
    """Write what the quick phase has left open in some rows of the gradient: all of a row, or the elements that are nan."""
    part = s.only(some)
    settled = gradient[some]
    with np.errstate(invalid="ignore"):  # a row of state 2 holds anything
        open_ = np.isnan(settled) | (state[some] == 2)[:, None]
    own = Parts(factor.kind[some], factor.hi[some], factor.lo[some], factor.radius[some])
    parts = gradient_parts_at(part.rows(), family.target_of(part), own, 1.0, open_)
    g = cotangent if s.reduced else cotangent.reshape(-1)[some]
    places = np.flatnonzero(open_)
    e = reduce.finish(parts, exact=lambda where, bits: family.exact_vjp(part, places[where].tolist(), bits, g))
    settled[open_] = e.round(target.name).astype(gradient.dtype)
    gradient[some] = settled


def _chunks(rows: Rows, classes: int) -> Iterator[Rows]:
    """The rows, a few at a time."""
    step = max(1, _AT_ONCE // classes)
    return (rows[first : first + step] for first in range(0, rows.size, step))
