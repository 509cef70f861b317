"""PyTorch's pointwise KL loss: the prediction comes first and as logarithms; the target as probabilities or logarithms.

    term = p ln p - p log_q                  dlog_q = -p           dp = ln p + 1 - log_q
    term = exp(l) (l - log_q), log_target    dlog_q = -exp(l)      dl = exp(l) (l - log_q + 1)

with l = ln p, passed as p. Reductions: "none"; "sum"; "mean", the sum over all elements divided by their number, or by the number of
rows, the last axis being that of the classes (choice `mean_over`); "batchmean", divided by the length of the first axis. Nothing is
renormalised.

Shapes
    log_q and p in one shape, of any number of dimensions, at least one for "batchmean" and for a mean over rows; the loss has that
    shape for "none", else ().

Edges
    E1  p = 0, or l = -inf, contributes nothing, whatever log_q in [-inf, inf].
    E2  p > 0 with log_q = -inf gives the term +inf and dp = +inf (dl too); dlog_q = -p is finite all the same.
    E3  p = 0 has dp = -inf for log_q > -inf; l = -inf has dl = 0 for a finite log_q.
    E4  p = 0 with log_q = -inf: dp is undefined and not judged; so is dl at l = -inf where log_q is infinite.
    E5  A nan in log_q or p gives nan for the term; its derivatives are not judged.
    E6  log_q = +inf with p > 0 gives the term -inf; p or l = +inf the term +inf; both at once, or in one reduction, nan.
    E7  A mean over no elements (rows, by the choice `mean_over`), and a batchmean over no rows, is 0/0 = nan; a sum is 0.
    E8  A cotangent of 0 gives gradients of 0, whatever the inputs hold.
    E9  A negative p that isn't a logarithm is answered like a nan.

Algorithm and error
    `refimpl.pointwise` (forms POINTWISE, POINTWISE_LOG, MASS, MASS_LOG), whose numbers carry their own exponents: exp(l) doesn't
    overflow before it meets a small l - log_q, which is exact. `refimpl.reduce` for the reductions.

Source: PyTorch, torch.nn.functional.kl_div. optax.losses.kl_divergence is its sum over the last axis;
Keras, MLX and torchmetrics take the mean of such sums.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refimpl import ball, portable, reduce
from refimpl.ball import Ball
from refimpl.bounds import Float, form, plus, reduced, stated, times, without
from refimpl.choices import MEAN_OVER
from refimpl.divergence import (
    largest,
    log_mass_slope,
    mass_slope,
    pointwise_log_slope,
    pointwise_log_term,
    pointwise_slope,
    pointwise_sum,
    pointwise_term,
    scaled,
    slope_error,
    subnormal,
)
from refimpl.enclosure import FORMATS, Enclosure, Kind
from refimpl.operation import (
    Clause,
    Example,
    InvalidInput,
    NotPermitted,
    OneOf,
    Operation,
    Real,
    Switch,
    Variation,
    check_parameters,
    cotangent_of,
    real,
    same_shape,
)
from refimpl.pointwise import MASS, MASS_LOG, POINTWISE, POINTWISE_LOG, shift_of, slope_parts, term_parts

INF, NAN = float("inf"), float("nan")


def kl_div(log_q: Any, p: Any, *, reduction: str = "mean", log_target: bool = False, mean_over: str = "elements") -> Enclosure:
    """Enclosures of the pointwise KL loss of `log_q` against `p` (ln p with `log_target`); see the module's docstring for the edges.

    `log_q` and `p` are float64, float32, bfloat16 or float16, in one shape; the result has it for reduction "none", else ().
    Raises `InvalidInput` or `TypeError` for bad input.
    """
    call = _call(log_q, p, reduction, log_target, mean_over)
    scale_exponent = call.shift()
    parts = term_parts(call.forms["loss"], *call.columns(), scale_exponent)
    if reduction == "none":
        parts = parts.reshape(call.p.shape)
    else:
        beyond = parts.kind == Kind.OVERFLOW  # in a sum, only the exact form knows what comes of it
        parts = reduce.total(replace(parts, kind=np.where(beyond, np.uint8(Kind.FINITE), parts.kind)))
        if call.count is not None:
            parts = reduce.quotient(parts, reduce.constant(call.count)) if call.count else reduce.constant(NAN)
    return reduce.finish(parts, 2.0**scale_exponent, lambda where, bits: exact(where, bits, **call.keywords()))


def kl_div_vjp(
    log_q: Any, p: Any, *, cotangent: Any, reduction: str = "mean", log_target: bool = False, mean_over: str = "elements"
) -> dict[str, Enclosure]:
    """{"log_q": ..., "p": ...}: enclosures of the gradients, for a finite `cotangent` of the loss's shape; the rest as above."""
    call = _call(log_q, p, reduction, log_target, mean_over)
    g = cotangent_of(cotangent, call.output_shape)
    if reduction == "none":
        factor, exponent = reduce.exact_parts(g.reshape(-1)), 0
    else:
        mantissa, exponent = math.frexp(float(g))  # so that g/count can't underflow
        one = reduce.constant(mantissa)
        if call.count:
            one = reduce.quotient(one, reduce.constant(call.count))
        factor = one.broadcast((call.p.size,))

    def gradient(name: str) -> Enclosure:
        parts = slope_parts(call.forms[name], *call.columns(), factor, exponent).reshape(call.p.shape)
        return reduce.finish(parts, exact=lambda where, bits: exact_vjp(name, where, bits, cotangent=g, **call.keywords()))

    return {"log_q": gradient("log_q"), "p": gradient("p")}


