"""The bounds: no right kernel exceeds its own, every term is needed, and what is stored with a vector is what is computed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from conformance import bound, measure
from conformance.adapter import Adapter
from conformance.bound import CLASSES, Accuracy, Promise, arithmetic
from conformance.case import Case
from conformance.correct import correct
from conformance.correct import sums as orders
from conformance.expect import expect
from conformance.grade import grade
from conformance.judge import judge
from conformance.kernel import judged
from conformance.summation import Summation
from conformance.vectors import read
from refimpl.bounds import TERMS, K
from refimpl.enclosure import FORMATS
from refimpl.operations import operations
from tests.sweep.calls import draw
from tests.sweep.measure import ratios, vector

KERNELS = correct()
LADDER = (1, 2, 3, 33, 257, 2000)
ALL = pytest.mark.parametrize("name", sorted(operations()))


def worst(case: Case) -> float:
    return max(found.ratio for found in ratios(case, KERNELS))


@ALL
def test_no_right_kernel_exceeds_its_bound(name: str) -> None:
    rng = np.random.default_rng([11, *name.encode()])
    for dtype in FORMATS:
        for classes in LADDER:
            for _ in range(3 if classes < 1000 else 1):
                found = max(ratios(draw(rng, name, dtype, classes), KERNELS), key=lambda one: one.ratio)
                assert found.ratio <= 1.0, found


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("name", ["softmax_cross_entropy", "kl_divergence"])
def test_no_right_kernel_exceeds_its_bound_over_a_vocabulary(name: str, dtype: str) -> None:
    rng = np.random.default_rng([12, *name.encode()])
    found = max(ratios(draw(rng, name, dtype, 200_000, rows=1), KERNELS), key=lambda one: one.ratio)
    assert found.ratio <= 1.0, found


@ALL
def test_no_right_kernel_is_accused_by_the_vectors(name: str) -> None:
    vectors = [v for v in read(operation=name) if max(array.size for array in v.case.inputs.values()) < 2000]
    asked = 0
    for adapter in KERNELS:
        if name in adapter.operations:
            for v, _, findings in judged(adapter, vectors):
                failed = [finding for finding in findings if finding.verdict != "pass"]
                assert not failed, (adapter.name, v.case.id, failed[0].direction, failed[0].ratio, failed[0].note)
                asked += 1
    assert asked >= 3 * len(vectors)


@ALL
def test_an_eighth_of_the_bound_accuses_a_right_kernel(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    exact = bound.numbers_of_classes
    monkeypatch.setattr(measure, "numbers_of_classes", lambda promise, case: exact(promise, case) / 8.0)
    rng = np.random.default_rng([13, *name.encode()])
    calls = (draw(rng, name, dtype, int(rng.choice((2, 3, 33, 300)))) for _ in range(40) for dtype in ("float64", "float32"))
    assert any(worst(case) > 1.0 for case in calls)


def of(operation: str, dtype: str, cotangent: Any, parameters: dict[str, Any] | None = None, **inputs: Any) -> Case:
    arrays = {key: np.asarray(value, np.int64 if key == "target" else FORMATS[dtype].dtype) for key, value in inputs.items()}
    return Case(f"{operation}/edges/x", operation, dtype, arrays, parameters or {}, np.asarray(cotangent, FORMATS[dtype].dtype), ())


def two_valued(dtype: str, classes: int, gap: float, rows: int = 4) -> np.ndarray[Any, Any]:
    x = np.full((rows, classes), -gap)
    x[:, 0] = 0.0
    return x.astype(dtype)


RNG = np.random.default_rng(14)
NEEDS: dict[str, Callable[[], Case]] = {
    "unit": lambda: of("kl_div", "float32", RNG.normal(size=400), {"reduction": "none"}, log_q=-RNG.random(400), p=RNG.random(400)),
    "log": lambda: of("cross_entropy", "float32", RNG.normal(size=99), p=np.ones((99, 400)), q=10.0 ** -(30 * RNG.random((99, 400)))),
    "gap": lambda: of("log_softmax", "float32", np.ones((400, 2)), logits=RNG.normal(size=(400, 2)) * 5),
    "classes": lambda: of("log_softmax", "float32", np.ones((4, 20000)), logits=two_valued("float32", 20000, 0.1)),
    "rows": lambda: of("nll_loss", "float32", 1.5, {"reduction": "sum"}, log_p=np.full((60000, 1), -0.1), target=np.zeros(60000)),
    "lse": lambda: of("log_softmax", "float32", np.ones((50, 3)), logits=RNG.normal(size=(50, 3)) + 1000.3),
    "top": lambda: of("log_softmax", "float32", np.ones((50, 3)), logits=two_valued("float32", 3, 7.3, 50)),
    "store": lambda: of("log_softmax", "bfloat16", np.ones((50, 9)), logits=RNG.normal(size=(50, 9))),
    "tiny": lambda: of("entropy_with_logits", "float16", RNG.normal(size=50) * 30, logits=RNG.normal(size=(50, 30)) * 8),
}


@pytest.mark.parametrize("term", sorted(NEEDS))
def test_without_a_term_some_right_kernel_is_accused(term: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cases = [NEEDS[term]() for _ in range(3)]
    assert all(worst(case) <= 1.0 for case in cases)
    exact, place = bound.numbers_of_classes, list(TERMS).index(term)
    monkeypatch.setattr(measure, "numbers_of_classes", lambda promise, case: np.where(np.arange(K) == place, 0.0, exact(promise, case)))
    assert any(worst(case) > 1.0 for case in cases)


def test_every_term_but_one_is_shown_to_be_needed() -> None:
    """numpy's exponentials are off by little more than half a unit; the term allows the two units that a kernel may have."""
    assert TERMS.keys() - NEEDS.keys() == {"exp"}


