"""entropy, cross_entropy, kl_divergence and kl_div: the kernels contain the exact forms, and the bounds allow textbook code."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from flint import arb

from conformance.bound import Promise, arithmetic, with_rounding
from refimpl import ball
from refimpl.bounds import K
from refimpl.enclosure import FORMATS, Enclosure, Kind
from refimpl.operation import InvalidInput, Operation
from refimpl.operations import operation

INF, NAN = math.inf, math.nan
BITS = 400
DISTRIBUTIONS = ("entropy", "cross_entropy", "kl_divergence")
NEAR = [0.3, np.nextafter(0.3, 1.0), 0.5, np.nextafter(0.5, 0.0), 1.0, np.nextafter(1.0, 2.0), np.nextafter(1.0, 0.0)]
SMALL = [5e-324, 1e-323, 1e-310, 2.0**-1022, 1e-300, 2.0**-149, 1e-40, 1e-8]
LARGE = [1.5, 2.0, 1e10, 1e300, 1.7e308, float(np.finfo(np.float64).max)]
ODD = [0.0, -0.0, INF, NAN, -0.5, -5e-324]
POOL = [*NEAR, *SMALL, *LARGE, *ODD]
LOGS = [-INF, -1.7e308, -1e5, -5000.0, -1400.5, -745.1, -88.0, -1.0, -0.3, -5e-324, 0.0, 5e-324, 1.0, 709.0, 710.5, 5000.0, 1e300, INF, NAN]
COTANGENTS = [1.25, -2.5, 0.0, 5e-324, -1e300]
KL_DIV = [(r, t) for r in ("none", "mean", "batchmean", "sum") for t in (False, True)]


def agrees(stated: Operation, call: dict[str, Any], cotangent: Any = None, sample: int = 10**6) -> dict[str, Enclosure]:
    """The output ("") and gradients of a call, each element found to contain its exact form (or a sample of the elements)."""
    found = {"": stated.forward(**call)}
    if cotangent is not None:
        found |= stated.vjp(cotangent=cotangent, **call)
    for name, e in found.items():
        where = list(range(e.size)) if e.size <= sample else sorted(np.random.default_rng(1).choice(e.size, sample, replace=False))
        for bits in (BITS, 12 * BITS):  # 5e-324 - 1 + 1 takes more than a thousand
            balls = stated.exact_vjp(name, where, bits, cotangent=cotangent, **call) if name else stated.exact(where, bits, **call)
            pairs = [(i, expected) for i, expected in zip(where, balls, strict=True) if not e.contains(int(i), expected)]
            where = [i for i, _ in pairs]
        outside = [f"{i}: {e.hi.flat[i]!r} + {e.lo.flat[i]!r} +/- {e.radius.flat[i]!r}, exact {expected}" for i, expected in pairs]
        assert not outside, f"{stated.name} {name}: {outside[:5]}"
    return found


def inputs(name: str, *arrays: Any) -> dict[str, Any]:
    return dict(zip(operation(name).inputs, arrays, strict=False))


def settled(e: Enclosure) -> bool:
    """Whether every element is determined to far more than float64 (or as far as float64 reaches)."""
    finite = e.kind == Kind.FINITE
    return bool((e.radius[finite] <= np.maximum(np.abs(e.hi[finite]) * 2.0**-80, 2.0**-1070)).all())


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_single_classes_of_any_kind(name: str) -> None:
    pairs = np.array(list(itertools.product(POOL, POOL)) if name != "entropy" else [(p, p) for p in POOL])
    call = inputs(name, pairs[:, :1], pairs[:, 1:])
    for g in COTANGENTS:
        found = agrees(operation(name), call, np.full(len(pairs), g))
        assert settled(found[""])
        assert settled(found["q" if "q" in found else ""])


@pytest.mark.parametrize(("reduction", "log_target"), KL_DIV)
def test_single_elements_of_any_kind(reduction: str, log_target: bool) -> None:
    pairs = np.array(list(itertools.product(LOGS, LOGS if log_target else POOL)))
    stated, options = operation("kl_div"), {"reduction": reduction, "log_target": log_target}
    if reduction == "none":
        for g in COTANGENTS:
            found = agrees(stated, inputs("kl_div", pairs[:, 0], pairs[:, 1]) | options, np.full(len(pairs), g))
            assert settled(found["log_q"])
            finite = found[""].kind == Kind.FINITE
            assert (found[""].radius[finite] < INF).all()
    else:
        for i, (log_q, p) in enumerate(pairs):
            call = inputs("kl_div", np.array([[log_q], [-0.5]]), np.array([[p], [-0.5 if log_target else 0.5]])) | options
            agrees(stated, call, np.array(COTANGENTS[i % 5]))


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_rows_of_a_mixed_kind(name: str) -> None:
    rng = np.random.default_rng(2)
    for pool in (POOL, [*NEAR, *SMALL, *LARGE], [*NEAR, *SMALL, 0.0], LARGE):
        p, q = rng.choice(pool, (2, 300, 3))
        agrees(operation(name), inputs(name, p, q), rng.choice(COTANGENTS, 300))


def probabilities(rng: np.random.Generator, shape: tuple[int, ...], zeros: bool = False) -> np.ndarray:
    x = rng.exponential(size=shape) ** 3 * (rng.random(shape) > (0.2 if zeros else 0.0))
    x[..., 0] += x.sum(-1) == 0.0
    return x / x.sum(-1, keepdims=True)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
@pytest.mark.parametrize("classes", [2, 5, 33, 1023, 1025, 5000])
def test_random_rows(name: str, classes: int) -> None:
    rng = np.random.default_rng(classes)
    rows = max(2, 200 // classes)
    q = probabilities(rng, (rows, classes))
    for p in (probabilities(rng, q.shape, zeros=True), q * (1 + rng.normal(size=q.shape) * 1e-9)):
        for dtype in (np.float64, np.float32):
            found = agrees(operation(name), inputs(name, p.astype(dtype), q.astype(dtype)), rng.normal(size=rows), sample=300)
            assert (found[""].radius <= 2.0**-90).all()
            assert settled(found["p"])


@pytest.mark.parametrize(("reduction", "log_target"), KL_DIV)
@pytest.mark.parametrize("shape", [(1,), (7, 3), (2, 3, 2), (2, 1500)])
def test_random_elements(reduction: str, log_target: bool, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(3)
    log_q, p = -rng.exponential(size=shape) * 5, probabilities(rng, shape, zeros=True)
    with np.errstate(divide="ignore"):
        p = np.log(p) if log_target else p
    g = rng.normal(size=shape if reduction == "none" else ())
    call = inputs("kl_div", log_q, p) | {"reduction": reduction, "log_target": log_target}
    found = agrees(operation("kl_div"), call, g, sample=400)
    assert settled(found["log_q"])
    assert (found[""].radius <= 2.0**-90).all()


@pytest.mark.parametrize("name", [*DISTRIBUTIONS, "kl_div"])
def test_every_example_is_contained_and_rounds_in_every_dtype(name: str) -> None:
    stated = operation(name)
    for clause in stated.clauses:
        for example in clause.examples:
            for dtype in example.dtypes:
                call = {
                    k: np.asarray(v, np.float64).astype(FORMATS[dtype].dtype) if k in stated.inputs else v for k, v in example.call.items()
                }
                given = call.pop("cotangent", None)
                shape = stated.forward(**call).shape
                g = np.resize([1.25, -1.5, 1.75], shape) if given is None else np.asarray(given)
                for e in agrees(stated, call, g).values():
                    e.round(dtype)


def test_the_numbers_that_people_know() -> None:
    ln2 = math.log(2.0)
    known: list[tuple[str, dict[str, Any], list[float] | float]] = [
        ("entropy", {"p": [[0.5, 0.5], [1.0, 0.0], [0.25, 0.25]]}, [ln2, 0.0, ln2]),
        ("cross_entropy", {"p": [[0.5, 0.5], [1.0, 0.0]], "q": [[1.0, 0.0], [1.0, 0.0]]}, [INF, 0.0]),
        ("kl_divergence", {"p": [[0.25, 0.75]], "q": [[0.5, 0.5]]}, [0.25 * math.log(0.5) + 0.75 * math.log(1.5)]),
        ("kl_divergence", {"p": [4.0], "q": [2.2e-308]}, 4.0 * (math.log(4.0) - math.log(2.2e-308))),
        ("kl_divergence", {"p": [0.3], "q": [0.30000000000000004]}, -5.551115123125783e-17 * (1 - 2.0**-54)),
        ("kl_div", {"log_q": [-INF, 0.0], "p": [0.0, 1.0]}, 0.0),
        ("kl_div", {"log_q": [-1.0, -1.0], "p": [-INF, 0.0], "log_target": True, "reduction": "sum"}, 1.0),
        ("kl_div", {"log_q": [-1.0, -1.0], "p": [-0.5, 1.5]}, NAN),
    ]
    for name, call, number in known:
        actual, expected = np.atleast_1d(operation(name).forward(**call).round()), np.atleast_1d(number)
        finite = np.isfinite(expected)
        np.testing.assert_array_equal(actual[~finite], expected[~finite])
        np.testing.assert_array_max_ulp(actual[finite], expected[finite], 4)  # as often as the longest of these formulas rounds


def test_a_gradient_without_a_limit_is_undefined_and_a_cotangent_of_0_gives_0() -> None:
    for name, call, of in [
        ("cross_entropy", {"p": [[0.0]], "q": [[0.0]]}, ("p", "q")),
        ("kl_divergence", {"p": [[0.0]], "q": [[0.0]]}, ("p", "q")),
        ("kl_div", {"log_q": [-INF], "p": [0.0], "reduction": "none"}, ("p",)),
        ("kl_div", {"log_q": [-INF], "p": [-INF], "reduction": "none", "log_target": True}, ("p",)),
    ]:
        for g, kind in ((1.5, Kind.UNDEFINED), (0.0, Kind.FINITE)):
            gradients = operation(name).vjp(cotangent=np.array([g]), **call)
            assert all(gradients[x].kind.item() == kind for x in of), (name, g)


def test_a_cross_entropy_is_an_entropy_and_a_divergence() -> None:
    rng = np.random.default_rng(4)
    p, q = probabilities(rng, (5, 7), zeros=True), probabilities(rng, (5, 7))
    where = range(5)
    h, ce, kl = (operation(n).exact(where, BITS, **inputs(n, p, q)) for n in DISTRIBUTIONS)
    with ball.precision(BITS):
        for a, b, c in zip(h, ce, kl, strict=True):
            assert (b - a - c).contains(arb(0))
            assert (b - a - c).rad() < 1e-100


def test_one_error_names_the_input() -> None:
    with pytest.raises(InvalidInput, match="at least one class"):
        operation("entropy").forward(p=np.zeros((2, 0)))
    with pytest.raises(InvalidInput, match="nothing broadcasts"):
        operation("kl_divergence").forward(p=np.zeros((2, 3)), q=np.zeros(3))
    with pytest.raises(InvalidInput, match="batchmean"):
        operation("kl_div").forward(log_q=np.array(0.0), p=np.array(0.5), reduction="batchmean")


# Textbook code, in the dtype of its inputs throughout: each form that a bound is said to allow.
Form = Callable[..., tuple[Any, dict[str, Any]]]


def _entropy(p: Any, g: Any) -> tuple[Any, dict[str, Any]]:
    return -(p * np.log(p)).sum(-1), {"p": -g[..., None] * (np.log(p) + 1)}


def _entropy_apart(p: Any, g: Any) -> tuple[Any, dict[str, Any]]:
    return -np.cumsum(p * np.log(p), -1)[..., -1], {"p": -g[..., None] * np.log(p) - g[..., None] * p * (1 / p)}


def _cross(p: Any, q: Any, g: Any) -> tuple[Any, dict[str, Any]]:
    return -(p * np.log(q)).sum(-1), {"p": -g[..., None] * np.log(q), "q": -g[..., None] * p / q}


def _kl_logs(p: Any, q: Any, g: Any) -> tuple[Any, dict[str, Any]]:
    return (p * np.log(p) - p * np.log(q)).sum(-1), {
        "p": (g[..., None] * np.log(p) + g[..., None]) - g[..., None] * np.log(q),
        "q": g[..., None] * -(p / q),
    }


def _kl_difference(p: Any, q: Any, g: Any) -> tuple[Any, dict[str, Any]]:
    return np.cumsum(p * (np.log(p) - np.log(q)), -1)[..., -1], {
        "p": g[..., None] * (np.log(p) - np.log(q) + 1),
        "q": -(g[..., None] / q) * p,
    }


def _kl_ratio(p: Any, q: Any, g: Any) -> tuple[Any, dict[str, Any]]:
    return (p * np.log(p / q)).sum(-1), {"p": g[..., None] * (np.log(p / q) + 1), "q": -g[..., None] * (p / q)}


FORMS: list[tuple[str, Form]] = [
    ("entropy", _entropy),
    ("entropy", _entropy_apart),
    ("cross_entropy", _cross),
    ("kl_divergence", _kl_logs),
    ("kl_divergence", _kl_difference),
    ("kl_divergence", _kl_ratio),
]


def _reduced(term: Any, reduction: str) -> tuple[Any, Any]:
    count = {"mean": term.size, "batchmean": len(term)}.get(reduction, 1)
    total = term if reduction == "none" else np.cumsum(term)[-1]
    return total / term.dtype.type(count), term.dtype.type(count)


def _pointwise(log_q: Any, p: Any, g: Any, reduction: str) -> tuple[Any, dict[str, Any]]:
    loss, count = _reduced(p * (np.log(p) - log_q), reduction)
    return loss, {"log_q": -p * (g / count), "p": g / count * (np.log(p) - log_q + 1)}


def _pointwise_apart(log_q: Any, p: Any, g: Any, reduction: str) -> tuple[Any, dict[str, Any]]:
    loss, count = _reduced(p * np.log(p) - p * log_q, reduction)
    return loss, {"log_q": -p * g / count, "p": (g / count * (np.log(p) + 1)) - g / count * log_q}


def _log(log_q: Any, p: Any, g: Any, reduction: str) -> tuple[Any, dict[str, Any]]:
    loss, count = _reduced(np.exp(p) * (p - log_q), reduction)
    return loss, {"log_q": -np.exp(p) * (g / count), "p": g / count * np.exp(p) * (p - log_q + 1)}


def _log_apart(log_q: Any, p: Any, g: Any, reduction: str) -> tuple[Any, dict[str, Any]]:
    e = np.exp2(p * p.dtype.type(math.log2(math.e)))
    loss, count = _reduced(e * p - e * log_q, reduction)
    return loss, {"log_q": -e * g / count, "p": g / count * (e + e * p - e * log_q)}


def _worst(e: Enclosure, actual: Any, bound: Any, dtype: str) -> float:
    """The largest error in units of the allowed one."""
    assert bound.shape == e.shape
    assert np.isfinite(bound).all()
    allowed = with_rounding(bound, e, FORMATS[dtype], False)
    return float((np.abs((actual.astype(np.float64) - e.hi) - e.lo) / allowed).max())


def _judged(stated: Operation, call: dict[str, Any], g: Any, answer: tuple[Any, dict[str, Any]], dtype: str, classes: int) -> float:
    rows = next(iter(call.values())).size // classes
    numbers = arithmetic(Promise("A", compute=dtype), dtype, classes, rows).numbers()
    ratios = [_worst(stated.forward(**call), np.asarray(answer[0]), stated.terms(**call) @ numbers, dtype)]
    terms = stated.terms_vjp(cotangent=g, **call)
    for name, e in stated.vjp(cotangent=g, **call).items():
        ratios.append(_worst(e, answer[1][name], terms[name] @ numbers, dtype))
    return max(ratios)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("name", "form"), FORMS, ids=lambda value: getattr(value, "__name__", value))
def test_bounds_allow_textbook_code(name: str, form: Form, dtype: str) -> None:
    rng, worst = np.random.default_rng(5), 0.0
    for classes in (1, 2, 10, 1000):
        q = probabilities(rng, (50, classes)) + 1e-30
        for p in (probabilities(rng, q.shape) + 1e-30, q * (1 + rng.normal(size=q.shape) * 1e-5), q * 1e-6):
            arrays = [x.astype(dtype) for x in ([p] if name == "entropy" else [p, q])]
            g = rng.normal(size=50).astype(dtype)
            worst = max(worst, _judged(operation(name), inputs(name, *arrays), g, form(*arrays, g), dtype, classes))
    assert 0.02 < worst <= 1.0  # kept, and within reach


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("form", [_pointwise, _pointwise_apart, _log, _log_apart], ids=lambda form: form.__name__)
def test_bounds_allow_textbook_code_pointwise(form: Form, dtype: str) -> None:
    rng, worst = np.random.default_rng(6), 0.0
    log_target = form in (_log, _log_apart)
    for reduction, shape in itertools.product(("none", "mean", "batchmean", "sum"), ((1,), (3, 4), (40, 50))):
        log_q, p = (np.log(probabilities(rng, shape) + 1e-30) for _ in range(2))
        for target in (p, log_q + rng.normal(size=shape) * 1e-5):
            arrays = [x.astype(dtype) for x in (log_q, target if log_target else np.exp(target))]
            g = np.asarray(rng.normal(size=shape if reduction == "none" else ())).astype(dtype)
            call = inputs("kl_div", *arrays) | {"reduction": reduction, "log_target": log_target}
            worst = max(worst, _judged(operation("kl_div"), call, g, form(*arrays, g, reduction), dtype, 1))
    assert 0.02 < worst <= 1.0


@pytest.mark.parametrize("name", [*DISTRIBUTIONS, "kl_div"])
def test_bounds_of_anything_are_stated_without_a_warning(name: str) -> None:
    pairs = np.array(list(itertools.product(POOL, POOL)))
    shape = len(pairs) if name != "kl_div" else ()
    call = inputs(name, *(pairs[:, :1], pairs[:, 1:])) if name != "kl_div" else inputs(name, pairs[:, 0], pairs[:, 1])
    g = np.full(shape, 1.25)
    expected = operation(name).forward(**call)
    assert np.shape(operation(name).terms(**call)) == (*expected.shape, K)
    for key, terms in operation(name).terms_vjp(cotangent=g, **call).items():
        assert terms.shape == (*np.shape(call[key]), K)
        assert (np.isfinite(terms) & (terms >= 0)).all()


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_a_promise_to_flush_excuses_a_lost_subnormal(name: str) -> None:
    p, q = np.float32([[1e-40], [0.0]]), np.float32([[0.25], [0.25]])
    kept, flushed = operation(name).forward(**inputs(name, p, q)).hi
    for flush in (False, True):
        numbers = arithmetic(Promise("A", compute="float32", flush=flush), "float32").numbers()
        bound = operation(name).terms(**inputs(name, p, q)) @ numbers
        assert bool(abs(kept - flushed) <= bound[0]) == flush
