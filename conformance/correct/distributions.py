"""Right kernels of the losses of distributions and of log-probabilities: the usual forms of each, with all of their edges.

The forms are "logs", p (ln p - ln q); "ratio", p ln(p/q), by two logarithms where the quotient leaves the dtype; and "apart",
p ln p - p ln q where both are numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from conformance.adapter import Adapter, Array
from conformance.correct.rows import Style, shifted, wide
from conformance.correct.softmax import DIALECT, Answer, Machine, classes_of, promise_of
from conformance.correct.sums import LANES, PAIRWISE, SEQUENTIAL
from conformance.kernel import kernel
from refimpl.enclosure import FORMATS, format_of

Form = Callable[[Machine, Array, Array], Array]


def improper(*inputs: Array) -> Array:
    """Where a probability is negative or a nan."""
    return np.logical_or.reduce([~(x >= x.dtype.type(0.0)) for x in inputs])


def masked(where: Array, otherwise: Array, value: float = 0.0) -> Array:
    """A number where a condition holds, in the dtype of the rest."""
    return np.where(where, otherwise.dtype.type(value), otherwise)


def log_ratio(form: str, m: Machine, p: Array, q: Array) -> Array:
    """ln(p/q)."""
    two = m.keeps(np.log(p)) - m.keeps(np.log(q))
    if form != "ratio":
        return two
    ratio = m.keeps(p / q)
    least = format_of(m.store).normal
    return np.where((ratio >= p.dtype.type(least)) & np.isfinite(ratio), np.log(ratio), two)


def entropy(form: str, m: Machine, cotangent: Array | None, p: Array) -> Answer:
    """-sum p ln p, and -g (ln p + 1), or -g ln p - g apart."""
    x = m.takes(p)
    log = m.keeps(np.log(x))
    terms = masked(improper(x), masked(x == 0.0, x * log), np.nan)
    value = -m.total(m.keeps(terms))[..., 0]
    if cotangent is None:
        return np.asarray(value.astype(p.dtype)), {}
    g = m.takes(cotangent)[..., None]
    slope = -g * log - g if form == "apart" else -g * (log + x.dtype.type(1.0))
    return np.asarray(value.astype(p.dtype)), {"p": masked(g == 0.0, slope).astype(p.dtype)}


def cross_entropy(form: str, m: Machine, cotangent: Array | None, p: Array, q: Array) -> Answer:
    """-sum p ln q, -g ln q and -g p/q in the order that the form has."""
    x, y = m.takes(p), m.takes(q)
    log = m.keeps(np.log(y))
    value = -m.total(m.keeps(masked(improper(x, y), masked(x == 0.0, x * log), np.nan)))[..., 0]
    if cotangent is None:
        return np.asarray(value.astype(p.dtype)), {}
    g = m.takes(cotangent)[..., None]
    gradients = {"p": -g * log, "q": _ratio_slope(form, g, x, y)}
    return np.asarray(value.astype(p.dtype)), {name: masked(g == 0.0, d).astype(p.dtype) for name, d in gradients.items()}


def kl_divergence(form: str, m: Machine, cotangent: Array | None, p: Array, q: Array) -> Answer:
    """sum p ln(p/q), g (ln(p/q) + 1) and -g p/q."""
    x, y = m.takes(p), m.takes(q)
    log = log_ratio(form, m, x, y)
    product, apart = x * log, m.keeps(x * np.log(x)) - m.keeps(x * np.log(y))
    product = np.where(np.isfinite(apart), apart, product) if form == "apart" else product
    value = m.total(m.keeps(masked(improper(x, y), masked(x == 0.0, product), np.nan)))[..., 0]
    if cotangent is None:
        return np.asarray(value.astype(p.dtype)), {}
    g = m.takes(cotangent)[..., None]
    gradients = {"p": g * (log + x.dtype.type(1.0)), "q": _ratio_slope(form, g, x, y)}
    return np.asarray(value.astype(p.dtype)), {name: masked(g == 0.0, d).astype(p.dtype) for name, d in gradients.items()}


def _ratio_slope(form: str, g: Array, p: Array, q: Array) -> Array:
    a, b, c = wide(g), wide(p), wide(q)  # no order of these fits into half precision
    return (-(a * b) / c if form == "logs" else -a * (b / c)).astype(g.dtype)


def kl_div(
    form: str, m: Machine, cotangent: Array | None, log_q: Array, p: Array, *, reduction: str = "mean", log_target: bool = False
) -> Answer:
    """PyTorch's pointwise loss; with `log_target` the mass is exp(p)."""
    x, y, one = m.takes(p), m.takes(log_q), m.compute.type(1.0)
    mass, log = (m.keeps(np.exp(x)), x) if log_target else (x, m.keeps(np.log(x)))
    bad = np.isnan(x) | np.isnan(y) if log_target else improper(x) | np.isnan(y)
    product, apart = mass * (log - y), m.keeps(mass * log) - m.keeps(mass * y)
    product = np.where(np.isfinite(apart), apart, product) if form == "apart" else product
    infinite = np.isinf(y) & np.isfinite(x) & log_target  # exp(p) > 0 meets an infinity, also where it underflows
    none = (mass == 0.0) | ((x == y) & np.isfinite(x) & log_target)
    terms = m.keeps(masked(bad, np.where(infinite, -y, masked(none, product)), np.nan))
    count = {"mean": p.size, "batchmean": len(p) if p.ndim else 1}.get(reduction)
    value = terms if reduction == "none" else m.over_rows(terms)
    if count is not None:
        value = value / value.dtype.type(count)
    if cotangent is None:
        return np.asarray(value.astype(p.dtype)), {}
    g = m.takes(cotangent)
    f = g if count is None else (wide(g) / wide(g).dtype.type(count)).astype(m.compute)
    slope = mass * (log - y + one) if log_target else log - y + one
    slope = np.where(infinite, -y, masked(mass == 0.0, slope)) if log_target else slope
    gradients = {"log_q": -f * mass, "p": f * slope}
    return np.asarray(value.astype(p.dtype)), {name: np.asarray(masked(g == 0.0, d).astype(p.dtype)) for name, d in gradients.items()}


