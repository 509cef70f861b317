"""The entropy of the softmax of logits.

For a row x of V logits, p = softmax(x):

    H = -sum_v p_v ln p_v        dlogits_v = -p_v (ln p_v + H) for a cotangent of 1

Shapes
    logits (..., V), the class axis last; the output has the shape (...).

Edges
    E1  x_v = -inf masks class v: it contributes 0, and its gradient is 0.
    E2  A row that holds a nan or a +inf, or only -inf, gives nan in output and gradient.
    E3  V = 1, or all classes but one masked: the entropy is 0 and so is the gradient.

Algorithm
    With top, gap, rest as in `refimpl.rows`, e_v = exp(-gap_v), S = 1 + rest and T = sum of e_v gap_v,

        H = log1p(rest) + T/S        dlogits_v = p_v (gap_v - T/S)

    H is a sum of two non-negative terms. The gradient's difference cancels where a gap is near the mean gap; its radius says by
    how much.

Error, in units of u^2. D = depth(V), ADD = 3.
    T           e_v gap_v: EXP + MUL, summed: ADD D + EXP + MUL
    S           ADD D + EXP + 2
    H           max(ADD D + EXP + LOG1P, T + S + DIV) + ADD: OUTPUT = ADD (2 D + 1) + 2 EXP + DIV + MUL + 2, as LOG1P is at most
                ADD D + EXP + DIV + MUL
    gradient    p_v = e_v/S: S + EXP + DIV; T/S: T + S + DIV; the difference and two products ADD + 2 MUL:
                GRADIENT = ADD (3 D + 1) + 4 EXP + 2 DIV + 3 MUL + 4, relative to p_v (gap_v + T/S)

Source: the definition, with the log-sum-exp as in Blanchard, Higham, Higham, IMA J. Numer. Anal. 41(4), 2021.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from flint import arb

from refimpl import ball, rational, reduce
from refimpl.ball import Ball
from refimpl.bounds import Float, LogSoftmax, form, in_turn, over_classes, plus, stated, times, without
from refimpl.doubledouble import ADD, DIV, MUL, TINY, U2, add, add_float, add_positive, div, mul
from refimpl.elementary import EXP, log1p
from refimpl.enclosure import Enclosure
from refimpl.jit import frozen, inline, kernel
from refimpl.operation import WIDE, Clause, Example, Operation, Real, Variation, classes_last, cotangent_of
from refimpl.reduce import UP, Parts, over_wide_rows
from refimpl.rows import REST_UNSCALE, add_class, collect, depth, exp_minus, gap, rest_sum, scan, scratch

INF, NAN = float("inf"), float("nan")


@inline
def _mean_gap(row: Any, m: int, top: float, scale: float, lane: Any) -> Any:
    """(S, T, rest) as double-doubles."""
    unscale = 1.0 / scale
    eh, el = rest_sum(row, m, top, scale, lane)
    for v in range(row.size):
        gh, gl = gap(np.float64(row[v]), top, scale)
        gh, gl = gh * unscale, gl * unscale
        h, l = exp_minus(gh, gl)
        h, l = mul(h, l, gh, gl) if h > 0.0 else (0.0, 0.0)
        add_class(lane, 0, v, h, l)
    th, tl = collect(lane, 0, row.size)
    rest, rest_l = eh * REST_UNSCALE, el * REST_UNSCALE
    sh, sl = add_float(rest, rest_l, 1.0)
    return sh, sl, th * REST_UNSCALE, tl * REST_UNSCALE, rest, rest_l


@kernel
def output_rows(start: int, stop: int, x: Any, kind: Any, hi: Any, lo: Any, radius: Any, scale: float, relative: float) -> None:
    """The entropy of rows start to stop."""
    lane = scratch()
    for i in range(start, stop):
        row = x[i]
        m, top = scan(row)
        if m < 0:
            kind[i] = 3
            continue
        sh, sl, th, tl, rest, rest_l = _mean_gap(row, m, top, scale, lane)
        qh, ql = div(th, tl, sh, sl)
        h, l = log1p(rest, rest_l)
        hi[i], lo[i] = add_positive(h, l, qh, ql)
        radius[i] = (relative * U2 * hi[i] + (16.0 + 8.0 * row.size) * TINY) * UP if row.size > 1 else 0.0


@kernel
def gradient_rows(start: int, stop: int, x: Any, g: Any, kind: Any, hi: Any, lo: Any, radius: Any, scale: float, relative: float) -> None:
    """g p_v (gap_v - T/S) for rows start to stop; a cotangent of 0 gives 0."""
    lane = scratch()
    unscale = 1.0 / scale
    for i in range(start, stop):
        row = x[i]
        if g[i] == 0.0:
            continue
        m, top = scan(row)
        if m < 0:
            kind[i] = 3
            continue
        sh, sl, th, tl, _, _ = _mean_gap(row, m, top, scale, lane)
        mh, ml = div(th, tl, sh, sl)
        qh, ql = div(g[i], 0.0, sh, sl)
        for v in range(row.size):
            gh, gl = gap(np.float64(row[v]), top, scale)
            gh, gl = gh * unscale, gl * unscale
            ph, pl = exp_minus(gh, gl)
            magnitude = 0.0
            if ph > 0.0:
                h, l = add(gh, gl, -mh, -ml)
                h, l = mul(h, l, ph, pl)
                h, l = h * REST_UNSCALE, l * REST_UNSCALE
                hi[i, v], lo[i, v] = mul(h, l, qh, ql)
                magnitude = ph * REST_UNSCALE * (gh + mh) * abs(qh)
            exact = row.size == 1 or row[v] == -np.inf
            lost = (16.0 + 8.0 * row.size) * TINY * unscale  # a gap is a multiple of TINY * unscale
            radius[i, v] = 0.0 if exact else (relative * U2 * magnitude + lost * (1.0 + abs(g[i]))) * UP


def entropy_with_logits(logits: Any) -> Enclosure:
    """Enclosures of the entropy of softmax(logits) along the last axis; see the module's docstring for definition and edges.

    `logits` (..., V) is float64, float32, bfloat16 or float16; the result has the shape (...), in nats. Raises `InvalidInput` or
    `TypeError` for bad input.
    """
    x = classes_last("logits", logits)
    rows, scale = reduce.class_rows("logits", x, -1), reduce.scale_of(x)
    parts = Parts.empty(rows.shape[0])
    relative = ADD * (2 * depth(rows.shape[1]) + 1) + 2 * EXP + DIV + MUL + 2
    over_wide_rows(output_rows, rows, parts.arrays(), (scale, relative))
    return reduce.finish(parts.reshape(x.shape[:-1]), 1.0, lambda where, bits: exact(where, bits, logits=x))


def entropy_with_logits_vjp(logits: Any, *, cotangent: Any) -> dict[str, Enclosure]:
    """{"logits": enclosures of the gradient}, for a finite `cotangent` of the output's shape; errors as above."""
    x = classes_last("logits", logits)
    g = cotangent_of(cotangent, x.shape[:-1])
    rows = reduce.class_rows("logits", x, -1)
    parts = Parts.empty(*rows.shape)
    relative = ADD * (3 * depth(rows.shape[1]) + 1) + 4 * EXP + 2 * DIV + 3 * MUL + 4
    over_wide_rows(gradient_rows, rows, (frozen(g.reshape(-1)), *parts.arrays()), (reduce.scale_of(x), relative))
    result = reduce.finish(parts.reshape(x.shape), 1.0, lambda where, bits: exact_vjp("logits", where, bits, logits=x, cotangent=g))
    return {"logits": result}


