"""The quick phase: losses and gradients of class-index targets in float64, with a radius for each row.

Correct rounding in two phases is Ziv's strategy ("Fast evaluation of elementary mathematical functions with correctly rounded
last bit", ACM TOMS 17(3), 1991): where a float64 number and its radius determine the rounding, it is taken, else the double-double
kernels decide. Logits are float32, bfloat16 or float16; the target is a class index y with mass on, and every other class has mass
off; on + (V - 1) off = 1.

With d_v = x_v - x_y, e_v = exp(d_v), R = sum of e_v over v != y, D = sum of d_v, S = 1 + R,

    loss = log1p(R) - off D + E          E = the sum of t_v ln t_v, or 0
    f (p_v - t_v) = e_v f/S - off f      for v != y
    f (p_y - on)  = f ((V - 1) off - R/S)

One reading of the row gives R and D: the target's logit is the anchor, so no maximum has to be found first, and nothing cancels as
p_y -> 1. For the gradient a second pass reads the e_v, which stay in the processor's cache: O(V) memory a thread.

Error, in units of u = 2^-53, with M = max d_v >= 0 and A = `additions(V)`. A row that breaks an assumption is left to the double-double
kernels: M < 690 and 2^-900 < R < 2^900. Then exponentials that were kept at exp(-690) = 2^-995 add less than V 2^-95 R.
    e_v         REDUCTION |d_v| + COARSE, or FINE for the gradient (`approximate`)
    R           sum of e_v |d_v| <= R (|ln R| + ln V): the e_v/R are a distribution, and its entropy is at most ln V. Hence
                REDUCTION (ln V + |ln R|) + COARSE or FINE + A
    log1p(R)    LOG1P log1p(R), and R's error times R/(1 + R) <= min(R, 1)
    off D       |d_v| <= (M - d_v) + M, so sum |d_v| <= 2 (V - 1) M - D. Times off: A + 1 for D, 1 for off, 1 for the product
    loss        and 3 of each magnitude, for the sums and the rounding of E
    gradient    e_v: REDUCTION B + FINE where |d_v| <= B. S: R's error times min(R, 1), and 1. f/S: f's own and 1; off f: off's 1, f's
                own, and 1; the fma 1, and 1 for the ends: at most 6 beside e_v's, R's and f's, relative to e_v |f|/S + off |f|. B is
                the largest |d_v|, but at most 139 + the exponent of f/S times ln 2: farther classes have e_v |f|/S < 2^-200, which
                `_TINY` covers; f/S > 2^-900. For v = y: R's error undamped, and f's own and 6 as above.

Sums. A block of BLOCK classes is added in two sets of lanes, the blocks by two_sum, whose errors are gathered apart, and the lanes four
at a time. The classes around the target, and the last ones, are read by way of a buffer that says which of its places count.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from refimpl.approximate import COARSE, FINE, LOG1P, REDUCTION, exp, exponent, log1p
from refimpl.doubledouble import ADD, DIV, U2, add, add_float, div, two_sum
from refimpl.jit import inline, kernel, routine
from refimpl.lanes import (
    WIDTH,
    as_doubles,
    as_longs,
    differ,
    fma,
    integers,
    lane,
    larger,
    load,
    magnitude,
    number,
    smaller,
    splat,
    store,
    where_equal,
    where_less,
)
from refimpl.rounding import round_sum

U = 2.0**-53
SHORT = 48  # rows of at most so many classes are worked on side by side
CHUNK = 2 * WIDTH
BLOCK = 8 * CHUNK

_UP = 1.0 + 2.0**-20  # second-order terms, the radius' own roundings, exponentials that are not quite 0
_TINY = 2.0**-190
_LN2_UP = 0.6932
_FARTHEST = 690.0
_LARGE, _SMALL = 2.0**900, 2.0**-900
_EXPONENT = 0x7FF0000000000000


def additions(classes: int) -> float:
    """The additions that a term of a sum over the classes passes through, at most."""
    return float(classes) if classes <= SHORT else BLOCK / CHUNK + 12.0


def grid_of(precision: int) -> int:
    """What is to be added to the bits of a power of two to make it 1.5 * 2^52 times the spacing, there, of a format of that precision."""
    return ((53 - precision) << 52) | (1 << 51)


def rest_error(classes: int, fine: bool) -> float:
    """R's relative error in units of u, but for what ln R adds to it; `fine` exponentials are the gradient's."""
    return REDUCTION * math.log(classes) + (FINE if fine else COARSE) + additions(classes)


@inline
def _total(x: Any) -> float:
    """The sum of the lanes: four at a time, two and two."""
    total = 0.0
    for i in range(0, WIDTH, 4):
        total += (lane(x, i) + lane(x, i + 1)) + (lane(x, i + 2) + lane(x, i + 3))
    return total


@inline
def _extremes(low: Any, high: Any) -> Any:
    """The smallest and the largest of the lanes."""
    least, most = lane(low, 0), lane(high, 0)
    for i in range(1, WIDTH):
        least = min(least, lane(low, i))
        most = max(most, lane(high, i))
    return least, most


@routine
def _read_row(row: Any, y: int, buffer: Any, exponentials: Any, keep: bool) -> Any:
    """(R, D, least d_v, M) of a row; with `keep` its e_v are written to `exponentials`, whose size is a multiple of CHUNK."""
    size = row.size
    anchor_number = number(row, y)
    anchor = splat(anchor_number)
    rest, rest_errors = splat(0.0), splat(0.0)
    drift, drift_errors = splat(0.0), splat(0.0)
    low, high = splat(0.0), splat(0.0)
    near, full = y // CHUNK * CHUNK, size // CHUNK * CHUNK
    for side in range(2):
        first = 0 if side == 0 else near + CHUNK
        last = min(near, full) if side == 0 else full
        for block in range(first, last, BLOCK):
            a, b, g, h = splat(0.0), splat(0.0), splat(0.0), splat(0.0)
            for v in range(block, min(block + BLOCK, last), CHUNK):
                c, d = load(row, v) - anchor, load(row, v + WIDTH) - anchor
                g, h = g + c, h + d
                high = larger(larger(high, c), d)
                if keep:
                    low = smaller(smaller(low, c), d)
                c, d = exp(c, keep), exp(d, keep)
                if keep:
                    store(exponentials, v, c)
                    store(exponentials, v + WIDTH, d)
                a, b = a + c, b + d
            rest, e = two_sum(rest, a + b)
            rest_errors = rest_errors + e
            drift, e = two_sum(drift, g + h)
            drift_errors = drift_errors + e
    total, total_drift = _total(rest + rest_errors), _total(drift + drift_errors)
    for side in range(2):
        begin = near if side == 0 else full
        if side == 1 and (near == full or full == size):
            break
        for i in range(CHUNK):
            v = begin + i
            counts = v < size and v != y
            buffer[0, i], buffer[1, i] = (number(row, v) if counts else anchor_number), (1.0 if counts else 0.0)
        for half in range(0, CHUNK, WIDTH):
            d, zero = load(buffer[0], half) - anchor, splat(0.0)
            total_drift += _total(d)
            low, high = smaller(low, d), larger(high, d)
            d = where_equal(load(buffer[1], half), zero, zero, exp(d, keep))
            if keep:
                store(exponentials, begin + half, d)
            total += _total(d)
    least, most = _extremes(low, high)
    return total, total_drift, least, most


@inline
def _read_short(x: Any, index: Any, begin: int, end: int, counts: Any, columns: Any) -> Any:
    """(R, D, M) of the rows begin to end, at most WIDTH of them, in lanes; those that don't count give anything."""
    classes, flat = x.shape[1], x.reshape(-1)  # a row of its own would be counted as a reference, which is slow
    for i in range(WIDTH):
        there = begin + i < end and counts[i] != 0.0
        first = (begin + i) * classes if there else 0
        y = index[begin + i] if there else 0
        columns[classes, i], columns[classes + 1, i] = number(flat, first + y), y
        for v in range(classes):
            columns[v, i] = number(flat, first + v)
    anchor, target = load(columns[classes], 0), load(columns[classes + 1], 0)
    rest, drift, most = splat(0.0), splat(0.0), splat(0.0)
    for v in range(classes):
        d = load(columns[v], 0) - anchor
        drift = drift + d
        most = larger(most, d)
        rest = rest + where_equal(target, splat(float(v)), splat(0.0), exp(d, False))
    return rest, drift, most