@dataclass(frozen=True)
class Call:
    """The checked arguments; `count` is what the sum is divided by, None for no division."""

    log_q: NDArray[Any]
    p: NDArray[Any]
    reduction: str
    log_target: bool
    mean_over: str

    @property
    def output_shape(self) -> tuple[int, ...]:
        return self.p.shape if self.reduction == "none" else ()

    @property
    def count(self) -> float | None:
        if self.reduction == "mean":
            return float(self.p.size if self.mean_over == "elements" else math.prod(self.p.shape[:-1]))
        return float(len(self.p)) if self.reduction == "batchmean" else None

    @property
    def forms(self) -> dict[str, int]:
        if self.log_target:
            return {"loss": POINTWISE_LOG, "p": POINTWISE_LOG, "log_q": MASS_LOG}
        return {"loss": POINTWISE, "p": POINTWISE, "log_q": MASS}

    def keywords(self) -> dict[str, Any]:
        options = {"reduction": self.reduction, "log_target": self.log_target, "mean_over": self.mean_over}
        return {"log_q": self.log_q, "p": self.p, **options}

    def wide(self) -> tuple[Float, Float]:
        return self.p.astype(np.float64), self.log_q.astype(np.float64)

    def columns(self) -> tuple[Float, Float]:
        p, log_q = self.wide()
        return p.reshape(-1, 1), log_q.reshape(-1, 1)

    def shift(self) -> int:
        p, log_q = self.wide()
        if self.reduction == "none":  # one term is no sum
            return 0
        if self.log_target:
            return shift_of(INF if np.any(p > 600.0) else largest(log_q))
        return shift_of(largest(p) * (largest(log_q) + 800.0))


def _call(log_q: Any, p: Any, reduction: Any = "mean", log_target: Any = False, mean_over: Any = "elements") -> Call:
    options = {"reduction": reduction, "log_target": log_target, "mean_over": mean_over}
    check_parameters(OPERATION.parameters, OPERATION.choices, options)
    call = Call(real("log_q", log_q), real("p", p), reduction, bool(log_target), mean_over)
    same_shape("log_q", call.log_q, "p", call.p)
    if reduction == "batchmean" and call.p.ndim == 0:
        raise InvalidInput("log_q has no dimension to take a batchmean over; pass at least one, or reduction 'mean'")
    if reduction == "mean" and mean_over == "rows" and call.p.ndim == 0:
        raise NotPermitted("mean_over", "mean_over 'rows' needs an axis of classes, and log_q has no dimension; pass 'elements'")
    return call


