"""Negative log-likelihood of log-probabilities against a class index.

For a row l of V log-probabilities, class weights w (all 1 where absent) and a target y,

    loss = -w_y l_y        dlog_p_v = -w_y [v = y]

The log-probabilities are taken as given: nothing checks that they are logarithms of a distribution. Reductions: "none"; "sum";
"mean", which divides by the sum of w_y over the kept rows (choice `denominator`).

Shapes
    log_p (N, V, d1, ...), target (N, d1, ...) of integers, weight (V,); the loss has the shape (N, d1, ...) before its
    reduction.

Edges
    E1  l_y = -inf gives +inf, and 0 where w_y = 0; the other classes of a row do not matter, whatever they hold.
    E2  l_y = nan gives nan; the gradient, which does not depend on l, is finite all the same.
    E3  A row whose target is ignore_index has loss 0 and gradient 0, whatever it holds, and does not count in the mean,
        unless the choice `denominator` counts it.
    E4  A mean that divides by 0 because no row is kept is 0/0 = nan, or 0 by the choice `all_ignored`; its gradients are 0.
    E5  A kept target outside [0, V) is an error, or nan in loss and gradient alike.

Algorithm and error
    -w_y l_y is a float64 product: exact as a double-double but for what underflow loses, at most 2^-1074. Reductions as in
    `refimpl.reduce`.

Source: PyTorch's nll_loss and ONNX's NegativeLogLikelihoodLoss (weights, ignore_index, denominator).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np
from flint import arb
from numpy.typing import NDArray

from refimpl import ball, rational, reduce
from refimpl.ball import Ball
from refimpl.bounds import Float, K, form, reduced, stated
from refimpl.choices import ALL_IGNORED, DENOMINATOR
from refimpl.doubledouble import MUL_FLOAT, TINY, U2, mul_float, two_prod
from refimpl.enclosure import Enclosure
from refimpl.jit import frozen, kernel
from refimpl.operation import (
    Array,
    Clause,
    Example,
    Index,
    InvalidInput,
    OneOf,
    Operation,
    Real,
    Variation,
    Whole,
    check_parameters,
    cotangent_of,
    real,
)
from refimpl.reduce import Parts
from refimpl.targets import class_targets, class_weight, mean_denominator

INF, NAN = float("inf"), float("nan")


@dataclass(frozen=True)
class Setting:
    """One call, its arguments checked: `picked` (rows,) is l_y as float64 and `weights` (rows,) w_y, both 0 for ignored rows."""

    log_p: Array
    index: NDArray[np.int64]
    kept: NDArray[np.bool_]
    picked: Float
    weights: Float
    weighted: bool
    reduction: str
    denominator: Float | None
    over_nothing: float

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.log_p.shape[0], *self.log_p.shape[2:])

    @property
    def output_shape(self) -> tuple[int, ...]:
        return self.shape if self.reduction == "none" else ()

    def spread(self, rows: Array) -> Array:
        """An array of log_p's shape that holds `rows` at the rows' targets and 0 elsewhere."""
        full = np.zeros((self.index.size, self.log_p.shape[1]), rows.dtype)
        full[np.arange(self.index.size), self.index] = np.where(self.kept, rows, 0)
        moved = full.reshape((*self.shape, self.log_p.shape[1]))
        return np.moveaxis(moved, -1, 1)


@kernel
def products(a: Any, b: Any, hi: Any, lo: Any) -> None:
    """a * b as double-doubles, exactly but for underflow."""
    for i in range(a.size):
        hi[i], lo[i] = two_prod(a[i], b[i])


@kernel
def scaled(h: float, l: float, b: Any, hi: Any, lo: Any) -> None:
    """(h + l) * b as double-doubles, with an error of 2 u^2."""
    for i in range(b.size):
        hi[i], lo[i] = mul_float(h, l, b[i])


def _losses(s: Setting) -> Parts:
    """-w_y l_y of every row."""
    parts = Parts.empty(s.picked.size)
    counts = s.weights != 0.0
    products(frozen(s.weights), frozen(np.where(counts | np.isnan(s.picked), -s.picked, 0.0)), parts.hi, parts.lo)
    infinite = np.isinf(s.picked) & counts
    kind = np.where(np.isnan(s.picked), 3, np.where(infinite, np.where(s.picked < 0, 1, 2), 0)).astype(np.uint8)
    kind = np.where(s.kept, kind, 0).astype(np.uint8)
    exact = ~s.kept | ~counts | (s.weights == 1.0)
    hi = np.where(infinite, -s.picked, np.where(s.kept, parts.hi, 0.0))
    lo = np.where((kind == 0) & ~(s.weights == 1.0) & s.kept, parts.lo, 0.0)
    return Parts(kind, hi, lo, np.where(exact | (kind != 0), 0.0, TINY))


def nll_loss(
    log_p: Any,
    target: Any,
    weight: Any = None,
    *,
    ignore_index: int | None = None,
    reduction: str = "mean",
    all_ignored: str = "nan",
    denominator: str = "weights",
) -> Enclosure:
    """Enclosures of the negative log-likelihood; see the module's docstring for the definition and its edges.

    `log_p` (N, V, d1, ...) is float64, float32, bfloat16 or float16, `target` (N, d1, ...) holds integers, `weight` (V,) is finite and
    non-negative. The result has the shape (N, d1, ...) for reduction "none", else (). Raises `OutOfRange` for a target that names no
    class, `InvalidInput` or `TypeError` for other bad input.
    """
    s, call = _setting(**locals())
    parts = _losses(s)
    total = parts.reshape(s.shape) if s.reduction == "none" else reduce.divided(reduce.total(parts), s.denominator, s.over_nothing)
    return reduce.finish(total, 1.0, lambda where, bits: exact(where, bits, **call))


def nll_loss_vjp(
    log_p: Any,
    target: Any,
    weight: Any = None,
    *,
    cotangent: Any,
    ignore_index: int | None = None,
    reduction: str = "mean",
    all_ignored: str = "nan",
    denominator: str = "weights",
) -> dict[str, Enclosure]:
    """{"log_p": enclosures of the gradient}, for a finite `cotangent` of the loss's shape; arguments and errors as above."""
    arguments = locals()
    arguments.pop("cotangent")
    s, call = _setting(**arguments)
    g = cotangent_of(cotangent, s.output_shape)
    rows = Parts.empty(s.index.size)
    if s.reduction == "none":
        products(frozen(s.weights), frozen(-g.reshape(-1)), rows.hi, rows.lo)
        radius = np.where((s.weights == 1.0) | (s.weights == 0.0), 0.0, TINY)
        rows = Parts(rows.kind, rows.hi, np.where(s.weights == 1.0, 0.0, rows.lo), radius)
    else:
        f = reduce.factor(-float(g), s.denominator)
        if f.kind != 0:
            rows = Parts(np.full(s.index.size, 3, np.uint8), rows.hi, rows.lo, rows.radius)
        else:
            scaled(float(f.hi), float(f.lo), frozen(s.weights), rows.hi, rows.lo)
            relative = 0.0 if not s.weighted else MUL_FLOAT * U2
            counts = s.weights != 0.0
            size = float(f.radius) + relative * abs(float(f.hi))  # infinite where f was not determined
            radius = np.multiply(size, s.weights, out=np.zeros_like(s.weights), where=counts) * reduce.UP
            lost = np.where(counts, 2 * TINY if s.weighted else 0.0, 0.0)
            rows = Parts(rows.kind, np.where(counts, rows.hi, 0.0), np.where(counts, rows.lo, 0.0), radius + lost)
    full = Parts(s.spread(rows.kind), s.spread(rows.hi), s.spread(rows.lo), s.spread(rows.radius))
    return {"log_p": reduce.finish(full, 1.0, lambda where, bits: exact_vjp("log_p", where, bits, cotangent=g, **call))}


