"""How far a tensor is from what is expected of it, in units of the error that each accuracy class allows.

Of a large tensor the named elements are measured, and the sum of all: no sum of errors may exceed the sum of what is allowed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from conformance.bound import CLASSES, Accuracy, Promise, half_ulp, numbers_of_classes, with_rounding
from conformance.case import Array, Case, Expected
from conformance.finding import Element, Place
from conformance.metric import compared, spacing_at
from refimpl.enclosure import FORMATS, Enclosure, Float, Format, Kind

SLACK = 1.0 + 2.0**-46  # what float64 loses where it adds up the allowed errors of a tensor
UNRAISED = 1.0 - 2.0**-5  # of an expectation's terms, which are rounded up to six bits: no more than the operation's own


@dataclass(frozen=True, eq=False)
class Question:
    """What is expected of one tensor, and what its bounds are made from.

    `terms` gives the coefficients of every element's bound, (elements, K), and `truth` every element's enclosure; they are asked only
    where `expected` doesn't hold enough. A `truth` of None says that the elements that aren't named may be anything.
    """

    case: Case
    expected: Expected
    promise: Promise
    terms: Callable[[], Float]
    truth: Callable[[], Enclosure] | None


@dataclass(frozen=True, eq=False)
class Measure:
    """What was measured of one tensor: the element (or the sum) with the largest ratio, and the classes whose bounds were kept.

    `accuracy` says that a number stands for a number wherever the ratio is above 1; `kept` is None where no number did.
    """

    ratio: float = 0.0
    ulps: float = 0.0
    place: Place | None = None
    element: Element | None = None
    accuracy: bool = True
    kept: tuple[Accuracy, ...] | None = None
    of_all: bool = False  # it is the sum of all elements


def measure(question: Question, actual: Array) -> Measure:
    """The measure of an answer that has the shape of what is expected, and a dtype that bounds are known for."""
    expected, target = question.expected, FORMATS[actual.dtype.name]
    judged = actual.reshape(-1) if expected.where is None else actual.reshape(-1)[expected.where]
    found = _largest(question, judged, flat(expected.values), terms_of_kept(question), target, expected.where)
    if expected.where is None or question.truth is None or found.ratio > 1.0:
        return found
    rest = _rest(question, question.truth, actual, found, target)
    kept = rest.kept if found.kept is None or rest.kept is None else tuple(one for one in found.kept if one in rest.kept)
    return replace(rest if rest.ratio > found.ratio else found, kept=found.kept if kept is None else kept)


def terms_of_kept(question: Question) -> Float:
    """The coefficients of the elements that the expectation holds: its own, or where it has none the operation's."""
    expected = question.expected
    if expected.terms is not None:
        return expected.terms
    terms = question.terms()
    return terms if expected.where is None else terms[expected.where]


def _bounds(question: Question, terms: Float, expected: Enclosure, target: Format) -> Float:
    """(classes, n): what each class allows elements with these coefficients, their rounding included."""
    errors = np.ascontiguousarray((terms @ numbers_of_classes(question.promise, question.case).T).T)
    return with_rounding(errors, expected, target, question.promise.flush)


def _largest(question: Question, actual: Array, expected: Enclosure, terms: Float, target: Format, where: Array | None) -> Measure:
    """The measure of the elements at the flat indices `where`, or of all."""
    if actual.size == 0:
        return Measure()
    bounds, promised = _bounds(question, terms, expected, target), CLASSES.index(question.promise.accuracy)
    ratio, ulps, kept = compared(actual, expected, bounds, promised, target)
    at = int(ratio.argmax())
    place = _unravel(at if where is None else int(where[at]), question.expected.shape)
    element = Element(_at(expected, slice(at, at + 1)), actual[at : at + 1].copy(), float(bounds[promised, at]), target)
    accuracy = True
    if ratio[at] > 1.0:
        accuracy = bool((np.isfinite(actual.astype(np.float64)) & (expected.kind == Kind.FINITE))[ratio > 1.0].all())
    return Measure(float(ratio[at]), float(ulps[at]), place, element, accuracy, _named(kept))