def meaning(**arguments: Any) -> Hashable:
    """What the choices come to: the divisor."""
    return _call(**arguments).count


def exact(where: Sequence[int], bits: int, **arguments: Any) -> list[Ball]:
    """The output at the flat indices `where`, by definition, in ball arithmetic at `bits` bits."""
    call = _call(**arguments)
    p, log_q = (column.ravel() for column in call.columns())
    term: Callable[[float, float], Ball] = pointwise_log_term if call.log_target else pointwise_term
    with ball.precision(bits):
        if call.reduction == "none":
            return [term(float(p[i]), float(log_q[i])) for i in where]
        divisor = Fraction(1 if call.count is None else call.count)
        total = NAN if divisor == 0 else pointwise_sum(p.tolist(), log_q.tolist(), call.log_target, divisor)
        return [total] * len(where)


def exact_vjp(name: str, where: Sequence[int], bits: int, *, cotangent: Any, **arguments: Any) -> list[Ball]:
    """The gradient at the flat indices `where`, by definition, in ball arithmetic at `bits` bits."""
    call = _call(**arguments)
    g = cotangent_of(cotangent, call.output_shape).reshape(-1)
    p, log_q = (column.ravel() for column in call.columns())
    slopes = {"p": pointwise_log_slope, "log_q": log_mass_slope} if call.log_target else {"p": pointwise_slope, "log_q": mass_slope}
    with ball.precision(bits):
        by_element = call.reduction == "none"
        divisor = Fraction(call.count or 1)
        factors = [Fraction(float(value)) / divisor for value in g]
        slope = cache(slopes[name])  # pairs often repeat
        return [scaled(slope(float(p[i]), float(log_q[i])), factors[i if by_element else 0]) for i in where]


def terms(**arguments: Any) -> Float:
    """The mass times the error of the slope (`slope_error`), an underflow of the mass times the slope; then the reduction."""
    call = _call(**arguments)
    mass, value, error = slope_error(call.p, call.wide()[1], call.log_target, 0.0)
    with np.errstate(all="ignore"):
        term = mass * value
        lost = np.where(mass > 0.0, 3.0, 0.0) + (value if call.log_target else np.where(subnormal(call.p), value, 0.0))
        error = plus(times(mass, error), tiny=lost)
    if call.reduction == "none":
        return stated(error)
    return stated(reduced(term, error, call.count, stores=True))


def terms_vjp(*, cotangent: Any, **arguments: Any) -> dict[str, Float]:
    """f = g/count carries a rounding of the count, a quotient and a store, or the division comes last; a product each follows.

    An underflow of f meets the mass and the slope, and one of f p may be divided by p.
    """
    call = _call(**arguments)
    g = np.abs(cotangent_of(cotangent, call.output_shape))
    p, log_q = call.wide()
    mass, value, error = slope_error(call.p, log_q, call.log_target, 1.0)
    with np.errstate(all="ignore"):
        f = np.broadcast_to(g if call.count is None else g / np.float64(call.count), p.shape)
        whole = portable.exp(p) if call.log_target else np.where(p > 0.0, p, 0.0)
        size, flushed = f * whole, np.where(subnormal(call.p), f, 0.0)
        d_log_q = form(p.shape, unit=4.0 * size, store=3.0 * size, tiny=2.0 + f + whole + flushed)
        d_p = plus(times(f, error), unit=4.0 * f * value, store=4.0 * f * value, tiny=2.0 + f + value)
        if call.log_target:
            plus(d_log_q, exp=size, gap=size * np.abs(p), store=size)
            d_p = plus(times(mass, d_p), tiny=2.0 + (1.0 + f) * value)
        else:
            plus(d_p, tiny=1.0 / np.abs(p))
    return {"log_q": stated(without(f == 0.0, d_log_q)), "p": stated(without(f == 0.0, d_p))}


