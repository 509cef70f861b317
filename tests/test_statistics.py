"""The second look inside the bound: no right kernel is suspected, and sums that truncate or are narrower than promised are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from conformance.backend import Result
from conformance.bound import Promise
from conformance.case import Case, Vector
from conformance.correct import correct
from conformance.correct.rows import Style, shifted
from conformance.correct.softmax import LOSSES, Machine
from conformance.correct.sums import LANES, SEQUENTIAL, Order, halving, padded
from conformance.finding import Answer, Finding, Statistics, Verdict
from conformance.judge import judge
from conformance.kernel import judged
from conformance.measure import Question
from conformance.report import grades, jsonlines
from conformance.statistics import OPERATIONS, statistics
from conformance.summation import Summation
from conformance.vectors import read
from refimpl.bounds import K
from refimpl.enclosure import FORMATS
from tests.sweep.measure import vector

Array = np.ndarray[Any, np.dtype[Any]]
Step = Callable[[Array, Array], Array]
KERNELS = [adapter for adapter in correct() if adapter.operations & set(OPERATIONS)]
LARGE = 50_000


@cache
def golden(name: str) -> list[Vector]:
    """The random vectors that have statistics."""
    there = [v for v in read(operation=name) if v.case.group == "random"]
    return [
        v for v in there if not v.case.parameters.get("label_smoothing") and v.case.inputs.get("target", np.zeros(0, int)).dtype.kind == "i"
    ]


def fresh(name: str, dtype: str, classes: int, rows: int, seed: int, deviation: float = 2.9) -> Vector:
    """A vector of random logits in the group that has statistics."""
    rng = np.random.default_rng([17, seed])
    inputs = {"logits": rng.normal(0.0, deviation, (rows, classes)).astype(FORMATS[dtype].dtype)}
    cotangent = rng.choice([-2.0, -1.5, 0.5, 1.0], inputs["logits"].shape)
    parameters = {}
    if name == "softmax_cross_entropy":
        inputs["target"], parameters, cotangent = rng.integers(0, classes, rows), {"reduction": "none"}, cotangent[:, 0]
    return vector(Case(f"{name}/random/fresh-{dtype}", name, dtype, inputs, parameters, cotangent.astype(FORMATS[dtype].dtype), ()))


def of(findings: list[Finding]) -> list[Statistics]:
    """The statistics of an answer that is inside its bound."""
    assert [finding.verdict for finding in findings] == [Verdict.PASS] * len(findings), [finding.ratio for finding in findings]
    return [finding.statistics for finding in findings if finding.statistics is not None]


@pytest.mark.parametrize("name", OPERATIONS)
def test_no_right_kernel_is_suspected_over_the_vectors(name: str) -> None:
    count, vectors = 0, golden(name)
    for adapter in KERNELS:
        for v, _, findings in judged(adapter, vectors):
            for found in of(findings):
                assert not found.suspicious, (adapter.name, v.case.id, found)
                count += 1
    assert count == 2 * len(KERNELS) // len(OPERATIONS) * len(vectors)


@pytest.mark.parametrize("deviation", [0.1, 2.9, 20.0])
@pytest.mark.parametrize("name", OPERATIONS)
def test_no_right_kernel_is_suspected_over_fresh_tensors(name: str, deviation: float) -> None:
    sizes = [(33, 16), (1000, 4), (4096, 2)]
    for seed, (dtype, (classes, rows)) in enumerate((dtype, size) for dtype in FORMATS for size in sizes):
        v = fresh(name, dtype, classes, rows, seed, deviation)
        for adapter in KERNELS:
            for _, _, findings in judged(adapter, [v]):
                assert len(of(findings)) == 2
                assert not any(found.suspicious for found in of(findings)), (adapter.name, dtype, classes, of(findings))


@pytest.mark.parametrize("deviation", [0.1, 2.9, 20.0])
@pytest.mark.parametrize("order", [SEQUENTIAL, LANES], ids=["sequential", "lanes"])
def test_no_right_sum_over_a_vocabulary_is_suspected(order: Order, deviation: float) -> None:
    """Also where many addends are below the spacing of the sum, and are lost: more than the chances of roundings make up for."""
    assert not any(found.suspicious for found in of(asked(fresh("log_softmax", "float32", 400_000, 1, 18, deviation), order)))


def asked(v: Vector, order: Order, rows: Callable[..., Any] = shifted) -> list[Finding]:
    """The findings on a kernel that sums the exponentials so, and promises float32 in the order's summation."""
    machine = Machine.of(Style("any", rows, order, "float32"), v.case.inputs["logits"].dtype)
    output, gradients = LOSSES[v.case.operation](machine, v.case.cotangent, **v.case.call)
    dialect = {name: next(iter({e.choices[name] for e in v.expectations})) for name in v.expectations[0].choices}
    return judge(v, Answer(output, gradients, None, (), False, 0.0), Promise("A", "float32", summation=order.summation, gap=1.0), dialect)


