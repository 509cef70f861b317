"""The screen for pairs of logits, as fast as a campaign of 2^32 of them needs it: float64 with a radius, and the bound from below.

Of a row x of two logits of at most 24 bits, with top their maximum, gap = |x_0 - x_1|, r = exp(-gap), L = log1p(r) and S = 1 + r,

    -lp_v = L for the maximum, gap + L for the other

are what `log_softmax`, with a minus, and `softmax_cross_entropy` against a class index without smoothing have for v.

Radius, in units of u = 2^-53. gap is rounded once, 1 gap. r is `approximate.exp` of it, which counts that rounding:
REDUCTION gap + FINE, relative. L is off by that, as d(ln L)/d(ln r) <= 1, and by LOG1P. Their sum rounds once, 1 value. Three units of
the value more keep the judge's own centre, a double-double whose leading part is the rounded value, inside of twice the radius. Beyond
FAR, r and L are taken for 0, which is less than 2^-995 wrong. `UP` covers the second order and the roundings of the radius.

Limits. The answer y is off by at most |y - value| + radius. The truth isn't smaller than value - 2 radius, nor is the spacing of the
answer's format there. The bound's terms are those of `refimpl.bounds.LogSoftmax.error`, with 4 tiny beside: sums and products of
non-negative numbers of the same r, L and gap, so that they agree but for 2^-40, by which they are lowered; where L was taken for 0 they
are left out. ln S + top may cancel: its part is lowered by 2^-40 of the magnitudes. The bound is not below their sum e with half of the
spacing at the truth and e (`conformance.bound`): a flush to zero, or what a subnormal input counted as 0 excuses, only raises it.

An infinity answers a number with the error 0 where the value, less the radius, is beyond the format; a nan a row with a nan, with +inf,
or without a finite logit. What else isn't a number, or answers -inf, is right where it is expected, and otherwise left to the judge.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from conformance.campaign.judging import Inputs, Limits, Rule
from conformance.campaign.space import Array
from refimpl.approximate import FINE, LOG1P, REDUCTION, exp, log1p
from refimpl.bounds import TERMS
from refimpl.enclosure import FORMATS
from refimpl.jit import bits_from_float, float_from_bits, frozen, inline, kernel
from refimpl.lanes import WIDTH, load, number, splat, store, viewed

U = 2.0**-53
UP = 1.0 + 2.0**-30
FAR = 690.0
ALMOST = 1.0 - 2.0**-40
INF = float("inf")

_UNIT, _EXP, _LOG, _GAP, _CLASSES, _LSE, _TOP, _STORE, _TINY = (
    list(TERMS).index(name) for name in ("unit", "exp", "log", "gap", "classes", "lse", "top", "store", "tiny")
)
_EXPONENT = 0x7FF0000000000000


@inline
def _spacing(size: float, shape: Any) -> float:
    """The spacing of the format of that shape at a magnitude."""
    return max(float_from_bits(bits_from_float(min(size, shape[2])) & _EXPONENT) * shape[0], shape[1])


@inline
def _limit(x: float, top: float, gap: float, r: float, lse: float, y: float, n: Any, shape: Any) -> Any:
    """(ratio, ulps) of an answer y to -lp_v, or inf: v's logit is x; `n` are the promise's numbers, `shape` (a format's) as in `limits`."""
    own = gap if x < top else 0.0
    value = own + lse
    radius = (U * (own + 4.0 * value + (REDUCTION * gap + FINE + LOG1P) * lse) + (0.0 if gap < FAR else 2.0**-990)) * UP
    if y == INF:
        right = value - radius >= 2.0 * shape[2]
        return (0.0 if right else INF), (0.0 if right else INF)
    if not abs(y) < INF:
        return INF, INF
    error = (abs(y - value) + radius) * UP
    least = max(value - 2.0 * radius, 0.0)
    total = 1.0 + r
    part, first = r / total, (1.0 / total if r > 0.0 else 0.0)
    shift = max(abs(lse + top) - (1.0 - ALMOST) * (lse + abs(top)), 0.0)
    bound = n[_UNIT] * (own + value) + n[_STORE] * (value + part + lse) + n[_LSE] * (shift + abs(x)) + n[_LOG] * lse
    bound += (n[_EXP] + n[_CLASSES]) * part + n[_TOP] * first + n[_GAP] * part * gap + 6.0 * n[_TINY]
    bound *= ALMOST
    return error / (bound + 0.5 * _spacing(least + bound, shape)), error / _spacing(least, shape)


@kernel
def limits(x: Any, target: Any, y: Any, n: Any, shape: Any, sign: float, ratio: Any, ulps: Any, outside: Any) -> None:
    """Writes the limits of answers y (rows, columns), sign times -lp_v, to rows x (rows, 2), and which of them have to be nan.

    The columns are both classes, or the one that `target` names. `shape` are, of the answer's format, the spacing from 1 on, the smallest
    number and 2^emax.
    """
    rows, columns = y.shape
    logits, answers = x.reshape(-1), y.reshape(-1)
    gaps, rests, lses = np.zeros(WIDTH), np.zeros(WIDTH), np.zeros(WIDTH)
    for begin in range(0, rows, WIDTH):
        end = min(begin + WIDTH, rows)
        for i in range(begin, end):
            gap = abs(number(logits, 2 * i) - number(logits, 2 * i + 1))
            gaps[i - begin] = gap if gap < FAR else FAR
        r = exp(splat(0.0) - load(gaps, 0), True)
        store(rests, 0, r)
        store(lses, 0, log1p(r))
        for i in range(begin, end):
            a, b = number(logits, 2 * i), number(logits, 2 * i + 1)
            gap, top = abs(a - b), max(a, b)
            near = gap < FAR
            r, lse = (rests[i - begin] if near else 0.0), (lses[i - begin] if near else 0.0)
            for column in range(columns):
                v = column if columns == 2 else target[i]
                logit, answer = (b if v == 1 else a), number(answers, columns * i + column) * sign
                if gap < INF:
                    found, farthest = _limit(logit, top, gap, r, lse, answer, n, shape)
                elif gap != gap or top == INF:  # a nan, or two equal infinities, or a +inf
                    outside[i, column] = True
                    found = 0.0 if answer != answer else INF
                    farthest = found
                else:  # one class is masked
                    right = answer == (INF if logit < top else 0.0)
                    found = 0.0 if right else INF
                    farthest = found
                ratio[i, column], ulps[i, column] = found, farthest


def applies(rule: Rule) -> bool:
    """Whether the screen is one for that campaign: forward, of pairs of logits of a narrow dtype, without smoothing."""
    of = rule.campaign.of
    plain = of.operation == "log_softmax" or (of.operation == "softmax_cross_entropy" and not of.parameters.get("label_smoothing"))
    return plain and of.classes == 2 and not rule.gradients and rule.campaign.dtype != "float64"


def by_pairs(rule: Rule, inputs: Inputs, actual: Array) -> Limits:
    """The limits of answers where it `applies`; the answers' dtype is narrower than float64 too."""
    x, target = inputs["logits"], inputs.get("target", np.zeros(len(actual), np.int64))
    ratio, ulps, format = np.empty(actual.shape), np.empty(actual.shape), FORMATS[actual.dtype.name]
    shape = np.array([2.0 ** (1 - format.precision), format.tiny, 2.0**format.emax])
    sign = -1.0 if rule.campaign.of.operation == "log_softmax" else 1.0
    outside = np.zeros(actual.shape, np.bool_)
    limits(*map(frozen, (viewed(x), target, viewed(actual), rule.numbers, shape)), sign, ratio, ulps, outside)
    return Limits(ratio, ulps, outside)
