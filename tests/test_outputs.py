"""The options of `lossref run` and `lossref report` that ask for reports, and what becomes of the files that they name."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from conformance.backend import Result
from conformance.cli import main
from conformance.report import badge, jsonlines, junit, markdown
from conformance.runner import Run
from tests.records import DIGEST, VECTORS, printed, ran, wrong


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of the scripted cases in the place of the installed vectors."""
    monkeypatch.setattr("conformance.vectors.read", lambda folder=None, operation=None: VECTORS[:2])
    monkeypatch.setattr("conformance.vectors.digest", lambda: "another")
    monkeypatch.setattr("conformance.deviations.packaged", lambda backend: None)


def test_report_prints_the_summary_again_with_the_status_of_the_run(kept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(kept)]) == 1
    again = capsys.readouterr().out
    assert again == printed(jsonlines.read(kept), None).replace("--json FILE keeps all results; then ", "").replace("FILE", str(kept))
    right = tmp_path / "right.jsonl"
    jsonlines.write(right, ran(wrong()))
    assert main(["report", str(right), "--by-dtype"]) == 0
    assert capsys.readouterr().out.startswith("float64\n")


def test_every_report_is_written_where_it_was_asked(
    kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    html = ModuleType("conformance.report.html")
    html.page = lambda record: f"<p>{record.digest}</p>"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "conformance.report.html", html)
    names = {"--html": "r.html", "--junit": "r.xml", "--markdown": "r.md", "--badge": "r.svg"}
    options = [word for option, name in names.items() for word in (option, str(tmp_path / "new" / name))]
    assert main(["report", str(kept), *options]) == 1
    out = capsys.readouterr().out
    assert out.splitlines() == [f"written: {tmp_path / 'new' / name}" for name in names.values()]
    record = jsonlines.read(kept)
    texts = {name: (tmp_path / "new" / name).read_text(encoding="utf-8") for name in names.values()}
    assert texts == {
        "r.html": f"<p>{DIGEST}</p>",
        "r.xml": junit.document(record),
        "r.md": markdown.page(record),
        "r.svg": badge.svg(record),
    }


@pytest.mark.parametrize("command", [["run", "numpy", "--case", "log_softmax/edges/*-float64"], ["report", "KEPT"]])
@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--junit", "/dev/null/x.xml"], "/dev/null/x.xml can't be written"),
        (["--badge", "badge.png"], "badge.png says by its ending what it is to be; name a file that ends in .svg or .json"),
        (["--since", "old.jsonl"], "--since is about the summary in Markdown"),
        (["--since", "/nonexistent.jsonl", "--github"], "/nonexistent.jsonl can't be read"),
        (["--html", "/dev/shm/x", "--junit", "/dev/shm/x"], "/dev/shm/x can't be two of this command's files"),
    ],
)
def test_what_cannot_be_written_is_said_before_the_run(
    command: list[str], options: list[str], sentence: str, kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*(str(kept) if word == "KEPT" else word for word in command), *options]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("lossref: ")
    assert sentence in err


@pytest.mark.parametrize(
    "arguments",
    [
        ["report", "KEPT", "--junit", "KEPT"],
        ["report", "KEPT", "--markdown", "HERE/new/../results.jsonl"],
        ["report", "KEPT", "--since", "OLD", "--markdown", "OLD"],
        ["run", "numpy", "--json", "KEPT", "--html", "KEPT"],
        ["run", "numpy", "--write-expect", "KEPT", "--junit", "KEPT"],
    ],
)
@pytest.mark.usefixtures("few")
def test_no_file_is_overwritten_by_another(arguments: list[str], kept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, old = kept.read_bytes(), tmp_path / "old.jsonl"
    old.write_bytes(before)
    (tmp_path / "new").mkdir()
    named = [word.replace("KEPT", str(kept)).replace("OLD", str(old)).replace("HERE", str(tmp_path)) for word in arguments]
    assert main(named) == 2
    assert "can't be two of this command's files; name one for each" in capsys.readouterr().err
    assert kept.read_bytes() == old.read_bytes() == before


def test_what_cannot_be_written_costs_no_other_report(kept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jsonlines.write(kept, replace(jsonlines.read(kept), digest="another"))  # of such vectors there is no page
    names = [str(tmp_path / name) for name in ("r.html", "r.xml", "r.svg")]
    assert main(["report", str(kept), "--html", names[0], "--junit", names[1], "--badge", names[2]]) == 2
    out, err = capsys.readouterr()
    assert out.splitlines() == [f"written: {name}" for name in names[1:]]
    assert "another" in err


@pytest.mark.usefixtures("few")
def test_an_interrupted_run_leaves_no_older_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: Run) -> Iterator[Result]:
        raise KeyboardInterrupt

    path = tmp_path / "report.xml"
    path.write_text("of yesterday")
    monkeypatch.setattr(Run, "results", interrupted)
    assert main(["run", "numpy", "--junit", str(path)]) == 130
    assert path.read_text() == ""


@pytest.mark.usefixtures("few")
def test_a_run_writes_its_reports_and_an_earlier_one_of_other_vectors_is_refused_before_it(
    tmp_path: Path, kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, results = tmp_path / "report.md", tmp_path / "new.jsonl"
    assert main(["run", "scipy", "--markdown", str(path), "--json", str(results)]) == 0
    assert path.read_text() == markdown.page(jsonlines.read(results))
    assert capsys.readouterr().out.splitlines()[-1] == f"written: {path}"
    assert main(["run", "scipy", "--markdown", str(path), "--since", str(kept)]) == 2
    out, err = capsys.readouterr()
    assert (out, err.partition(" and ")[0]) == ("", f"lossref: the old run is of the vectors {DIGEST}")
    assert main(["run", "scipy", "--markdown", str(path), "--since", str(results)]) == 0
    assert "0 worse, 0 answered no more, 0 better, 0 new; 0 grades fell, 0 rose: no regression." in path.read_text()
