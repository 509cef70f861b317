"""Kullback-Leibler divergence, KL(p || q): the relative entropy of two distributions.

    loss = sum_v p_v ln(p_v/q_v)        dp_v = ln(p_v/q_v) + 1        dq_v = -p_v/q_v

in nats. p and q are taken as given: they need not sum to 1 and are never renormalised or clipped.

Shapes
    p and q (..., V), the same for both; the loss has the shape (...).

Edges
    E1  A class with p_v = 0 contributes nothing, whatever q_v in [0, inf]; for q_v > 0, dp_v = -inf times the cotangent.
    E2  p_v > 0 with q_v = 0 gives the loss +inf, dp_v = +inf and dq_v = -inf, times the cotangent.
    E3  p_v = q_v = 0: neither derivative has a limit; they are undefined and not judged. A cotangent of 0 gives 0.
    E4  A nan in p_v or q_v has the loss of its row nan; the derivatives at v are not judged, the others stand.
    E5  p_v = +inf gives the loss +inf, q_v = +inf (with p_v > 0) the loss -inf, both at once nan.
        Infinities of both signs in a row give nan.
    E6  A negative number in p_v or q_v is answered like a nan.

Algorithm and error
    `refimpl.pointwise` (forms RELATIVE, RATIO), `refimpl.divergence` for what the losses of distributions share. ln(p/q) is
    log1p((p - q)/q) where the two are near, so each term has a small relative error, and one with p_v = q_v is exactly 0. Terms of
    both signs cancel in the sum; the radius is relative to the sum of their magnitudes.

Source: S. Kullback and R. A. Leibler, "On information and sufficiency", Ann. Math. Statist. 22(1), 1951. scipy.special.rel_entr is our
term, but +inf for a negative argument; scipy.special.kl_div adds q - p; scipy.stats.entropy renormalises; Keras clips.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from flint import arb

from refimpl import ball, divergence, pointwise, portable
from refimpl.ball import Ball
from refimpl.bounds import Float, form, over_classes, plus, stated, times, without
from refimpl.divergence import Loss, Rows
from refimpl.enclosure import Enclosure
from refimpl.operation import Clause, Example, Operation, Real, Variation, cotangent_of

INF, NAN = float("inf"), float("nan")


def kl_divergence(p: Any, q: Any) -> Enclosure:
    """Enclosures, shape (...), of KL(`p` || `q`), both (..., V), in nats; see the module's docstring for the edges.

    `p` and `q` are float64, float32, bfloat16 or float16, in one shape. Raises `InvalidInput` or `TypeError` for bad input.
    """
    return divergence.forward(LOSS, Rows.of(p, q), exact)


def kl_divergence_vjp(p: Any, q: Any, *, cotangent: Any) -> dict[str, Enclosure]:
    """{"p": ..., "q": ...}: enclosures of the gradients, for a finite `cotangent` of shape (...); arguments and errors as above."""
    return divergence.vjp(LOSS, Rows.of(p, q), cotangent, exact_vjp)


def exact(where: Sequence[int], bits: int, *, p: Any, q: Any) -> list[Ball]:
    """The output at the flat indices `where`, by definition, in ball arithmetic at `bits` bits."""
    return divergence.exact_loss(LOSS, Rows.of(p, q), where, bits)


def exact_vjp(name: str, where: Sequence[int], bits: int, *, cotangent: Any, p: Any, q: Any) -> list[Ball]:
    """The gradient at the flat indices `where`, by definition, in ball arithmetic at `bits` bits."""
    return divergence.exact_gradient(LOSS, Rows.of(p, q), name, where, bits, cotangent)


def _log_ratio(p: float, q: float) -> Ball:
    """ln(p/q); exactly 0 for p = q."""
    if 0.0 < p < INF and 0.0 < q < INF:
        return (arb(p) / arb(q)).log()
    return divergence.difference(divergence.log(p), divergence.log(q))


def _term(p: float, q: float) -> Ball:
    """p ln(p/q)."""
    return NAN if divergence.improper(p, q) else ball.times(divergence.number(p), _log_ratio(p, q))


def _slope(p: float, q: float) -> Ball:
    """ln(p/q) + 1."""
    return NAN if divergence.improper(p, q) else ball.total((_log_ratio(p, q), arb(1)))


LOSS = Loss(
    pointwise.RELATIVE,
    {"p": pointwise.RELATIVE, "q": pointwise.RATIO},
    _term,
    lambda p, q: (p, p / q),
    {"p": _slope, "q": divergence.ratio_slope},
)


def _logs(p: Float, q: Float) -> tuple[Float, Float]:
    """|ln(p/q)|, and its error, as a form, in the worst of the usual forms.

    ln p - ln q carries the errors of both logarithms, stored; ln(p/q) that of a quotient, unit and a store, and where the quotient
    underflows tiny/(p/q).
    """
    with np.errstate(all="ignore"):
        size = np.where((p > 0.0) & (q > 0.0), np.abs(portable.log(p) - portable.log(q)), 0.0)
        size = np.where((p < 2.0 * q) & (q < 2.0 * p), np.abs(portable.log1p((p - q) / q)), size)
        logs = divergence.log_size(p) + divergence.log_size(q)
        return size, form(logs.shape, log=logs, store=logs + 1.0, unit=1.0, tiny=np.abs(q / p))


def terms(*, p: Any, q: Any) -> Float:
    """Of p ln p - p ln q, p (ln p - ln q) and p ln(p/q) alike.

    Beside the logarithms' errors: the products p ln p and p ln q, or their difference and one product, and a store each.
    """
    rows = Rows.of(p, q)
    x, y = rows.p.reshape(rows.shape), rows.q.reshape(rows.shape)
    size, log_error = _logs(x, y)
    with np.errstate(all="ignore"):
        mass = np.where((x > 0.0) & (x < INF) & (y > 0.0) & (y < INF), x, 0.0)
        term = mass * size
        both = mass * (divergence.log_size(x) + divergence.log_size(y)) + 2.0 * term
        lost = np.where(mass > 0.0, 2.0, 0.0) + np.where(divergence.subnormal(rows.inputs["p"]), size, 0.0)
        error = plus(times(mass, log_error), unit=both, store=both, tiny=lost)
        return stated(over_classes(term, error))


def terms_vjp(*, cotangent: Any, p: Any, q: Any) -> dict[str, Float]:
    """g (ln(p/q) + 1), also as g (ln p + p/p) - g ln q: up to two roundings and stores for each part, and three for the sums.
    An underflow of g p is divided by p.

    -g p/q: `divergence.ratio_terms`.
    """
    rows = Rows.of(p, q)
    x, y = rows.p.reshape(rows.shape), rows.q.reshape(rows.shape)
    g = np.abs(cotangent_of(cotangent, rows.shape[:-1]))[..., None]
    size, log_error = _logs(x, y)
    with np.errstate(all="ignore"):
        both = g * (2.0 * (divergence.log_size(x) + divergence.log_size(y) + 1.0) + 3.0 * (size + 1.0))
        error = times(g * np.ones_like(x), log_error)
        plus(error, unit=both, store=both, tiny=3.0 + g + 1.0 / np.abs(x))
    return {"p": stated(without(g == 0.0, error)), "q": divergence.ratio_terms(rows, cotangent)}


NEAR_32 = [0.30000001192092896, 0.30000004172325134]  # float32 neighbours
CLAUSES = (
    Clause(
        "KLD-1",
        examples=(
            Example("order", {"p": [[0.25, 0.75]], "q": [[0.5, 0.5]]}),
            Example("order-swapped", {"p": [[0.5, 0.5]], "q": [[0.25, 0.75]]}),
            Example("one-hot-uniform", {"p": [[0.0, 1.0, 0.0, 0.0]], "q": [[0.25] * 4]}),
            Example("uniform", {"p": [[0.125] * 8], "q": [[0.5, 0.25, 0.0625, 0.0625, 0.0625, 0.03125, 0.015625, 0.015625]]}),
            Example("one-axis", {"p": [0.25, 0.75], "q": [0.75, 0.25]}),
            Example("dimensions", {"p": [[[0.5, 0.5], [0.25, 0.75]]], "q": [[[0.75, 0.25], [0.125, 0.875]]]}),
            Example("one-class", {"p": [[1.0], [0.5]], "q": [[1.0], [0.25]]}),
            Example("empty", {"p": np.zeros((0, 3)), "q": np.zeros((0, 3))}),
        ),
    ),
    Clause(
        "KLD-2",
        examples=(
            Example("unnormalised", {"p": [[0.25, 0.25], [2.0, 1.0]], "q": [[0.5, 0.25], [0.5, 2.0]]}),
            Example("near-0", {"p": [[0.5, 0.5]], "q": [[1.0, 2.0**-24]]}),
            Example("far-apart", {"p": [[4.0, 0.5]], "q": [[2.0**-1022, 0.5]]}, ("float64",)),
            Example("ratio-beyond-range", {"p": [[1e308, 1e-300]], "q": [[1e-300, 1e308]]}, ("float64",)),
            Example("huge", {"p": [[1.5e308, 1.0], [1e306, 2.0]], "q": [[0.125, 0.5], [0.125, 0.5]]}, ("float64",)),
        ),
    ),
    Clause(
        "KLD-3",
        "E1",
        (
            Example("zero-p", {"p": [[1.0, 0.0]], "q": [[0.5, 0.5]]}),
            Example("zero-both", {"p": [[1.0, 0.0]], "q": [[0.5, 0.0]]}),
            Example("gradient-at-0", {"p": [[0.0, 1.0]] * 3, "q": [[0.5, 0.5]] * 3, "cotangent": [1.5, -2.0, 0.0]}),
        ),
    ),
    Clause(
        "KLD-4",
        "E2",
        (
            Example("zero-q", {"p": [[0.5, 0.5]], "q": [[1.0, 0.0]]}),
            Example("zero-q-cotangents", {"p": [[0.5, 0.5]] * 3, "q": [[1.0, 0.0]] * 3, "cotangent": [1.5, -2.0, 0.0]}),
        ),
    ),
    Clause(
        "KLD-5",
        backward=True,
        examples=(
            Example("gradient", {"p": [[0.25, 0.5, 0.25], [0.125, 1.0, 0.5]], "q": [[0.5, 0.125, 0.375], [0.5, 0.25, 0.25]]}),
            Example("gradient-tiny", {"p": [[2.0**-24, 0.5]], "q": [[2.0**-23, 0.5]]}),
        ),
    ),
    Clause(
        "KLD-6",
        "E3",
        (Example("zeros-cotangent-0", {"p": [[0.0, 1.0]] * 2, "q": [[0.0, 1.0]] * 2, "cotangent": [0.0, 1.5]}),),
    ),
    Clause(
        "KLD-7",
        "E4",
        (Example("nan", {"p": [[NAN, 0.5], [0.5, 0.5], [0.0, 1.0]], "q": [[0.5, 0.5], [0.5, NAN], [NAN, 0.5]]}),),
    ),
    Clause(
        "KLD-8",
        "E6",
        (Example("negative", {"p": [[-0.5, 1.5], [0.5, 0.5]], "q": [[0.5, 0.5], [-0.5, 1.5]]}),),
    ),
    Clause(
        "KLD-9",
        "E5",
        (
            Example("infinite-q", {"p": [[0.5, 0.5]], "q": [[INF, 0.5]]}),
            Example("infinite-p", {"p": [[INF, 0.5]], "q": [[0.5, 0.5]]}),
            Example("both-infinite", {"p": [[INF, 0.5]], "q": [[INF, 0.5]]}),
            Example("both-signs", {"p": [[0.5, 0.5]], "q": [[INF, 0.0]]}),
        ),
    ),
    Clause(
        "KLD-10",
        examples=(
            Example("itself", {"p": [[0.25, 0.75], [1.0, 0.0]], "q": [[0.25, 0.75], [1.0, 0.0]]}),
            Example("near-float64", {"p": [[0.3, 0.7]], "q": [[0.30000000000000004, 0.7]]}, ("float64",)),
            Example("near-float32", {"p": [NEAR_32[:1]], "q": [NEAR_32[1:]]}, ("float64", "float32")),
            Example("near-bfloat16", {"p": [[0.30078125, 0.69921875]], "q": [[0.302734375, 0.69921875]]}),
            Example("near-normalised", {"p": [[0.25, 0.75]], "q": [[0.25390625, 0.74609375]]}),
        ),
    ),
    Clause(
        "KLD-11",
        examples=(
            Example("subnormal-float64", {"p": [[2.0**-1074, 1.0]], "q": [[0.5, 2.0**-1060]]}, ("float64",)),
            Example("subnormal-float32", {"p": [[2.0**-149, 1.0]], "q": [[0.5, 2.0**-133]]}, ("float64", "float32")),
            Example("subnormal-float16", {"p": [[2.0**-24, 1.0]], "q": [[0.5, 2.0**-16]]}),
            Example("subnormal-pair", {"p": [[3 * 2.0**-149]], "q": [[2 * 2.0**-149]]}, ("float64", "float32")),
        ),
    ),
)

OPERATION = Operation(
    name="kl_divergence",
    prefix="KLD",
    summary="Kullback-Leibler divergence of two distributions",
    inputs={"p": Real("... V"), "q": Real("... V")},
    parameters={},
    clauses=CLAUSES,
    variations=(Variation("distributions", {"p": "positive_probability", "q": "positive_probability"}, ("KLD-1", "KLD-5")),),
    forward=kl_divergence,
    vjp=kl_divergence_vjp,
    exact=exact,
    exact_vjp=exact_vjp,
    terms=terms,
    terms_vjp=terms_vjp,
)
