"""Rows of the smoothed losses: a softmax against a target that is one class, smoothed, or a distribution.

For a row x of V logits and coefficients c_v = w_v t_v >= 0 (class weight times target mass)

    loss = sum_v c_v (lse - x_v) [+ sum_v c_v ln t_v]        dlogits_v = p_v C - c_v,  C = sum_v c_v

The target's mass is t_y = on and t_v = off for v != y, or t_v = keep * s_v + off for a given distribution s.

Algorithm. With top, gap, rest as in `rows`:

    loss = C * log1p(rest) + sum_v c_v gap_v         terms >= 0: nothing cancels until the target's entropy is subtracted
    dlogits_v = e_v * C/(1 + rest) - c_v                          for v != m, e_v = exp(-gap_v)
    dlogits_m = (sum of c_v over v != m) - C * rest/(1 + rest)    so p_m - 1 is never formed

A class with c_v = 0 contributes nothing, whatever its gap.

Error, in units of u^2, relative to the sum of the magnitudes of the terms. D = depth(V).
    masses      on, off, keep                       20   (a quotient, 16, and a sum, 4)
    c_v         w_v t_v                             24   (+ 2 for the weight, + 2 for keep * s_v)
    C           sum of c_v                          3 D + 24
    rest        `rows.sums`                         3 D + EXP
    log1p(rest) rest's error is damped              3 D + EXP + LOG1P
    C * log1p   a product, 7                        6 D + EXP + LOG1P + 31
    c_v gap_v   a product, 7, and sums              3 D + 31
    c_v ln t_v  relative to c_v |ln t_v| + c_v      3 D + LOG + 20 + 31: an error e of t_v moves ln t_v by e
    loss        the largest of these, two sums 8    LOSS(V) = 6 D + EXP + LOG1P + 39, as D >= 9
    gradient    e_v C/(1 + rest): C 3 D + 24, 1 + rest 3 D + EXP + 4, DIV, e_v EXP, a product 7, the difference 4, the product with a
                factor, beside that factor's own error, 7: GRADIENT(V) = 6 D + 2 EXP + DIV + 46. For v = m, rest takes e_v's place, and
                its 3 D + EXP enters rest/(1 + rest) once, damped, instead of 1 + rest's

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

from refimpl.doubledouble import DIV, TINY, U2, add, add_positive, div, mul, mul_float, two_sum
from refimpl.elementary import EXP, LOG1P, log, log1p
from refimpl.jit import frozen, inline, kernel, over_rows
from refimpl.reduce import UP, Parts
from refimpl.rows import BLOCK, LANES, REST_UNSCALE, accumulate, clear, collect, depth, end_block, exp_minus, gap, scan, scratch, sums

SMALL = 2.0**-900  # below this, a product may have lost bits to underflow


@dataclass(frozen=True)
class Target:
    """What every row is compared with.

    `index` (rows,) holds the class of each row and `given` is empty, or `given` (rows, V) holds distributions. `weight` (V,) may be
    empty. `masses` are the double-doubles on (or keep), off, as (on_hi, on_lo, off_hi, off_lo). `kept` is 0 for ignored rows.
    `entropy` says whether sum_v c_v ln t_v is added.
    """

    index: NDArray[np.int64]
    given: NDArray[np.float64]
    weight: NDArray[np.float64]
    masses: NDArray[np.float64]
    kept: NDArray[np.uint8]
    entropy: bool

    def arrays(self) -> tuple[NDArray[Any], ...]:
        return tuple(frozen(array) for array in (self.index, self.given, self.weight, self.masses, self.kept))


@kernel
def smoothed_masses(smoothing: float, classes: float, only_others: bool, result: Any) -> None:
    """on, off of a smoothed class index: off = s/V, on = 1 - s + s/V; or, over the other classes alone, s/(V-1) and 1 - s."""
    oh, ol = two_sum(1.0, -smoothing)
    result[2], result[3] = 0.0, 0.0
    shared = classes - 1.0 if only_others else classes
    if smoothing > 0.0 and shared > 0.0:
        result[2], result[3] = div(smoothing, 0.0, shared, 0.0)
        result[2] = max(result[2], TINY)
        if not only_others:
            oh, ol = add(oh, ol, result[2], result[3])
    result[0], result[1] = oh, ol


@inline
def _mass(v: int, i: int, index: Any, given: Any, masses: Any) -> Any:
    """t_v of row i."""
    if given.shape[0] > 0:
        h, l = mul_float(masses[0], masses[1], given[i, v])
        return add_positive(h, l, masses[2], masses[3])
    if v == index[i]:
        return masses[0], masses[1]
    return masses[2], masses[3]


@inline
def _coefficient(v: int, th: float, tl: float, weight: Any) -> Any:
    """c_v = w_v t_v."""
    if weight.size == 0:
        return th, tl
    h, l = mul_float(th, tl, weight[v])
    return (TINY if h == 0.0 and th > 0.0 and weight[v] > 0.0 else h), l


@inline
def _lossy(v: int, th: float, ch: float, weight: Any) -> float:
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


@kernel
def loss_rows(
    start: int,
    stop: int,
    x: Any,
    index: Any,
    given: Any,
    weight: Any,
    masses: Any,
    kept: Any,
    entropy: bool,
    scale: float,
    relative: float,
    kind: Any,
    hi: Any,
    lo: Any,
    radius: Any,
) -> None:
    """The loss of rows start to stop, scaled by `scale`; an ignored row is 0, one without a softmax nan."""
    lane = scratch()
    classes = x.shape[1]
    plain = given.shape[0] == 0 and weight.size == 0
    for i in range(start, stop):
        hi[i], lo[i], radius[i], kind[i] = 0.0, 0.0, 0.0, 0
        if kept[i] == 0:
            continue
        row = x[i]
        m, top = scan(row)
        if m < 0:
            kind[i] = 3
            continue
        eh, el, gh, gl = sums(row, m, index[i] if plain else -1, top, scale, lane)
        # A = sum of c_v gap_v, C = sum of c_v, E = sum of c_v ln t_v (negative for masses below 1)
        Eh, El, magnitude = 0.0, 0.0, 0.0
        lossy, lossy_gaps = 0.0, 0.0  # sums of 1 + w_v, and of (1 + w_v) gap_v, over the classes touched by underflow
        if plain:
            ah, al = _times(masses[2], masses[3], gh, gl)
            h, l = gap(np.float64(row[index[i]]), top, scale)
            h, l = _times(masses[0], masses[1], h, l)
            infinite = ah == np.inf or h == np.inf
            if 0.0 < masses[2] < SMALL and not infinite:
                lossy, lossy_gaps = 2.0 * classes, 2.0 * gh
            ah, al = add_positive(ah, al, h, l)
            ch, cl = (1.0, 0.0) if classes > 1 else (masses[0], masses[1])
            if entropy:
                for part in range(2):
                    th, tl = masses[2 * part], masses[2 * part + 1]
                    if th > 0.0 and (th != 1.0 or tl != 0.0) and (part == 0 or classes > 1):
                        h, l = log(th, tl)
                        h, l = mul(h, l, th, tl)
                        if part == 1:
                            h, l = mul_float(h, l, classes - 1.0)
                            th *= classes - 1.0
                        Eh, El = add(Eh, El, h, l)
                        magnitude += abs(h) + th
        else:
            infinite = False
            clear(lane)
            for v in range(classes):
                if v % BLOCK == 0 and v > 0:
                    end_block(lane, 0, v)
                    end_block(lane, 2, v)
                th, tl = _mass(v, i, index, given, masses)
                h, l = _coefficient(v, th, tl, weight)
                if h == 0.0:
                    continue
                accumulate(lane, 0, v % LANES, h, l)
                zh, zl = gap(np.float64(row[v]), top, scale)
                if zh == np.inf:
                    infinite = True
                    continue
                touched = _lossy(v, th, h, weight)
                lossy += touched
                lossy_gaps += touched * zh
                zh, zl = mul(h, l, zh, zl)
                accumulate(lane, 2, v % LANES, zh, zl)
                if entropy and (th != 1.0 or tl != 0.0):
                    zh, zl = log(th, tl)
                    zh, zl = mul(zh, zl, h, l)
                    Eh, El = add(Eh, El, zh, zl)
                    magnitude += abs(zh) + h
            ch, cl = collect(lane, 0)
            ah, al = collect(lane, 2)
        if infinite:
            hi[i], kind[i] = np.inf, 1
            continue
        h, l = log1p(eh * REST_UNSCALE, el * REST_UNSCALE)
        lossy_gaps += lossy * (h + 750.0) * scale
        h, l = mul(h * scale, l * scale, ch, cl)
        h, l = add_positive(h, l, ah, al)
        size = abs(h) + magnitude * scale
        h, l = add(h, l, Eh * scale, El * scale)
        extra = 4.0 * classes * magnitude * scale if not plain else 0.0
        hi[i], lo[i] = h, l
        radius[i] = ((relative * size + extra) * U2 + ((16.0 + 4.0 * classes) * (1.0 + ch) + 16.0 * lossy_gaps) * TINY) * UP
        if classes == 1 and magnitude == 0.0:
            radius[i] = 0.0


@kernel
def gradient_rows(
    start: int,
    stop: int,
    x: Any,
    index: Any,
    given: Any,
    weight: Any,
    masses: Any,
    kept: Any,
    factor_hi: Any,
    factor_lo: Any,
    factor_radius: Any,
    scale: float,
    relative: float,
    kind: Any,
    hi: Any,
    lo: Any,
    radius: Any,
) -> None:
    """factor_i * (p_v C - c_v) for rows start to stop; 0 for ignored rows and for a factor of 0, nan without a softmax."""
    lane = scratch()
    classes = x.shape[1]
    unscale = 1.0 / scale
    for i in range(start, stop):
        fh, fl, fr = factor_hi[i], factor_lo[i], factor_radius[i]
        hi[i], lo[i], radius[i], kind[i] = 0.0, 0.0, 0.0, 0
        if kept[i] == 0 or (fh == 0.0 and fr == 0.0):
            continue
        row = x[i]
        m, top = scan(row)
        if m < 0 or fh != fh:
            kind[i] = 3
            continue
        eh, el, _, _ = sums(row, m, -1, top, scale, lane)
        rest, rest_l = eh * REST_UNSCALE, el * REST_UNSCALE
        # C without the maximum's own coefficient, which is added last
        lossy = 0.0
        clear(lane)
        for v in range(classes):
            if v % BLOCK == 0 and v > 0:
                end_block(lane, 0, v)
            if v != m:
                th, tl = _mass(v, i, index, given, masses)
                h, l = _coefficient(v, th, tl, weight)
                lossy += _lossy(v, th, h, weight)
                accumulate(lane, 0, v % LANES, h, l)
        oh, ol = collect(lane, 0)
        th, tl = _mass(m, i, index, given, masses)
        h, l = _coefficient(m, th, tl, weight)
        lossy += _lossy(m, th, h, weight)
        ch, cl = add_positive(oh, ol, h, l)
        sh, sl = add_positive(1.0, 0.0, rest, rest_l)
        qh, ql = div(ch, cl, sh, sl)
        size = abs(fh)
        for v in range(classes):
            if v == m:
                th, tl = mul(qh, ql, rest, rest_l)
                h, l = add(oh, ol, -th, -tl)
                magnitude = oh + th
            else:
                h, l = gap(np.float64(row[v]), top, scale)
                h, l = exp_minus(h * unscale, l * unscale)
                h, l = mul(h, l, qh, ql)
                th, tl = _mass(v, i, index, given, masses)
                th, tl = _coefficient(v, th, tl, weight)
                magnitude = h * REST_UNSCALE + th
                h, l = add(h * REST_UNSCALE, l * REST_UNSCALE, -th, -tl)
            hi[i, v], lo[i, v] = mul(h, l, fh, fl)
            exact = classes == 1 or (magnitude == 0.0 and row[v] == -np.inf)
            lost = 16.0 * TINY * ((1.0 + size) * (1.0 + ch) + size * lossy)
            radius[i, v] = 0.0 if exact else ((relative * U2 * size + fr) * magnitude + lost) * UP


def loss_parts(x: NDArray[Any], target: Target, scale: float) -> Parts:
    """The loss of each of the rows x (rows, V), ignored rows as 0."""
    parts = Parts.empty(x.shape[0])
    relative = 6 * depth(x.shape[1]) + EXP + LOG1P + 39
    over_rows(loss_rows, x.shape[0], x.size, x, *target.arrays(), target.entropy, scale, relative, *parts.arrays())
    return parts


def gradient_parts(x: NDArray[Any], target: Target, factor: Parts, scale: float) -> Parts:
    """The gradient of sum_i factor_i * loss_i with respect to the rows x (rows, V)."""
    parts = Parts.empty(*x.shape)
    relative = 6 * depth(x.shape[1]) + 2 * EXP + DIV + 46
    factors = (frozen(array) for array in factor.arrays()[1:])
    over_rows(gradient_rows, x.shape[0], x.size, x, *target.arrays(), *factors, scale, relative, *parts.arrays())
    return parts
