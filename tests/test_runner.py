"""The runner with backends that a script speaks for, then with worker processes: what is asked of whom, and what becomes of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from threading import Event

import hostile
import numpy as np
import psutil
import pytest
from scripted import DESCRIPTION, DIES, HANGS, Script, vector
from test_hostile import children

from conformance.adapter import Mode
from conformance.backend import MOST
from conformance.case import Case, Expectation, Unread, Vector, VectorError
from conformance.expect import expect
from conformance.finding import Answer, Verdict
from conformance.lane import Lane, deadline
from conformance.link import Failure, Gone
from conformance.links.child import THREADS, Child
from conformance.links.here import HereSource
from conformance.links.process import WorkerSource, module_source
from conformance.links.program import ProgramSource
from conformance.runner import SHARE, BackendError, Result, Run, ceiling
from conformance.sources import Options, UnknownBackend, find
from refimpl import jit

HONEST = hostile.vector(hostile.honest)


def run(script: Script, vectors: Sequence[Vector], jobs: int = 1, timeout: float | None = None) -> list[Result]:
    with Run([script], vectors, jobs=jobs, timeout=timeout) as running:
        return sorted(running.results(), key=lambda result: result.number)


def verdicts(results: Sequence[Result]) -> list[Verdict]:
    return [result.finding.verdict for result in results]


def notes(results: Sequence[Result]) -> list[str]:
    return [result.finding.note for result in results]


PASS, CRASH, TIMEOUT = Verdict.PASS, Verdict.CRASH, Verdict.TIMEOUT
ANSWER = Answer(np.zeros((1, 3)), {}, None, (), False, 0.0)


def test_a_mode_that_is_too_costly_for_the_tier_is_not_asked() -> None:
    modes = (Mode("eager"), Mode("compiled", tier="full"))
    script = Script(starts=[replace(DESCRIPTION, modes=modes)])
    for tier, asked in (("core", ["eager"]), ("full", ["eager", "compiled"])):
        with Run([script], [vector(0)], tier=tier) as running:
            assert running.total == len(asked)
            assert [result.mode for result in running.results()] == asked
    assert replace(DESCRIPTION, modes=modes).idle("core") == ("compiled",)
    assert replace(DESCRIPTION, modes=modes).idle("full") == ()


def test_vectors_are_read_while_the_backends_start() -> None:
    script = Script()

    def read() -> list[Vector]:
        assert script.asked == [[]], "a link is open, and nothing was asked"
        return [vector(0), vector(1)]

    with Run([script], read) as running:
        assert running.total == 2
        assert verdicts(list(running.results())) == [PASS, PASS]


def test_backends_end_where_the_vectors_cannot_be_read() -> None:
    script = Script()
    with pytest.raises(VectorError, match="damaged"), Run([script], lambda: unreadable("damaged")):
        pytest.fail("there is nothing to run")
    assert script.ended == ["killed"]


def unreadable(why: str) -> list[Vector]:
    raise VectorError(why)


def test_an_expectation_is_read_when_an_answer_is_judged() -> None:
    read: list[int] = []

    def expectation(position: int) -> Expectation:
        read.append(position)
        return vector(0).expectations[position]

    unread = replace(vector(0), expectations=Unread(vector(0).choices, expectation))
    with Run([Script()], [unread]) as running:
        assert running.total == 1
        assert not read
        assert verdicts(list(running.results())) == [PASS]
    assert read == [0]


def test_a_run_that_waits_makes_the_calls_that_it_is_given() -> None:
    script = Script({1: [DIES, ANSWER], 2: [DIES]})
    vectors = [vector(0), vector(1), vector(2), replace(vector(3), case=replace(vector(3).case, operation="entropy"))]
    with Run([script], vectors, waits=True) as running:
        zero, one, two, lacking = running.calls("scripted")
        assert [task.vector for task in (zero, one, two, lacking)] == vectors
        assert script.asked == [[]], "nothing is asked before it is told"
        assert verdicts(running.ask("scripted", two)) == [CRASH]
        assert verdicts(running.ask("scripted", zero) + running.ask("scripted", zero)) == [PASS, PASS]
        assert notes(running.ask("scripted", lacking)) == ["scripted has no entropy"]
        assert notes(running.ask("scripted", one)) == [
            "it died; answered in a new process: what came before it matters (log_softmax/edges/case-0-float64)"
        ]
    assert script.asked == [[2], [2], [0, 0, 1], [1]]
    assert script.ended == ["killed"] * 3 + ["stopped"]


def test_a_run_that_waits_gives_up_as_others_do() -> None:
    numbers = range(MOST + 3)
    script = Script({number: [DIES] for number in numbers})
    vectors = [vector(number) for number in numbers] + [vector(0, "entropy_with_logits")]
    with Run([script], vectors, waits=True) as running:
        results = [running.ask("scripted", task)[0] for task in running.calls("scripted")]
    assert verdicts(results) == [CRASH] * len(vectors)
    assert ["not asked: " in note for note in notes(results)] == [False] * MOST + [True] * 3 + [False]
    assert MOST in script.asked[-1] or [0] in script.asked[-2:], "another operation is asked"


def test_a_run_that_waits_says_that_no_process_can_be_started() -> None:
    script = Script({0: [DIES]}, starts=[DESCRIPTION, DESCRIPTION, Failure("no room")])
    with Run([script], [vector(0), vector(1)], waits=True) as running:
        first, second = running.calls("scripted")
        assert verdicts(running.ask("scripted", first)) == [CRASH]
        for _ in range(2):
            assert notes(running.ask("scripted", second)) == ["not asked: its process was lost, and another could not be started"]


class Alarm(Exception):
    """Someone's, who waits no longer."""


