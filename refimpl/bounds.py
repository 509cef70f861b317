"""What correct code can get wrong: the operations' error bounds as linear forms, in float64.

An operation states, for each element of a result, K coefficients, in the order of `TERMS`; an `Arithmetic` gives the K numbers that
they multiply. The bound is their scalar product. The derivations stand in `docs/spec/accuracy.md`; in short, per row with
d_v = x_v - max x, r = the sum of exp(d_v) over the others, S = 1 + r, L = ln S = log1p(r), G = sum of p_v |d_v| (at most ln V):

    d_v    one subtraction                                        unit |d_v|
    S      exponentials (exp, gap |d_v|), then the sum            relative: classes + exp + gap G, of all S, or by log1p of r alone
    L      the error of S, then the logarithm; both stored        (r + 1)/S (classes + exp + store) + gap G + log L + store L
    lp_v = d_v - L                                                error(L) + unit (|d_v| + |lp_v|) + store |lp_v|
           formed as x_v - (L + max x) instead                    adds lse (|L + max x| + |x_v|)
    p_v = exp(lp_v) or exp(d_v)/S                                 relative: error(L) + exp + gap |d_v| + unit (L + 3) + store (|lp_v| + 3)

where the 1 of (r + 1)/S, the part of the maximum, is the term `top`. An underflow of an exponential costs S at most tiny, V of them V
tiny. The forms are of first order; the numbers carry what the higher orders add (`Arithmetic.numbers`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from refimpl import portable

Float = NDArray[np.float64]

# The numbers of a promise, in the order of the coefficients.
TERMS = {
    "unit": "the unit roundoff u of the computation dtype",
    "exp": "the relative error of an exponential",
    "log": "the relative error of a logarithm",
    "gap": "the relative error of an exponential for each unit of its argument",
    "classes": "the relative error of a sum over the classes",
    "rows": "the relative error of a sum over rows or elements, in a reduction",
    "lse": "u where logits are subtracted from the full log-sum-exp (class B), else 0",
    "top": "the error of the sum of exponentials beside that of its small terms: 0 in class S",
    "store": "the unit roundoff of the dtype in which intermediates are kept, 0 where that is the computation dtype",
    "tiny": "the absolute error of an underflow",
}
K = len(TERMS)
_PLACE = {name: index for index, name in enumerate(TERMS)}

ANYTHING = 2.0**1023  # a coefficient that excuses any number: where the value isn't finite, or the coefficient beyond float64
RESERVE = 2.0**-6  # what the numbers are raised by for the products of small errors
WIDEST = 2.0**-8  # the unit roundoff of bfloat16
FAR = 112.0  # beyond the gaps that float32 has exponentials of, and the few units more that go into `_stored`
LAST = 800.0  # 800 exp(-800) < 2^-1074
LSE_ORDER = 1.25  # (e^x - 1)/x at x = 1/4 and a little more


@dataclass(frozen=True)
class Arithmetic:
    """The arithmetic that an implementation promises to use, as far as errors go.

    `unit` is the unit roundoff of the computation dtype, `store` that of the dtype in which intermediates (a row's sum of exponentials,
    log-probabilities, losses of rows) are kept, 0.0 where it is the same; `classes` and `rows` are the first-order relative errors of
    sums over the classes and over the rows; `tiny` is the absolute error of an underflow. `exp` and `log` are the errors of those
    functions in units of `unit`; `gap` says how often the error of a gap enters an exponential (1 for e/S, 2 for exp(log_softmax), 3
    for exp2(d*log2 e)); `reach` is the largest gap whose exponential isn't 0. `subtracts_lse` and `keeps_rest` are what classes B and
    S stand for; `exact` is class R: nothing but the rounding of the result.
    """

    unit: float
    classes: float = 0.0
    rows: float = 0.0
    store: float = 0.0
    tiny: float = 0.0
    exp: float = 2.0
    log: float = 2.0
    gap: float = 3.0
    reach: float = 745.0
    subtracts_lse: bool = False
    keeps_rest: bool = False
    exact: bool = False

    def numbers(self) -> Float:
        """The K numbers, the higher orders included.

        A sum of relative error e (first order: depth times unit) is off by at most e/(1 - e), and its logarithm by e/(1 - 2e). An
        exponential whose argument is off by x is off by e^x - 1, where x is at most u gap reach (`_growth`); what intermediates in a
        store dtype do to it is in the coefficients (`_stored`). The products of errors are below those of sums, some dozens of u and
        `RESERVE` times the errors.
        """
        if self.exact:
            return np.zeros(K)
        classes, rows = (e / (1.0 - 2.0 * e) for e in (self.classes, self.rows))
        second = 1.0 + RESERVE + classes + rows + 64.0 * self.unit
        values = {
            "unit": self.unit,
            "exp": self.exp * self.unit,
            "log": self.log * self.unit,
            "gap": self.gap * self.unit * _growth(self.unit * self.gap * self.reach),
            "classes": classes,
            "rows": rows,
            "lse": self.unit if self.subtracts_lse else 0.0,
            "top": 0.0 if self.keeps_rest else classes + self.exp * self.unit + self.store,
            "store": self.store,
            "tiny": self.tiny,
        }
        return np.array([values[name] for name in TERMS]) * second


def _growth(x: float) -> float:
    """(e^x - 1)/x."""
    return float(portable.expm1(x) / x) if x > 0.0 else 1.0


def _stored(errors: Float) -> Float:
    """What so many errors of a store dtype do to an exponential: (e^(s a) - 1)/s, which grows with s, at the largest s.

    Where a is beyond the reach of float32, only float64 has such an exponential, and no dtype to store it in has an s that matters.
    """
    return np.where(errors < FAR, portable.expm1(errors * WIDEST) / WIDEST, errors)


def form(shape: tuple[int, ...], **coefficients: Float | float) -> Float:
    """The coefficients by the names of their terms, (*shape, K); those that aren't named are 0.

    In memory the coefficients of one term lie together, and so they do in what is computed of forms.
    """
    result = np.zeros((K, *shape))
    for name, values in coefficients.items():
        result[_PLACE[name]] = values
    return np.moveaxis(result, 0, -1)


def in_turn(errors: Float, axis: int) -> Float:
    """The sum of forms over an axis, one after the other, so that their order is the same wherever they are made."""
    return np.ascontiguousarray(errors).sum(axis=axis)


def times(factor: Float, terms: Float) -> Float:
    """A form for each element, each multiplied with a number that isn't negative; one with 0 is 0, whatever it holds."""
    with np.errstate(all="ignore"):
        return without(factor == 0.0, factor[..., None] * terms)


