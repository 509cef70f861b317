"""`lossref search`: planted defects are found and shrunk to the smallest call; it climbs, outlives crashes, and begins where it stopped."""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import planted
import pytest
from hypothesis.internal.conjecture import providers

from conformance import candidate
from conformance.adapter import Adapter, Array, Unusable
from conformance.case import Case, Vector
from conformance.cli import main
from conformance.finding import Verdict
from conformance.judge import unanswered
from conformance.link import Source
from conformance.links.here import HereSource
from conformance.links.process import module_source
from conformance.search import calls, engine, look
from conformance.search.coverage import Coverage
from conformance.search.differ import Partings
from conformance.search.engine import Limits, Search
from conformance.search.look import Failure, Look, alone
from conformance.search.session import Found, Session
from conformance.search.subject import LOST, Cell, Subject
from conformance.search.words import nearer

HOUR = 3600.0


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """No failure is left half shrunk because the machine is slow, and no call is larger than these tests need.

    What is drawn doesn't depend on the modules that other tests have loaded, whose constants Hypothesis draws too.
    """
    monkeypatch.setattr(engine, "SHRINKING", HOUR)
    monkeypatch.setattr(calls, "LARGE", 2**10)
    monkeypatch.setattr(providers, "_get_local_constants", providers.Constants)


SINGLE, DOUBLE = ("log_softmax", "float32"), ("log_softmax", "float64")


def here(*defects: planted.Defect, name: str = "planted") -> Source:
    made: Adapter = planted.adapter(*defects, name=name)
    return HereSource(made.name, lambda: made)


def failures(source: Source, folder: Path, number: int, *cells: Cell, seed: int = 0) -> tuple[list[Failure], Search]:
    """What a search of so many calls finds, without being kept."""
    found: list[Failure] = []

    def tell(failure: Failure) -> Sequence[tuple[str, object]]:
        found.append(failure)
        return ()

    with Subject(source) as subject:
        search = Search(partial(alone, subject), cells or [SINGLE], folder, Limits(HOUR, number, seed), tell=tell, note=lambda *_: None)
        search.run()
    return found, search


def logits(failure: Failure) -> list[object]:
    return failure.vector.case.inputs["logits"].tolist()


def test_a_defect_is_shrunk_to_its_smallest_call(tmp_path: Path) -> None:
    (found,), _ = failures(here(planted.masked), tmp_path, 600)
    assert logits(found) in ([0.0, -math.inf], [-math.inf, 0.0])
    assert found.cause.symptom == "nan for a number"
    assert found.cause.edges == ("a masked class",)


def test_one_defect_does_not_hide_another(tmp_path: Path) -> None:
    found, _ = failures(here(planted.masked, planted.many), tmp_path, 1000)
    by_tensor = {failure.cause.tensor: failure for failure in found}
    assert len(found) == 2
    assert logits(by_tensor["output"]) in ([0.0, -math.inf], [-math.inf, 0.0])
    assert by_tensor["logits"].vector.case.inputs["logits"].reshape(-1).tolist() == [0.0] * planted.MANY, "one row, of whatever shape"
    assert by_tensor["logits"].vector.case.cotangent is not None


def test_nothing_is_found_where_nothing_is_wrong(tmp_path: Path) -> None:
    found, search = failures(here(planted.right), tmp_path, 60, *[("log_softmax", dtype) for dtype in planted.PROMISES])
    assert not found
    assert search.calls == 60


def worst(source: Source, folder: Path, number: int, *, climbs: bool = True, seed: int = 0) -> float:
    """The largest ratio of the output that a search meets."""
    coverage = Coverage()
    with Subject(source) as subject:
        limits = Limits(HOUR, number, seed, climbs)
        Search(partial(alone, subject), [DOUBLE], folder, limits, tell=lambda _: (), note=coverage.add).run()
    return coverage.worst[(*DOUBLE, "forward", "output")].ratio


