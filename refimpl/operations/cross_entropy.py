"""Cross entropy of two distributions.

    loss = -sum_v p_v ln q_v        dp_v = -ln q_v        dq_v = -p_v/q_v

in nats. p and q are taken as given: they need not sum to 1 and are never renormalised or clipped.

Shapes
    p and q (..., V), the same for both; the loss has the shape (...).

Edges
    E1  A class with p_v = 0 contributes nothing, whatever q_v in [0, inf]: 0 ln 0 = 0.
    E2  p_v > 0 with q_v = 0 gives the loss +inf, dp_v = +inf and dq_v = -inf, times the cotangent.
    E3  p_v = q_v = 0: neither derivative has a limit; they are undefined and not judged. A cotangent of 0 gives 0.
    E4  A nan in p_v or q_v has the loss of its row nan; the derivatives at v are not judged, the others stand.
    E5  q_v = +inf with p_v > 0 gives the loss -inf; p_v = +inf an infinity by the sign of -ln q_v, and nan for q_v = 1.
        Infinities of both signs in a row give nan.
    E6  A negative number in p_v or q_v is answered like a nan.

Algorithm and error
    `refimpl.pointwise` (forms CROSS, RATIO), `refimpl.divergence` for what the losses of distributions share. No term is negative for
    q_v <= 1; where q_v > 1 makes terms cancel, the radius is relative to the sum of their magnitudes.

Source: I. J. Good, "Some terminology and notation in information theory", Proc. IEE C 103(3), 1956. Keras clips q to
[1e-7, 1 - 1e-7] and so has a finite loss and a gradient of 0 where ours are infinite.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from refimpl import ball, divergence, pointwise
from refimpl.ball import Ball
from refimpl.bounds import Float, form, over_classes, stated, without
from refimpl.divergence import Loss, Rows
from refimpl.enclosure import Enclosure
from refimpl.operation import Clause, Example, Operation, Real, Variation, cotangent_of

INF, NAN = float("inf"), float("nan")


def cross_entropy(p: Any, q: Any) -> Enclosure:
    """Enclosures, shape (...), of the cross entropy of `p` relative to `q`, both (..., V), in nats; edges: the module's docstring.

    `p` and `q` are float64, float32, bfloat16 or float16, in one shape. Raises `InvalidInput` or `TypeError` for bad input.
    """
    return divergence.forward(LOSS, Rows.of(p, q), exact)


def cross_entropy_vjp(p: Any, q: Any, *, cotangent: Any) -> dict[str, Enclosure]:
    """{"p": ..., "q": ...}: enclosures of the gradients, for a finite `cotangent` of shape (...); arguments and errors as above."""
    return divergence.vjp(LOSS, Rows.of(p, q), cotangent, exact_vjp)


def exact(where: Sequence[int], bits: int, *, p: Any, q: Any) -> list[Ball]:
    """The output at the flat indices `where`, by definition, in ball arithmetic at `bits` bits."""
    return divergence.exact_loss(LOSS, Rows.of(p, q), where, bits)


def exact_vjp(name: str, where: Sequence[int], bits: int, *, cotangent: Any, p: Any, q: Any) -> list[Ball]:
    """The gradient at the flat indices `where`, by definition, in ball arithmetic at `bits` bits."""
    return divergence.exact_gradient(LOSS, Rows.of(p, q), name, where, bits, cotangent)


def _term(p: float, q: float) -> Ball:
    """-p ln q."""
    if divergence.improper(p, q) or (p == INF and q == 1.0):
        return NAN
    return ball.times(-divergence.number(p), divergence.log(q))


def _slope(p: float, q: float) -> Ball:
    """-ln q."""
    return NAN if divergence.improper(p, q) or p == q == 0.0 else -divergence.log(q)


LOSS = Loss(
    pointwise.CROSS,
    {"p": pointwise.CROSS, "q": pointwise.RATIO},
    _term,
    lambda p, q: (-p, q),
    {"p": _slope, "q": divergence.ratio_slope},
)


def terms(*, p: Any, q: Any) -> Float:
    """Each term carries the error of its logarithm (and a store) and of the product (unit, a store); then they are summed.

    A product may underflow; a p that is flushed is below tiny.
    """
    rows = Rows.of(p, q)
    x, y = rows.p.reshape(rows.shape), rows.q.reshape(rows.shape)
    log = divergence.log_size(y)
    with np.errstate(all="ignore"):
        size = np.where(x > 0.0, x, 0.0) * log
        lost = np.where(size > 0.0, 1.0, 0.0) + np.where(divergence.subnormal(rows.inputs["p"]), log, 0.0)
        return stated(over_classes(size, form(x.shape, unit=size, log=size, store=2.0 * size, tiny=lost)))


def terms_vjp(*, cotangent: Any, p: Any, q: Any) -> dict[str, Float]:
    """-g ln q: the logarithm, a product, a store each; -g p/q: `divergence.ratio_terms`."""
    rows = Rows.of(p, q)
    y, g = rows.q.reshape(rows.shape), np.abs(cotangent_of(cotangent, rows.shape[:-1]))[..., None]
    size = g * divergence.log_size(y)
    error = form(size.shape, log=size, unit=size, store=2.0 * size, tiny=1.0 + g)
    return {"p": stated(without(g == 0.0, error)), "q": divergence.ratio_terms(rows, cotangent)}


CLAUSES = (
    Clause(
        "CE-1",
        examples=(
            Example("halves", {"p": [[0.5, 0.5]], "q": [[0.5, 0.5]]}),
            Example("order", {"p": [[0.25, 0.75]], "q": [[0.5, 0.5]]}),
            Example("order-swapped", {"p": [[0.5, 0.5]], "q": [[0.25, 0.75]]}),
            Example("uniform", {"p": [[0.125] * 8], "q": [[0.5, 0.25, 0.0625, 0.0625, 0.0625, 0.03125, 0.015625, 0.015625]]}),
            Example("one-hot", {"p": [[0.0, 1.0, 0.0]], "q": [[0.25, 0.25, 0.5]]}),
            Example("one-axis", {"p": [0.25, 0.75], "q": [0.75, 0.25]}),
            Example("dimensions", {"p": [[[0.5, 0.5], [0.25, 0.75]]], "q": [[[0.75, 0.25], [0.125, 0.875]]]}),
            Example("one-class", {"p": [[1.0], [0.5]], "q": [[1.0], [0.25]]}),
            Example("empty", {"p": np.zeros((0, 3)), "q": np.zeros((0, 3))}),
        ),
    ),
    Clause(
        "CE-2",
        examples=(
            Example("unnormalised", {"p": [[0.25, 0.25], [2.0, 1.0]], "q": [[0.5, 0.25], [0.5, 2.0]]}),
            Example("near-0", {"p": [[0.5, 0.5]], "q": [[1.0, 2.0**-24]]}),
            Example("huge", {"p": [[1.5e308, 1.0], [1e306, 2.0]], "q": [[0.125, 0.5], [0.125, 0.5]]}, ("float64",)),
        ),
    ),
    Clause(
        "CE-3",
        "E1",
        (
            Example("zero-p", {"p": [[1.0, 0.0]], "q": [[0.5, 0.0]]}),
            Example("sure", {"p": [[1.0, 0.0]], "q": [[1.0, 0.0]]}),
            Example("zero-p-infinite-q", {"p": [[0.0, 1.0]], "q": [[INF, 0.5]]}),
        ),
    ),
    Clause(
        "CE-4",
        "E2",
        (
            Example("zero-q", {"p": [[0.5, 0.5]], "q": [[1.0, 0.0]]}),
            Example("zero-q-cotangents", {"p": [[0.5, 0.5]] * 3, "q": [[1.0, 0.0]] * 3, "cotangent": [1.5, -2.0, 0.0]}),
        ),
    ),
    Clause(
        "CE-5",
        backward=True,
        examples=(
            Example("gradient", {"p": [[0.25, 0.5, 0.25], [0.0, 1.0, 0.0]], "q": [[0.5, 0.125, 0.375], [0.5, 0.25, 0.25]]}),
            Example("gradient-tiny-q", {"p": [[2.0**-24, 0.5]], "q": [[2.0**-24, 0.5]]}),
        ),
    ),
    Clause(
        "CE-6",
        "E3",
        (Example("zeros-cotangent-0", {"p": [[0.0, 1.0]] * 2, "q": [[0.0, 1.0]] * 2, "cotangent": [0.0, 1.5]}),),
    ),
    Clause(
        "CE-7",
        "E4",
        (Example("nan", {"p": [[NAN, 0.5], [0.5, 0.5], [0.0, 1.0]], "q": [[0.5, 0.5], [0.5, NAN], [NAN, 0.5]]}),),
    ),
    Clause(
        "CE-8",
        "E6",
        (Example("negative", {"p": [[-0.5, 1.5], [0.5, 0.5]], "q": [[0.5, 0.5], [-0.5, 1.5]]}),),
    ),
    Clause(
        "CE-9",
        "E5",
        (
            Example("infinite-q", {"p": [[0.5, 0.5]], "q": [[INF, 0.5]]}),
            Example("infinite-p", {"p": [[INF, 0.5], [INF, 0.5]], "q": [[0.5, 0.5], [2.0, 0.5]]}),
            Example("both-signs", {"p": [[0.5, 0.5]], "q": [[INF, 0.0]]}),
        ),
    ),
    Clause(
        "CE-10",
        examples=(Example("itself", {"p": [[0.25, 0.75]], "q": [[0.25, 0.75]]}),),
    ),
    Clause(
        "CE-11",
        examples=(
            Example("subnormal-float64", {"p": [[2.0**-1074, 1.0]], "q": [[0.5, 2.0**-1060]]}, ("float64",)),
            Example("subnormal-float32", {"p": [[2.0**-149, 1.0]], "q": [[0.5, 2.0**-133]]}, ("float64", "float32")),
            Example("subnormal-float16", {"p": [[2.0**-24, 1.0]], "q": [[0.5, 2.0**-16]]}),
        ),
    ),
)

OPERATION = Operation(
    name="cross_entropy",
    prefix="CE",
    summary="cross entropy of two distributions",
    inputs={"p": Real("... V"), "q": Real("... V")},
    parameters={},
    clauses=CLAUSES,
    variations=(Variation("distributions", {"p": "probability", "q": "positive_probability"}, ("CE-1", "CE-3", "CE-5")),),
    forward=cross_entropy,
    vjp=cross_entropy_vjp,
    exact=exact,
    exact_vjp=exact_vjp,
    terms=terms,
    terms_vjp=terms_vjp,
)
