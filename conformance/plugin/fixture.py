"""The fixture `lossref`: a user's own test, once for each vector that its marker chooses.

@pytest.mark.lossref(operation="softmax_cross_entropy", dtypes=["float32"])
def test_loss(lossref):
    lossref.assert_conforms(loss)
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from conformance.case import Case, Vector
from conformance.checking import Question
from conformance.plugin.names import OWN
from conformance.plugin.outcome import settle
from conformance.plugin.plan import marks, register, usage


@dataclass(frozen=True)
class Subject:
    """One vector of a test: its `case` has the inputs and parameters."""

    vector: Vector
    question: Question
    test: pytest.Item

    @property
    def case(self) -> Case:
        """The call, bit-exact."""
        return self.vector.case

    def assert_conforms(self, function: Callable[..., Any]) -> None:
        """Judge a function, as `conformance.check` takes it, on this vector; the test fails, or ends, as its answer deserves."""
        __tracebackhide__ = True
        report = self.question.put(function, [self.vector])
        settle(self.test, report.results, self.question.expectations, report.description, report.again(self.case.id))


def parametrize(metafunc: pytest.Metafunc) -> None:
    """One test for each vector that the marker chooses; raises `pytest.UsageError`."""
    mark = metafunc.definition.get_closest_marker(OWN)
    if mark is None or mark.args or "operation" not in mark.kwargs:
        raise pytest.UsageError(
            f"{metafunc.definition.nodeid} takes the fixture {OWN} and doesn't say of which operation; "
            f"mark it with @pytest.mark.{OWN}(operation=...), and the other keywords of conformance.check as you like"
        )
    keywords = inspect.signature(Question.of).parameters
    for name in mark.kwargs:
        if name not in keywords:
            raise pytest.UsageError(
                f"{metafunc.definition.nodeid}: the marker {OWN} takes no {name!r} here; it takes {', '.join(keywords)}"
            )
    with usage():
        question = Question.of(**mark.kwargs)
    register(metafunc.config)
    metafunc.parametrize(
        OWN,
        [pytest.param((vector, question), id=vector.case.id, marks=list(marks(vector))) for vector in question.vectors],
        indirect=True,
    )


def subject(request: pytest.FixtureRequest) -> Subject:
    """The vector of a test."""
    vector, question = request.param
    return Subject(vector, question, request.node)
