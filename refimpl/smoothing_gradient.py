"""Gradients of the smoothed losses: dlogits_v = factor * (p_v C - c_v), for whole rows and at single classes.

The formulas, the derivation of the radius and what underflow loses stand in `refimpl.smoothing`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from refimpl.doubledouble import ADD, DIV, MUL, TINY, U2, add, add_float, add_positive, div, mul, mul_float
from refimpl.elementary import EXP
from refimpl.jit import frozen, inline, kernel, routine
from refimpl.reduce import UP, Parts, over_wide_rows
from refimpl.rows import REST_UNSCALE, add_class, collect, depth, exp_minus, gap, rest_sum, scan, scratch
from refimpl.smoothing import SMALL, Target, coefficient, lossy_of, mass


@inline
def _index_masses(classes: int, hit: bool, masses: Any) -> Any:
    """(the sum of t_v over v != m, C, lossy) of a class index, which is m where it is a `hit`: no more than a product and a sum."""
    if hit or classes == 1:
        oh, ol = mul_float(masses[2], masses[3], classes - 1.0)
    else:
        oh, ol = mul_float(masses[2], masses[3], classes - 2.0)
        oh, ol = add_positive(oh, ol, masses[0], masses[1])
    ch, cl = (1.0, 0.0) if classes > 1 else (masses[0], masses[1])
    return oh, ol, ch, cl, 2.0 * classes if 0.0 < masses[2] < SMALL else 0.0


@routine
def _masses(row: Any, i: int, m: int, index: Any, given: Any, weight: Any, masses: Any, lane: Any) -> Any:
    """The same for weights or a distribution."""
    lossy = 0.0
    for v in range(row.size):
        th, tl = mass(v, i, index, given, masses)
        h, l = coefficient(v, th, tl, weight)
        lossy += lossy_of(v, th, h, weight)
        add_class(lane, 0, v, h if v != m else 0.0, l if v != m else 0.0)  # the maximum's own coefficient is added last
    oh, ol = collect(lane, 0, row.size)
    th, tl = mass(m, i, index, given, masses)
    h, l = coefficient(m, th, tl, weight)
    ch, cl = add_positive(oh, ol, h, l)
    return oh, ol, ch, cl, lossy


@routine
def _slope(row: Any, i: int, m: int, top: float, scale: float, index: Any, given: Any, weight: Any, masses: Any, lane: Any) -> Any:
    """(rest, the sum of c_v over v != m, C/(1 + rest), C, lossy) of a row, as double-doubles but for the last two."""
    eh, el = rest_sum(row, m, top, scale, lane)
    rest, rest_l = eh * REST_UNSCALE, el * REST_UNSCALE
    if given.shape[0] == 0 and weight.size == 0:
        oh, ol, ch, cl, lossy = _index_masses(row.size, m == index[i], masses)
    else:
        oh, ol, ch, cl, lossy = _masses(row, i, m, index, given, weight, masses, lane)
    sh, sl = add_float(rest, rest_l, 1.0)
    qh, ql = div(ch, cl, sh, sl)
    return rest, rest_l, oh, ol, qh, ql, ch, lossy


@inline
def _difference(
    row: Any, v: int, i: int, m: int, top: float, scale: float, slope: Any, index: Any, given: Any, weight: Any, masses: Any
) -> Any:
    """(p_v C - c_v, the magnitude of its terms)."""
    rest, rest_l, oh, ol, qh, ql, _, _ = slope
    if v == m and rest < 1.0:
        th, tl = mul(qh, ql, rest, rest_l)
        h, l = add(oh, ol, -th, -tl)
        return h, l, oh + th
    h, l = gap(np.float64(row[v]), top, scale)
    h, l = exp_minus(h * (1.0 / scale), l * (1.0 / scale))
    h, l = mul(h, l, qh, ql)
    th, tl = mass(v, i, index, given, masses)
    th, tl = coefficient(v, th, tl, weight)
    magnitude = h * REST_UNSCALE + th
    h, l = add(h * REST_UNSCALE, l * REST_UNSCALE, -th, -tl)
    return h, l, magnitude


@inline
def _gradient(
    row: Any,
    v: int,
    i: int,
    m: int,
    top: float,
    scale: float,
    slope: Any,
    f: Any,
    relative: float,
    index: Any,
    given: Any,
    weight: Any,
    masses: Any,
) -> Any:
    """(hi, lo, radius) of f * (p_v C - c_v), for a factor f as (hi, lo, radius)."""
    h, l, magnitude = _difference(row, v, i, m, top, scale, slope, index, given, weight, masses)
    h, l = mul(h, l, f[0], f[1])
    if row.size == 1 or (magnitude == 0.0 and row[v] == -np.inf):
        return h, l, 0.0
    size, ch, lossy = abs(f[0]), slope[6], slope[7]
    lost = 16.0 * TINY * ((1.0 + size) * (1.0 + ch) + size * lossy)
    return h, l, ((relative * U2 * size + f[2]) * magnitude + lost) * UP


@kernel
def gradient_rows(
    start: int,
    stop: int,
    x: Any,
    index: Any,
    given: Any,
    kept: Any,
    factor_hi: Any,
    factor_lo: Any,
    factor_radius: Any,
    kind: Any,
    hi: Any,
    lo: Any,
    radius: Any,
    weight: Any,
    masses: Any,
    scale: float,
    relative: float,
) -> None:
    """factor_i * (p_v C - c_v) for rows start to stop; 0 for ignored rows and for a factor of 0, nan without a softmax."""
    lane = scratch()
    for i in range(start, stop):
        f = factor_hi[i], factor_lo[i], factor_radius[i]
        hi[i], lo[i], radius[i], kind[i] = 0.0, 0.0, 0.0, 0
        if kept[i] == 0 or (f[0] == 0.0 and f[2] == 0.0):
            continue
        row = x[i]
        m, top = scan(row)
        if m < 0 or f[0] != f[0]:
            kind[i] = 3
            continue
        slope = _slope(row, i, m, top, scale, index, given, weight, masses, lane)
        for v in range(row.size):
            hi[i, v], lo[i, v], radius[i, v] = _gradient(row, v, i, m, top, scale, slope, f, relative, index, given, weight, masses)


@kernel
def gradient_places(
    start: int,
    stop: int,
    x: Any,
    index: Any,
    given: Any,
    kept: Any,
    factor_hi: Any,
    factor_lo: Any,
    factor_radius: Any,
    first: Any,
    last: Any,
    label: Any,
    kind: Any,
    hi: Any,
    lo: Any,
    radius: Any,
    weight: Any,
    masses: Any,
    scale: float,
    relative: float,
) -> None:
    """The same at some classes of the rows start to stop, which are kept and have a factor: label[first_i] to label[last_i - 1]."""
    lane = scratch()
    for i in range(start, stop):
        f = factor_hi[i], factor_lo[i], factor_radius[i]
        row = x[i]
        m, top = scan(row)
        if m < 0:
            for n in range(first[i], last[i]):
                kind[n] = 3
            continue
        slope = _slope(row, i, m, top, scale, index, given, weight, masses, lane)
        for n in range(first[i], last[i]):
            hi[n], lo[n], radius[n] = _gradient(row, label[n], i, m, top, scale, slope, f, relative, index, given, weight, masses)


def _gradient_error(classes: int) -> float:
    return ADD * (2 * depth(classes) + 2) + 2 * EXP + DIV + 2 * MUL + 22


def gradient_parts(x: NDArray[Any], target: Target, factor: Parts, scale: float) -> Parts:
    """The gradient of sum_i factor_i * loss_i with respect to the rows x (rows, V)."""
    parts = Parts.empty(*x.shape)
    by_row = (*target.by_row(), *(frozen(array) for array in factor.arrays()[1:]), *parts.arrays())
    over_wide_rows(gradient_rows, x, by_row, (*target.shared(), scale, _gradient_error(x.shape[1])))
    return parts


def gradient_parts_at(x: NDArray[Any], target: Target, factor: Parts, scale: float, wanted: NDArray[np.bool_]) -> Parts:
    """The elements of that gradient that are `wanted` (rows, V), one after the other; their rows are kept and have a factor."""
    labels, ends = np.flatnonzero(wanted) % x.shape[1], np.cumsum(np.count_nonzero(wanted, axis=1))
    parts = Parts.empty(labels.size)
    first, last = np.concatenate([[0], ends[:-1]]), ends
    by_row = (*target.by_row(), *(frozen(array) for array in factor.arrays()[1:]), frozen(first), frozen(last))
    shared = (frozen(labels), *parts.arrays(), *target.shared(), scale, _gradient_error(x.shape[1]))
    over_wide_rows(gradient_places, x, by_row, shared)
    return parts
