"""What the loss of a row of logits is made of: its maximum, the rest of its sum of exponentials, sums of its gaps.

For a row x of V logits, top = x_m with m the first index of the maximum, gap_v = top - x_v >= 0 (a double-double, exactly),
and rest = sum of exp(-gap_v) over v != m, so that the log-sum-exp is top + log1p(rest) and nothing cancels.

Sums run in LANES independent lanes (class v in lane v mod LANES), which are added up in order after every BLOCK classes; the
block sums are added in order. Compilers may vectorise over the lanes without changing a bit. A term passes through at most

    depth(V) = ceil(min(V, BLOCK)/LANES) + min(V, LANES) + ceil(V/BLOCK)

additions, each with a relative error of 3 u^2, and all terms are non-negative: a sum of terms with relative error e has a
relative error of (3 depth(V) + e) u^2, up to second order, which the radii's rounding up covers.

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

from refimpl.doubledouble import add_positive, two_sum
from refimpl.elementary import exp_split
from refimpl.jit import float_from_bits, inline

LANES = 16
BLOCK = 512
REST_SCALE, REST_UNSCALE = 2.0**960, 2.0**-960
HUGE = 2.0**960  # logits from here on are scaled
SCALE_DOWN = 2.0**-64

_REST_BIAS = 960 + 1023
_FARTHEST = 1340.0  # exp(-_FARTHEST) < 2^-1933


def depth(classes: int) -> float:
    """The number of additions that a term of a sum over the classes passes through, at most."""
    return float(math.ceil(min(classes, BLOCK) / LANES) + min(classes, LANES) + math.ceil(classes / BLOCK))


@inline
def scan(row: Any, lane: Any) -> Any:
    """(m, top) of a row; m = -1 where the row has no softmax. `lane` is scratch of shape (4, LANES)."""
    size = row.size
    full = size - size % LANES
    for i in range(LANES):
        lane[0, i] = -np.inf
        lane[1, i] = 0.0
    for start in range(0, full, LANES):
        for i in range(LANES):
            x = np.float64(row[start + i])
            lane[0, i] = x if x > lane[0, i] else lane[0, i]
            lane[1, i] = lane[1, i] if x == x else 1.0
    for v in range(full, size):
        x = np.float64(row[v])
        lane[0, 0] = x if x > lane[0, 0] else lane[0, 0]
        lane[1, 0] = lane[1, 0] if x == x else 1.0
    top, nans = -np.inf, 0.0
    for i in range(LANES):
        top = max(top, lane[0, i])
        nans += lane[1, i]
    if nans == 0.0 and top > -np.inf and top < np.inf:
        for v in range(size):
            if row[v] == top:
                return v, top
    return -1, top


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
    """Add a non-negative double-double to lane i of accumulator `part` (0 or 2)."""
    lane[part, i], lane[part + 1, i] = add_positive(lane[part, i], lane[part + 1, i], h, l)


@inline
def flush(lane: Any, part: int, h: float, l: float) -> Any:
    """Add the lanes, in order, to h + l and clear them."""
    for i in range(LANES):
        h, l = add_positive(h, l, lane[part, i], lane[part + 1, i])
        lane[part, i] = 0.0
        lane[part + 1, i] = 0.0
    return h, l


@inline
def sums(row: Any, m: int, skip: int, top: float, scale: float, lane: Any) -> Any:
    """(rest * REST_SCALE, scale * sum of the gaps over v != skip), two double-doubles.

    The relative error is (EXP + 3 depth) u^2 and 3 depth u^2. The sum of the gaps is +inf where a masked class takes part.
    """
    size = row.size
    unscale = 1.0 / scale
    eh, el, gh, gl = 0.0, 0.0, 0.0, 0.0
    for part in range(4):
        for i in range(LANES):
            lane[part, i] = 0.0
    full = size - size % LANES
    for block in range(0, full, BLOCK):
        for start in range(block, min(block + BLOCK, full), LANES):
            for i in range(LANES):
                h, l = gap(np.float64(row[start + i]), top, scale)
                ph, pl = exp_minus(h * unscale, l * unscale)
                other = start + i != m
                accumulate(lane, 0, i, ph if other else 0.0, pl if other else 0.0)
                other = start + i != skip
                accumulate(lane, 2, i, h if other else 0.0, l if other else 0.0)
        eh, el = flush(lane, 0, eh, el)
        gh, gl = flush(lane, 2, gh, gl)
    for v in range(full, size):
        h, l = gap(np.float64(row[v]), top, scale)
        if v != m:
            lane[0, v - full], lane[1, v - full] = exp_minus(h * unscale, l * unscale)
        if v != skip:
            lane[2, v - full], lane[3, v - full] = h, l
    eh, el = flush(lane, 0, eh, el)
    gh, gl = flush(lane, 2, gh, gl)
    if not gh < np.inf:  # an infinite gap has left a nan in the error terms
        gh, gl = np.inf, 0.0
    return eh, el, gh, gl