def test_it_climbs_and_begins_where_it_stopped(tmp_path: Path) -> None:
    drawn = worst(here(planted.drifting), tmp_path / "drawn", 200, climbs=False)
    climbed = worst(here(planted.drifting), tmp_path / "climbed", 200)
    assert climbed > 1.2 * drawn
    assert worst(here(planted.drifting), tmp_path / "climbed", 200, climbs=False, seed=1) > 0.9 * climbed, (
        "what was climbed is known, near enough"
    )


@contextmanager
def session(folder: Path, *defects: planted.Defect) -> Iterator[tuple[Session, Subject, list[Found]]]:
    told: list[Found] = []
    with Subject(here(*defects)) as subject:
        yield Session({"planted": subject}, partial(alone, subject), folder, told.append), subject, told


def test_what_was_found_is_asked_again_first(tmp_path: Path) -> None:
    with session(tmp_path, planted.masked) as (first, _, told):
        first.search([SINGLE], Limits(HOUR, 600), lambda *_: None)
    (found,) = told
    assert found.path is not None
    assert found.path.is_file()
    with session(tmp_path, planted.masked) as (again, _, told):
        assert [one.before for one in told] == [True]
        again.search([SINGLE], Limits(HOUR, 30, 1), lambda *_: None)
    assert len(told) == 1, "it is known, and not found again"
    with session(tmp_path, planted.right) as (mended, _, told):
        assert not told
        assert mended.mended == [found.path]


def test_it_survives_crashes_and_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "SHRINKS", 2)
    source = module_source("fatal", "fatal")
    lost: list[bool] = []  # of each call
    with Subject(source, timeout=0.5) as subject:
        Search(
            partial(alone, subject),
            [DOUBLE],
            tmp_path,
            Limits(HOUR, 60),
            tell=lambda _: (),
            note=lambda _, __, found: lost.append(any(one.finding.verdict in LOST for one in found.results)),
        ).run()
    assert True in lost
    assert False in lost[lost.index(True) :], "it went on"


REFUSING = """
import json, sys
promises = {"float64": {"accuracy": "A"}}
print(json.dumps({"protocol": "lossref-protocol/1", "name": "refusing", "operations": ["log_softmax"], "promises": promises}), flush=True)
for line in sys.stdin:
    request = json.loads(line)
    if request["cmd"] == "run":
        print(json.dumps({"id": request["id"], "error": "not today"}), flush=True)
"""


def test_a_program_is_searched_and_its_candidates_asked_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "refusing.py").write_text(REFUSING)
    folder, backend = tmp_path / "found", f"exec:{shlex.join([sys.executable, str(tmp_path / 'refusing.py')])}"
    command = ["search", backend, "--examples", "3", "--minutes", "0.5", "--out", str(folder)]
    assert main(command) == 1
    out, paths = capsys.readouterr().out, sorted(folder.glob("*.json"))
    assert "; 0.5 minutes, seed 0; " in out
    assert paths
    for path in paths:
        kept = candidate.read(path).origin
        assert kept.backend == backend
        assert kept.message.endswith(f"  again        lossref run {shlex.quote(backend)} --candidate {path}")
        assert f"{kept.message}\n      also" in out
    assert main(command) == 1
    assert capsys.readouterr().out.count("      found        by an earlier search") == len(paths)


def test_a_time_that_is_none_is_refused_in_minutes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["search", "numpy", "--minutes", "x"])
    assert "--minutes: 'x' is no time; write a positive number of minutes" in capsys.readouterr().err


def test_a_message_longer_than_a_candidate_holds_loses_its_middle(tmp_path: Path) -> None:
    with session(tmp_path, planted.raising) as (first, _, told):
        first.search([SINGLE], Limits(HOUR, 5), lambda *_: None)
    assert told
    for found in told:
        assert found.path is not None
        kept = candidate.read(found.path).origin.message
        assert len(kept) <= 10000 < len(found.text)
        head, tail = kept.split(candidate.LEFT_OUT)
        assert found.text.startswith(head)
        assert found.text.endswith(tail)
        assert tail.endswith(f"lossref run planted --candidate {found.path}")


