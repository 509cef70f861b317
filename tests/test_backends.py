"""Each installed backend on the smoke tier: it answers as `conformance/expected` says, and what is said there still holds."""

from __future__ import annotations

from collections.abc import Sequence

import needs
import pytest

from conformance import deviations, vectors
from conformance.adapter import backends
from conformance.case import Vector
from conformance.judge import Verdict
from conformance.runner import Result, Run
from conformance.sources import find


@pytest.fixture(scope="module")
def smoke() -> list[Vector]:
    return [vector for vector in vectors.read() if vector.case.tier == "smoke"]


def passed(results: Sequence[Result]) -> set[str]:
    return {result.finding.operation for result in results if result.finding.verdict is Verdict.PASS}


@pytest.mark.parametrize("name", backends())
def test_a_backend_answers_as_expected(name: str, smoke: list[Vector]) -> None:
    needs.library(name)
    with Run([find(name)], smoke, tier="smoke") as run:
        results = list(run.results())
    about = run.descriptions[name]
    comparison = deviations.compare(results, deviations.packaged(name), about.versions, about.idle("smoke"))
    surprises = [f"{one.finding.case} {one.finding.direction} {one.finding.output} {one.mode}" for one in comparison.unexpected]
    assert not surprises
    assert not comparison.problems
    rest = set(about.operations) - passed(results)
    if rest:
        more = [vector for vector in vectors.read() if vector.case.tier == "core" and vector.case.operation in rest]
        with Run([find(name)], more, tier="core") as run:
            assert passed(list(run.results())) == rest, "an operation that never passes is called wrongly"
