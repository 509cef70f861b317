"""A folder in place of a program: what is asked, what is answered, and what is said of each file that isn't right."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import hostile_program
import pytest
from programs import asked, of, verdicts

from conformance import vectors
from conformance.case import Vector
from conformance.cli import main
from conformance.finding import Verdict
from conformance.links.folder import ANSWERS, REQUESTS, FolderError, FolderSource, write
from conformance.runner import BackendError, Result, Run

CRASH, PASS = Verdict.CRASH, Verdict.PASS
BEFORE, AFTER = asked("honest", "before"), asked("honest", "after", logit=2.0)
Lines = list[dict[str, Any]]


def answers(folder: Path) -> Lines:
    """What a device would write that answers every request rightly, in its own order."""
    requests = [json.loads(line) for line in (folder / REQUESTS).read_text().splitlines()]
    return [hostile_program.DESCRIPTION, *(hostile_program.right(one) for one in reversed(requests) if one["cmd"] == "run")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the requests of two calls, the ids 1 to 4."""
    assert write(tmp_path, [BEFORE, AFTER, BEFORE]) == 4
    return tmp_path


def judged(folder: Path, lines: Sequence[Any], vectors: tuple[Vector, ...] = (BEFORE, AFTER)) -> list[Result]:
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    (folder / ANSWERS).write_text("\n".join(texts) + "\n")
    with Run([FolderSource(folder)], vectors) as running:
        return list(running.results())


def test_right_answers_pass_in_any_order(folder: Path) -> None:
    assert [result.finding.verdict for result in judged(folder, answers(folder))] == [PASS] * 4


def test_what_was_not_asked_is_unsupported(folder: Path) -> None:
    other = asked("silent")
    results = judged(folder, answers(folder), (BEFORE, other))
    assert verdicts(results, BEFORE) == [PASS, PASS]
    assert [(one.finding.verdict, one.finding.note) for one in of(results, other)] == [
        (Verdict.UNSUPPORTED, "requests.jsonl doesn't ask it")
    ] * 2


def without(lines: Lines, id: int) -> Lines:
    return [line for line in lines if line.get("id") != id]


def differing(lines: Lines) -> Lines:
    other = {**next(line for line in lines if line.get("id") == 1), "output": hostile_program.tensor([0.0, 0.0, 0.0])}
    return [*without(lines, 1), other]


SPOILED: dict[str, tuple[Callable[[Lines], Any], Verdict, str]] = {
    "missing": (lambda lines: without(lines, 2), CRASH, "answers.jsonl has no answer to request 2"),
    "cut": (
        lambda lines: [*without(lines, 2), '{"id": 2, "out'],
        CRASH,
        'no answer to request 2 (line 5: \'{"id": 2, "out\\n\' is no JSON',
    ),
    "twice": (lambda lines: [*lines, lines[-1]], CRASH, "answers request 1 more than once: in lines 5 and 6"),
    "unknown id": (lambda lines: [*without(lines, 2), {"id": 99}], CRASH, "no answer to request 2 (line 5: field id: 99 is that of no"),
    "no answer": (lambda lines: [*without(lines, 1), {"id": 1}], CRASH, "line 5 of answers.jsonl: a reply has one of the fields"),
    "another second time": (differing, Verdict.FAIL, "a second call with the same inputs gave other bits"),
}


@pytest.mark.parametrize("spoiled", SPOILED)
def test_what_is_wrong_with_one_answer_is_its_verdict(folder: Path, spoiled: str) -> None:
    spoil, verdict, note = SPOILED[spoiled]
    results = judged(folder, spoil(answers(folder)))
    assert of(results, BEFORE)[0].finding.verdict == verdict
    assert note in of(results, BEFORE)[0].finding.note
    assert verdicts(results, AFTER) == [PASS, PASS]


def test_every_answer_that_is_missing_is_named(folder: Path) -> None:
    """However many are: that ten have no answer says nothing of the next."""
    many = tuple(asked(name) for name in list(hostile_program.BEHAVIOURS)[:16])
    for path in folder.iterdir():
        path.unlink()
    write(folder, many)
    lines = answers(folder)
    results = judged(folder, [lines[0], *(line for line in lines if line.get("id") in (31, 32))], many)
    assert [result.finding.verdict for result in results] == [CRASH] * 30 + [PASS] * 2
    assert len({result.finding.note for result in results}) == 16


def changed(folder: Path, name: str, old: str, new: str) -> None:
    text = (folder / name).read_text()
    assert old in text
    (folder / name).write_text(text.replace(old, new, 1))


UNFIT: dict[str, tuple[Callable[[Path], None], str]] = {
    "no answers": (lambda folder: (folder / ANSWERS).unlink(), "answers.jsonl isn't there; write the requests with `lossref ask"),
    "no requests": (lambda folder: (folder / REQUESTS).unlink(), "requests.jsonl isn't there"),
    "changed": (lambda folder: changed(folder, REQUESTS, '"mode":"eager"', '"mode":"exact"'), "its digest isn't the one in its first line"),
    "other vectors": (lambda folder: changed(folder, REQUESTS, vectors.digest(), "0" * 64), f"asks the vectors with the digest {'0' * 64}"),
    "no hello": (lambda folder: changed(folder, REQUESTS, '"hello"', '"hallo"'), "line 1 of .*field cmd: 'hallo' is none of hello"),
    "no reply to hello": (lambda folder: changed(folder, ANSWERS, "lossref-protocol/1", "none"), "line 1 of .*field protocol"),
    "modes": (lambda folder: changed(folder, ANSWERS, '"name"', '"modes": [{"name": "jit"}], "name"'), "asked in one mode"),
}


@pytest.mark.parametrize("unfit", UNFIT)
def test_a_folder_that_can_not_be_judged_is_said_so(folder: Path, unfit: str) -> None:
    (folder / ANSWERS).write_text("".join(json.dumps(line) + "\n" for line in answers(folder)))
    spoil, message = UNFIT[unfit]
    spoil(folder)
    with pytest.raises(BackendError, match=message), Run([FolderSource(folder)], [BEFORE]):
        pass


def test_nothing_is_overwritten(folder: Path) -> None:
    with pytest.raises(FolderError, match="is there already; name another folder"):
        write(folder, [BEFORE])


def test_ask_writes_what_run_judges(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    case = "log_softmax/random/*-V1000-float64"
    assert main(["ask", str(tmp_path / "asked"), "--operation", "log_softmax", "--case", case]) == 0
    assert "requests written to" in capsys.readouterr().out
    lines = (tmp_path / "asked" / REQUESTS).read_text().splitlines()
    assert len(lines) % 2 == 0
    (tmp_path / "asked" / ANSWERS).write_text(json.dumps(hostile_program.DESCRIPTION) + "\n")
    assert main(["run", f"dir:{tmp_path / 'asked'}", "--operation", "log_softmax", "--case", case]) == 1
    assert "CRASH" in capsys.readouterr().out
    assert main(["ask", str(tmp_path / "asked"), "--operation", "log_softmax", "--case", case]) == 2
    assert "is there already" in capsys.readouterr().err
