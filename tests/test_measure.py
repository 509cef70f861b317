"""The measure of large tensors: what is said of the elements that aren't named."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
import pytest

from conformance import measure as measure_module
from conformance import vectors
from conformance.bound import Promise, backward_terms
from conformance.case import Expected
from conformance.measure import Measure, Question, measure
from refimpl.bounds import K, form
from refimpl.enclosure import Enclosure
from refimpl.operations import operation

Array = np.ndarray[Any, np.dtype[Any]]
A = Promise("A", "float32")
LARGE = (
    "softmax_cross_entropy/ladder/V32000-drawn-float32",
    "entropy_with_logits/ladder/positions-float32",
    "kl_div/random/mean-V1000-bfloat16",
)


@pytest.mark.parametrize("id", LARGE)
def test_what_the_named_elements_settle_of_a_sum_is_what_all_elements_say(id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (v,) = (v for v in vectors.read(operation=id.partition("/")[0]) if v.case.id == id)
    choices = v.expectations[0].choices
    settled, of_all = set(), set()
    for name, expected in v.expectations[0].gradients.items():
        if expected.total is None:  # it has infinities
            continue
        truth = operation(v.case.operation).vjp(cotangent=v.case.cotangent, **v.case.call, **choices)[name].round(v.case.dtype)
        others = np.setdiff1d(np.arange(truth.size), expected.where)
        asked: list[str] = []

        def terms(name: str = name, asked: list[str] = asked) -> Array:
            asked.append(name)
            return backward_terms(v.case, choices)[name].reshape(-1, K)

        question = Question(v.case, expected, A, terms, lambda: pytest.fail("no element is infinite"))
        for off in (0.0, *(2.0**-k for k in range(6, 24))):  # of all elements but the named
            actual = truth.reshape(-1).copy()
            actual[others] = (actual[others].astype(np.float64) * (1.0 + off)).astype(truth.dtype)
            asked.clear()
            found = measure(question, actual.reshape(truth.shape))
            settled.add(not asked)
            of_all.add(found.of_all)
            with monkeypatch.context() as patched:
                sums = iter([nothing_settled, measure_module._of_sum])
                patched.setattr(measure_module, "_of_sum", lambda *given, sums=sums: next(sums)(*given))
                apart = measure(question, actual.reshape(truth.shape))
            assert values(found) == values(apart)
    assert True in settled
    assert True in of_all


def nothing_settled(*_: Any) -> Measure:
    """What the named elements say of the sum, where they settle nothing."""
    return Measure(math.inf)


def values(found: Measure) -> tuple[Any, ...]:
    return found.ratio, found.ulps, found.place, found.accuracy, found.kept, found.of_all


def test_the_named_elements_settle_no_sum_that_is_farther_off_than_they_are() -> None:
    (v,) = (v for v in vectors.read(operation="kl_div") if v.case.id == "kl_div/random/mean-V1000-float32")
    size, one, ulp = 1000, np.ones(1), np.float32(2.0**-23)
    none, finite = np.zeros(1), np.zeros(1, np.uint8)
    total = Enclosure(np.zeros((), np.uint8), np.array(float(size)), np.array(0.0), np.array(0.0))
    every = form((size,), unit=10.0)
    expected = Expected((size,), np.array([0]), Enclosure(finite, one, none, none), total, every[:1])
    question = Question(v.case, expected, A, lambda: every, lambda: pytest.fail("no element is infinite"))
    actual = np.full(size, np.float32(1.0) + 2 * ulp)
    actual[0] = np.float32(1.0) + ulp
    assert measure(question, actual).of_all
    actual[1:] = 1.0
    assert not measure(question, actual).of_all


def test_a_sum_beyond_float64_fails() -> None:
    (v,) = (v for v in vectors.read(operation="kl_div") if v.case.id == "kl_div/random/mean-V1000-float64")
    zero, terms = np.zeros(1), form((1000,), unit=1.0)
    total = Enclosure(np.zeros((), np.uint8), np.array(0.0), np.array(0.0), np.array(0.0))
    expected = Expected((1000,), np.array([0]), Enclosure(np.zeros(1, np.uint8), zero, zero, zero), total, terms[:1])
    question = Question(v.case, expected, Promise("A", "float64"), lambda: terms, lambda: pytest.fail("no element is infinite"))
    for largest in (1e308, -1e308):
        actual = np.full(1000, largest)
        actual[0] = 0.0
        found = measure(question, actual)
        assert found.of_all
        assert found.ratio > 2.0**40
        assert found.kept == ()


def test_a_sum_of_both_signs_may_overflow_on_its_way() -> None:
    large = 1.7e308
    assert measure_module._sum(np.array([large, large, -large, -large, 1.0])) == 1.0
    assert measure_module._sum(np.array([large, large, -large, 3.0])) == large
    assert measure_module._sum(np.array([-large, -large])) == -sys.float_info.max