def test_an_answer_that_nobody_waited_for_is_not_the_next_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script({0: [HANGS]})
    with Run([script], [vector(0), vector(1)], waits=True) as running:
        first, second = running.calls("scripted")
        step = running._step

        def alarmed(lanes: Sequence[Lane]) -> list[Result]:
            raise Alarm

        monkeypatch.setattr(running, "_step", alarmed)
        with pytest.raises(Alarm):
            running.ask("scripted", first)
        monkeypatch.setattr(running, "_step", step)
        (result,) = running.ask("scripted", second)
        assert (result.finding.case, result.finding.verdict) == (second.vector.case.id, PASS)
    assert script.asked == [[0], [1]]


def test_a_case_at_which_the_process_died_is_asked_once_more_alone() -> None:
    script = Script({1: [DIES], 3: [DIES, Gone("it died otherwise")]})
    results = run(script, [vector(number) for number in range(5)])
    assert verdicts(results) == [PASS, CRASH, PASS, CRASH, PASS]
    assert notes(results)[1] == "it died; asked again alone in a new process: it died"
    assert notes(results)[3] == "it died; asked again alone in a new process: it died otherwise"
    assert script.asked == [[0, 1], [1], [2, 3], [3], [4]]
    assert script.ended == ["killed"] * 4 + ["stopped"]


def test_a_case_that_is_answered_the_second_time_met_what_came_before_it() -> None:
    script = Script({0: [DIES, ANSWER], 2: [DIES, ANSWER]})
    results = run(script, [vector(number) for number in range(4)])
    assert verdicts(results) == [CRASH, PASS, CRASH, PASS]
    told = "it died; answered in a new process: what came before it matters"
    assert notes(results)[0] == f"{told} (nothing)"
    assert notes(results)[2] == f"{told} (log_softmax/edges/case-1-float64)"
    assert script.asked == [[0], [0, 1, 2], [2, 3]]


def test_a_case_that_hangs_the_second_time_stays_a_crash() -> None:
    script = Script({1: [DIES, HANGS]})
    results = run(script, [vector(number) for number in range(3)], timeout=0.05)
    assert verdicts(results) == [PASS, CRASH, PASS]
    assert notes(results)[1] == "it died; asked again alone in a new process: no answer within 0.05 seconds"


def test_a_case_that_hangs_is_asked_once() -> None:
    script = Script({1: [HANGS]})
    results = run(script, [vector(number) for number in range(3)], timeout=0.05)
    assert verdicts(results) == [PASS, TIMEOUT, PASS]
    assert notes(results)[1] == "no answer within 0.05 seconds"
    assert script.asked == [[0, 1], [2]]