def _exact_entropy(log_p: Sequence[Ball]) -> Ball:
    counts, known = Counter(map(id, log_p)), {id(lp): lp for lp in log_p}  # classes of one logit have one ball
    terms = ((ball.times(-ball.exp(lp), lp), counts[key]) for key, lp in known.items())
    return ball.total(term * count for term, count in terms)


def exact(where: Sequence[int], bits: int, *, logits: Any) -> list[Ball]:
    """The output at the flat indices `where`, by definition, in ball arithmetic at `bits` bits."""
    x = classes_last("logits", logits).astype(np.float64)
    rows = x.reshape(-1, x.shape[-1])
    with ball.precision(bits):
        log_ps = (ball.log_softmax(rows[int(i)].tolist()) for i in where)
        return [math.nan if log_p is None else _exact_entropy(log_p) for log_p in log_ps]


def exact_vjp(name: str, where: Sequence[int], bits: int, *, logits: Any, cotangent: Any) -> list[Ball]:
    """The gradient at the flat indices `where`, by definition, in ball arithmetic at `bits` bits."""
    x = classes_last("logits", logits).astype(np.float64)
    rows = x.reshape(-1, x.shape[-1])
    g = cotangent_of(cotangent, x.shape[:-1]).reshape(-1)
    with ball.precision(bits):
        result: list[Ball] = []
        known: dict[int, tuple[tuple[Ball, ...] | None, Ball, bool]] = {}
        found: dict[tuple[int, float], Ball] = {}
        for flat in where:
            i, v = divmod(int(flat), x.shape[-1])
            if i not in known:
                log_p, softmax = ball.log_softmax(rows[i].tolist()), rational.softmax(rows[i])
                flat = softmax is not None and softmax.near and not softmax.far
                known[i] = log_p, math.nan if log_p is None else _exact_entropy(log_p), flat
            log_p, entropy, flat = known[i]
            like = i, float(rows[i, v])
            if g[i] == 0.0 or flat:  # P5
                result.append(arb(0))
            elif log_p is None:
                result.append(math.nan)
            elif like in found:  # classes of one logit share their value
                result.append(found[like])
            else:
                p = ball.exp(log_p[v])
                found[like] = ball.times(p * -float(g[i]), arb(0) if ball.is_zero(p) else log_p[v] + entropy)
                result.append(found[like])
        return result