@ALL
def test_terms_are_finite_whatever_the_inputs(name: str) -> None:
    for v in read(operation=name):
        if max(array.size for array in v.case.inputs.values()) > 100:
            continue
        for expectation in v.expectations:
            if expectation.kind == "error":
                continue
            found = {"": bound.forward_terms(v.case, expectation.choices), **bound.backward_terms(v.case, expectation.choices)}
            for key, terms in found.items():
                shape = expectation.gradients[key].shape if key else expectation.output.shape
                assert terms.shape == (*shape, K)
                assert (np.isfinite(terms) & (terms >= 0.0)).all(), v.case.id


@ALL
def test_a_vector_holds_the_terms_that_the_judge_computes(name: str) -> None:
    case = draw(np.random.default_rng(15), name, "float32", 600)
    made = expect(case)
    for expectation in made.expectations:
        computed = {"": bound.forward_terms(case, expectation.choices), **bound.backward_terms(case, expectation.choices)}
        for key, expected in {"": expectation.output, **expectation.gradients}.items():
            flat = computed[key].reshape(-1, K)
            assert np.array_equal(expected.terms, flat if expected.where is None else flat[expected.where])


def test_the_judge_takes_stored_terms_and_others_give_other_ratios() -> None:
    case = of("log_softmax", "float32", [[1.5, -2.0]], logits=[[0.25, 1.0]])
    made, adapter = expect(case), next(a for a in KERNELS if "log_softmax" in a.operations)
    (_, answer, _) = next(iter(judged(adapter, [made])))
    plain = judge(vector(case), answer, adapter.promises["float32"], {})
    assert [f.ratio for f in judge(made, answer, adapter.promises["float32"], {})] == [f.ratio for f in plain]
    assert made.expectations[0].output.terms is not None
    made.expectations[0].output.terms[:] = 0.0
    assert judge(made, answer, adapter.promises["float32"], {})[0].ratio > plain[0].ratio  # type: ignore[operator]


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("compute", FORMATS)
def test_classes_are_nested(compute: str, dtype: str) -> None:
    found = {name: arithmetic(Promise(name, compute), dtype, 100, 100).numbers() for name in CLASSES}
    for tight, loose in (("R", "S"), ("S", "A"), ("A", "B"), ("A", "N")):
        assert (found[tight] <= found[loose]).all(), (tight, loose)  # type: ignore[index]
    assert not found["R"].any()


def kept(adapter: Adapter, case: Case) -> list[tuple[Accuracy, ...] | None]:
    """The classes that each tensor of the kernel's answer keeps."""
    (_, _, found) = next(iter(judged(adapter, [vector(case)])))
    return [finding.kept for finding in found]


def test_a_grade_is_the_tightest_class_that_was_kept() -> None:
    by_name = {adapter.name: adapter for adapter in KERNELS if "log_softmax" in adapter.operations}
    small = of("log_softmax", "float32", np.ones((50, 3)), logits=two_valued("float32", 3, 7.3, 50))
    far = of("log_softmax", "float32", np.ones((50, 3)), logits=RNG.normal(size=(50, 3)) + 1000.3)
    grades: dict[str, Accuracy | None] = {}
    for name in ("float64", "log1p", "pairwise", "lse-minus"):
        grades[name] = grade(filter(None, (one for case in (small, far) for one in kept(by_name[f"correct-{name}"], case))))
    assert grades == {"float64": "S", "log1p": "S", "pairwise": "A", "lse-minus": "B"}
    assert grade([]) is None
    assert grade([frozenset({"B"}), frozenset({"N"})]) is None
    rounded = by_name["correct-float64"]
    half = of("log_softmax", "float16", np.ones((50, 3)), logits=RNG.normal(size=(50, 3)))
    assert grade(filter(None, kept(rounded, half))) == "R"


class Depth:
    """A term of a sum that counts the additions on its way."""

    def __init__(self, roundings: int) -> None:
        self.roundings = roundings

    def __add__(self, other: Any) -> Depth:
        return self if not isinstance(other, Depth) else Depth(max(self.roundings, other.roundings) + 1)

    __radd__ = __add__


@pytest.mark.parametrize("order", [orders.SEQUENTIAL, orders.PAIRWISE, orders.LANES, orders.blocked(64), orders.blocked(7)])
def test_no_sum_is_deeper_than_its_order_says(order: orders.Order) -> None:
    for terms in (1, 2, 3, 7, 8, 9, 63, 64, 65, 127, 128, 129, 1000):
        x = np.array([Depth(0) for _ in range(terms)], object)[None]
        assert order.total(x)[0].roundings <= order.summation.depth(terms), terms
        assert order.summation.depth(terms) <= order.total(x)[0].roundings + 4


def test_a_summation_says_what_is_wrong_with_it() -> None:
    with pytest.raises(ValueError, match="use one of sequential, lanes"):
        Summation("random")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least one"):
        Summation("lanes", 0)
    assert Summation("online", 1, 32).depth(64) == 31 + 8