@pytest.mark.parametrize(("end", "verdict"), [(DIES, CRASH), (HANGS, TIMEOUT)])
def test_after_ten_losses_in_a_row_the_rest_of_an_operation_is_not_asked(end: Gone | None, verdict: Verdict) -> None:
    modes = (Mode("eager"), Mode("jit"))
    script = Script({number: [end] for number in range(1, 40)}, [replace(DESCRIPTION, modes=modes)])
    others = [vector(100 + number, "entropy_with_logits") for number in range(3)]
    results = run(script, [*(vector(number) for number in range(20)), *others], timeout=0.02)
    for mode in modes:
        mine = [result for result in results if result.mode == mode.name]
        assert verdicts(mine) == [PASS, *[verdict] * 19, *[PASS] * 3]
        unasked = [note for note in notes(mine) if note.startswith("not asked: the 10 cases before it had no answer; the last: ")]
        assert len(unasked) == 19 - MOST
    assert max(number for link in script.asked for number in link if number < 100) == MOST


def test_losses_that_are_not_in_a_row_stop_nothing() -> None:
    script = Script({number: [HANGS] for number in range(40) if number % MOST})
    results = run(script, [vector(number) for number in range(40)], timeout=0.01)
    assert verdicts(results) == [TIMEOUT if number % MOST else PASS for number in range(40)]


def test_a_backend_that_cannot_be_started_again_loses_what_is_left() -> None:
    script = Script({1: [DIES]}, [DESCRIPTION, Failure("the disk is full")])
    results = run(script, [vector(number) for number in range(4)])
    assert verdicts(results) == [PASS, CRASH, CRASH, CRASH]
    assert "it died; a new process could not be imported: the disk is full" in notes(results)[1]
    assert notes(results)[2:] == ["not asked: its process was lost, and another could not be started"] * 2


def test_a_fragile_backend_has_a_new_process_after_each_bad_target() -> None:
    inputs = {"log_p": np.zeros((1, 3)), "target": np.array([7])}
    bad = expect(Case("nll_loss/edges/bad-float64", "nll_loss", "float64", inputs, {}, None, ("NLL-1",)))
    assert bad.expectations[0].kind == "error"
    description = replace(DESCRIPTION, operations=("nll_loss",), fragile=True)
    script = Script(starts=[description])
    assert len(run(script, [bad, bad])) == 2
    assert len(script.asked) == 2
    steady = Script(starts=[replace(description, fragile=False)])
    assert len(run(steady, [bad, bad])) == 2
    assert len(steady.asked) == 1


def test_jobs_are_workers_and_a_backend_with_much_to_do_gets_several() -> None:
    vectors = [vector(number % 7) for number in range(3 * SHARE)]
    alone, shared = Script(), Script()
    expected = run(alone, vectors)
    results = run(shared, vectors, jobs=3)
    assert len(alone.asked) == 1
    assert len(shared.asked) == 3
    assert all(shared.asked)
    assert sum(map(len, shared.asked)) == len(vectors)
    assert shared.ended == ["stopped"] * 3
    assert [(r.number, r.finding.case, r.finding.verdict) for r in results] == [
        (r.number, r.finding.case, r.finding.verdict) for r in expected
    ]
    assert [result.number for result in results] == list(range(len(vectors)))


@pytest.mark.parametrize(
    ("jobs", "there", "own", "share"), [(1, 2, None, 1), (1, 8, None, 7), (2, 9, None, 4), (4, 2, None, 1), (1, 1, None, 1), (2, 8, "7", 7)]
)
def test_workers_share_the_processors_that_the_judge_leaves(
    jobs: int, there: int, own: str | None, share: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jit, "threads", lambda: there)
    for name in THREADS:
        monkeypatch.delenv(name, raising=False)
        if own is not None:
            monkeypatch.setenv(name, own)
    awake = Event()
    program = f"import os; print([os.environ.get(name) for name in {THREADS}], flush=True)"
    child = Child([sys.executable, "-c", program], lambda stream: stream.readline().decode().strip(), awake.set, jobs)
    assert awake.wait(30.0)
    assert child.take() == str([str(share)] * len(THREADS))
    child.kill()


def test_the_command_line_says_how_many_share_them() -> None:
    for name in ("torch", "exec:program"):
        source = find(name, Options(jobs=3))
        assert isinstance(source, WorkerSource | ProgramSource)
        assert source.jobs == 3


def test_several_backends_run_side_by_side() -> None:
    one, two = Script(name="one"), Script({0: [DIES]}, name="two")
    with Run([one, two], [vector(0), vector(1)], jobs=2) as running:
        assert running.total == 4
        results = list(running.results())
    assert verdicts([result for result in results if result.backend == "one"]) == [PASS, PASS]
    assert sorted(verdicts([result for result in results if result.backend == "two"])) == [CRASH, PASS]