def exact(where: Sequence[int], bits: int, **call: Any) -> list[Ball]:
    """The output at the flat indices `where`, by definition, in ball arithmetic at `bits` bits."""
    s, _ = _setting(**call)
    with ball.precision(bits):

        def row(i: int) -> Ball:
            if not s.kept[i]:
                return arb(0)
            l, w = float(s.picked[i]), arb(float(s.weights[i]))
            if l != l:
                return math.nan
            return ball.times(-w, l if math.isinf(l) else arb(l))

        if s.reduction == "none":
            return [row(int(i)) for i in where]
        total = ball.total(row(i) for i in range(s.index.size))
        return [ball.divided(total, s.denominator, s.over_nothing)] * len(where)


def exact_vjp(name: str, where: Sequence[int], bits: int, *, cotangent: Any, **call: Any) -> list[Ball]:
    """The gradient at the flat indices `where`, by definition, in ball arithmetic at `bits` bits."""
    s, _ = _setting(**call)
    g = cotangent_of(cotangent, s.output_shape).reshape(-1)
    divisor = Fraction(1) if s.denominator is None else rational.summed(s.denominator)
    with ball.precision(bits):
        positions = list(np.unravel_index(np.asarray(where, np.int64), s.log_p.shape))
        labels = positions.pop(1).tolist()
        rows = np.ravel_multi_index(tuple(positions), s.shape).tolist()
        slope = cache(lambda own, weight: rational.ball(Fraction(-own) * Fraction(weight) / divisor))
        result: list[Ball] = []
        for i, v in zip(rows, labels, strict=True):
            own = float(g[i if s.reduction == "none" else 0])
            if not s.kept[i] or v != int(s.index[i]) or own == 0.0:
                result.append(arb(0))
            else:
                result.append(math.nan if divisor == 0 else slope(own, float(s.weights[i])))
        return result