def rounded_by(rounding: Callable[[Array], Array], bits: int) -> Step:
    """An addition whose result has so many bits."""

    def add(s: Array, x: Array) -> Array:
        mantissa, power = np.frexp(s + x)
        return np.asarray(np.ldexp(rounding(mantissa * 2.0**bits), power - bits))

    return add


def summed(add: Step, lanes: int = 1) -> Order:
    """A sum in lanes by that addition, of which float32 holds the result."""

    def total(x: Array) -> Array:
        wide = np.moveaxis(padded(x, lanes), -2, 0).astype(np.float64)
        sums = np.zeros(wide.shape[1:])
        for addends in wide:
            sums = add(sums, addends)
        return halving(sums).astype(np.float32)

    return Order(total, replace(LANES.summation, lanes=lanes) if lanes > 1 else SEQUENTIAL.summation)


def logarithm_in(bits: int) -> Callable[..., Any]:
    """A log-softmax whose log-sum-exp is kept once in so many bits."""

    def rows(x: Array, total: Callable[[Array], Array]) -> tuple[Array, Array]:
        d = x - x.max(axis=-1, keepdims=True)
        mantissa, power = np.frexp(np.log(total(np.exp(d))))
        lp = d - np.ldexp(np.rint(mantissa * 2.0**bits) / 2.0**bits, power).astype(x.dtype)
        return lp, np.exp(lp)

    return rows


def over_a_vocabulary(name: str) -> Vector:
    """The random vector of 50000 classes."""
    (found,) = [v for v in golden(name) if v.case.dtype == "float32" and v.case.inputs["logits"].shape == (2, 50_000)]
    return found


@pytest.mark.parametrize("lanes", [1, 4])
@pytest.mark.parametrize("name", OPERATIONS)
def test_a_sum_that_truncates_is_noticed(name: str, lanes: int) -> None:
    v = over_a_vocabulary(name)
    forward = of(asked(v, summed(rounded_by(np.floor, 24), lanes)))[0]
    assert abs(forward.bias) > 2.0 * forward.bias_allowed
    assert (forward.bias > 0.0) == (name == "log_softmax")  # of too small a sum, the log-probability is too large, and the loss too small
    right = of(asked(v, summed(rounded_by(np.rint, 24), lanes)))
    assert not any(found.suspicious for found in right), "with roundings to nearest the emulated sum is right"


@pytest.mark.parametrize("bits", [20, 19])
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_accumulator_narrower_than_promised_is_noticed(name: str, bits: int) -> None:
    assert of(asked(over_a_vocabulary(name), summed(rounded_by(np.rint, bits))))[0].suspicious


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_log_sum_exp_of_few_bits_is_noticed(name: str) -> None:
    v = over_a_vocabulary(name)
    assert of(asked(v, SEQUENTIAL, logarithm_in(11)))[0].suspicious
    assert not of(asked(v, SEQUENTIAL, logarithm_in(24)))[0].suspicious, "the emulated logarithm itself is right"


def test_truncation_is_seen_from_a_thousand_classes_on() -> None:
    seen = {}
    for classes in (33, 257, 1000, 4096):
        found = of(asked(fresh("log_softmax", "float32", classes, 8, 19), summed(rounded_by(np.floor, 24))))
        seen[classes] = found[0].suspicious
    assert seen == {33: False, 257: False, 1000: True, 4096: True}


