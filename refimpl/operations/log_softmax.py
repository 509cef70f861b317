"""The logarithm of the softmax: the step that every loss from logits shares.

For a row x of V logits, p = softmax(x):

    ln p_v = x_v - ln sum_u exp(x_u)        dlogits_v = g_v - p_v sum_u g_u for a cotangent g

Shapes
    logits (..., V), the class axis last; the output has the same shape.

Edges
    E1  x_v = -inf masks class v: ln p_v = -inf and p_v = 0.
    E2  A row that holds a nan or a +inf, or only -inf, gives nan throughout, in output and gradient.
    E3  V = 1: the output is 0 and so is the gradient.

Algorithm
    ln p_v = -(gap_v + log1p(rest)) with top, gap, rest as in `refimpl.rows`: two non-negative terms. With G = sum_u g_u,
    p_v G = e_v G/(1 + rest); for a maximum with rest < 1, g_m - p_m G = G rest/(1 + rest) - sum of g_u over u != m, so that p_m - 1 is
    never formed.

Error, in units of u^2. D = depth(V), ADD = 3.
    output      gap is exact, log1p(rest): ADD D + EXP + LOG1P; their sum ADD: relative to gap_v + log1p(rest)
    G           the positive and the negative terms in one sum, ADD D, the maximum's 2: relative to sum |g_u|
    gradient    e_v G/(1 + rest): G; 1 + rest ADD D + EXP + 2; DIV; EXP for e_v; a product MUL; a difference ADD: ADD (2 D + 1) +
                2 EXP + DIV + MUL + 4, relative to |g_v| + e_v/(1 + rest) sum |g_u|; for the maximum, rest's error enters
                rest/(1 + rest) once, damped, relative to sum |g_u| (1 + rest/(1 + rest))

Source: the log-sum-exp with the maximum taken out, Blanchard, Higham, Higham, "Accurately computing the log-sum-exp and softmax
functions", IMA J. Numer. Anal. 41(4), 2021.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from flint import arb

from refimpl import ball, rational, reduce
from refimpl.ball import Ball
from refimpl.bounds import Float, LogSoftmax, plus, stated, times
from refimpl.doubledouble import ADD, DIV, MUL, TINY, U2, add, add_float, add_positive, div, mul
from refimpl.elementary import EXP, LOG1P, log1p
from refimpl.enclosure import Enclosure
from refimpl.jit import frozen, kernel
from refimpl.operation import (
    WIDE,
    Clause,
    Example,
    Operation,
    Real,
    Variation,
    classes_last,
    cotangent_of,
)
from refimpl.reduce import UP, Parts, over_wide_rows
from refimpl.rows import REST_UNSCALE, add_class, collect, depth, exp_minus, gap, rest_sum, scan, scratch

INF, NAN = float("inf"), float("nan")


@kernel
def output_rows(start: int, stop: int, x: Any, kind: Any, hi: Any, lo: Any, radius: Any, scale: float, relative: float) -> None:
    """scale * ln p_v for rows start to stop."""
    lane = scratch()
    for i in range(start, stop):
        row = x[i]
        m, top = scan(row)
        if m < 0:
            kind[i] = 3
            continue
        eh, el = rest_sum(row, m, top, scale, lane)
        lh, ll = log1p(eh * REST_UNSCALE, el * REST_UNSCALE)
        lh, ll = lh * scale, ll * scale
        for v in range(row.size):
            h, l = gap(np.float64(row[v]), top, scale)
            if h == np.inf:
                kind[i, v] = 2
                hi[i, v] = -np.inf
                continue
            h, l = add_positive(h, l, lh, ll)
            hi[i, v], lo[i, v] = -h, -l
            radius[i, v] = (relative * U2 * h + 16.0 * TINY) * UP if row.size > 1 else 0.0


@kernel
def gradient_rows(start: int, stop: int, x: Any, g: Any, kind: Any, hi: Any, lo: Any, radius: Any, scale: float, relative: float) -> None:
    """g_v - p_v sum g for rows start to stop; a row whose cotangent is all 0 gives 0."""
    lane = scratch()
    unscale = 1.0 / scale
    for i in range(start, stop):
        row = x[i]
        size = 0.0
        for v in range(row.size):
            size += abs(g[i, v])
        if size == 0.0:
            continue
        m, top = scan(row)
        if m < 0:
            kind[i] = 3
            continue
        eh, el = rest_sum(row, m, top, scale, lane)
        rest, rest_l = eh * REST_UNSCALE, el * REST_UNSCALE
        for v in range(row.size):
            add_class(lane, 0, v, g[i, v] if v != m else 0.0, 0.0)
        oh, ol = collect(lane, 0, row.size)
        th, tl = add_float(oh, ol, g[i, m])
        sh, sl = add_float(rest, rest_l, 1.0)
        qh, ql = div(th, tl, sh, sl)
        before, after = (1.0, REST_UNSCALE) if abs(qh) < 2.0**60 else (REST_UNSCALE, 1.0)  # so that no product overflows
        for v in range(row.size):
            if v == m and rest < 1.0:
                h, l = mul(qh, ql, rest, rest_l)
                magnitude = size * (1.0 + rest / sh)
                h, l = add(h, l, -oh, -ol)
            else:
                eh, el = gap(np.float64(row[v]), top, scale)
                eh, el = exp_minus(eh * unscale, el * unscale)
                magnitude = abs(g[i, v]) + size * (eh * REST_UNSCALE) / sh
                h, l = mul(eh * before, el * before, qh, ql)
                h, l = add_float(-h * after, -l * after, g[i, v])
            hi[i, v], lo[i, v] = h, l
            exact = row.size == 1 or row[v] == -np.inf
            radius[i, v] = 0.0 if exact else (relative * U2 * magnitude + 16.0 * TINY * (1.0 + size)) * UP


def log_softmax(logits: Any) -> Enclosure:
    """Enclosures of ln softmax(logits) along the last axis; see the module's docstring for the definition and its edges.

    `logits` (..., V) is float64, float32, bfloat16 or float16. Raises `InvalidInput` or `TypeError` for bad input.
    """
    x = classes_last("logits", logits)
    rows, scale = reduce.class_rows("logits", x, -1), reduce.scale_of(x)
    parts = Parts.empty(*rows.shape)
    relative = ADD * (depth(rows.shape[1]) + 1) + EXP + LOG1P
    over_wide_rows(output_rows, rows, parts.arrays(), (scale, relative))
    return reduce.finish(parts.reshape(x.shape), scale, lambda where, bits: exact(where, bits, logits=x))


def log_softmax_vjp(logits: Any, *, cotangent: Any) -> dict[str, Enclosure]:
    """{"logits": enclosures of the gradient}, for a finite `cotangent` of the logits' shape; errors as above."""
    x = classes_last("logits", logits)
    g = cotangent_of(cotangent, x.shape)
    rows = reduce.class_rows("logits", x, -1)
    parts = Parts.empty(*rows.shape)
    relative = ADD * (2 * depth(rows.shape[1]) + 1) + 2 * EXP + DIV + MUL + 4
    over_wide_rows(gradient_rows, rows, (frozen(g.reshape(rows.shape)), *parts.arrays()), (reduce.scale_of(x), relative))
    result = reduce.finish(parts.reshape(x.shape), 1.0, lambda where, bits: exact_vjp("logits", where, bits, logits=x, cotangent=g))
    return {"logits": result}