def terms(**call: Any) -> Float:
    """A product for each row, then the reduction."""
    s, _ = _setting(**call)
    with np.errstate(all="ignore"):
        loss = np.where(s.kept & (s.weights > 0.0), s.weights * np.abs(s.picked), 0.0)
    product = loss if s.weighted else 0.0
    error = form(loss.shape, unit=product, store=product, tiny=1.0 if s.weighted else 0.0)
    if s.reduction == "none":
        return stated(error.reshape((*s.shape, K)))
    divisor = None if s.denominator is None else float(s.denominator.sum())
    return stated(reduced(loss, error, divisor, s.weighted))


def terms_vjp(*, cotangent: Any, **call: Any) -> dict[str, Float]:
    """-g w_y/D: the denominator's sum (of weights; a count is rounded once), a quotient, a product, a store of two of them."""
    s, _ = _setting(**call)
    g = np.abs(cotangent_of(cotangent, s.output_shape)).reshape(-1)
    with np.errstate(all="ignore"):
        if s.denominator is not None:
            g = g / s.denominator.sum()
        size = np.broadcast_to(g, s.index.shape) * s.weights
    summed = size if s.weighted and s.denominator is not None else 0.0
    error = form(size.shape, unit=3.0 * size, store=2.0 * size, rows=summed, tiny=2.0 + s.weights)
    return {"log_p": stated(np.stack([s.spread(error[..., k]) for k in range(K)], axis=-1))}


def _setting(log_p: Any, target: Any, weight: Any = None, **parameters: Any) -> tuple[Setting, dict[str, Any]]:
    """The checked call, and its arguments as keywords."""
    given = OPERATION.defaults() | parameters
    check_parameters(OPERATION.parameters, OPERATION.choices, given)
    x = real("log_p", log_p)
    if x.ndim < 2 or x.shape[1] == 0:
        raise InvalidInput(f"log_p has shape {x.shape}; pass (N, V) or (N, V, d1, ...) with at least one class")
    classes = x.shape[1]
    w = class_weight(weight, classes)
    index, kept = class_targets(target, (x.shape[0], *x.shape[2:]), classes, "ignore_index", given["ignore_index"])
    rows = np.moveaxis(x, 1, -1).reshape(-1, classes)
    weights = np.where(kept, 1.0 if w is None else w[index], 0.0)
    setting = Setting(
        log_p=x,
        index=index,
        kept=kept,
        picked=np.where(kept, rows[np.arange(index.size), index].astype(np.float64), 0.0),
        weights=weights,
        weighted=w is not None,
        reduction=given["reduction"],
        denominator=mean_denominator(given["denominator"], index, kept, w, len(x)) if given["reduction"] == "mean" else None,
        over_nothing=0.0 if given["all_ignored"] == "zero" and not kept.any() else math.nan,
    )
    return setting, {"log_p": x, "target": target, "weight": weight, **given}


