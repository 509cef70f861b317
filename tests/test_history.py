"""What the store tells: the grades of a backend by version over time, and what is said where there are none."""

from __future__ import annotations

import re
from dataclasses import replace
from io import StringIO
from pathlib import Path

import keeping
import pytest
from keeping import asked
from rich.console import Console
from rich.table import Table

from conformance import store
from conformance.cli import main
from conformance.history import history, listed
from conformance.report import history as report
from conformance.store import Keeper

GUIDE = Path(__file__).parents[1] / "docs/history.md"


def text(*tables: Table) -> str:
    """Tables as a terminal of 80 columns shows them."""
    out = StringIO()
    for table in tables:
        Console(width=80, file=out).print(table)
    return out.getvalue()


@pytest.fixture
def versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of three runs, of versions 1.0, 2.0 and 2.1: the second has a worse grade, the third was cut short."""
    monkeypatch.setattr(store, "INTERVAL", 0.0)  # each result is a batch
    for version, kept in (("1.0", "SAB"), ("2.0", ""), ("2.1", "SAB")):
        keeper, record = Keeper(tmp_path), keeping.begun("fast", version)
        keeper.begin(record)
        results = list(keeper.follow(keeping.passes(3, "fast", kept)))
        if version != "2.1":
            keeper.end(replace(record.ended(results), whole=True))
    return tmp_path


def test_history_is_grade_by_version_over_time(versions: Path) -> None:
    entries = history(versions, "fast")
    assert [(entry.run, entry.version, entry.whole) for entry in entries] == [(1, "1.0", True), (2, "2.0", True), (3, "2.1", False)]
    assert [entry.passed for entry in entries] == [3, 3, 3]
    (table,) = report.grades(entries, None, None)
    assert text(table).split() == ["eager", "run", "version", "LSM", "1", "1.0", "S/-", "2", "2.0", "x/-"]
    (table,) = report.grades(entries, "log_softmax", None)
    assert text(table).split() == ["eager", "run", "version", "float64", "1", "1.0", "S/-", "2", "2.0", "x/-"]
    lines = [line.split() for line in text(report.runs(entries)).splitlines()]
    assert [line[0] for line in lines] == ["run", "1", "2", "3"], "80 columns are enough"
    assert lines[1][3:] == ["1.0", "20c54164", "3", "0", "0", "smoke"]
    assert lines[3][3:] == ["2.1", "20c54164", "3", "0", "incomplete", "smoke"]


def test_what_there_is_is_listed(versions: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keeping.keep(versions, "another", 1)
    found = [(one.name, one.versions, one.runs, one.cut) for one in listed(versions)]
    assert found == [("another", ("1.0",), 1, 0), ("fast", ("1.0", "2.0", "2.1"), 3, 1)]
    assert main(["history", "--store", str(versions)]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^another +1\.0 +1 +0 ", out, re.M)
    assert re.search(r"^fast +1\.0, 2\.0, 2\.1 +3 +1 ", out, re.M)
    assert main(["history", "fast", "--store", str(versions), "--dtype", "float64"]) == 0
    assert "LSM log_softmax" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["slow"], "no run of 'slow' is kept in .*; those that are: fast"),
        (["fast", "--operation", "kl_div"], "no run of fast in .* asked that"),
        (["fast", "--operation", "kl"], "kl"),
        (["fast", "--dtype", "float8"], "no dtype is named 'float8'"),
        (["fast", "--dtype", "float16"], "no run of fast in .* asked that"),
        (["--dtype", "float64"], "name the backend"),
    ],
)
def test_what_is_not_there_is_named(versions: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["history", *arguments, "--store", str(versions)]) == 2
    assert re.search(message, capsys.readouterr().err)


def test_a_part_of_a_run_is_asked_about(tmp_path: Path) -> None:
    """Filters leave what they name, in counts and in grades, and runs without it out."""
    keeper, record = Keeper(tmp_path), keeping.begun("fast")
    keeper.begin(record)
    (half,) = keeping.passes(1, "fast", "N")
    half = replace(half, number=2, finding=replace(half.finding, dtype="float16", case="log_softmax/edges/case-0-float16"))
    results = list(keeper.follow([*keeping.passes(2, "fast"), half]))
    keeper.end(replace(record.ended(results), whole=True))
    keeping.keep(tmp_path, "fast", 1)
    both, later = history(tmp_path, "fast")
    assert (both.passed, later.passed) == (3, 1)
    (only,) = history(tmp_path, "fast", dtype="float16")
    assert only.passed == 1
    assert {spot[2]: cell.grade for spot, cell in only.cells.items()} == {"float16": "N"}
    (table,) = report.grades([both], None, None)
    assert text(table).split()[-1] == "N/-", "over all dtypes, the worst"
    (table,) = report.grades([both], "log_softmax", None)
    assert text(table).split()[-2:] == ["A/-", "N/-"]


def test_the_questions_of_the_guide_are_sql(versions: Path) -> None:
    questions = re.findall(r"```sql\n(.*?)```", GUIDE.read_text(), re.S)
    assert len(questions) == 3
    for question in questions:
        for statement in question.split(";\n"):
            asked(versions, statement)