def plus(terms: Float, **coefficients: Float | float) -> Float:
    """A form, to whose coefficients these are added in place."""
    for name, values in coefficients.items():
        terms[..., _PLACE[name]] += values
    return terms


def without(some: NDArray[np.bool_], terms: Float) -> Float:
    """A form, of which some elements become 0 in place."""
    if some.any():
        np.copyto(terms, 0.0, where=some[..., None])
    return terms


def stated(terms: Float) -> Float:
    """A form as it is published: finite throughout, with a unit of `ANYTHING` where nothing smaller can be said."""
    beyond = ~(terms < ANYTHING)  # a nan is not less
    if not beyond.any():
        return terms
    result = np.where(beyond, ANYTHING, terms)
    result[..., _PLACE["unit"]] = np.where(beyond.any(axis=-1), ANYTHING, result[..., _PLACE["unit"]])
    return result


def size_of(values: Float) -> Float:
    """Magnitudes, an infinity or a nan counting as 0: such a value is judged by its kind alone."""
    return np.where(np.isfinite(values), np.abs(values), 0.0)


@dataclass(frozen=True)
class LogSoftmax:
    """Log-softmax of rows, class axis last, and how far correct code can be from it.

    `value`, `probability` and `gap` have the logits' shape; `lse` (ln S), `shared` (the error of ln S as a form) and `whole` (the same
    without what class S saves) are per row, with a class axis of length 1. In a row without a softmax all is nan.
    """

    logits: Float
    value: Float
    probability: Float
    gap: Float
    lse: Float
    shift: Float  # |ln S + max x|
    shared: Float
    whole: Float

    @staticmethod
    def of(logits: Float) -> LogSoftmax:
        """From logits (..., V) as float64."""
        with np.errstate(all="ignore"):
            highest = np.argmax(logits, axis=-1, keepdims=True)
            top = np.take_along_axis(logits, highest, axis=-1)
            gap = top - logits
            e = portable.exp(-gap)
            small = e.copy()
            np.put_along_axis(small, highest, 0.0, axis=-1)
            rest = small.sum(axis=-1, keepdims=True)
            total = 1.0 + rest
            p, lse = e / total, portable.log1p(rest)
            mean_gap = np.sum(np.where(e > 0.0, p * gap, 0.0), axis=-1, keepdims=True)
            part, first = rest / total, np.where(rest > 0.0, 1.0 / total, 0.0)
            common = {"gap": mean_gap, "log": lse, "tiny": float(logits.shape[-1])}
            shared = form(rest.shape, exp=part, classes=part, top=first, store=part + lse, **common)
            whole = form(rest.shape, exp=part + first, classes=part + first, store=part + first + lse, **common)
            return LogSoftmax(logits, -gap - lse, p, gap, lse, np.abs(lse + top), shared, whole)

    @property
    def masked(self) -> NDArray[np.bool_]:
        """The classes whose probability is 0, or below float64."""
        return self.probability == 0.0

    @property
    def within_reach(self) -> Float:
        """|lp_v| where p_v may underflow in some format by less than its value, else 0: what such an underflow is multiplied by.

        Beyond a gap of `LAST`, p_v |lp_v| itself is below the smallest number of every format.
        """
        return np.where(self.gap < LAST, np.abs(self.value), 0.0)

    def error(self, whole: bool = False) -> Float:
        """The error of each log-probability; 0 for a masked class. `whole` leaves out what class S saves."""
        with np.errstate(all="ignore"):
            lp = np.abs(self.value)
            error = form(lp.shape) + (self.whole if whole else self.shared)
            plus(error, unit=self.gap + lp, store=lp, lse=self.shift + np.abs(self.logits))
        return without(np.isneginf(self.logits), error)

    def relative(self) -> Float:
        """The relative error of each probability; 0 where that is 0."""
        with np.errstate(all="ignore"):
            lp = np.abs(self.value)
            offset = LSE_ORDER * (self.shift + np.abs(self.logits))
            relative = plus(form(lp.shape) + self.whole, unit=self.lse + 3.0, exp=1.0, gap=self.gap, lse=offset)
            relative[..., _PLACE["store"]] = _stored(relative[..., _PLACE["store"]] + lp + 2.0)
        return without(self.masked, relative)


