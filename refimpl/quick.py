"""The quick phase: losses and gradients of class-index targets in float64, with a radius for each row.

Correct rounding in two phases is Ziv's strategy ("Fast evaluation of elementary mathematical functions with correctly rounded
last bit", ACM TOMS 17(3), 1991): where the float64 number and its radius determine the rounding, it is taken, else the double-double
kernels decide. A rounding that is determined is unique, so the results are those of the double-double kernels, bit for bit. Logits are
float32, bfloat16 or float16; the target is a class index y with mass on, and every other class has mass off; on + (V - 1) off = 1.

With d_v = x_v - x_y, e_v = exp(d_v), R = sum of e_v over v != y, D = sum of d_v, S = 1 + R,

    loss = log1p(R) - off D + E          E = the sum of t_v ln t_v, or 0
    f (p_v - t_v) = e_v f/S - off f      for v != y
    f (p_y - on)  = f ((V - 1) off - R/S)

One reading of the row gives R and D: the target's logit is the anchor, so no maximum has to be found first, and nothing cancels as p_y -> 1.
For the gradient a second pass reads the e_v, which stay in the processor's cache: O(V) memory a thread.

Error, in units of u = 2^-53. M = max d_v; the rows that break an assumption are left to the double-double kernels.
    e_v         (3 |d_v| + EXP2) e_v. d_v, ln 2's inverse and their product are rounded once each: 3 |d_v|. 2^t = 2^k 2^f, k = RN(t) and
                f = t - k are exact, |f| <= 1/2. A polynomial p of degree 11 approximates 2^f to 2^-57 (`constants`). Horner: the error e_j of
                the coefficient of f^j onward is |c_j| + |p_j| + e_(j+1)/2, with c_1 = 0.694, p_1 <= 0.83, c_2 = 0.241, p_2 <= 0.27, c_3 =
                0.056, p_3 <= 0.06 and so on: e_2 <= 0.6, e_1 <= 1.9. The last fma: 1 relative, e_1/2 of at least 0.707: 1.4. With
                the approximation 2.5. EXP2 = 3.
                Exponents are kept above -1000: e_v >= 2^-1000 instead of 0. R > 2^-900 is required, and V 2^-1000 covered by `_UP`.
    R           3 (ln V + |ln R|) + EXP2 + additions: e_v/R is a distribution, so sum of e_v |d_v| <= R (|ln R| + its entropy), the
                entropy at most ln V. An addition costs 1: `additions(V)` of them on the longest path.
    D           (additions(V) + 1) sum |d_v|, and sum |d_v| <= 2 (V - 1) M - D where M >= 0, as |d_v| <= (M - d_v) + M.
    log1p       LOG1P log1p(R): see `_log1p`
    loss        log1p's own error; R's, times min(R, 1) >= the factor that log1p has; off's error 2 and D's; 3 of each magnitude for
                the sums
    gradient    e_v: 3 B + EXP2 where B >= |d_v|; S: that of R and 1; f/S: f's own and 1; off f: off's 2, f's own, and 1; the fma 1.
                All relative to e_v |f|/S + off |f|. B = the largest |d_v|, but at most 139 + the exponent of f/S times ln 2: farther classes have
                e_v |f|/S < 2^-200, which is added (`_TINY`).

Sums. A block of BLOCK classes is added in two sets of lanes, the blocks by two_sum with their errors gathered apart, the lanes
one after the other. The classes around the target, and the last ones, stand in a buffer, where -inf takes the place of the target.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from refimpl.constants import EXP2_COARSE, EXP2_FINE, LN2, LN2_REST, LN2_SHORT
from refimpl.doubledouble import U2, add, add_float, two_sum
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

U = 2.0**-53
COARSE, FINE, LOG1P = 250.0, 3.0, 8.0  # proven errors, in units of u
_REDUCTION = 1.2  # of the argument's error, by |d_v|
SHORT = 48  # rows of at most so many classes are worked on side by side
CHUNK = 2 * WIDTH
BLOCK = 8 * CHUNK

_UP = 1.0 + 2.0**-20  # second-order terms, the radius' own roundings, exponentials that are not quite 0
_TINY = 2.0**-190
_SHIFT = 6755399441055744.0  # 1.5 * 2^52: adding it rounds to an integer
_PER_LN2 = float(1 / LN2)
_LN2_UP = 0.6932
_LOWEST = -690.0
_FARTHEST = 690.0  # d_v beyond it: e_v may leave the range
_LARGE, _SMALL = 2.0**900, 2.0**-900
_SQRT2 = math.sqrt(2.0)
_EXPONENT = 0x7FF0000000000000
_C0, _C1, _C2, _C3, _C4, _C5, _C6, _C7, _C8, _C9 = EXP2_COARSE
_F1, _F2, _F3, _F4, _F5, _F6, _F7, _F8, _F9, _F10, _F11 = EXP2_FINE[1:]
_Q1, _Q2, _Q3, _Q4, _Q5, _Q6, _Q7, _Q8, _Q9, _Q10 = (1.0 / (2 * k + 1) for k in range(1, 11))


def additions(classes: int) -> float:
    """The additions that a term of a sum over the classes passes through, at most."""
    return float(classes) if classes <= SHORT else BLOCK / CHUNK + 12.0


def rest_error(classes: int, fine: bool) -> float:
    """R's relative error in units of u, but for what ln R adds to it; `fine` exponentials are the gradient's."""
    return _REDUCTION * math.log(classes) + (FINE if fine else COARSE) + additions(classes)


@inline
def _exp(d: Any, fine: bool) -> Any:
    """exp(d) in lanes for d <= 690 (beyond, anything), at least 2^-1000."""
    d = larger(d, splat(_LOWEST))
    s = fma(d, splat(_PER_LN2), splat(_SHIFT))
    f = fma(d, splat(_PER_LN2), splat(_SHIFT) - s)
    if fine:
        q = fma(fma(fma(fma(splat(_F11), f, splat(_F10)), f, splat(_F9)), f, splat(_F8)), f, splat(_F7))
        q = fma(fma(fma(fma(q, f, splat(_F6)), f, splat(_F5)), f, splat(_F4)), f, splat(_F3))
        q = fma(fma(fma(q, f, splat(_F2)), f, splat(_F1)), f, splat(1.0))
    else:
        q = fma(fma(fma(splat(_C9), f, splat(_C8)), f, splat(_C7)), f, splat(_C6))
        q = fma(fma(fma(fma(q, f, splat(_C5)), f, splat(_C4)), f, splat(_C3)), f, splat(_C2))
        q = fma(fma(q, f, splat(_C1)), f, splat(_C0))
    return as_doubles(as_longs(q) + (as_longs(s) << integers(52)))


@inline
def _exponent(x: Any) -> Any:
    """The exponents of positive normal numbers, as float64."""
    k = (as_longs(x) >> integers(52)) + integers(-1023)
    return as_doubles(k + as_longs(splat(_SHIFT))) - splat(_SHIFT)


@inline
def _log1p(r: Any) -> Any:
    """log1p(r) in lanes for 2^-1000 <= r <= 2^900, with a relative error of LOG1P u.

    1 + r = s + c exactly, s = 2^k m with m in [sqrt(1/2), sqrt(2)], z = (m - 1)/(m + 1), log1p(r) = k ln 2 + 2 atanh(z) + c/s.
    z is off by 2 u, z^2 by 5. The series in z^2 < 0.0295 to the tenth power leaves 2^-55; its factor 1 + z^2(...) is off by 1.2 with the last
    fma, and atanh by 4.4 with z and the product. k = 0: c/s is at most a third of the sum where they differ in sign, and
    its error 2 u^2; the sum adds 1: 4.4 * 4/3 + 1 < 7. k > 0: the sum is at least |2 atanh(z)| and half of k ln 2, whose product with the
    short part is exact: 4.4 + 1 for the inner sum and 1 for the outer. Given as 8.
    """
    one = splat(1.0)
    s, c = two_sum(one, r)
    bits = as_longs(s)
    m = as_doubles((bits & integers(0x000FFFFFFFFFFFFF)) + integers(0x3FF0000000000000))
    k = _exponent(s)
    upper = where_less(splat(_SQRT2), m, one, splat(0.0))
    k = k + upper
    m = m - upper * (m * splat(0.5))
    f = m - one
    z = f / (f + splat(2.0))
    w = z * z
    q = fma(fma(fma(fma(splat(_Q10), w, splat(_Q9)), w, splat(_Q8)), w, splat(_Q7)), w, splat(_Q6))
    q = fma(fma(fma(fma(fma(q, w, splat(_Q5)), w, splat(_Q4)), w, splat(_Q3)), w, splat(_Q2)), w, splat(_Q1))
    atanh = (z + z) * fma(q, w, one)
    return k * splat(LN2_SHORT) + (atanh + (k * splat(LN2_REST) + c / s))


@inline
def _total(x: Any) -> float:
    """The sum of the lanes: four at a time, two and two."""
    total = 0.0
    for i in range(0, WIDTH, 4):
        total += (lane(x, i) + lane(x, i + 1)) + (lane(x, i + 2) + lane(x, i + 3))
    return total


@inline
def _extremes(low: Any, high: Any) -> Any:
    """The smallest and the largest of the lanes; a nan is handed on."""
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
                c, d = _exp(c, keep), _exp(d, keep)
                if keep:
                    store(exponentials, v, c)
                    store(exponentials, v + WIDTH, d)
                a, b = a + c, b + d
            rest, e = two_sum(rest, a + b)
            rest_errors = rest_errors + e
            drift, e = two_sum(drift, g + h)
            drift_errors = drift_errors + e
    least, most = _extremes(low, high)
    total, total_drift = _total(rest) + _total(rest_errors), _total(drift) + _total(drift_errors)
    for side in range(2):
        begin = near if side == 0 else full
        if side == 1 and (near == full or full == size):
            break
        for i in range(CHUNK):
            v = begin + i
            buffer[i] = -np.inf
            if v < size and v != y:
                x = number(row, v)
                buffer[i] = x
                total_drift += x - anchor_number
                least = min(least, x - anchor_number)
                most = max(most, x - anchor_number) if x == x else x
        c, d = _exp(load(buffer, 0) - anchor, keep), _exp(load(buffer, WIDTH) - anchor, keep)
        if keep:
            store(exponentials, begin, c)
            store(exponentials, begin + WIDTH, d)
        total += _total(c + d)
    return total, total_drift, least, most


@inline
def _read_short(x: Any, index: Any, begin: int, end: int, counts: Any, columns: Any) -> Any:
    """(R, D, M) of the rows begin to end, at most WIDTH of them, in lanes; those that don't count hold zeros."""
    classes = x.shape[1]
    for i in range(WIDTH):
        there = begin + i < end and counts[i] != 0.0
        row = x[begin + i if there else begin]
        y = index[begin + i] if there else 0
        columns[classes, i], columns[classes + 1, i] = (number(row, y) if there else 0.0), y
        for v in range(classes):
            columns[v, i] = number(row, v) if there else 0.0
    anchor, target = load(columns[classes], 0), load(columns[classes + 1], 0)
    rest, drift, most = splat(0.0), splat(0.0), splat(0.0)
    for v in range(classes):
        d = load(columns[v], 0) - anchor
        drift = drift + d
        most = larger(most, d)
        rest = rest + where_equal(target, splat(float(v)), splat(0.0), _exp(d, False))
    return rest, drift, most


