"""Comparing runs: what got better, worse, appeared or vanished, what is a regression, and what can't be compared."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from scripted import DESCRIPTION, DIES, Script, vector

from conformance.changes import IncomparableError, compare
from conformance.cli import main
from conformance.record import Record, Selection
from conformance.report import jsonlines, markdown
from conformance.report.changes import SHOWN, lines
from tests.records import TWO_MODES, VECTORS, made, ran, result, wrong


def said(old: Record, new: Record) -> dict[str, list[str]]:
    """The sentences under each heading, and the last line under an empty one."""
    *parts, last = "\n".join(lines(compare(old, new))).split("\n\n")
    return {**{heading: [line.strip() for line in there] for heading, *there in map(str.splitlines, parts)}, "": [last]}


def one(verdict: str, ratio: float | None = 0.5, **changed: Any) -> Record:
    """A record of one tensor."""
    return made({"mine": [result("mine", verdict, ratio=ratio, **changed)]})


@pytest.mark.parametrize(
    ("before", "after", "heading", "regressed"),
    [
        ("pass", "pass", None, False),
        ("fail", "fail", None, False),
        ("pass", "fail", "Worse", True),
        ("pass", "crash", "Worse", True),
        ("fail", "timeout", "Worse", True),
        ("error", "crash", "Worse", True),
        ("fail", "pass", "Better", False),
        ("crash", "fail", "Better", False),
        ("pass", "unsupported", "Answered no more", True),
        ("fail", "skip", "Answered no more", True),
        ("unsupported", "pass", "Answered now", False),
        ("unsupported", "fail", "Answered now", False),
        ("unsupported", "skip", None, False),
    ],
)
def test_a_verdict_that_changed(before: str, after: str, heading: str | None, regressed: bool) -> None:
    kept = ("A", "B", "N")  # whatever the verdict: of grades there is a test below
    old, new = one(before, kept=kept, clauses=()), one(after, kept=kept, clauses=())
    assert compare(old, new).regressed == regressed
    found = said(old, new)
    assert set(found) - {""} == ({heading} if heading else set())
    assert found[""][0].endswith(": a regression" if regressed else ": no regression")


def test_a_change_names_the_tensor_the_ratios_and_the_clauses() -> None:
    found = said(ran(wrong(1)), ran(wrong(1, 4)))
    assert found["Worse"] == [
        "scripted log_softmax/edges/case-4-float64 output: pass -> fail, 0.0248 -> inf of the bound, LSM-1",
        "scripted jit log_softmax/edges/case-4-float64 output: pass -> fail, 0.0248 -> inf of the bound, LSM-1",
    ]
    assert found[""] == ["2 worse, 0 answered no more, 0 better, 0 new; 0 grades fell, 0 rose: a regression"]
    assert said(ran(wrong(1, 4)), ran(wrong(1)))["Better"][0].startswith("scripted log_softmax/edges/case-4-float64 output: fail -> pass")


@pytest.mark.parametrize(("before", "after", "heading"), [("AB", "B", "fell"), ("B", "AB", "rose"), ("AB", "", "fell"), ("", "B", "rose")])
def test_a_grade_that_changed(before: str, after: str, heading: str) -> None:
    old, new = one("pass", kept=tuple(before)), one("pass", kept=tuple(after))
    assert said(old, new)[f"Grades that {heading}"] == [
        f"mine eager log_softmax float64 forward: {before[:1] or 'none'} -> {after[:1] or 'none'}"
    ]
    assert compare(old, new).regressed == (heading == "fell")


def test_a_grade_of_what_has_no_number_any_more_did_not_fall() -> None:
    assert not compare(one("fail", kept=("A",)), one("fail", kept=None)).fell


def test_a_clause_newly_broken_is_a_regression_and_one_that_nothing_spoke_of_is_none() -> None:
    def record(**verdicts: str) -> Record:
        return made(
            {"mine": [result("mine", verdict, f"log_softmax/edges/{case}-float64", kept=("A",)) for case, verdict in verdicts.items()]}
        )

    assert compare(record(a="pass", b="unsupported"), record(a="pass", b="fail")).broken == {"mine": ("LSM-1",)}
    assert compare(record(a="pass", b="unsupported"), record(a="pass", b="fail")).regressed
    assert compare(record(a="pass", b="fail"), record(a="pass", b="unsupported")).mended == {"mine": ("LSM-1",)}
    assert not compare(record(a="unsupported"), record(a="fail")).broken


@pytest.mark.parametrize(
    ("before", "after", "named"),
    [
        (0.2, 0.5, True),
        (0.5, 0.2, True),
        (0.3, 0.5, False),
        (0.01, 0.05, False),
        (0.0, 0.2, True),
        (3.0, float("inf"), True),
        (0.0, 0.0, False),
    ],
)
def test_a_ratio_that_moved_is_named_and_no_regression(before: float, after: float, named: bool) -> None:
    old, new = one("fail", before, kept=("A",)), one("fail", after, kept=("A",))
    assert bool(compare(old, new).moved) == named
    assert not compare(old, new).regressed
    if named:
        (sentence,) = said(old, new)["Ratios that moved by more than a factor of 2, the verdict the same"]
        assert sentence == f"mine log_softmax/edges/one-float64 output: {before:.3g} -> {after:.3g} of the bound"


def test_what_appeared_and_vanished_is_counted_by_backend_and_operation() -> None:
    old = ran(Script(starts=[replace(DESCRIPTION, operations=("log_softmax",))]), [*VECTORS, vector(7, "entropy_with_logits")])
    new = ran(Script(starts=[DESCRIPTION]), [*VECTORS, vector(7, "entropy_with_logits")])
    assert said(old, new)["Answered now"] == ["scripted entropy_with_logits: 1 pass (entropy_with_logits/edges/case-7-float64)"]
    assert said(new, old)["Answered no more"] == said(old, new)["Answered now"]
    assert said(old, new)["Between the runs"] == ["scripted describes itself otherwise than it did, and is judged by that: operations"]
    gone = ran(Script(starts=[DESCRIPTION]))
    assert said(ran(wrong()), gone)["Answered no more"] == ["scripted jit log_softmax: 6 pass (log_softmax/edges/case-0-float64, ...)"]


def test_versions_and_backends_that_differ_are_said() -> None:
    newer = Script(starts=[replace(TWO_MODES, versions={"scripted": "2.0"})])
    assert said(ran(wrong()), ran(newer))["Between the runs"] == ["scripted: scripted 1.0 -> 2.0"]
    old, new = made({"a": [result("a")], "b": [result("b")]}), made({"b": [result("b")], "c": [result("c")]})
    assert said(old, new)["Between the runs"] == ["a is in the old run only: not compared", "c is in the new run only: not compared"]
    assert not compare(old, new).regressed


def test_all_that_changed_is_said_and_in_markdown_the_first_of_it() -> None:
    def record(verdict: str) -> Record:
        return made({"mine": [result("mine", verdict, f"log_softmax/edges/{case}-float64") for case in range(SHOWN + 5)]})

    assert len(said(record("pass"), record("fail"))["Worse"]) == SHOWN + 5
    page = markdown.page(record("fail"), record("pass"))
    assert page.count("output: pass ") == SHOWN
    assert "... and 5 more" in page


@pytest.mark.parametrize("verdict", ["crash", "error", "timeout"])
def test_what_had_no_answer_can_not_vanish(verdict: str) -> None:
    old, new = (made({"mine": [result("mine"), result("mine", one, VECTORS[1].case.id)]}) for one in (verdict, "unsupported"))
    assert not compare(old, new).vanished
    assert not compare(old, new).regressed


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"digest": "another"}, "the old run is of the vectors 20c54164.* and the new one of another"),
        ({"selection": Selection("core")}, "the old run asked tier full, the new one tier core: tier differ"),
        ({"selection": Selection(index=1, count=2)}, "tier full, shard 1 of 2: count differ; .* merge shards first"),
        ({"descriptions": {"other": DESCRIPTION}}, "the old run is of scripted, the new one of other; name runs with a backend in common"),
    ],
)
def test_what_cannot_be_compared_is_refused(changed: dict[str, Any], sentence: str) -> None:
    record = ran(wrong())
    with pytest.raises(IncomparableError, match=sentence):
        compare(record, replace(record, **changed))


def test_the_command_has_the_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {}
    for name, record in {
        "right": ran(wrong()),
        "wrong": ran(wrong(1)),
        "dead": ran(Script({1: [DIES]}, [TWO_MODES])),
        "other": replace(ran(wrong()), digest="another"),
    }.items():
        files[name] = str(tmp_path / f"{name}.jsonl")
        jsonlines.write(Path(files[name]), record)
    for old, new, status in (
        ("right", "right", 0),
        ("wrong", "right", 0),
        ("right", "wrong", 1),
        ("wrong", "dead", 1),
        ("right", "other", 2),
    ):
        assert main(["compare", files[old], files[new]]) == status, (old, new)
    assert capsys.readouterr().err.startswith("lossref: the old run is of the vectors ")
    Path(files["wrong"]).write_text(Path(files["right"]).read_text().rpartition('{"end"')[0])
    assert main(["compare", files["right"], files["wrong"]]) == 2
    assert "the run was cut short" in capsys.readouterr().err
