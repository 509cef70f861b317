"""Whether the errors of a tensor are those of sums that round to nearest: a second look at what is inside its bound.

The bound takes a sum of depth h as off by h u, the worst that h roundings can do. Roundings to nearest fall on either side, and
together come to about sqrt(h) u; a sum that truncates, or whose accumulator is narrower than promised, stays inside h u where h is large,
and is off by more. So of an element with the signed ratio r = (answer - truth)/bound, the model splits the error into

- what may lean to one side in every element (exponentials, logarithms, stores, the rounding of the result, all terms of the bound but
  the sums), which keeps its worst case, w;
- the roundings of sums. Each is at most u |partial sum|, and of mean 0 whatever the others were (the model's one assumption). The squares
  of the partial sums s of a tree over the magnitudes x_t, with the total S, come to sum s^2 <= S sum s = S sum x_t depth(t) <= h S^2; so by
  Azuma and Hoeffding the error of the sum is sub-Gaussian with the parameter sigma = sqrt(h) u S: P(|error| > k sigma) <= 2 exp(-k^2/2).

Elements of a row share a sum, so nothing is assumed of their independence. Under any dependence a mean of sub-Gaussian errors is
sub-Gaussian with the mean of their sigmas (Hoelder), and the chance that the root of their mean square exceeds k times that of their
sigmas is at most k exp((1 - k^2)/2) (Jensen, and E exp(l X^2/(2 sigma^2)) <= (1 - l)^(-1/2) at l = 1 - 1/k^2). So `bias`, the mean of r,
is allowed the mean of (w + k sigma)/bound, and `spread`, the root of the mean square of r, the root of its mean square. At `DEVIATIONS`
the chance is below 10^-11: 10^-6 in 10^5 tensors, more than a full run over all backends has.

Where the assumption doesn't hold. An addend x below the spacing of the running sum s is lost or rounded up by its size and not by
chance, with an error of at most min(x, 2 u s - x): w has those of all such addends, in the declared lanes. Of the roundings of an online
softmax's step two are an exponential's; w has them. Equal addends round the same way throughout a binade, so there are statistics of
random logits only, and only where their exponentials are all that is summed over classes: log-softmax, and cross entropy with classes as
targets, without weights and smoothing (whose targets are equal addends).

What can be seen, by the random vectors of 50000 classes in float32, with one accumulator or a few lanes: truncation (about 0.35 of the
bound, where 0.09 is allowed), an accumulator of 20 or 19 bits for 24 (0.4 and 0.9, mostly by lost addends; 18 exceed the bound), a
log-sum-exp kept once in 11 bits or fewer. Truncation is seen from about a thousand classes on. It can't be seen where other terms than sums
are most of the bound: with fewer classes, in short sums (pairwise, in blocks), or where half precision stores or rounds what is measured.

A model is no bound, and a suspicion no failure: it breaks no clause and lowers no grade.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from conformance.bound import Promise, arithmetic, class_axis, numbers, sizes, with_rounding
from conformance.case import Array, Case
from conformance.finding import Statistics
from conformance.measure import SLACK, Question, flat, terms_of_kept
from refimpl.enclosure import FORMATS, Float, Kind
from refimpl.operations import operation

DEVIATIONS = 7.5  # k
OPERATIONS = ("log_softmax", "softmax_cross_entropy")


def statistics(question: Question, actual: Array) -> Statistics | None:
    """The statistics of an answer in the shape of what is expected; None where the model doesn't apply, or there is no number."""
    case, promise = question.case, question.promise
    if not _applies(case):
        return None
    target = FORMATS[actual.dtype.name]
    where, truth, terms = question.expected.where, flat(question.expected.values), terms_of_kept(question)
    judged = actual.reshape(-1).astype(np.float64) if where is None else actual.reshape(-1)[where].astype(np.float64)
    bound, likely = (with_rounding(terms @ n, truth, target, promise.flush) for n in (numbers(promise, case), _likely(promise, case)))
    there = (truth.kind == Kind.FINITE) & np.isfinite(judged) & np.isfinite(truth.radius) & np.isfinite(bound) & (bound > 0.0)
    if not there.any():
        return None
    ratio = ((judged[there] - truth.hi[there]) - truth.lo[there]) / bound[there]
    allowed = SLACK * (likely + truth.radius)[there] / bound[there]
    return Statistics(
        count=int(there.sum()),
        bias=float(ratio.mean()),
        spread=_root_mean_square(ratio),
        bias_allowed=float(allowed.mean()),
        spread_allowed=_root_mean_square(allowed),
    )


def _applies(case: Case) -> bool:
    """Whether the exponentials of random logits are all that a call sums over classes."""
    if case.group != "random" or case.operation not in OPERATIONS or case.parameters.get("label_smoothing"):
        return False
    return all(array.dtype.kind in "iu" for name, array in case.inputs.items() if name != "logits")  # no weights or distributions


def _likely(promise: Promise, case: Case) -> Float:
    """The K numbers of w + k sigma: those of the promise, with the sums as the model has them; never more than the promise's."""
    classes, rows = sizes(operation(case.operation), case.inputs)
    worst, summation = arithmetic(promise, case.dtype, classes, rows), promise.summation
    fixed, depth = summation.rescaling(classes), summation.depth(classes)
    unit = worst.classes / max(depth, 1)
    likely = unit * (fixed + DEVIATIONS * np.sqrt(depth - fixed)) + _lost(case, unit, summation.lanes)
    over_rows = worst.rows * min(1.0, DEVIATIONS / np.sqrt(max(promise.summation.depth(rows), 1)))
    return replace(worst, classes=min(worst.classes, float(likely)), rows=float(over_rows)).numbers()


def _lost(case: Case, unit: float, lanes: int) -> float:
    """What the addends below the spacing of their running sum come to in the worst row, as a part of the sum without its largest."""
    axis = class_axis(operation(case.operation).inputs["logits"], case.inputs["logits"])
    x = np.moveaxis(case.inputs["logits"].astype(np.float64), -1 if axis is None else axis, -1)
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    e = np.concatenate([e, np.zeros((*e.shape[:-1], -e.shape[-1] % lanes))], axis=-1)
    e = e.reshape(*e.shape[:-1], -1, lanes)
    lost = np.maximum(np.minimum(e, 2.0 * unit * np.cumsum(e, axis=-2) - e), 0.0).sum(axis=(-2, -1))
    return float((lost / np.maximum(e.sum(axis=(-2, -1)) - 1.0, FORMATS["float64"].normal)).max())


def _root_mean_square(x: Float) -> float:
    return float(np.sqrt(np.mean(x * x)))
