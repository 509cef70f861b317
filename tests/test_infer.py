"""A dialect from its answers: every named one is recovered from right answers under its choices, as far as vectors can tell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from conformance import vectors
from conformance.backend import Result
from conformance.bound import Promise
from conformance.case import Expectation, Expected, Vector
from conformance.conduct import CONDUCT
from conformance.dialects import Dialect, dialects
from conformance.finding import Answer
from conformance.infer import PERMISSIVE, Inference, infer
from conformance.judge import judge, promised
from conformance.report.inference import described
from refimpl.enclosure import FORMATS
from refimpl.operations import operations

OF_EACH = 3  # vectors of one operation in which the same choices matter
DTYPES = ("float64", "float16")  # the second for the choice of a half-precision output's dtype


@cache
def telling() -> tuple[Vector, ...]:
    """A few small vectors of each operation for each set of choices that matters, and a few of half precision where none does."""
    found = []
    taken: Counter[tuple[str, ...]] = Counter()
    for vector in vectors.read():
        case = vector.case
        small = case.group in ("edges", "ladder") and not case.recipes and case.dtype in DTYPES
        if not small or any(tensor.where is not None for one in vector.expectations for tensor in (one.output, *one.gradients.values())):
            continue
        kinds = (case.operation, case.dtype, vector.expectations[0].kind, *vector.expectations[0].choices)
        tells = len(kinds) > 3 or kinds[2] == "error"
        if tells == (case.dtype == "float64") and taken[kinds] < OF_EACH:
            taken[kinds] += 1
            found.append(vector)
    return tuple(found)


def right(vector: Vector, expectation: Expectation, stated: dict[str, str]) -> Answer:
    """The right answer under an expectation, with the conduct of a dialect."""
    case = vector.case
    if expectation.kind == "error" and stated.get("refusal", "error") != "nan":
        return Answer(None, {}, "IndexError: a target names no class", (), repeat_differs=False, seconds=0.0)
    output = "float32" if case.dtype == "float16" and stated.get("half_output") == "float32" else case.dtype

    def rounded(expected: Expected, dtype: str) -> np.ndarray:
        return np.asarray(expected.values.hi).astype(FORMATS[dtype].dtype)

    gradients = {name: rounded(one, case.dtype) for name, one in expectation.gradients.items()}
    return Answer(rounded(expectation.output, output), gradients, None, (), repeat_differs=False, seconds=0.0)


def results(dialect: Dialect) -> Iterator[Result]:
    """The results of a backend that follows a dialect and declares none."""
    for number, vector in enumerate(telling()):
        stated = dialect.of(vector.case.operation)
        expectation = promised(vector, stated)
        if expectation is None:
            continue
        with np.errstate(all="ignore"):
            answer = right(vector, expectation, stated)
        for finding in judge(vector, answer, Promise("A", "float32" if vector.case.dtype == "float16" else "float64"), {}, explain=True):
            yield Result("it", "eager", "A", False, 0.0, finding, number)


@cache
def inferred(name: str) -> Inference:
    return infer(results(dialects()[name]))


@pytest.mark.parametrize("name", dialects())
def test_each_dialect_is_recovered_and_named(name: str) -> None:
    dialect, found = dialects()[name], inferred(name)
    assert found.unexplained == 0
    shown = set()
    for (operation, choice), evidence in found.evidence.items():
        defaults = {one.name: one.default for one in (*operations()[operation].choices, *CONDUCT)}
        value = dialect.of(operation).get(choice, defaults[choice])
        assert evidence.contradicted == 0
        if value != PERMISSIVE.get(choice):
            assert evidence.best == (value,), (operation, choice)
            shown.add(choice)
    assert shown >= {"smoothing_mass", "target_entropy", "denominator", "all_ignored", "mean_over"}
    assert not found.differences(dialect)
    assert dialect in [one for one, _ in found.nearest()]
    assert f"the dialect {name} fits" in described("it", found)


def test_a_dialect_that_differs_is_told_apart() -> None:
    found = inferred("torch")
    assert ("softmax_cross_entropy", "denominator") in found.differences(dialects()["keras"])
    assert "keras" not in [one.name for one, _ in found.nearest()]


def test_answers_that_follow_two_definitions_are_contradictions() -> None:
    mixed = [result for result in results(dialects()["torch"]) if result.number % 2]
    mixed += [result for result in results(dialects()["keras"]) if not result.number % 2]
    found = infer(mixed)
    assert any(evidence.contradicted for evidence in found.evidence.values())
    assert "speak against it" in described("it", found)


def test_an_answer_that_is_right_under_no_choices_is_counted() -> None:
    def wrong(finding: Result) -> Result:
        assert finding.finding.explained is not None
        return replace(finding, finding=replace(finding.finding, explained=replace(finding.finding.explained, by=())))

    there = list(results(dialects()["torch"]))
    found = infer([wrong(result) for result in there])
    assert (found.evidence, found.unexplained) == ({}, len({result.number for result in there}))
    assert "right under no choices" in described("it", found)
    assert "could tell" in described("it", found)
