"""Grades and clauses: what results add up to, and the table that shows them."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from conformance.backend import Result
from conformance.bound import Promise
from conformance.finding import Answer, Finding, Verdict
from conformance.grade import BOUND, Place, Standing, by_level, cells, standings
from conformance.judge import judge
from conformance.report import grades
from conformance.spec import Level
from tests.promises import X3, answer, vector

AS_FLOAT32 = Promise("A", "float32")


def found(output: Any = None, gradient: Any = None, promise: Promise = AS_FLOAT32) -> list[Finding]:
    """The findings on a log-softmax of one row, right unless an element of the output or of the gradient is given another value."""
    v = vector("log_softmax", "float32", [[0.5, -1.0, 2.0]], logits=X3)
    given = answer(v)
    assert given.output is not None
    out, grad = np.array(given.output), np.array(given.gradients["logits"])
    if output is not None:
        out[0, 0] = output(out[0, 0])
    if gradient is not None:
        grad[0, 0] = gradient(grad[0, 0])
    return judge(v, replace(given, output=out, gradients={"logits": grad}), promise, {})


def results(findings: list[Finding], backend: str = "mine", mode: str = "eager") -> list[Result]:
    return [Result(backend, mode, "A", False, 0.0, finding) for finding in findings]


def up(steps: int) -> Any:
    """A float32 so many units in the last place above."""

    def moved(x: Any) -> Any:
        for _ in range(steps):
            x = np.nextafter(x, np.float32(np.inf))
        return x

    return moved


def test_a_rounded_answer_keeps_every_class_and_a_unit_off_all_but_the_first() -> None:
    assert [finding.kept for finding in found()] == [("R", "S", "A", "B", "N")] * 2
    assert [finding.kept for finding in found(output=up(1))] == [("S", "A", "B", "N"), ("R", "S", "A", "B", "N")]


def test_what_is_kept_does_not_depend_on_the_promised_class() -> None:
    for accuracy in ("R", "S", "A", "B", "N"):
        stated = found(output=up(4), gradient=up(3), promise=replace(AS_FLOAT32, accuracy=accuracy))
        assert [finding.kept for finding in stated] == [finding.kept for finding in found(output=up(4), gradient=up(3))]
        for finding in stated:
            assert finding.kept is not None
            assert (finding.verdict == Verdict.PASS) == (accuracy in finding.kept)


def test_a_nan_breaks_a_clause_and_no_class() -> None:
    forward = found(output=lambda _: math.nan)[0]
    assert (forward.verdict, forward.kept) == (Verdict.FAIL, ("R", "S", "A", "B", "N"))  # of the numbers that are left
    v = vector("log_softmax", "float32", [[0.5, -1.0, 2.0]], logits=X3)
    given = answer(v)
    assert given.output is not None
    none = judge(v, replace(given, output=np.full_like(given.output, math.nan)), AS_FLOAT32, {})[0]
    assert none.kept is None


def test_an_answer_of_another_definition_is_graded_as_what_it_is() -> None:
    v = vector("kl_div", "float64", 1.0, log_q=[[-1.0, -2.0]], p=[[0.5, 0.25]], reduction="mean")
    rows = answer(v, mean_over="rows")
    forward, _, _ = (*judge(v, rows, Promise("A", "float64"), {"mean_over": "elements"}), None, None)[:3]
    assert forward is not None
    assert (forward.verdict, forward.other) == (Verdict.FAIL, {"mean_over": "rows"})
    assert forward.kept is not None
    assert "A" in forward.kept
    assert "keras" in forward.note
    wrong = replace(rows, output=np.asarray(rows.output) * 1.5)
    assert judge(v, wrong, Promise("A", "float64"), {"mean_over": "elements"})[0].kept == ()


def test_a_cell_has_the_loosest_of_its_grades_its_worst_input_and_its_broken_clauses() -> None:
    there = cells(results(found()) + results(found(output=up(1))) + results(found(output=up(1000))))
    forward = there[Place("mine", "eager", "log_softmax", "float32", "forward")]
    assert (forward.grade, forward.answered, forward.measured) == (None, 3, 3)
    assert forward.worst is not None
    assert forward.worst.ratio is not None
    assert forward.worst.ratio > 100
    assert forward.worst.worst_index == (0, 0)
    assert BOUND in forward.broken
    backward = there[Place("mine", "eager", "log_softmax", "float32", "backward")]
    assert (backward.grade, backward.broken) == ("R", ())


def test_clauses_stand_kept_inaccurate_or_broken() -> None:
    right, inaccurate, broken = found()[:1], found(output=up(1000))[:1], found(output=lambda _: math.nan)[:1]
    (clause,) = right[0].clauses
    assert standings(results(right))[clause] == Standing.KEPT
    assert standings(results(right))[BOUND] == Standing.KEPT
    assert standings(results(right + inaccurate)) | {} == standings(results(inaccurate + right))
    assert standings(results(right + inaccurate))[clause] == Standing.INACCURATE
    assert standings(results(right + inaccurate))[BOUND] == Standing.BROKEN
    assert standings(results(inaccurate + broken))[clause] == Standing.BROKEN
    assert standings(results(broken)).keys() == {clause}
    assert by_level({clause: Standing.BROKEN})[Level.MUST][Standing.BROKEN] == [clause]
    assert f"1 inaccurate ({clause})" in grades.clauses(results(right + inaccurate))


def table(there: list[Result]) -> str:
    console = Console(width=100)
    with console.capture() as captured:
        for one in grades.grades(there, 100, apart=True):
            console.print(one)
    return captured.get()


def test_the_table_shows_both_passes_the_clauses_and_what_is_missing() -> None:
    v = vector("kl_div", "float32", 1.0, log_q=[[-1.0]], p=[[0.5]])
    lacking = judge(v, Answer(None, {}, "no", (), repeat_differs=False, seconds=0.0), AS_FLOAT32, {})
    lacking = [replace(finding, verdict=Verdict.UNSUPPORTED) for finding in lacking]
    there = results(found(output=up(1)) + lacking) + results(found(output=up(1000)) + lacking, "yours", "jit")
    there += results(found(), "yours", "scan")
    lines = [line.split() for line in table(there).splitlines()]
    assert lines == [["float32"], ["KLP", "LSM"], ["mine", "-", "S/R"], ["yours", "-", "x/R", "2"], ["yours", "scan", "-", "R"]]
    assert "LSM log_softmax" in grades.key(there)


def test_the_table_is_no_wider_than_100_columns() -> None:
    finding = found(output=up(1000))[0]
    from refimpl.operations import operations

    there = [replace(finding, operation=name) for name in operations()]
    there += [replace(one, direction="backward", kept=("A",)) for one in there]
    text = table([replace(result, composed=True) for result in results(there, "onnxruntime", "compiled")])
    assert all(f"{one.prefix}" in text for one in operations().values())
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize("verdict", [Verdict.CRASH, Verdict.TIMEOUT])
def test_what_has_no_answer_breaks_the_clauses_that_it_was_to_show(verdict: Verdict) -> None:
    lost = [replace(found()[0], verdict=verdict, ratio=None, kept=None)]
    (cell,) = cells(results(lost)).values()
    assert (cell.grade, cell.answered, cell.measured, cell.broken) == (None, 1, 0, lost[0].clauses)
    assert "?/-" in table(results(lost))