def _named(kept: Array | None) -> tuple[Accuracy, ...] | None:
    return None if kept is None else tuple(accuracy for accuracy, there in zip(CLASSES, kept.tolist(), strict=True) if there)


@np.errstate(over="ignore", invalid="ignore")  # the bounds of a tensor may add up to more than float64 holds
def _rest(question: Question, truth: Callable[[], Enclosure], actual: Array, named: Measure, target: Format) -> Measure:
    """What can be said of the elements that aren't named: their sum, or where there are infinities or nans, those.

    What is allowed the sum is at least the rounding of all its elements and what the named ones have beside that. Where this already
    makes it no larger than the ratio among the named, and keeps the classes that they keep, nothing more is asked.
    """
    total, flush = question.expected.total, question.promise.flush
    wide = actual.reshape(-1).astype(np.float64)
    strange = np.flatnonzero(~np.isfinite(wide))
    if strange.size:  # there is no sum to compare; each is held against the kernel's own enclosure
        return _largest(question, actual.reshape(-1)[strange], _at(flat(truth()), strange), question.terms()[strange], target, strange)
    if total is None:
        return Measure()
    size = np.abs(wide)
    rounding = half_ulp(size, target)
    if flush:
        rounding += np.where(size < target.normal, target.normal, 0.0)
    value, least, numbers = _sum(wide), float(rounding.sum()), numbers_of_classes(question.promise, question.case)
    promised = CLASSES.index(question.promise.accuracy)
    some = _of_sum(value, total, numbers @ (terms_of_kept(question).sum(axis=0) * UNRAISED) + least, target, promised)
    kept = CLASSES if named.kept is None else named.kept
    if some.ratio <= min(named.ratio, 1.0) and (some.kept is None or set(kept) <= set(some.kept)):
        return Measure(kept=CLASSES)
    errors = numbers @ question.terms().sum(axis=0)
    if not np.isfinite(errors).all():
        return Measure(kept=CLASSES)
    found = _of_sum(value, total, errors + least, target, promised)
    spacings = float(spacing_at(total.hi, FORMATS["float64"]) / spacing_at(total.hi, target))
    return replace(found, ulps=found.ulps * spacings)


def _sum(x: Float) -> float:
    """The sum of finite numbers, rounded once; the largest number of its sign where it is beyond float64."""
    try:
        return math.fsum(x.tolist())
    except OverflowError:  # perhaps on the way. Scaled, each loses less than 2^-1010, which is nothing beside what such numbers are allowed
        largest, scaled = FORMATS["float64"].largest, math.fsum((x * 2.0**-64).tolist())
        return math.ldexp(scaled, 64) if abs(scaled) <= largest * 2.0**-64 else math.copysign(largest, scaled)


def _of_sum(value: float, total: Enclosure, allowed: Float, target: Format, promised: int) -> Measure:
    """The measure of a sum, of which each class allows so much (classes,)."""
    bounds = (allowed * SLACK + math.ulp(value))[:, None]
    actual, expected = np.asarray([value]), flat(total)
    ratio, ulps, kept = compared(actual, expected, bounds, promised, FORMATS["float64"])
    element = Element(expected, actual, float(bounds[promised, 0]), target)
    return Measure(float(ratio[0]), float(ulps[0]), None, element, accuracy=True, kept=_named(kept), of_all=True)


def _at(e: Enclosure, at: slice | Array) -> Enclosure:
    """A copy of some elements of a flat enclosure."""
    return Enclosure(e.kind[at].copy(), e.hi[at].copy(), e.lo[at].copy(), e.radius[at].copy())


def flat(e: Enclosure) -> Enclosure:
    """An enclosure with one axis."""
    return e if e.hi.ndim == 1 else Enclosure(e.kind.reshape(-1), e.hi.reshape(-1), e.lo.reshape(-1), e.radius.reshape(-1))


def _unravel(index: int, shape: Place) -> Place:
    """The index along each axis of the element at a flat index."""
    place = []
    for size in reversed(shape):
        index, along = divmod(index, size)
        place.append(along)
    return tuple(reversed(place))