def test_two_backends_have_each_their_candidate_of_one_call(tmp_path: Path) -> None:
    told: list[Found] = []
    with Subject(here(planted.wrong, name="one")) as one, Subject(here(planted.wrong, name="other")) as other:
        both = Session({"one": one, "other": other}, Partings(one, other).look, tmp_path, told.append)
        both.search([SINGLE], Limits(HOUR, 20), lambda *_: None)
    calls = {name: {found.failure.vector.case.id for found in told if found.failure.result.backend == name} for name in ("one", "other")}
    assert calls["one"] & calls["other"], "some call is of both"
    assert {found.path for found in told} == set(tmp_path.glob("*.json"))
    assert [candidate.read(found.path).origin.backend for found in told if found.path is not None] == [
        found.failure.result.backend for found in told
    ]


def losing(subject: Subject, lost: Callable[[Array], bool], case: Case) -> Look:
    """What one call shows of a backend that is lost at some logits, and right at the others."""
    found = alone(subject, case)
    if not lost(case.inputs["logits"].astype(np.float64)):
        return found
    vector = Vector(case, (subject.expectation(case) or pytest.fail("log_softmax has no choices"),))
    crashes = unanswered(vector, Verdict.CRASH, "ended by SIGSEGV", {})
    results = [replace(result, finding=finding) for result, finding in zip(found.results, crashes, strict=True)]
    return Look(tuple(look.failures(vector, results)), {}, tuple(results))


def lost_at(lost: Callable[[Array], bool], folder: Path, number: int) -> tuple[list[Failure], Search]:
    """What a search finds of a backend that is lost there, in two dtypes."""
    found: list[Failure] = []
    with Subject(here(planted.right)) as subject:
        ask = partial(losing, subject, lost)
        limits = Limits(HOUR, number)
        search = Search(ask, [SINGLE, DOUBLE], folder, limits, tell=lambda one: found.append(one) or (), note=lambda *_: None)
        search.run()
    return found, search


def test_an_operation_that_is_lost_too_often_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "SHRINKS", 20)
    losses = []

    def ordinary(logits: Array) -> bool:
        lost = logits.ndim == 1 and logits.size > 1 and bool(np.isfinite(logits).all() and logits[0] >= 0.0)
        losses.append(lost)
        return lost

    found, search = lost_at(ordinary, tmp_path, 1000)
    assert [failure.cause.symptom for failure in found] == ["crash"] * len(found)
    assert search.given_up == {"log_softmax": "ended by SIGSEGV"}
    assert search.calls < 1000, "what was given up isn't asked any more"
    assert losses[-1], "the last call was the last that was lost"
    assert not all(losses)


def test_calls_like_one_that_was_lost_are_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "SHRINKS", 20)
    found, search = lost_at(lambda logits: bool(np.isneginf(logits).any()), tmp_path, 150)
    assert {failure.cause.symptom for failure in found} == {"crash"}
    assert search.skipped
    assert not search.given_up
    assert search.calls >= 150, "the others go on"


def test_two_backends_are_held_against_each_other_and_the_truth(tmp_path: Path) -> None:
    with Subject(here(planted.right, name="right")) as one, Subject(here(planted.wrong, name="wrong")) as other:
        partings = Partings(one, other)
        found: list[Failure] = []
        Search(
            partings.look, [SINGLE], tmp_path, Limits(HOUR, 40), tell=lambda failure: found.append(failure) or (), note=lambda *_: None
        ).run()
    parting = partings.furthest[(*SINGLE, "forward", "output")]
    assert nearer(parting, "right", "wrong") == "right"
    assert parting.actual[0] - parting.actual[1] == pytest.approx(1.0)
    assert parting.distance > 1e4
    assert {failure.result.backend for failure in found} == {"wrong"}
    assert (*SINGLE, "backward", "logits") not in partings.furthest, "there they are alike"
    assert np.isfinite(parting.distance)


def test_what_a_backend_does_not_have_is_refused() -> None:
    with Subject(here(planted.right)) as subject:
        assert subject.cells() == [("log_softmax", dtype) for dtype in reversed(planted.PROMISES)]
        with pytest.raises(Unusable, match="planted has no kl_div; it has log_softmax"):
            subject.cells(["kl_div"])
    with pytest.raises(Unusable, match="planted has no mode 'jit'; its modes are eager"), Subject(here(planted.right), "jit"):
        pass