@inline
def _relative(rest: Any, base: float) -> Any:
    """R's relative error in units of u; `base` is its `rest_error`."""
    return (magnitude(exponent(rest)) + splat(1.0)) * splat(REDUCTION * _LN2_UP) + splat(base)


@inline
def _losses(rest: Any, drift: Any, most: Any, spread: float, off: float, constant: float, base: float, depth: float) -> Any:
    """(loss, radius) in lanes; the radius is +inf where the row is left to the other kernels. `spread` is 2 (V - 1)."""
    unknown = splat(np.inf)
    known = larger(smaller(rest, splat(_LARGE)), splat(_SMALL))
    loss = log1p(known)
    size = loss
    error = loss * splat(LOG1P) + smaller(known, splat(1.0)) * _relative(known, base)
    if off != 0.0:
        tilt = (most * splat(spread) - drift) * splat(off)
        loss = loss - drift * splat(off)
        error = error + tilt * splat(depth + 3.0)
        size = size + tilt
    loss = loss + splat(constant)
    radius = (error + (size + splat(abs(constant))) * splat(3.0)) * splat(U * _UP)
    radius = where_less(splat(_SMALL), rest, radius, unknown)  # a nan is less than nothing
    radius = where_less(rest, splat(_LARGE), radius, unknown)
    radius = where_less(most, splat(_FARTHEST), radius, unknown)
    radius = where_less(radius, unknown, radius, unknown)
    return where_less(radius, unknown, loss, splat(0.0)), radius