EIGHTHS = [[[0.25, 0.75], [0.5, 0.5], [0.125, 0.875]], [[1.0, 0.0], [0.375, 0.625], [0.75, 0.25]]]
LOGS = [[[-1.0, -0.5], [-0.75, -0.25], [-2.0, -0.125]], [[-0.5, -3.0], [-1.5, -1.0], [-0.25, -1.25]]]  # both of shape (2, 3, 2)
NONE = {"reduction": "none"}
PAIR = {"log_q": [[-1.0, -0.5], [-2.0, -0.125]], "p": [[0.25, 0.75], [0.5, 0.5]]}
LOG_PAIR = {"log_q": [[-1.0, -0.5], [-2.0, -0.125]], "p": [[-1.5, -0.25], [-0.75, -0.625]], "log_target": True}


def _clause(index: int, edge: str | None = None, backward: bool = False, **examples: dict[str, Any]) -> Clause:
    cases = tuple(Example(name.replace("_", "-"), call, call.pop("dtypes", tuple(FORMATS))) for name, call in examples.items())
    return Clause(f"KLP-{index}", edge, cases, backward)


CLAUSES = (
    _clause(
        1,
        none=PAIR | NONE,
        order={"log_q": [-1.0, -0.5], "p": [0.25, 0.75], **NONE},
        far={"log_q": [-10000.0, -0.0625], "p": [0.5, 0.5], **NONE, "dtypes": ("float64", "float32")},
        scalar={"log_q": -0.5, "p": 0.25},
        unnormalised={"log_q": [[0.5, -0.5], [1.0, 0.0]], "p": [[2.0, 0.125], [4.0, 1.0]], **NONE},
    ),
    _clause(
        2,
        log_target=LOG_PAIR | NONE,
        log_target_mean=LOG_PAIR,
        log_target_equal={"log_q": [-1.0, -20.0], "p": [-1.0, -20.0], "log_target": True, **NONE},
        log_target_large={"log_q": [709.0, 720.0], "p": [710.0, 720.0], "log_target": True, **NONE, "dtypes": ("float64",)},
    ),
    _clause(
        3,
        mean_3d={"log_q": LOGS, "p": EIGHTHS},
        batchmean_3d={"log_q": LOGS, "p": EIGHTHS, "reduction": "batchmean"},
        sum_3d={"log_q": LOGS, "p": EIGHTHS, "reduction": "sum"},
        batchmean_1d={"log_q": [-1.0, -0.5, -2.0], "p": [0.25, 0.5, 0.25], "reduction": "batchmean"},
    ),
    _clause(
        4,
        backward=True,
        gradient=PAIR | {"reduction": "sum"},
        gradient_log_target=LOG_PAIR | {"reduction": "batchmean"},
        gradient_log_zero={"log_q": [-0.5, -1.0], "p": [-1.5, -2.0], "log_target": True, **NONE},
    ),
    _clause(
        5,
        "E1",
        zero_p={"log_q": [-1.0, 0.0], "p": [0.0, 1.0], **NONE},
        zero_p_masked={"log_q": [-INF, 0.0], "p": [0.0, 1.0]},
        log_zero={"log_q": [-1.0, -1.0], "p": [-INF, 0.0], "log_target": True, "reduction": "sum"},
        log_zero_masked={"log_q": [-INF, 0.0], "p": [-INF, 0.0], "log_target": True},
    ),
    _clause(
        6,
        "E2",
        masked={"log_q": [-INF, 0.0], "p": [0.5, 0.5]},
        masked_cotangents={"log_q": [-INF, -INF], "p": [0.5, 0.25], **NONE, "cotangent": [-2.0, 1.5]},
        masked_log_target={"log_q": [-INF, 0.0], "p": [-0.5, -1.0], "log_target": True},
    ),
    _clause(
        7,
        "E3",
        gradient_at_0={"log_q": [-1.0, -0.5], "p": [0.0, 0.0], **NONE, "cotangent": [1.5, -2.0]},
    ),
    _clause(
        8,
        "E4",
        zeros={"log_q": [-INF, -0.5], "p": [0.0, 0.5], **NONE},
    ),
    _clause(
        9,
        "E5",
        nan={"log_q": [NAN, -1.0, NAN], "p": [0.5, NAN, 0.0], **NONE},
        nan_log_target={"log_q": [NAN, -1.0, NAN], "p": [-0.5, NAN, -INF], "log_target": True, **NONE},
    ),
    _clause(
        10,
        "E9",
        negative={"log_q": [-1.0, -1.0], "p": [-0.5, 1.5]},
        negative_none={"log_q": [-1.0, -1.0], "p": [-0.5, 1.5], **NONE},
    ),
    _clause(
        11,
        "E6",
        infinite={"log_q": [INF, -1.0, INF], "p": [0.5, INF, 0.0], **NONE},
        both_signs={"log_q": [INF, -INF], "p": [0.5, 0.5], "reduction": "sum"},
    ),
    _clause(
        12,
        "E7",
        empty_mean={"log_q": np.zeros((0, 3)), "p": np.zeros((0, 3))},
        empty_batchmean={"log_q": np.zeros((0, 3)), "p": np.zeros((0, 3)), "reduction": "batchmean"},
        empty_sum={"log_q": np.zeros((0, 3)), "p": np.zeros((0, 3)), "reduction": "sum"},
    ),
    _clause(
        13,
        "E8",
        cotangent_0={"log_q": [-1.0, -0.5, -1.0], "p": [0.5, 0.0, 0.25], **NONE, "cotangent": [0.0, 0.0, 1.5]},
    ),
    _clause(
        14,
        subnormal_float64={"log_q": [-1.0, -2.0], "p": [2.0**-1074, 2.0**-1060], **NONE, "dtypes": ("float64",)},
        subnormal_float32={"log_q": [-1.0, -2.0], "p": [2.0**-149, 2.0**-133], **NONE, "dtypes": ("float64", "float32")},
        subnormal_float16={"log_q": [-1.0, -2.0], "p": [2.0**-24, 2.0**-16], **NONE},
    ),
)