def nll_loss(
    form: str,
    m: Machine,
    cotangent: Array | None,
    log_p: Array,
    target: Array,
    weight: Array | None = None,
    *,
    ignore_index: int | None = None,
    reduction: str = "mean",
) -> Answer:
    """-w_y log_p_y of each row; a weight of 0 annuls whatever it meets."""
    classes, last = log_p.shape[1], np.moveaxis(log_p, 1, -1)
    index, kept = classes_of(target, ignore_index, classes)
    rows = m.takes(last.reshape(-1, classes))
    w = np.ones(len(rows), m.compute) if weight is None else m.takes(weight)[index]
    w = masked(~kept, w)
    loss = masked(~kept, rows[np.arange(len(rows)), index])
    loss = m.keeps(masked(w == 0.0, -loss * w) if weight is not None else -loss)
    divisor = {"mean": m.over_rows(w) if weight is not None else np.asarray(kept.sum(), wide(w).dtype)}.get(reduction)
    value = loss.reshape(last.shape[:-1]) if reduction == "none" else m.over_rows(loss)
    value = value if divisor is None else value / divisor
    if cotangent is None:
        return np.asarray(value.astype(log_p.dtype)), {}
    f = wide(m.takes(cotangent).reshape(-1)) * wide(w)
    f = masked(w == 0.0, f if divisor is None else f / divisor)
    gradient = np.zeros(rows.shape, f.dtype)
    gradient[np.arange(len(rows)), index] = -f
    back = np.ascontiguousarray(np.moveaxis(gradient.reshape(last.shape), -1, 1))
    return np.asarray(value.astype(log_p.dtype)), {"log_p": back.astype(log_p.dtype)}


LOSSES: dict[str, Callable[..., Answer]] = {
    "entropy": entropy,
    "cross_entropy": cross_entropy,
    "kl_divergence": kl_divergence,
    "kl_div": kl_div,
    "nll_loss": nll_loss,
}
FORMS = {
    "logs": Style("logs", shifted, SEQUENTIAL, "store"),
    "ratio": Style("ratio", shifted, PAIRWISE, "float32"),
    "apart": Style("apart", shifted, LANES, "own"),
}


def kernels() -> Iterator[Adapter]:
    """Every form of every loss."""
    for form, style in FORMS.items():
        promises = {dtype: promise_of(style, dtype) for dtype in FORMATS}
        for operation in LOSSES:

            def function(*, cotangent: Array | None, _style: Style = style, _operation: str = operation, **call: Any) -> Answer:
                with np.errstate(all="ignore"):
                    machine = Machine.of(_style, next(iter(call.values())).dtype)
                    return LOSSES[_operation](_style.name, machine, cotangent, **call)

            yield kernel(f"correct-{form}", operation, function, promises, DIALECT)