def exact(where: Sequence[int], bits: int, *, logits: Any) -> list[Ball]:
    """The output at the flat indices `where`, by definition, in ball arithmetic at `bits` bits."""
    x = classes_last("logits", logits).astype(np.float64)
    rows = x.reshape(-1, x.shape[-1])
    with ball.precision(bits):
        by_row = {i: (ball.log_softmax(rows[i].tolist()), rational.softmax(rows[i])) for i in {int(flat) // x.shape[-1] for flat in where}}
        result: list[Ball] = []
        for flat in where:
            i, v = divmod(int(flat), x.shape[-1])
            log_p, softmax = by_row[i]
            if softmax is not None and softmax.near and softmax.count == 1 and rows[i, v] != -INF:  # P3
                result.append(rational.ball(-softmax.gap(v), -int(softmax.far)))
            else:
                result.append(math.nan if log_p is None else log_p[v])
        return result


def exact_vjp(name: str, where: Sequence[int], bits: int, *, logits: Any, cotangent: Any) -> list[Ball]:
    """The gradient at the flat indices `where`, by definition, in ball arithmetic at `bits` bits."""
    x = classes_last("logits", logits).astype(np.float64)
    rows = x.reshape(-1, x.shape[-1])
    g = cotangent_of(cotangent, x.shape).reshape(rows.shape)
    with ball.precision(bits):
        known: dict[int, Callable[[float, float, int], Ball]] = {}
        result: list[Ball] = []
        for flat in where:
            i, v = divmod(int(flat), x.shape[-1])
            if i not in known:
                known[i] = _gradient(rows[i], g[i])
            result.append(known[i](float(rows[i, v]), float(g[i, v]), v))
        return result


def _gradient(row: Float, g: Float) -> Callable[[float, float, int], Ball]:
    """g_v - p_v G of a row's classes; those with the same logit and cotangent share it."""
    log_p, softmax, total = ball.log_softmax(row.tolist()), rational.softmax(row), rational.summed(g)
    if not g.any():
        return lambda logit, factor, v: arb(0)
    if log_p is None or softmax is None:
        return lambda logit, factor, v: math.nan
    multiplier, found = rational.ball(total), dict[tuple[float, float], Ball]()

    def gradient(logit: float, factor: float, v: int) -> Ball:
        if (logit, factor) in found:
            return found[logit, factor]
        proved = softmax.probability(v)
        if proved is not None:  # P2
            p, side = proved
            value = rational.ball(Fraction(factor) - p * total, -side * rational.sign(total))
        else:
            value = arb(factor) - ball.exp(log_p[v]) * multiplier
        found[logit, factor] = value
        return value

    return gradient


def terms(*, logits: Any) -> Float:
    """The error of lp_v as `LogSoftmax` derives it, and what an underflow adds."""
    x = classes_last("logits", logits).astype(np.float64)
    return stated(plus(LogSoftmax.of(x).error(), tiny=4.0))


def terms_vjp(*, logits: Any, cotangent: Any) -> dict[str, Float]:
    """g_v - p_v G: the sum G, then p_v's relative error, a product and a store each, and a difference."""
    x = classes_last("logits", logits).astype(np.float64)
    g = cotangent_of(cotangent, x.shape)
    lp = LogSoftmax.of(x)
    size, total = np.abs(g).sum(axis=-1, keepdims=True), g.sum(axis=-1, keepdims=True)
    several = np.count_nonzero(g, axis=-1, keepdims=True) > 1
    with np.errstate(all="ignore"):
        product = lp.probability * np.abs(total)
        value = np.abs(g - lp.probability * total)
        result = plus(
            times(product, lp.relative()),
            unit=product + value,
            store=2.0 * product,
            classes=np.where(several, lp.probability * size, 0.0),
            tiny=4.0 + 2.0 * np.abs(total),
        )
    return {"logits": stated(result)}


X2 = [[1.0, 2.0, 3.0], [0.0, 0.0, 1.0]]
OPERATION = Operation(
    name="log_softmax",
    prefix="LSM",
    summary="the logarithm of the softmax along the last axis",
    inputs={"logits": Real("... V")},
    parameters={},
    clauses=(
        Clause(
            "LSM-1",
            examples=(
                Example("rows", {"logits": X2}),
                Example("vector", {"logits": [0.5, -1.0, 2.0, 0.0]}),
                Example("peaked", {"logits": [[40.0, 0.0], [8.0, 0.0]]}),
                Example("no-overflow", {"logits": [[1000.0, 0.0, 992.0]]}),
            ),
        ),
        Clause(
            "LSM-2",
            examples=(
                Example("gap-above-104", {"logits": [[0.0, -110.0]]}),
                Example("offset-1e7", {"logits": [[-1e7, -1e7, -9999999.0]]}, WIDE),
                Example("gap-beyond-range", {"logits": [[1.5e308, -1.5e308, 0.0]]}, ("float64",)),
            ),
        ),
        Clause(
            "LSM-3",
            backward=True,
            examples=(Example("gradient", {"logits": X2, "cotangent": [[1.0, -2.0, 0.5], [0.0, 3.0, -1.0]]}),),
        ),
        Clause(
            "LSM-4",
            "E1",
            (
                Example("masked", {"logits": [[0.0, -INF, 1.0]]}),
                Example("first-block-masked", {"logits": [[-INF] * 40 + [1.0, 0.0]]}),
            ),
        ),
        Clause(
            "LSM-5",
            "E2",
            (
                Example("nan", {"logits": [[0.0, NAN], [0.0, 1.0]]}),
                Example("plus-inf", {"logits": [[INF, 0.0]]}),
                Example("all-masked", {"logits": [[-INF, -INF]]}),
            ),
        ),
        Clause(
            "LSM-6",
            "E3",
            (Example("one-class", {"logits": [[2.5]]}),),
        ),
    ),
    variations=(Variation("rows", {"logits": "logits"}, ("LSM-1", "LSM-3")),),
    forward=log_softmax,
    vjp=log_softmax_vjp,
    exact=exact,
    exact_vjp=exact_vjp,
    terms=terms,
    terms_vjp=terms_vjp,
)