def test_errors_of_either_sign_that_are_too_large_are_a_spread() -> None:
    """The first row's sum is too small, the second's too large: the mean is right."""
    v = over_a_vocabulary("log_softmax")
    (given,) = [answer for adapter in KERNELS if adapter.name == "correct-float64" for _, answer, _ in judged(adapter, [v])]
    assert given.output is not None
    shift = np.array([[1e-3], [-1e-3]], np.float32)
    (found, _) = of(judge(v, replace(given, output=given.output + shift), Promise("A", "float32"), {}))
    assert found.spread > found.spread_allowed
    assert found.suspicious
    assert of(judge(v, given, Promise("A", "float32"), {}))[0].suspicious is False


def test_there_are_none_where_the_model_does_not_hold() -> None:
    """Equal logits, weights, smoothing, distributions, other operations; nor of an answer that is outside its bound."""
    v = fresh("softmax_cross_entropy", "float32", 33, 4, 20)
    weight = np.ones(33, np.float32)
    others = [replace(v.case, id="softmax_cross_entropy/edges/x"), replace(v.case, operation="nll_loss")]
    others += [replace(v.case, parameters={"label_smoothing": 0.1}), replace(v.case, inputs={**v.case.inputs, "weight": weight})]
    others += [replace(v.case, inputs={**v.case.inputs, "target": v.case.inputs["logits"]})]
    (expectation,) = v.expectations
    assert expectation.output.values.hi.size == 4
    output = expectation.output.values.round("float32")

    def found(case: Case) -> Statistics | None:
        none = np.zeros((4, K))
        return statistics(Question(case, expectation.output, Promise("A", "float32"), lambda: none, None), output)

    assert found(v.case) is not None
    assert [found(case) for case in others] == [None] * len(others)
    far = Answer(output + np.float32(1.0), {}, None, (), False, 0.0)
    assert judge(v, far, Promise("A", "float32"), {})[0].statistics is None


def test_numbers_alone_count() -> None:
    v = fresh("log_softmax", "float32", 3, 2, 21)
    expected = v.expectations[0].output
    output = expected.values.round("float32")
    question = Question(v.case, expected, Promise("A", "float32"), lambda: np.zeros((6, K)), None)
    found = statistics(question, output)
    assert found is not None
    assert found.count == 6
    output[0, 0] = np.inf
    found = statistics(question, output)
    assert found is not None
    assert found.count == 5
    assert statistics(question, np.full_like(output, np.nan)) is None


def test_the_report_names_the_worst_tensor_and_counts_the_others() -> None:
    v = over_a_vocabulary("softmax_cross_entropy")
    leaning = [Result("mine", "jit", "A", False, 0.0, one) for one in asked(v, summed(rounded_by(np.floor, 24)))]
    scattered = replace(leaning[0].finding, statistics=Statistics(2, 0.0, 0.5, 0.1, 0.2))
    right = [Result("mine", "jit", "A", False, 0.0, one) for one in asked(v, SEQUENTIAL)]
    assert grades.suspicion(right) == ""
    assert grades.suspicion(right + leaning) == (
        "errors lean to one side: a bias of -0.33 of the bound, where sums as promised have at most 0.086 "
        f"({v.case.id}, forward, jit); 2 tensors in all"
    )
    assert grades.suspicion([replace(leaning[0], finding=scattered)]) == (
        f"errors scatter widely: a spread of 0.5 of the bound, where sums as promised have at most 0.2 ({v.case.id}, forward, jit)"
    )
    line = jsonlines.line(leaning[0])["statistics"]
    assert (line["count"], line["suspicious"]) == (2, True)
    assert line["bias"] == pytest.approx(-0.33, abs=0.01)
    assert jsonlines.line(replace(leaning[0], finding=replace(scattered, statistics=None)))["statistics"] is None


def test_the_classes_may_stand_before_other_axes() -> None:
    v = fresh("softmax_cross_entropy", "float32", 4096, 3, 22, deviation=6.0)
    logits, target = v.case.inputs["logits"], v.case.inputs["target"]
    turned = replace(v.case, inputs={"logits": logits.T[None], "target": target[None]}, cotangent=np.ones((1, 3), np.float32))
    (flat, _), (other, _) = (of(asked(one, SEQUENTIAL)) for one in (v, vector(turned)))
    assert flat == other
    assert 0.0 < flat.bias_allowed < 0.5


def test_the_exponentials_of_an_online_softmax_are_counted() -> None:
    assert Summation("online", 1, 32).rescaling(65) == 3 * 2
    assert Summation("blocked", 1, 32).rescaling(65) == 0