def terms(*, logits: Any) -> Float:
    """-sum p_v lp_v: each factor's error, a product, the sum."""
    lp = LogSoftmax.of(classes_last("logits", logits).astype(np.float64))
    size, errors = _errors(lp)
    return stated(over_classes(size, errors))


def _errors(lp: LogSoftmax, whole: bool = False) -> tuple[Float, Float]:
    """p_v |lp_v| and the error of each as computed; an underflow of p_v is multiplied by |lp_v|, one of the product isn't."""
    with np.errstate(all="ignore"):
        log = np.where(lp.masked, 0.0, np.abs(lp.value))
        size = lp.probability * log
        error = times(size, lp.relative()) + times(lp.probability, lp.error(whole))
        return size, plus(error, unit=2.0 * size, store=size, tiny=np.where(np.isneginf(lp.logits), 0.0, 1.0 + lp.within_reach))


def terms_vjp(*, logits: Any, cotangent: Any) -> dict[str, Float]:
    """g p_v (lp_v + H).

    Differentiation of -sum p lp gives the row -(lp_v + 1) g for p and -p_v g for lp: p_v ((lp_v + 1) - sum_u p_u (lp_u + 1)) and
    p_v - p_v sum_u p_u, whose terms of 1 cancel; both of the sums of them count with the error of p_v. An underflow of p_v is
    multiplied by g and the bracket, one of g p_v by the bracket alone.
    """
    x = classes_last("logits", logits).astype(np.float64)
    g = np.abs(cotangent_of(cotangent, x.shape[:-1]))[..., None]
    lp = LogSoftmax.of(x)
    terms, errors = _errors(lp, whole=True)
    with np.errstate(all="ignore"):
        entropy = terms.sum(axis=-1, keepdims=True)
        relative = lp.relative()
        sums = in_turn(errors + times(lp.probability, relative), -2)[..., None, :] + form(entropy.shape, classes=entropy + 2.0)
        size = np.where(lp.masked, 0.0, np.abs(lp.value)) + entropy + 2.0
        own = plus(times(size, relative), unit=6.0 * size, store=2.0 * size)
        error = times(g * lp.probability, own + lp.error(whole=True) + sums)
        lost = lp.within_reach + entropy + 2.0
        plus(error, tiny=4.0 + (1.0 + g) * lost + 4.0 * g * (1.0 + entropy))
    return {"logits": stated(without(g == 0.0, error))}


X2 = [[1.0, 2.0, 3.0], [0.0, 0.0, 1.0]]
OPERATION = Operation(
    name="entropy_with_logits",
    prefix="EWL",
    summary="the entropy of the softmax of logits",
    inputs={"logits": Real("... V")},
    parameters={},
    clauses=(
        Clause(
            "EWL-1",
            examples=(
                Example("rows", {"logits": X2}),
                Example("uniform", {"logits": [[0.0, 0.0, 0.0, 0.0]]}),
                Example("peaked", {"logits": [[40.0, 0.0], [8.0, 0.0]]}),
                Example("vector", {"logits": [0.5, -1.0, 2.0, 0.0]}),
            ),
        ),
        Clause(
            "EWL-2",
            examples=(
                Example("gap-above-104", {"logits": [[0.0, -110.0]]}),
                Example("offset-1e7", {"logits": [[1e7, 1e7]]}, WIDE),
                Example("fp16-ends", {"logits": [[65504.0, -65504.0]]}, ("float64", "float32", "float16")),
            ),
        ),
        Clause(
            "EWL-3",
            backward=True,
            examples=(Example("gradient", {"logits": X2, "cotangent": [2.0, -0.5]}),),
        ),
        Clause(
            "EWL-4",
            "E1",
            (Example("masked", {"logits": [[0.0, -INF, 1.0]]}),),
        ),
        Clause(
            "EWL-5",
            "E2",
            (
                Example("nan", {"logits": [[0.0, NAN], [0.0, 1.0]]}),
                Example("plus-inf", {"logits": [[INF, 0.0]]}),
                Example("all-masked", {"logits": [[-INF, -INF]]}),
            ),
        ),
        Clause(
            "EWL-6",
            "E3",
            (Example("one-class", {"logits": [[2.5]]}), Example("one-left", {"logits": [[-INF, 1.0, -INF]]})),
        ),
    ),
    variations=(Variation("rows", {"logits": "logits"}, ("EWL-1", "EWL-3")),),
    forward=entropy_with_logits,
    vjp=entropy_with_logits_vjp,
    exact=exact,
    exact_vjp=exact_vjp,
    terms=terms,
    terms_vjp=terms_vjp,
)
