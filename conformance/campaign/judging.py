"""The judge for millions of rows: what `conformance.judge` finds for each row alone, without its cost for most of them.

An element's bound is at least half an ulp of the answer's dtype at the truth, since the rounding of the result is a term of every bound.
So a screen gives limits that no element's ratio to its bound, and no error in ulps, exceeds: it takes half an ulp for the bound, or
something closer from below (`conformance.campaign.pairs`). Then

    a limit of at most 1 says that the element is within its bound;
    an element whose limit doesn't exceed the worst so far isn't worse than that;

and only for the others are the truth in double-double and the whole bound evaluated (`Rule.exactly`), by the functions that the judge
calls. What is counted, and what is kept as the worst, are those values: they don't depend on the screen, nor on which rows are evaluated
together, as each is evaluated as if it were alone. (The bound is a sum over ten products here and a product of matrices there: the
same but for the last bits.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conformance.bound import Promise, half_ulp, numbers, with_rounding
from conformance.campaign.space import Array, Campaign
from conformance.campaign.tally import Count, Outcome, Place, Tally, Worst
from conformance.conduct import Conduct, without_subnormals
from conformance.measure import flat
from conformance.metric import distance, magnitude
from refimpl.bounds import K
from refimpl.enclosure import FORMATS, Enclosure, Float, Format, Kind
from refimpl.operations import operation

BELOW = 1.0 - 2.0**-20  # half an ulp times this: an error of just that is no close case, which the metric would settle in rationals
AT_ONCE = 1 << 12  # rows whose bounds are evaluated together: their coefficients take 80 bytes an element

Inputs = Mapping[str, Array]


@dataclass(frozen=True, eq=False)
class Limits:
    """What no ratio and no error in ulps exceeds, (rows, columns) each: inf where nothing is known, 0 for what is right but no number.

    `outside` says which have to be nan, and `undefined` of which nothing is expected (None: of none).
    """

    ratio: Float
    ulps: Float
    outside: NDArray[np.bool_]
    undefined: NDArray[np.bool_] | None = None


@dataclass(frozen=True, eq=False)
class Rule:
    """What the answers in a campaign are held against.

    `call` are the parameters and choices, `numbers` those of the promise (`conformance.bound.numbers`). A row's elements are the columns of
    an array: those of the output, or of the gradients with respect to the inputs named by `gradients`, one after the other.
    """

    campaign: Campaign
    promise: Promise
    conduct: Conduct
    call: Mapping[str, Any]
    numbers: Float
    gradients: tuple[str, ...]

    @staticmethod
    def of(campaign: Campaign, promise: Promise, dialect: Mapping[str, str], constants: tuple[str, ...]) -> Rule:
        """The rule under a promise and a dialect's values, for a backend that doesn't differentiate by `constants`."""
        stated, conduct = operation(campaign.of.operation), Conduct.of(dialect)
        if conduct.flushes(campaign.dtype):
            promise = replace(promise, flush=True)
        choices = {choice.name: dialect.get(choice.name, choice.default) for choice in stated.choices}
        gradients = tuple(name for name in stated.differentiable if name not in constants and campaign.direction == "backward")
        call = {**campaign.of.parameters, **choices}
        return Rule(campaign, promise, conduct, call, numbers(promise, campaign.case(0)), gradients)

    @property
    def dtypes(self) -> tuple[str, ...]:
        """Those that an answer may have."""
        of = self.conduct.gradient_dtypes if self.gradients else self.conduct.output_dtypes
        return of(self.campaign.dtype)

    def truth(self, inputs: Inputs) -> Enclosure:
        """The enclosures of the elements of some rows, (rows, columns)."""
        stated = operation(self.campaign.of.operation)
        if not self.gradients:
            return _columns([stated.forward(**inputs, **self.call)])
        found = stated.vjp(cotangent=self.campaign.cotangent(inputs), **inputs, **self.call)
        return _columns([found[name] for name in self.gradients])

    def terms(self, inputs: Inputs) -> Float:
        """The coefficients of their bounds, (rows, columns, K)."""
        stated, rows = operation(self.campaign.of.operation), len(next(iter(inputs.values())))
        if not self.gradients:
            return np.asarray(stated.terms(**inputs, **self.call)).reshape(rows, -1, K)
        found = stated.terms_vjp(cotangent=self.campaign.cotangent(inputs), **inputs, **self.call)
        return np.concatenate([found[name].reshape(rows, -1, K) for name in self.gradients], axis=1)

    def exactly(self, inputs: Inputs, actual: Array) -> tuple[Float, Float]:
        """The ratio and the error in ulps of each element (rows, columns) of an answer to some rows, as the judge has them.

        Where subnormal inputs may count as 0, the answer to the call with zeros is right too: of a row's output, or of one gradient, all of
        it.
        """
        ratio, ulps = self._against(inputs, actual)
        wrong = (ratio > 1.0).any(axis=1)
        if self.promise.flush and wrong.any():
            some = {name: value[wrong] for name, value in inputs.items()}
            other, other_ulps = self._against(without_subnormals(some, self.campaign.dtype), actual[wrong])
            taken = self._by_tensor(ratio[wrong] > 1.0, np.any) & self._by_tensor(other <= 1.0, np.all)
            ratio[wrong], ulps[wrong] = np.where(taken, other, ratio[wrong]), np.where(taken, other_ulps, ulps[wrong])
        return ratio, ulps

    def _by_tensor(self, found: NDArray[np.bool_], of: Callable[..., Any]) -> NDArray[np.bool_]:
        """For each element (rows, columns), whether any or all elements are so of its row in its tensor: the output, or one gradient."""
        parts = found.reshape(len(found), max(len(self.gradients), 1), -1)
        return np.broadcast_to(of(parts, axis=-1, keepdims=True), parts.shape).reshape(found.shape)

    def _against(self, inputs: Inputs, actual: Array) -> tuple[Float, Float]:
        truth, target = flat(self.truth(inputs)), _format(actual)
        errors = (self.terms(inputs) * self.numbers).sum(axis=-1).reshape(-1)
        bound = with_rounding(errors, truth, target, self.promise.flush)
        ratio, ulps = distance(actual.reshape(-1), truth, bound, target)
        return ratio.reshape(actual.shape), ulps.reshape(actual.shape)


Screen = Callable[[Rule, Inputs, Array], Limits]


def by_half_ulps(rule: Rule, inputs: Inputs, actual: Array) -> Limits:
    """The limits for any operation: the truth in double-double, and half an ulp for the bound.

    Infinities that answer numbers beyond their format are right, and there may be many: the metric would see that in rationals.
    """
    truth, target, answers = flat(rule.truth(inputs)), _format(actual), actual.reshape(-1)
    ratio, ulps = np.zeros(answers.shape), np.zeros(answers.shape)
    beyond = (truth.kind == Kind.FINITE) & (np.abs(truth.hi) > 2.0 * 2.0**target.emax) & (answers == np.copysign(np.inf, truth.hi))
    rest = ~beyond
    open_ = Enclosure(truth.kind[rest], truth.hi[rest], truth.lo[rest], truth.radius[rest])
    ratio[rest], ulps[rest] = distance(answers[rest], open_, half_ulp(magnitude(open_), target) * BELOW, target)
    outside, undefined = ((truth.kind == kind).reshape(actual.shape) for kind in (Kind.NAN, Kind.UNDEFINED))
    return Limits(ratio.reshape(actual.shape), ulps.reshape(actual.shape), outside, undefined if undefined.any() else None)


@np.errstate(all="ignore")  # signalling nans are among the inputs
def judged(rule: Rule, screen: Screen, inputs: Inputs, actual: Array, first: int, so_far: Tally) -> Tally:
    """The tally, without a digest, of an answer (rows, columns) to the points from `first` on.

    Its worst elements are left out where they aren't worse than those of `so_far`, which are of points before these.
    """
    limits = screen(rule, inputs, actual)
    ratio, ulps, columns = limits.ratio.copy(), limits.ulps.copy(), actual.shape[1]
    known = np.zeros(len(actual), np.bool_)

    def settle(elements: NDArray[np.intp]) -> None:
        rows = np.unique(elements // columns)
        for begin in range(0, len(rows), AT_ONCE):
            some = rows[begin : begin + AT_ONCE]
            ratio[some], ulps[some] = rule.exactly({name: value[some] for name, value in inputs.items()}, actual[some])
        known[rows] = True

    def worst(values: Float, before: Worst | None) -> Worst | None:
        """The largest finite value and its first place, where it is larger than before: evaluated where limits leave it open."""
        each, least, step = values.reshape(-1), -1.0 if before is None else before.value, 1
        while True:
            higher = np.flatnonzero((each > least) & (each < np.inf))
            settled = known[higher // columns]
            top = each[higher[settled]].max(initial=least)
            left = higher[~settled & (each[higher] >= top)]
            if not left.size:
                break
            if top == least:  # something to compare the others with first
                left, step = left[np.argsort(-each[left], kind="stable")[:step]], 16 * step
            settle(left)
        if top == least:
            return None
        row, column = divmod(int(np.flatnonzero(each == top)[0]), columns)
        return Worst(float(top), Place(first + row, column))

    settle(np.flatnonzero(~(ratio <= 1.0)))
    worst_ratio, worst_ulps = worst(ratio, so_far.ratio), worst(ulps, so_far.ulps)
    other = ~(ratio < np.inf)
    masks = {Outcome.BEYOND: (ratio > 1.0) & ~other, Outcome.KIND: other & ~limits.outside, Outcome.ANSWERED: other & limits.outside}
    if limits.undefined is not None:
        masks[Outcome.UNDEFINED] = limits.undefined
    masks[Outcome.WITHIN] = ~np.logical_or.reduce(list(masks.values()))
    return Tally(
        points=len(actual),
        elements=actual.size,
        outcomes={outcome: count for outcome, mask in masks.items() if (count := counted(mask, first)) is not None},
        outside=int(np.count_nonzero(limits.outside)),
        ratio=worst_ratio,
        ulps=worst_ulps,
    )


def counted(mask: NDArray[np.bool_], first: int) -> Count | None:
    """The elements (rows, columns) of a mask whose first row is the point `first`; None where there are none."""
    number = int(np.count_nonzero(mask))
    if not number:
        return None
    row, column = divmod(int(mask.argmax()), mask.shape[1])
    return Count(number, Place(first + row, column))


def _columns(parts: list[Enclosure]) -> Enclosure:
    """The elements of the rows of some tensors, side by side."""
    rows = len(parts[0].hi)
    of = [[array.reshape(rows, -1) for array in (e.kind, e.hi, e.lo, e.radius)] for e in parts]
    kind, hi, lo, radius = (np.concatenate(arrays, axis=1) for arrays in zip(*of, strict=True))
    return Enclosure(kind, hi, lo, radius)


def _format(actual: Array) -> Format:
    return FORMATS[actual.dtype.name]