@inline
def _put(x: Any, array: Any, begin: int, end: int, spare: Any) -> None:
    """Write the first lanes to elements begin to end."""
    if end - begin == WIDTH:
        store(array, begin, x)
    else:
        store(spare, 0, x)
        for i in range(begin, end):
            array[i] = spare[i - begin]


@inline
def _add_up(count: int, value: Any, radii: Any) -> Any:
    """(hi, lo, radius) of the sum of the first rows that were determined, and the number of the others, which hold 0.

    The errors of two_sum, each at most u times the sum so far, are added in float64: fewer than `count` roundings of less than `count` u.
    """
    high, low, radius, size = splat(0.0), splat(0.0), splat(0.0), splat(0.0)
    left = splat(0.0)
    full = count // WIDTH * WIDTH
    for i in range(0, full, WIDTH):
        v, r = load(value, i), load(radii, i)
        high, e = two_sum(high, v)
        low = low + e
        radius = radius + where_less(r, splat(np.inf), r, splat(0.0))
        left = left + where_less(r, splat(np.inf), splat(0.0), splat(1.0))
        size = size + magnitude(v)
    h, l, r, s, n = 0.0, 0.0, _total(radius), _total(size), _total(left)
    for i in range(WIDTH):
        h, l = add(h, l, lane(high, i), lane(low, i))
    for i in range(full, count):
        h, l = add_float(h, l, value[i])
        r += radii[i] if radii[i] < np.inf else 0.0
        n += 0.0 if radii[i] < np.inf else 1.0
        s += abs(value[i])
    return h, l, (r + 4.0 * U2 * count**2 * s) * _UP, n


@kernel
def loss_tiles(
    start: int,
    stop: int,
    rows: int,
    x: Any,
    index: Any,
    kept: Any,
    off: float,
    constant: float,
    value: Any,
    radii: Any,
    sums: Any,
    base: float,
    depth: float,
) -> None:
    """Tiles start to stop, `rows` rows each: `sums` (4, tiles) as `_add_up` gives them.

    The losses with their radii (+inf: not determined) go to `value` and `radii`, if those aren't empty.
    """
    classes = x.shape[1]
    spread = 2.0 * (classes - 1.0)
    buffer, nothing, spare = np.empty((2, CHUNK)), np.empty(0), np.empty(WIDTH)
    columns, facts = np.empty((SHORT + 2, WIDTH)), np.empty((3, WIDTH))
    counts, losses, errors = np.zeros(WIDTH), np.empty(rows), np.empty(rows)
    for tile in range(start, stop):
        begin, end = tile * rows, min(tile * rows + rows, x.shape[0])
        for first in range(begin, end, WIDTH):
            last = min(first + WIDTH, end)
            for i in range(last - first):
                counts[i] = 1.0 if kept[first + i] != 0 else 0.0
            if classes <= SHORT:
                rest, drift, most = _read_short(x, index, first, last, counts, columns)
            else:
                for i in range(last - first):
                    facts[0, i], facts[1, i], facts[2, i] = 1.0, 0.0, 0.0
                    if counts[i] != 0.0:
                        r, d, _, m = _read_row(x[first + i], index[first + i], buffer, nothing, False)
                        facts[0, i], facts[1, i], facts[2, i] = r, d, m
                rest, drift, most = load(facts[0], 0), load(facts[1], 0), load(facts[2], 0)
            loss, radius = _losses(rest, drift, most, spread, off, constant, base, depth)
            count = load(counts, 0)
            _put(where_equal(count, splat(0.0), count, loss), losses, first - begin, last - begin, spare)
            _put(where_equal(count, splat(0.0), count, radius), errors, first - begin, last - begin, spare)
        sums[0, tile], sums[1, tile], sums[2, tile], sums[3, tile] = _add_up(end - begin, losses, errors)
        if value.size > 0:
            for i in range(begin, end):
                value[i], radii[i] = losses[i - begin], errors[i - begin]


