"""Entropy of a distribution.

    loss = -sum_v p_v ln p_v        dp_v = -(ln p_v + 1)

in nats. p is taken as given: it need not sum to 1 and is never renormalised.

Shapes
    p (..., V); the loss has the shape (...).

Edges
    E1  0 ln 0 = 0: a class with p_v = 0 contributes nothing.
    E2  dp_v at p_v = 0 is the one-sided limit, +inf, times the cotangent; a cotangent of 0 gives 0.
    E3  A nan has the loss of its row nan; its own derivative is not judged, the others stand.
    E4  p_v = +inf gives the loss -inf and the derivative -inf.
    E5  A negative p_v is answered like a nan.

Algorithm and error
    `refimpl.pointwise` (form ENTROPY), `refimpl.divergence` for what the losses of distributions share. No term is negative for
    p_v <= 1; where p_v > 1 makes terms cancel, the radius is relative to the sum of their magnitudes.

Source: C. E. Shannon, "A mathematical theory of communication", Bell System Technical Journal 27, 1948, section 6.
scipy.special.entr is -inf for a negative p, where ours is nan; scipy.stats.entropy renormalises.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from flint import arb

from refimpl import ball, divergence, pointwise, portable
from refimpl.ball import Ball
from refimpl.bounds import Float, form, over_classes, stated, without
from refimpl.divergence import Loss, Rows
from refimpl.enclosure import Enclosure
from refimpl.operation import Clause, Example, Operation, Real, Variation, cotangent_of

INF, NAN = float("inf"), float("nan")


def entropy(p: Any) -> Enclosure:
    """Enclosures, shape (...), of the entropy of `p` (..., V), in nats; see the module's docstring for the edges.

    `p` is float64, float32, bfloat16 or float16. Raises `InvalidInput` or `TypeError` for bad input.
    """
    return divergence.forward(LOSS, Rows.of(p), exact)


def entropy_vjp(p: Any, *, cotangent: Any) -> dict[str, Enclosure]:
    """{"p": enclosures of the gradient}, for a finite `cotangent` of shape (...); arguments and errors as above."""
    return divergence.vjp(LOSS, Rows.of(p), cotangent, exact_vjp)


def exact(where: Sequence[int], bits: int, *, p: Any) -> list[Ball]:
    """The output at the flat indices `where`, by definition, in ball arithmetic at `bits` bits."""
    return divergence.exact_loss(LOSS, Rows.of(p), where, bits)


def exact_vjp(name: str, where: Sequence[int], bits: int, *, cotangent: Any, p: Any) -> list[Ball]:
    """The gradient at the flat indices `where`, by definition, in ball arithmetic at `bits` bits."""
    return divergence.exact_gradient(LOSS, Rows.of(p), name, where, bits, cotangent)


def _term(p: float, _: float) -> Ball:
    """-p ln p."""
    return NAN if divergence.improper(p) else ball.times(-divergence.number(p), divergence.log(p))


def _slope(p: float, _: float) -> Ball:
    """-(ln p + 1)."""
    return NAN if divergence.improper(p) else divergence.difference(-divergence.log(p), arb(1))


LOSS = Loss(pointwise.ENTROPY, {"p": pointwise.ENTROPY}, _term, lambda p, _: (-p, p), {"p": _slope})


def terms(*, p: Any) -> Float:
    """Each term carries the error of its logarithm (and a store) and of the product (unit, a store); then they are summed.

    A product may underflow; a p that is flushed is below tiny.
    """
    rows = Rows.of(p)
    x = rows.p.reshape(rows.shape)
    log = divergence.log_size(x)
    with np.errstate(all="ignore"):
        size = np.where(x > 0.0, x, 0.0) * log
        lost = np.where(size > 0.0, 1.0, 0.0) + np.where(divergence.subnormal(rows.inputs["p"]), log, 0.0)
        return stated(over_classes(size, form(x.shape, unit=size, log=size, store=2.0 * size, tiny=lost)))


def terms_vjp(*, cotangent: Any, p: Any) -> dict[str, Float]:
    """-g (ln p + 1), or g ln p and g p/p apart: each up to two roundings and stores beside the logarithm's, and two for their sum.

    An underflow of g p is divided by p.
    """
    rows = Rows.of(p)
    x, g = rows.p.reshape(rows.shape), np.abs(cotangent_of(cotangent, rows.shape[:-1]))[..., None]
    log = divergence.log_size(x)
    with np.errstate(all="ignore"):
        plain = 2.0 * log + 3.0 + 2.0 * np.abs(portable.log(x) + 1.0)
        error = form(x.shape, log=g * log, unit=g * plain, store=g * plain, tiny=3.0 + g + 1.0 / np.abs(x))
    return {"p": stated(without(g == 0.0, error))}


CLAUSES = (
    Clause(
        "ENT-1",
        examples=(
            Example("halves", {"p": [[0.5, 0.5]]}),
            Example("uniform", {"p": [[0.125] * 8, [0.25] * 4 + [0.0] * 4]}),
            Example("uneven", {"p": [[0.25, 0.75], [0.9375, 0.0625]]}),
            Example("one-axis", {"p": [0.25, 0.25, 0.5]}),
            Example("dimensions", {"p": [[[0.5, 0.5], [0.25, 0.75]], [[1.0, 0.0], [0.125, 0.875]]]}),
            Example("one-class", {"p": [[1.0], [0.5]]}),
            Example("empty", {"p": np.zeros((0, 3))}),
        ),
    ),
    Clause(
        "ENT-2",
        examples=(
            Example("unnormalised", {"p": [[0.25, 0.25], [0.5, 2.0]]}),
            Example("negative-entropy", {"p": [[4.0, 0.5], [1.0, 3.0]]}),
            Example("huge", {"p": [[1.5e308, 1.0], [1e306, 2.0]]}, ("float64",)),
        ),
    ),
    Clause(
        "ENT-3",
        "E1",
        (
            Example("sure", {"p": [[1.0, 0.0]]}),
            Example("one-hot", {"p": [[0.0, 0.0, 1.0, 0.0], [1.0, 0.0, 0.0, 0.0]]}),
            Example("all-zero", {"p": [[0.0, 0.0]]}),
            Example("negative-zero", {"p": [[-0.0, 0.5, 0.5]]}),
        ),
    ),
    Clause(
        "ENT-4",
        examples=(
            Example("gradient", {"p": [[0.25, 0.5, 0.125], [1.0, 2.0, 0.375]]}),
            Example("gradient-near-its-zero", {"p": [[0.3671875, 0.3681640625]]}, ("float64", "float32", "float16")),
        ),
    ),
    Clause(
        "ENT-5",
        "E2",
        (Example("gradient-at-0", {"p": [[0.0, 1.0], [0.0, 0.5], [0.0, 0.5]], "cotangent": [1.5, -2.0, 0.0]}),),
    ),
    Clause(
        "ENT-6",
        "E3",
        (Example("nan", {"p": [[NAN, 0.5], [0.5, 0.5]]}),),
    ),
    Clause(
        "ENT-7",
        "E5",
        (Example("negative", {"p": [[-0.5, 1.5], [0.5, 0.5]]}),),
    ),
    Clause(
        "ENT-8",
        "E4",
        (Example("infinite", {"p": [[INF, 0.5], [INF, 0.0]]}),),
    ),
    Clause(
        "ENT-9",
        examples=(
            Example("subnormal-float64", {"p": [[2.0**-1074], [2.0**-1060]]}, ("float64",)),
            Example("subnormal-float32", {"p": [[2.0**-149], [2.0**-133]]}, ("float64", "float32")),
            Example("subnormal-bfloat16", {"p": [[2.0**-133], [2.0**-128]]}, ("float64", "float32", "bfloat16")),
            Example("subnormal-float16", {"p": [[2.0**-24], [2.0**-16]]}),
        ),
    ),
)

OPERATION = Operation(
    name="entropy",
    prefix="ENT",
    summary="entropy of a distribution",
    inputs={"p": Real("... V")},
    parameters={},
    clauses=CLAUSES,
    variations=(Variation("distribution", {"p": "probability"}, ("ENT-1", "ENT-4")),),
    forward=entropy,
    vjp=entropy_vjp,
    exact=exact,
    exact_vjp=exact_vjp,
    terms=terms,
    terms_vjp=terms_vjp,
)
