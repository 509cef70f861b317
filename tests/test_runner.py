"""The runner with an adapter that misbehaves: the right verdict each time, and every other case still judged."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import hostile
import numpy as np
import pytest

from conformance.case import Case, Vector
from conformance.expect import expect
from conformance.judge import Verdict
from conformance.runner import BackendError, Result, Run, UnknownBackend, deadline, modules

COTANGENT = np.array([[0.5, -1.25, 2.0]])


def vector(behaviour: int, name: str = "hostile") -> Vector:
    """A case whose first logit tells the adapter what to do."""
    logits = np.array([[float(behaviour), 1.0, 0.5]])
    return expect(Case(f"log_softmax/edges/{name}-{behaviour}-float64", "log_softmax", "float64", {"logits": logits}, {}, COTANGENT, ()))


HONEST = vector(hostile.HONEST)


def run(vectors: Sequence[Vector], timeout: float | None = None, module: str = "hostile") -> list[Result]:
    with Run({"hostile": module}, vectors, timeout=timeout) as running:
        return list(running.results())


def verdicts(results: Sequence[Result], of: Vector) -> list[Verdict]:
    """The verdicts on output and gradient of one vector."""
    return [result.finding.verdict for result in results if result.finding.case == of.case.id]


@pytest.mark.parametrize(
    ("behaviour", "expected", "note"),
    [
        (hostile.CRASH, Verdict.CRASH, "status 7 (out of luck)"),
        (hostile.SEGFAULT, Verdict.CRASH, "SIGABRT"),
        (hostile.LOOP, Verdict.TIMEOUT, "no answer within 1 seconds"),
        (hostile.RAISE, Verdict.ERROR, "RuntimeError: not today"),
        (hostile.NO_ARRAY, Verdict.ERROR, "NoneType, not a numpy array"),
        (hostile.REFUSE, Verdict.UNSUPPORTED, "it lacks this value"),
    ],
)
def test_no_answer_is_a_verdict_and_the_rest_goes_on(behaviour: int, expected: Verdict, note: str) -> None:
    bad, after = vector(behaviour), vector(hostile.HONEST, "after")
    results = run([HONEST, bad, after], timeout=1.0)
    assert len(results) == 6
    assert verdicts(results, bad) == [expected, expected]
    assert all(note in result.finding.note for result in results if result.finding.case == bad.case.id)
    assert verdicts(results, HONEST) == verdicts(results, after) == [Verdict.PASS, Verdict.PASS]


@pytest.mark.parametrize(("behaviour", "clause"), [(hostile.SHAPE, "GEN-1"), (hostile.OVERWRITE, "GEN-3"), (hostile.RANDOM, "GEN-4")])
def test_misconduct_breaks_its_clause(behaviour: int, clause: str) -> None:
    bad = vector(behaviour)
    results = run([bad, HONEST])
    (finding,) = (result.finding for result in results if result.finding.case == bad.case.id and result.finding.direction == "forward")
    assert finding.verdict == Verdict.FAIL
    assert clause in finding.clauses
    assert verdicts(results, HONEST) == [Verdict.PASS, Verdict.PASS]


def test_nothing_reaches_the_screen(capfd: pytest.CaptureFixture[str]) -> None:
    chatter = vector(hostile.CHATTER)
    assert verdicts(run([chatter]), chatter) == [Verdict.PASS, Verdict.PASS]
    assert capfd.readouterr() == ("", "")


def test_every_case_may_crash() -> None:
    results = run([vector(hostile.CRASH, name) for name in "abc"])
    assert [result.finding.verdict for result in results] == [Verdict.CRASH] * 6


def test_backends_side_by_side_give_what_they_give_alone() -> None:
    vectors = [HONEST, vector(hostile.RAISE), vector(hostile.CRASH)]
    with Run({"one": "hostile", "two": "hostile"}, vectors, jobs=2) as running:
        assert running.total == 6
        results = list(running.results())
    for name in ("one", "two"):
        assert [(r.finding.case, r.finding.verdict) for r in results if r.backend == name] == [
            (r.finding.case, r.finding.verdict) for r in run(vectors)
        ]


def test_no_process_is_left_when_the_loop_is_left() -> None:
    loop = vector(hostile.LOOP)

    def interrupt() -> None:
        with Run({"hostile": "hostile"}, [HONEST, loop]) as running:
            for result in running.results():
                if result.finding.direction == "backward":
                    raise KeyboardInterrupt

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        interrupt()
    assert time.monotonic() - began < 30
    assert not multiprocessing.active_children()


def test_an_interrupt_at_the_terminal_is_the_parents_business() -> None:
    with Run({"hostile": "hostile"}, [HONEST]) as running:
        os.kill(running._sessions[0].process.pid or 0, signal.SIGINT)
        assert [result.finding.verdict for result in running.results()] == [Verdict.PASS, Verdict.PASS]


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("import no_such_library", "is not installed (no module 'no_such_library'); install it: pip install 'lossref[hostile]'"),
        ("raise OSError('libcuda is not there')", "could not be imported: OSError: libcuda is not there; reinstall it"),
        ("import os; os._exit(5)", "could not be started: the process ended with status 5"),
    ],
)
def test_what_cannot_start_is_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, sentence: str) -> None:
    (tmp_path / "broken_adapter.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(BackendError) as caught:
        run([HONEST], module="broken_adapter")
    assert sentence in str(caught.value)
    assert not multiprocessing.active_children()


def test_unknown_backends_are_refused() -> None:
    with pytest.raises(UnknownBackend, match="no backend is named 'tourch'; the backends are jax, numpy, scipy, torch"):
        modules(["torch", "tourch"])


def test_the_deadline_grows_with_the_case() -> None:
    assert 30 < deadline(HONEST) < 31