@kernel
def rounded_total(sums: Any, denominator: float, precision: int, emin: int, largest: float) -> Any:
    """(the sum of the tiles' sums over a positive denominator, rounded; whether it is determined), for numbers far from underflow."""
    h, l, r, size = 0.0, 0.0, 0.0, 0.0
    for tile in range(sums.shape[1]):
        h, l = add(h, l, sums[0, tile], sums[1, tile])
        r += sums[2, tile]
        size += abs(sums[0, tile])
    h, l = div(h, l, denominator, 0.0)
    r = ((r + ADD * U2 * sums.shape[1] * size) / denominator + DIV * U2 * abs(h)) * _UP
    low, high = round_sum(h, l - r, precision, emin, largest), round_sum(h, l + r, precision, emin, largest)
    return low, low == high and _SMALL < abs(h) < _LARGE


@inline
def _nearest(value: Any, radius: Any, grid: int, normal: float) -> Any:
    """(low, high): value - radius and value + radius rounded to a narrower format, as float64.

    Adding and subtracting 1.5 * 2^52 times the spacing of the format's numbers there rounds to a multiple of it, ties to even: see
    `grid_of`; below `normal` the spacing stays the same. The spacing is that of the smaller end: where a power of two lies between the
    ends, they come out alike only if both round to it. A zero is +0.
    """
    power = as_longs(larger(magnitude(value) - radius, splat(normal))) & integers(_EXPONENT)
    shift = as_doubles(power + integers(grid))
    return ((value - radius) + shift) - shift, ((value + radius) + shift) - shift


@kernel
def gradient_rows(
    start: int,
    stop: int,
    x: Any,
    index: Any,
    kept: Any,
    off: float,
    constant: float,
    factor: Any,
    factor_error: float,
    grid: int,
    normal: float,
    largest: float,
    value: Any,
    radii: Any,
    gradient: Any,
    state: Any,
    base: float,
    depth: float,
) -> None:
    """Rows start to stop: the losses with their radii, as in `loss_tiles`, and factor_i (p_v - t_v), rounded.

    The gradient's format has `grid_of` its precision, the smallest `normal` and the `largest` number; `factor` carries a relative error
    of `factor_error` u. The state of a row is 0 where all of its gradient is determined, 1 where the elements that are nan are not, 2
    where nothing is.
    """
    classes = x.shape[1]
    spread, others = 2.0 * (classes - 1.0), (classes - 1.0) * off
    full = classes // CHUNK * CHUNK
    buffer, exponentials = np.empty((2, CHUNK)), np.empty(full + CHUNK)
    tail, unknown = np.empty(CHUNK, gradient.dtype), splat(np.nan)
    for i in range(start, stop):
        f, out = factor[i], gradient[i]
        state[i], value[i], radii[i] = 0, 0.0, 0.0
        if kept[i] == 0:
            out[:] = 0
            continue
        rest, drift, least, most = _read_row(x[i], index[i], buffer, exponentials, True)
        loss, radius = _losses(splat(rest), splat(drift), splat(most), spread, off, constant, base, depth)
        value[i], radii[i] = lane(loss, 0), lane(radius, 0)
        if f == 0.0:
            out[:] = 0
            continue
        s = 1.0 + rest
        q, c = f / s, f * off
        if not (radii[i] < np.inf and abs(q) > _SMALL and abs(f) < 0.25 * largest):
            state[i] = 2
            continue
        reach = max(most, min(-least, 139.0 + _LN2_UP * max(0.0, 1.0 + lane(exponent(splat(abs(q))), 0))))
        rest_relative = lane(_relative(splat(rest), base), 0)
        own_relative = (factor_error + 6.0 + rest_relative) * U * _UP
        relative = (REDUCTION * reach + FINE + factor_error + 6.0 + min(1.0, rest) * rest_relative) * U * _UP
        slope, level = splat(q), splat(-c)
        slope_error, level_error = splat(abs(q) * relative), splat(abs(c) * relative + _TINY)
        doubtful = False
        for v in range(0, classes, CHUNK):
            for half in range(0, CHUNK, WIDTH):
                e = load(exponentials, v + half)
                low, high = _nearest(fma(e, slope, level), fma(e, slope_error, level_error), grid, normal)
                if differ(low, high):
                    doubtful = True
                    low = where_equal(low, high, low, unknown)
                if v < full:
                    store(out, v + half, low)
                else:
                    store(tail, half, low)
        for v in range(full, classes):
            out[v] = tail[v - full]
        size = abs(f) * (others + rest / s)
        low, high = _nearest(splat(f * (others - rest / s)), splat(size * own_relative + _TINY), grid, normal)
        doubtful = doubtful or differ(low, high)
        store(tail, 0, where_equal(low, high, low, unknown))
        out[index[i]] = tail[0]
        state[i] = 1 if doubtful else 0