@inline
def _relative(rest: Any, base: float) -> Any:
    """R's relative error in units of u; `base` is its `rest_error`."""
    return (magnitude(_exponent(rest)) + splat(1.0)) * splat(_REDUCTION * _LN2_UP) + splat(base)


@inline
def _losses(rest: Any, drift: Any, most: Any, spread: float, off: float, constant: float, base: float, depth: float) -> Any:
    """(loss, radius) in lanes; the radius is +inf where the row is left to the other kernels. `spread` is 2 (V - 1)."""
    unknown = splat(np.inf)
    known = larger(smaller(rest, splat(_LARGE)), splat(_SMALL))
    loss = _log1p(known)
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
def _add_up(begin: int, end: int, value: Any, radii: Any) -> Any:
    """(hi, lo, radius) of the sum of the rows that were determined; the others hold 0."""
    high, low, radius, size = splat(0.0), splat(0.0), splat(0.0), splat(0.0)
    full = begin + (end - begin) // WIDTH * WIDTH
    for i in range(begin, full, WIDTH):
        v, r = load(value, i), load(radii, i)
        high, e = two_sum(high, v)
        low = low + e
        radius = radius + where_less(r, splat(np.inf), r, splat(0.0))
        size = size + magnitude(v)
    h, l, r, s = 0.0, 0.0, _total(radius), _total(size)
    for i in range(WIDTH):
        h, l = add(h, l, lane(high, i), lane(low, i))
    for i in range(full, end):
        h, l = add_float(h, l, value[i])
        r += radii[i] if radii[i] < np.inf else 0.0
        s += abs(value[i])
    return h, l, (r + 4.0 * U2 * (end - begin) ** 2 * s) * _UP


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
    """The losses of tiles start to stop, `rows` rows each, with radii (+inf: not determined); `sums` (3, tiles) of the determined ones."""
    classes = x.shape[1]
    spread = 2.0 * (classes - 1.0)
    buffer, nothing, spare = np.empty(CHUNK, np.float32), np.empty(0), np.empty(WIDTH)
    columns, facts = np.empty((SHORT + 2, WIDTH)), np.empty((3, WIDTH))
    counts = np.zeros(WIDTH)
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
            _put(where_equal(count, splat(0.0), count, loss), value, first, last, spare)
            _put(where_equal(count, splat(0.0), count, radius), radii, first, last, spare)
        sums[0, tile], sums[1, tile], sums[2, tile] = _add_up(begin, end, value, radii)