def meaning(**call: Any) -> Hashable:
    """What the choices come to: the divisor, and the value of 0/0 where that is 0."""
    s, _ = _setting(**call)
    divisor = None if s.denominator is None else rational.summed(s.denominator)
    return divisor, repr(s.over_nothing) if divisor == 0 else None


L2 = [[-1.0, -2.0, -0.5], [-0.25, -4.0, -3.0]]
L3 = [[[-1.0, -2.0, -0.5], [-0.25, -4.0, -3.0]], [[-1.5, -0.125, -8.0], [-0.75, -6.0, -5.0]]]
CLAUSES = (
    Clause(
        "NLL-1",
        examples=(
            Example("none", {"log_p": L2, "target": [0, 2], "reduction": "none"}),
            Example("weighted-none", {"log_p": L2, "target": [0, 2], "weight": [1.5, 2.0, 0.25], "reduction": "none"}),
            Example("dimensions", {"log_p": [[[-1.0, -2.0], [-0.5, -0.25]]], "target": [[1, 0]], "reduction": "none"}),
        ),
    ),
    Clause(
        "NLL-2",
        examples=(
            Example("mean", {"log_p": L2, "target": [0, 2]}),
            Example("mean-weighted", {"log_p": L2, "target": [0, 2], "weight": [1.0, 2.0, 4.0]}),
            Example("mean-ignored", {"log_p": L2, "target": [0, -1], "ignore_index": -1}),
            Example("mean-dimensions", {"log_p": L3, "target": [[0, 1, 1], [1, 0, -1]], "weight": [0.5, 2.0], "ignore_index": -1}),
            Example("sum", {"log_p": L2, "target": [0, 2], "reduction": "sum"}),
        ),
    ),
    Clause(
        "NLL-3",
        "E1",
        (
            Example("minus-inf-target", {"log_p": [[-INF, -1.0]], "target": [0]}),
            Example("minus-inf-other", {"log_p": [[-INF, -1.0]], "target": [1]}),
            Example("nan-other", {"log_p": [[NAN, -1.0]], "target": [1]}),
        ),
    ),
    Clause(
        "NLL-4",
        "E2",
        (Example("nan-target", {"log_p": [[NAN, -1.0], [-0.5, -1.0]], "target": [0, 0], "reduction": "none"}),),
    ),
    Clause(
        "NLL-5",
        "E3",
        (
            Example("ignored-nan", {"log_p": [[NAN, NAN], [-0.5, -1.0]], "target": [-100, 0], "ignore_index": -100}),
            Example("ignored-none", {"log_p": [[-5.0, -1.0], [-0.5, -1.0]], "target": [1, 0], "ignore_index": 1, "reduction": "none"}),
        ),
    ),
    Clause(
        "NLL-6",
        "E4",
        (Example("all-ignored", {"log_p": L2, "target": [-1, -1], "ignore_index": -1}),),
    ),
    Clause(
        "NLL-7",
        "E5",
        (Example("target-V", {"log_p": [[-1.0, -2.0]], "target": [2]}),),
    ),
)

OPERATION = Operation(
    name="nll_loss",
    prefix="NLL",
    summary="negative log-likelihood of log-probabilities against a class index",
    inputs={"log_p": Real("N V *"), "target": Index("N *"), "weight": Real("V", differentiable=False, optional=True)},
    parameters={"ignore_index": Whole(None), "reduction": OneOf(("mean", "sum", "none"))},
    choices=(ALL_IGNORED, DENOMINATOR),
    clauses=CLAUSES,
    variations=(
        Variation("mean", {"log_p": "log_probability", "target": "index"}, ("NLL-1", "NLL-2")),
        Variation(
            "weighted-ignored",
            {"log_p": "log_probability", "target": "some_ignored", "weight": "weight"},
            ("NLL-1", "NLL-2", "NLL-5"),
            {"ignore_index": -100},
        ),
    ),
    forward=nll_loss,
    vjp=nll_loss_vjp,
    exact=exact,
    exact_vjp=exact_vjp,
    meaning=meaning,
    terms=terms,
    terms_vjp=terms_vjp,
)