def over_classes(values: Float, errors: Float) -> Float:
    """The error of a sum over the last axis of values that carry errors, as a form: the additions, an underflow, a store of the sum."""
    with np.errstate(all="ignore"):
        size = size_of(values).sum(axis=-1)
    several = np.count_nonzero(values, axis=-1) > 1
    own = form(size.shape, classes=np.where(several, size, 0.0), store=size, tiny=1.0)
    with np.errstate(all="ignore"):
        return np.asarray(in_turn(np.where(np.isfinite(values)[..., None], errors, 0.0), -2) + own)


def reduced(values: Float, errors: Float, divisor: float | None, weighted: bool = False, stores: bool = False) -> Float:
    """The error of a sum of losses that carry errors, or of a mean: the additions, the quotient, a store of the sum where one `stores` it.

    A `weighted` divisor is itself a sum, of as many weights; else it is a count, which is exact.
    """
    several = np.count_nonzero(values) > 1
    with np.errstate(all="ignore"):
        size = float(size_of(values).sum())
        added, extra = size if several else 0.0, size if weighted else 0.0
        total = in_turn(np.where(np.isfinite(values)[..., None], errors, 0.0).reshape(-1, K), 0)
        if divisor is None:
            return np.asarray(total + form((), rows=added, tiny=1.0))
        if not divisor > 0.0:
            return np.zeros(K)
        total = total + form((), unit=size, rows=added + extra, store=size if stores else 0.0, tiny=1.0)
        return np.asarray(total / divisor + form((), tiny=1.0))