HOLDS = {"log_q": "log_probability", "p": "positive_probability"}
BOTH_LOG = {"log_q": "log_probability", "p": "log_probability"}
VARIATIONS = (
    Variation("none", HOLDS, ("KLP-1", "KLP-4"), NONE),
    Variation("mean", HOLDS, ("KLP-3", "KLP-4")),
    Variation("batchmean", HOLDS, ("KLP-3", "KLP-4"), {"reduction": "batchmean"}),
    Variation("log-target", BOTH_LOG, ("KLP-2", "KLP-4"), {**NONE, "log_target": True}),
    Variation("log-target-sum", BOTH_LOG, ("KLP-2", "KLP-4"), {"reduction": "sum", "log_target": True}),
)

OPERATION = Operation(
    name="kl_div",
    prefix="KLP",
    summary="PyTorch's pointwise KL loss",
    inputs={"log_q": Real("any"), "p": Real("any")},
    parameters={"reduction": OneOf(("mean", "batchmean", "sum", "none")), "log_target": Switch(False)},
    choices=(MEAN_OVER,),
    clauses=CLAUSES,
    variations=VARIATIONS,
    forward=kl_div,
    vjp=kl_div_vjp,
    exact=exact,
    exact_vjp=exact_vjp,
    meaning=meaning,
    terms=terms,
    terms_vjp=terms_vjp,
)