@inline
def _nearest(value: Any, radius: Any, grid: int, normal: float) -> Any:
    """(low, high): value - radius and value + radius rounded to a narrower format, as float64.

    Adding and subtracting 1.5 * 2^52 times the spacing of the format's numbers there rounds to a multiple of it, ties to even. `grid` adds to the
    bits of a power of two what makes it that number; below `normal` the spacing stays the same. A zero is +0.
    """
    power = as_longs(larger(magnitude(value), splat(normal))) & integers(_EXPONENT)
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

    The gradient's format is that of the array `gradient`, described by `grid` (see `_nearest`), its smallest `normal` and its `largest` number;
    `factor` carries a relative error of `factor_error` u. The state of a row is 0 where all of its gradient is determined, 1 where the
    elements that are nan are not, 2 where nothing is.
    """
    classes = x.shape[1]
    spread, others = 2.0 * (classes - 1.0), (classes - 1.0) * off
    full = classes // CHUNK * CHUNK
    buffer, exponentials = np.empty(CHUNK, np.float32), np.empty(full + CHUNK)
    spare, tail, unknown = np.empty(WIDTH), np.empty(CHUNK, gradient.dtype), splat(np.nan)
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
        if not (radii[i] < np.inf and _SMALL < abs(f) < 0.25 * largest):
            state[i] = 2
            continue
        s = 1.0 + rest
        q, c = f / s, f * off
        reach = max(most, min(-least, 139.0 + _LN2_UP * max(0.0, 1.0 + lane(_exponent(splat(abs(q))), 0))))
        relative = _REDUCTION * reach + FINE + factor_error + 6.0 + min(1.0, rest) * lane(_relative(splat(rest), base), 0)
        relative *= U * _UP
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
        low, high = _nearest(splat(f * (others - rest / s)), splat(size * relative + _TINY), grid, normal)
        doubtful = doubtful or differ(low, high)
        store(tail, 0, where_equal(low, high, low, unknown))
        out[index[i]] = tail[0]
        state[i] = 1 if doubtful else 0
