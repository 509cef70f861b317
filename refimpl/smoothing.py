"""Rows of the smoothed losses: a softmax against a target that is one class, smoothed, or a distribution.

For a row x of V logits and coefficients c_v = w_v t_v >= 0 (class weight times target mass)

    loss = sum_v c_v (lse - x_v) [+ sum_v c_v ln t_v]        dlogits_v = p_v C - c_v,  C = sum_v c_v

The target's mass is t_y = on and t_v = off for v != y, or t_v = keep * s_v + off for a given distribution s.

Algorithm. With top, gap, rest as in `rows`:

    loss = C * log1p(rest) + sum_v c_v gap_v         terms >= 0: nothing cancels until the target's entropy is subtracted
    dlogits_v = e_v * C/(1 + rest) - c_v                          for v != m, with e_v = exp(-gap_v)
    dlogits_m = (sum of c_v over v != m) - C * rest/(1 + rest)    for rest < 1, so that p_m - 1 is never formed; else as the others

A class with c_v = 0 contributes nothing, whatever its gap.

Error, in units of u^2, relative to the sum of the magnitudes of the terms. D = depth(V), ADD = 3.
    masses      on, off, keep                       18   (a quotient, DIV, and a sum, ADD); so is keep * s_v + off
    c_v         w_v t_v                             20   (+ 2 for the weight)
    C           sum of c_v                          ADD (D + 1) + 20
    rest        `rows.rest_sum`                    ADD D + EXP
    log1p(rest) rest's error is damped              ADD D + EXP + LOG1P
    C * log1p   a product, MUL                      ADD (2 D + 1) + EXP + LOG1P + MUL + 20
    c_v gap_v   a product, MUL, and sums            ADD D + MUL + 20
    c_v ln t_v  relative to c_v |ln t_v| + c_v      ADD D + LOG + MUL + 38: an error e of t_v moves ln t_v by e
    loss        the largest of these, two sums      LOSS(V) = ADD (2 D + 3) + EXP + LOG1P + MUL + 20
    gradient    e_v C/(1 + rest): C, 1 + rest ADD D + EXP + 2, DIV, e_v EXP, a product MUL, the difference ADD, the product with a factor,
                beside that factor's own error, MUL: GRADIENT(V) = ADD (2 D + 2) + 2 EXP + DIV + 2 MUL + 22. For v = m, rest takes e_v's
                place, and its ADD D + EXP enters rest/(1 + rest) once, damped, instead of 1 + rest's.

Underflow. A mass or a coefficient below SMALL = 2^-900 may be off by multiples of 2^-1074 instead, and is at least 2^-1074 where it
isn't 0, so that it meets an infinite gap as it should. Off is within 3 * 2^-1074, keep * s_v + off within 5, c_v within
8 (1 + w_v). Such a class moves the loss by that times gap_v + log1p(rest) and, for c_v ln t_v, times 750 > |ln t_v| + 1; and the
gradient by that times |factor|.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refimpl.doubledouble import ADD, MUL, TINY, U2, add, add_positive, div, mul, mul_float, two_sum
from refimpl.elementary import EXP, LOG1P, log, log1p
from refimpl.jit import frozen, inline, kernel, routine
from refimpl.reduce import UP, Parts, over_wide_rows
from refimpl.rows import (
    LANES,
    REST_UNSCALE,
    SIDE,
    add_class,
    collect,
    depth,
    gap,
    gap_sum,
    rest_sum,
    scan,
    scratch,
    short_scratch,
    short_sums,
)

SMALL = 2.0**-900  # below this, a product may have lost bits to underflow


@dataclass(frozen=True)
class Target:
    """What every row is compared with.

    `index` (rows,) holds the class of each row and `given` is empty, or `given` (rows, V) holds distributions. `weight` (V,) may be
    empty. `masses` are what `smoothed_masses` gives (keep in on's place for a distribution). `kept` is 0 for ignored rows.
    `entropy` says whether sum_v c_v ln t_v is added.
    """

    index: NDArray[np.int64]
    given: NDArray[np.float64]
    weight: NDArray[np.float64]
    masses: NDArray[np.float64]
    kept: NDArray[np.uint8]
    entropy: bool

    def by_row(self) -> tuple[NDArray[Any], ...]:
        return tuple(frozen(array) for array in (self.index, self.given, self.kept))

    def shared(self) -> tuple[NDArray[Any], ...]:
        return frozen(self.weight), frozen(self.masses)


@kernel
def smoothed_masses(smoothing: float, classes: float, only_others: bool, entropy: bool, result: Any) -> None:
    """on, off and E of a smoothed class index, as (on_hi, on_lo, off_hi, off_lo, E_hi, E_lo, magnitude of E's terms).

    off = s/V, on = 1 - s + s/V; or, over the other classes alone, s/(V-1) and 1 - s. E = on ln on + (V - 1) off ln off, or 0.
    """
    oh, ol = two_sum(1.0, -smoothing)
    result[:] = 0.0
    shared = classes - 1.0 if only_others else classes
    if smoothing > 0.0 and shared > 0.0:
        result[2], result[3] = div(smoothing, 0.0, shared, 0.0)
        result[2] = max(result[2], TINY)
        if not only_others:
            oh, ol = add(oh, ol, result[2], result[3])
    result[0], result[1] = oh, ol
    for part in range(2 if entropy else 0):
        count = 1.0 if part == 0 else classes - 1.0
        h, l = result[2 * part], result[2 * part + 1]
        if h > 0.0 and (h != 1.0 or l != 0.0) and count > 0.0:
            th, tl = log(h, l)
            th, tl = mul(th, tl, h, l)
            th, tl = mul_float(th, tl, count)
            result[4], result[5] = add(result[4], result[5], th, tl)
            result[6] += abs(th) + h * count


@inline
def mass(v: int, i: int, index: Any, given: Any, masses: Any) -> Any:
    """t_v of row i."""
    if given.shape[0] > 0:
        h, l = mul_float(masses[0], masses[1], given[i, v])
        return add_positive(h, l, masses[2], masses[3])
    if v == index[i]:
        return masses[0], masses[1]
    return masses[2], masses[3]


@inline
def coefficient(v: int, th: float, tl: float, weight: Any) -> Any:
    """c_v = w_v t_v."""
    if weight.size == 0:
        return th, tl
    h, l = mul_float(th, tl, weight[v])
    return (TINY if h == 0.0 and th > 0.0 and weight[v] > 0.0 else h), l


@inline
def lossy_of(v: int, th: float, ch: float, weight: Any) -> float:
    """1 + w_v where underflow may have touched t_v or c_v, else 0."""
    if ch == 0.0 or (th >= SMALL and ch >= SMALL):
        return 0.0
    return 1.0 + weight[v] if weight.size > 0 else 2.0


@inline
def _times(ch: float, cl: float, gh: float, gl: float) -> Any:
    """c * gap, where c = 0 annuls even an infinite gap."""
    if ch == 0.0:
        return 0.0, 0.0
    if gh == np.inf:
        return np.inf, 0.0
    return mul(ch, cl, gh, gl)


@inline
def _index_terms(classes: int, xy: float, top: float, scale: float, gh: float, gl: float, masses: Any) -> Any:
    """(C, A, lossy, lossy_gaps) of a class index with logit `xy`, from the sum of the other classes' gaps; see `_terms`."""
    ah, al = _times(masses[2], masses[3], gh, gl)
    h, l = gap(xy, top, scale)
    h, l = _times(masses[0], masses[1], h, l)
    lossy, lossy_gaps = 0.0, 0.0
    if 0.0 < masses[2] < SMALL and ah < np.inf and h < np.inf:
        lossy, lossy_gaps = 2.0 * classes, 2.0 * gh
    ah, al = (np.inf, 0.0) if ah == np.inf or h == np.inf else add_positive(ah, al, h, l)
    ch, cl = (1.0, 0.0) if classes > 1 else (masses[0], masses[1])
    return ch, cl, ah, al, lossy, lossy_gaps


@routine
def _terms(x: Any, i: int, top: float, scale: float, index: Any, given: Any, weight: Any, masses: Any, entropy: bool, lane: Any) -> Any:
    """(C, A, E, magnitude, lossy, lossy_gaps) of a row with weights or a distribution.

    C = sum of c_v, A = scale * sum of c_v gap_v (+inf where a masked class has mass), E = sum of c_v ln t_v with the `magnitude` of its
    terms; `lossy` and `lossy_gaps` are the sums of 1 + w_v, and of (1 + w_v) gap_v, over the classes that underflow has touched.
    """
    row = x[i]
    infinite, magnitude, lossy, lossy_gaps = False, 0.0, 0.0, 0.0
    for v in range(row.size):
        th, tl = mass(v, i, index, given, masses)
        ch, cl = coefficient(v, th, tl, weight)
        ah, al, eh, el = 0.0, 0.0, 0.0, 0.0
        if ch > 0.0:
            gh, gl = gap(np.float64(row[v]), top, scale)
            if gh == np.inf:
                infinite = True
            else:
                touched = lossy_of(v, th, ch, weight)
                lossy += touched
                lossy_gaps += touched * gh
                ah, al = mul(ch, cl, gh, gl)
            if entropy and (th != 1.0 or tl != 0.0):
                eh, el = log(th, tl)
                eh, el = mul(eh, el, ch, cl)
                magnitude += abs(eh) + ch
        add_class(lane, 0, v, ch, cl)
        add_class(lane, 2, v, ah, al)
        add_class(lane, 4, v, eh, el)
    ch, cl = collect(lane, 0, row.size)
    ah, al = collect(lane, 2, row.size)
    eh, el = collect(lane, 4, row.size)
    return ch, cl, np.inf if infinite else ah, al, eh, el, magnitude, lossy, lossy_gaps


@routine
def _row_sums(x: Any, i: int, skip: int, gaps: bool, scale: float, lane: Any) -> Any:
    """m, top, `rest_sum` and, if it is needed, `gap_sum` of a row."""
    row = x[i]
    m, top = scan(row)
    if m < 0:
        return m, top, 0.0, 0.0, 0.0, 0.0
    eh, el = rest_sum(row, m, top, scale, lane)
    gh, gl = gap_sum(row, skip, top, scale, lane) if gaps else (0.0, 0.0)
    return m, top, eh, el, gh, gl


@kernel
def loss_rows(
    start: int,
    stop: int,
    x: Any,
    index: Any,
    given: Any,
    kept: Any,
    kind: Any,
    hi: Any,
    lo: Any,
    radius: Any,
    weight: Any,
    masses: Any,
    entropy: bool,
    scale: float,
    relative: float,
) -> None:
    """The loss of rows start to stop, scaled by `scale`; an ignored row is 0, one without a softmax nan."""
    lane, terms, facts = scratch(), short_scratch(), np.zeros((4, SIDE))
    m, skip, top = np.empty(SIDE, np.int64), np.empty(SIDE, np.int64), np.empty(SIDE)
    classes = x.shape[1]
    plain = given.shape[0] == 0 and weight.size == 0
    gaps = plain and masses[2] > 0.0
    for first in range(start, stop, SIDE):
        count = min(SIDE, stop - first)
        for k in range(count):
            skip[k] = index[first + k] if plain else -1
            if classes > LANES and kept[first + k] != 0:
                m[k], top[k], facts[0, k], facts[1, k], facts[2, k], facts[3, k] = _row_sums(x, first + k, skip[k], gaps, scale, lane)
        if classes <= LANES:
            short_sums(x, first, count, skip, scale, terms, m, top, facts)
        for k in range(SIDE):
            facts[0, k], facts[1, k] = log1p(facts[0, k] * REST_UNSCALE, facts[1, k] * REST_UNSCALE)
        for k in range(count):
            i = first + k
            hi[i], lo[i], radius[i], kind[i] = 0.0, 0.0, 0.0, 0
            if kept[i] == 0:
                continue
            if m[k] < 0:
                kind[i] = 3
                continue
            if plain:
                xy = np.float64(x[i, index[i]])
                ch, cl, ah, al, lossy, lossy_gaps = _index_terms(classes, xy, top[k], scale, facts[2, k], facts[3, k], masses)
                eh, el, magnitude = masses[4], masses[5], masses[6]
            else:
                ch, cl, ah, al, eh, el, magnitude, lossy, lossy_gaps = _terms(
                    x, i, top[k], scale, index, given, weight, masses, entropy, lane
                )
            if ah == np.inf:
                hi[i], kind[i] = np.inf, 1
                continue
            h, l = facts[0, k], facts[1, k]
            lossy_gaps += lossy * (h + 750.0) * scale
            h, l = mul(h * scale, l * scale, ch, cl)
            h, l = add_positive(h, l, ah, al)
            size = abs(h) + magnitude * scale
            hi[i], lo[i] = add(h, l, eh * scale, el * scale)
            radius[i] = (relative * size * U2 + ((16.0 + 4.0 * classes) * (1.0 + ch) + 16.0 * lossy_gaps) * TINY) * UP
            if classes == 1 and magnitude == 0.0:
                radius[i] = 0.0


def loss_parts(x: NDArray[Any], target: Target, scale: float) -> Parts:
    """The loss of each of the rows x (rows, V), ignored rows as 0."""
    parts = Parts.empty(x.shape[0])
    relative = ADD * (2 * depth(x.shape[1]) + 3) + EXP + LOG1P + MUL + 20
    over_wide_rows(loss_rows, x, (*target.by_row(), *parts.arrays()), (*target.shared(), target.entropy, scale, relative))
    return parts