def test_the_deadline_grows_with_the_case_and_the_mode() -> None:
    assert 30 < deadline(HONEST) < 31
    big = replace(HONEST, case=replace(HONEST.case, inputs={"logits": np.zeros(10**6)}))
    assert deadline(big) == 50
    script = Script(starts=[replace(DESCRIPTION, modes=(Mode("jit", allowance=7.0),))])
    with Run([script], [vector(0)]) as running:
        (lane,) = running._lanes
        lane.feed()
        assert 36 < lane.expires - time.monotonic() < 38


def test_the_ceiling_is_less_than_the_machine_has() -> None:
    assert 0 < ceiling() <= 8 * 2**30
    assert ceiling() < psutil.virtual_memory().total


def test_in_this_process() -> None:
    vectors = [HONEST, hostile.vector(hostile.complain), hostile.vector(hostile.refuse)]
    with Run([HereSource("hostile", lambda: hostile.ADAPTER)], vectors) as running:
        results = list(running.results())
    assert verdicts(results) == [*[PASS] * 2, *[Verdict.ERROR] * 2, *[Verdict.UNSUPPORTED] * 2]

    def missing() -> hostile.Adapter:
        raise ModuleNotFoundError("no module", name="no_such_library")

    with pytest.raises(BackendError, match=r"no module 'no_such_library'"), Run([HereSource("x", missing)], [HONEST]):
        pass


def test_nothing_reaches_the_screen(capfd: pytest.CaptureFixture[str]) -> None:
    with Run([module_source("hostile", "hostile")], [hostile.vector(hostile.chatter)]) as running:
        assert verdicts(list(running.results())) == [PASS, PASS]
    assert capfd.readouterr() == ("", "")


def test_no_process_is_left_when_the_loop_is_left() -> None:
    def interrupt() -> None:
        with Run([module_source("hostile", "hostile")], [HONEST, hostile.vector(hostile.loop)]) as running:
            for result in running.results():
                if result.finding.direction == "backward":
                    raise KeyboardInterrupt

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        interrupt()
    assert time.monotonic() - began < 60
    assert not children()


def test_no_process_outlives_the_parent(tmp_path: Path) -> None:
    """However it ends: here, killed while a worker is in a loop that never lets another thread run."""
    flag = tmp_path / "looping"
    program = (
        "import hostile\n"
        "from conformance.links.process import module_source\n"
        "from conformance.runner import Run\n"
        "with Run([module_source('hostile', 'hostile')], [hostile.vector(hostile.loop)]) as run:\n"
        "    list(run.results())\n"
    )
    tests = Path(__file__).parent
    paths = os.pathsep.join([str(tests), str(tests.parent)])
    environment = {**os.environ, "PYTHONPATH": paths, "HOSTILE_FLAG": str(flag)}
    with subprocess.Popen([sys.executable, "-c", program], env=environment) as process:
        while process.poll() is None and not flag.exists():
            time.sleep(0.05)
        started = psutil.Process(process.pid).children(recursive=True)
        assert len(started) == 2, "a worker and its guard"
        os.kill(process.pid, signal.SIGKILL)
    _, alive = psutil.wait_procs(started, timeout=10)
    assert not alive


def test_a_terminals_interrupt_does_not_reach_a_worker() -> None:
    with Run([module_source("hostile", "hostile")], [HONEST]):
        assert len(children()) >= 2
        assert all(os.getsid(child.pid) == child.pid for child in children())  # a terminal signals its own session


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("import no_such_library", "is not installed (no module 'no_such_library'); install what has that module"),
        ("raise OSError('libcuda is not there')", "could not be imported: OSError: libcuda is not there; mend what its import runs"),
        ("import os; os._exit(5)", "could not be started: the process ended with status 5"),
    ],
)
def test_what_cannot_start_is_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, sentence: str) -> None:
    (tmp_path / "broken_adapter.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(BackendError) as caught, Run([module_source("hostile", "broken_adapter")], [HONEST]):
        pass
    assert sentence in str(caught.value)
    assert not children()


def test_unknown_backends_are_refused() -> None:
    with pytest.raises(UnknownBackend, match=r"no backend is named 'tourch'; the backends are .*torch"):
        find("tourch")
