"""What the loss of a row of logits is made of: its maximum, the rest of its sum of exponentials, sums of its gaps.

For a row x of V logits, top = x_m with m the first index of the maximum, gap_v = top - x_v >= 0 (a double-double, exactly),
and rest = sum of exp(-gap_v) over v != m, so that the log-sum-exp is top + log1p(rest) and nothing cancels.

Sums run in LANES independent lanes (class v in lane v mod LANES). After every BLOCK classes the lanes are added up as a binary
tree, and the blocks pairwise (`refimpl.sums`). Compilers may vectorise over the lanes without changing a bit (an unsigned index tells them
that the row is contiguous). A term passes through at most

    depth(V) = BLOCK/LANES - 1 + log2 LANES + ceil(log2 ceil(V/BLOCK))

additions that round (the first to a lane does not), each with a relative error of ADD u^2: a sum of terms with relative error e is off
by (ADD depth(V) + e) u^2 times the sum of their magnitudes, up to second order, which the radii's rounding up covers.

Rows of up to LANES classes are a single addition deep in their lanes, so that rows can be worked on side by side, with the same bits
(`short_sums`): what is added besides are zeros.

Range. Exponentials carry a factor of 2^960 (REST_SCALE), so that terms down to exp(-1340) count; what is smaller is dropped,
which the callers cover by adding TINY. Gaps are formed from logits multiplied by `scale` (1, or 2^-64 for a call with huge
logits): 1.7e308 - (-1.7e308) is no float64.

Special rows. A row with a nan or a +inf, or with -inf alone, has no softmax: `scan` returns m = -1. Other classes at -inf are
masked: their exponential is 0 and their gap +inf.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from refimpl import sums
from refimpl.doubledouble import add, add_positive, two_sum
from refimpl.elementary import exp_split
from refimpl.jit import bits_of, float_from_bits, inline, routine
from refimpl.sums import push, total

LANES = 32
BLOCK = 256
SIDE = 16  # short rows that are worked on side by side
REST_SCALE, REST_UNSCALE = 2.0**960, 2.0**-960
HUGE = 2.0**960  # logits from here on are scaled
SCALE_DOWN = 2.0**-64

_REST_BIAS = 960 + 1023
_FARTHEST = 1340.0  # exp(-_FARTHEST) < 2^-1933


def depth(classes: int) -> float:
    """The number of additions that a term of a sum over the classes passes through, at most."""
    return math.ceil(min(classes, BLOCK) / LANES) - 1 + math.log2(LANES) + sums.depth(math.ceil(classes / BLOCK))


@inline
def scratch() -> Any:
    """Lanes for three sums (hi and lo of each) and, in further columns, their stacks of blocks."""
    return np.zeros((6, LANES + sums.LEVELS))


@routine
def scan(row: Any) -> Any:
    """(m, top) of a row; m = -1 where the row has no softmax.

    The maximum is taken of the bits, mapped to integers in the order of the numbers (+0 after -0, the nans beyond the infinities),
    because compilers vectorise reductions of integers.
    """
    bits = bits_of(row)
    width = 8 * row.itemsize - 1
    magnitude = (1 << width) - 1
    largest, smallest = -magnitude - 1, magnitude
    for v in range(row.size):
        b = np.int64(bits[np.uint64(v)])
        key = b ^ ((b >> width) & magnitude)
        largest = max(largest, key)
        smallest = min(smallest, key)
    infinity = 0x7F800000 if width == 31 else 0x7FF0000000000000
    if largest >= infinity or largest <= -infinity - 1 or smallest < -infinity - 1:
        return -1, np.float64(np.nan)
    for block in range(0, row.size, BLOCK):
        end = min(block + BLOCK, row.size)
        equal = 0
        for v in range(block, end):  # without an early exit, so that it is vectorised
            b = np.int64(bits[np.uint64(v)])
            equal += 1 if b ^ ((b >> width) & magnitude) == largest else 0
        if equal > 0:
            for v in range(block, end):
                b = np.int64(bits[v])
                if b ^ ((b >> width) & magnitude) == largest:
                    return v, np.float64(row[v])
    return -1, np.float64(np.nan)


@inline
def gap(x: float, top: float, scale: float) -> Any:
    """scale * (top - x), exactly but for a subnormal scale * x; +inf for x = -inf."""
    h, l = two_sum(top * scale, -(x * scale))
    return h, (l if h < np.inf else 0.0)


@inline
def exp_minus(h: float, l: float) -> Any:
    """exp(-(h + l)) * REST_SCALE for a gap; 0 where it is below exp(-1340) * REST_SCALE."""
    near = h < _FARTHEST
    h, l, n = exp_split(-h if near else 0.0, -l if near else 0.0)
    scale = float_from_bits((n + _REST_BIAS) << 52)
    scale = scale if near else 0.0
    return h * scale, l * scale


@inline
def accumulate(lane: Any, part: int, i: int, h: float, l: float) -> None:
    """Add a non-negative double-double to lane i of the sum `part` (0, 2 or 4) of such."""
    lane[part, i], lane[part + 1, i] = add_positive(lane[part, i], lane[part + 1, i], h, l)


@inline
def add_class(lane: Any, part: int, v: int, h: float, l: float) -> None:
    """Add the term of class v, of any sign; all classes are to be added in turn, those that contribute nothing as 0."""
    i = v % LANES
    lane[part, i], lane[part + 1, i] = add(lane[part, i], lane[part + 1, i], h, l)
    if v % BLOCK == BLOCK - 1:
        end_block(lane, part, v + 1)


@routine
def _tree(lane: Any, part: int) -> Any:
    """The sum of the lanes, which are cleared."""
    width = LANES // 2
    while width > 0:
        for i in range(width):
            h, l = add(lane[part, i], lane[part + 1, i], lane[part, i + width], lane[part + 1, i + width])
            lane[part, i], lane[part + 1, i] = h, l
            lane[part, i + width], lane[part + 1, i + width] = 0.0, 0.0
        width //= 2
    h, l = lane[part, 0], lane[part + 1, 0]
    lane[part, 0], lane[part + 1, 0] = 0.0, 0.0
    return h, l


@routine
def end_block(lane: Any, part: int, classes: int) -> None:
    """After a multiple of BLOCK classes: add the lanes up."""
    h, l = _tree(lane, part)
    push(lane[part : part + 2, LANES:], classes // BLOCK, h, l)


@routine
def collect(lane: Any, part: int, classes: int) -> Any:
    """The sum of all that was accumulated for `classes` classes; leaves the scratch empty."""
    h, l = _tree(lane, part)
    return total(lane[part : part + 2, LANES:], classes // BLOCK, h, l)


@routine
def rest_sum(row: Any, m: int, top: float, scale: float, lane: Any) -> Any:
    """rest * REST_SCALE, with a relative error of (EXP + ADD depth) u^2."""
    size = row.size
    unscale = 1.0 / scale
    full = size - size % LANES
    for block in range(0, full, BLOCK):
        end = min(block + BLOCK, full)
        for start in range(block, end, LANES):
            for i in range(LANES):
                h, l = gap(np.float64(row[np.uint64(start + i)]), top, scale)
                h, l = exp_minus(h * unscale, l * unscale)
                other = start + i != m
                accumulate(lane, 0, i, h if other else 0.0, l if other else 0.0)
        if end % BLOCK == 0:
            end_block(lane, 0, end)
    for v in range(full, size):
        if v != m:
            h, l = gap(np.float64(row[v]), top, scale)
            h, l = exp_minus(h * unscale, l * unscale)
            accumulate(lane, 0, v - full, h, l)
    return collect(lane, 0, size)


@routine
def gap_sum(row: Any, skip: int, top: float, scale: float, lane: Any) -> Any:
    """scale * the sum of the gaps over v != skip, with a relative error of ADD depth u^2; +inf where a masked class takes part."""
    size = row.size
    full = size - size % LANES
    for block in range(0, full, BLOCK):
        end = min(block + BLOCK, full)
        for start in range(block, end, LANES):
            for i in range(LANES):
                h, l = gap(np.float64(row[np.uint64(start + i)]), top, scale)
                other = start + i != skip
                accumulate(lane, 0, i, h if other else 0.0, l if other else 0.0)
        if end % BLOCK == 0:
            end_block(lane, 0, end)
    for v in range(full, size):
        if v != skip:
            h, l = gap(np.float64(row[v]), top, scale)
            accumulate(lane, 0, v - full, h, l)
    h, l = collect(lane, 0, size)
    return (h, l) if h < np.inf else (np.inf, 0.0)  # an infinite gap has left a nan in the error terms


@inline
def short_scratch() -> Any:
    """Room for `short_sums`: the terms of two sums (hi and lo of each), class by class, for rows side by side."""
    return np.zeros((4, LANES, SIDE))


@routine
def short_sums(x: Any, first: int, count: int, skip: Any, scale: float, terms: Any, m: Any, top: Any, facts: Any) -> None:
    """`scan`, `rest_sum` and `gap_sum` of the `count` rows from `first` on, at most SIDE of at most LANES classes.

    `skip` holds a class for each row; m and top go to the arrays of that name, the sums to the columns of `facts` (4, SIDE): the bits that
    those give for that m, and zeros for a row without a softmax.
    """
    classes = x.shape[1]
    unscale = 1.0 / scale
    for i in range(SIDE):
        m[i], top[i] = -1, -np.inf
        for v in range(classes):
            terms[0, v, i] = np.float64(x[first + i, v]) if i < count else 0.0
    for v in range(classes):
        for i in range(SIDE):
            larger = terms[0, v, i] > top[i]
            top[i] = terms[0, v, i] if larger else top[i]
            m[i] = v if larger else m[i]
    for v in range(classes):
        for i in range(SIDE):
            m[i] = m[i] if terms[0, v, i] < np.inf else -1
    for v in range(classes):
        for i in range(SIDE):
            h, l = gap(terms[0, v, i], top[i], scale)
            ph, pl = exp_minus(h * unscale, l * unscale)
            other = v != m[i]
            terms[0, v, i], terms[1, v, i] = (ph if other else 0.0), (pl if other else 0.0)
            other = v != skip[i]
            terms[2, v, i], terms[3, v, i] = (h if other else 0.0), (l if other else 0.0)
    width = LANES // 2
    while width > 0:
        for v in range(min(width, classes - width)):
            for part in range(0, 4, 2):
                for i in range(SIDE):
                    h, l = add(terms[part, v, i], terms[part + 1, v, i], terms[part, v + width, i], terms[part + 1, v + width, i])
                    terms[part, v, i], terms[part + 1, v, i] = h, l
        width //= 2
    for i in range(SIDE):
        for part in range(4):
            facts[part, i] = terms[part, 0, i] if m[i] >= 0 else 0.0
        if not facts[2, i] < np.inf:  # an infinite gap has left a nan in the error terms
            facts[2, i], facts[3, i] = np.inf, 0.0
