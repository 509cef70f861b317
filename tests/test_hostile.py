"""A backend that does everything wrong, in one run: the right verdict each time, every other case judged, nothing left behind."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import hostile
import psutil
import pytest

from conformance import deviations
from conformance.case import Vector
from conformance.finding import Verdict
from conformance.links.child import MARK
from conformance.links.process import module_source
from conformance.record import Record, Selection
from conformance.report import jsonlines
from conformance.runner import Result, Run

CEILING = 2**29
TRACKER = "multiprocessing.resource_tracker"
SILENT = [hostile.loop, hostile.deadlock, hostile.half_an_answer]


@dataclass(frozen=True)
class Outcome:
    """A run over all behaviours, each followed by an honest case; `grown` is what it added to the parent's memory, in bytes."""

    results: list[Result]
    seconds: float
    left: list[psutil.Process]
    file: Path
    grown: int

    def of(self, case: str) -> list[Result]:
        return [result for result in self.results if result.finding.case.split("/")[2] == f"{case}-float64"]


def children() -> list[psutil.Process]:
    """The processes that this one has started and that haven't ended, with theirs, and those that a backend started.

    The tracker that multiprocessing starts with a pool's first process, and keeps as long as this one, is no worker.
    """
    marked = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK, "").startswith(f"{os.getpid()}-"):
                marked.append(process)
        except psutil.Error:
            continue
    return [*(process for process in psutil.Process().children(recursive=True) if not ended_or_tracker(process)), *marked]


def ended_or_tracker(process: psutil.Process) -> bool:
    """Whether it has just ended, or is no worker; one that ended and that nobody waited for is left behind."""
    try:
        return TRACKER in " ".join(process.cmdline())
    except psutil.ZombieProcess:
        return False
    except psutil.NoSuchProcess:
        return True


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """First those that never answer, with seconds to wait for each, then the others, with all the time that they are given."""
    began, size = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    results, about = [], {}
    for behaviours, timeout in ((SILENT, 4.0), ([b for b in hostile.BEHAVIOURS if b not in (*SILENT, hostile.honest)], None)):
        with Run([module_source("hostile", "hostile")], among_honest_ones(behaviours), timeout=timeout, memory=CEILING) as run:
            results += list(run.results())
            about = run.descriptions
    seconds, grown = time.monotonic() - began, 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - size)
    file = tmp_path_factory.mktemp("hostile") / "results.jsonl"
    comparisons = {"hostile": deviations.compare(results, None, {})}
    jsonlines.write(file, Record.begun("sha256:0", Selection(), about).ended(results, comparisons))
    return Outcome(results, seconds, children(), file, grown)


def among_honest_ones(behaviours: Sequence[hostile.Behaviour]) -> list[Vector]:
    """A case for each, with an honest one before it, save before the one that is there to be spoilt by its predecessor."""
    vectors = []
    for behaviour in behaviours:
        if behaviour is not hostile.be_spoilt:
            vectors.append(hostile.vector(hostile.honest, f"-before-{case_of(behaviour)}"))
        vectors.append(hostile.vector(behaviour))
    return [*vectors, hostile.vector(hostile.honest, f"-after-{len(behaviours)}")]


def case_of(behaviour: hostile.Behaviour) -> str:
    return behaviour.__name__.replace("_", "-")


DIED = "; asked again alone in a new process: the process "
EXPECTED = {
    hostile.exit_at_once: (Verdict.CRASH, f"the process ended with status 7 (out of luck){DIED}ended with status 7 (out of luck)"),
    hostile.abort: (Verdict.CRASH, f"the process was ended by SIGABRT{DIED}was ended by SIGABRT"),
    hostile.segfault: (Verdict.CRASH, f"the process was ended by SIGSEGV{DIED}was ended by SIGSEGV"),
    hostile.loop: (Verdict.TIMEOUT, "no answer within 4 seconds"),
    hostile.deadlock: (Verdict.TIMEOUT, "no answer within 4 seconds"),
    hostile.half_an_answer: (Verdict.TIMEOUT, "no answer within 4 seconds"),
    hostile.eat: (Verdict.CRASH, "GiB of memory and was ended; 0.5 are allowed"),
    hostile.eat_in_a_child: (Verdict.CRASH, "GiB of memory and was ended; 0.5 are allowed"),
    hostile.ask_for_too_much: (Verdict.ERROR, "MemoryError: Unable to allocate"),
    hostile.complain: (Verdict.ERROR, "RuntimeError: not today"),
    hostile.no_array: (Verdict.ERROR, "NoneType, not a numpy array"),
    hostile.refuse: (Verdict.UNSUPPORTED, "it lacks this value"),
    hostile.garbage: (Verdict.CRASH, "it sent something that is no answer (UnpicklingError: "),
    hostile.answer_for_another: (Verdict.CRASH, "it answered request 1000000 when "),
    hostile.be_spoilt: (
        Verdict.CRASH,
        "the process ended with status 9; answered in a new process: what came before it matters (log_softmax/edges/spoil-float64)",
    ),
}
BROKEN = {
    hostile.wrong_shape: "GEN-1",
    hostile.wrong_dtype: "GEN-2",
    hostile.overwrite: "GEN-3",
    hostile.differ: "GEN-4",
    hostile.nan_for_everything: "LSM-1",
}
HARMLESS = {
    *(hostile.chatter, hostile.flood, hostile.leak_a_thread, hostile.leak_a_child, hostile.close_standard_streams, hostile.spoil),
}


def test_every_behaviour_is_expected() -> None:
    assert {hostile.honest, *EXPECTED, *BROKEN, *HARMLESS} == set(hostile.BEHAVIOURS)


@pytest.mark.parametrize("behaviour", EXPECTED, ids=lambda behaviour: behaviour.__name__)
def test_no_answer_is_a_verdict(outcome: Outcome, behaviour: hostile.Behaviour) -> None:
    verdict, note = EXPECTED[behaviour]
    found = outcome.of(case_of(behaviour))
    assert [result.finding.verdict for result in found] == [verdict, verdict]
    for result in found:
        assert note in result.finding.note


@pytest.mark.parametrize("behaviour", BROKEN, ids=lambda behaviour: behaviour.__name__)
def test_misconduct_breaks_its_clause(outcome: Outcome, behaviour: hostile.Behaviour) -> None:
    forward, _ = outcome.of(case_of(behaviour))
    assert forward.finding.verdict == Verdict.FAIL
    assert BROKEN[behaviour] in forward.finding.clauses


def test_every_other_case_is_judged(outcome: Outcome) -> None:
    harmless = [result for behaviour in HARMLESS for result in outcome.of(case_of(behaviour))]
    honest = [result for result in outcome.results if "/honest-" in result.finding.case]
    assert len(harmless) == 2 * len(HARMLESS)
    before, after = len(hostile.BEHAVIOURS) - len([hostile.honest, hostile.be_spoilt]), 2
    assert len(honest) == 2 * (before + after)
    assert all(result.finding.verdict == Verdict.PASS for result in (*harmless, *honest))


def test_no_process_is_left(outcome: Outcome) -> None:
    assert not outcome.left


def test_the_report_has_its_footer(outcome: Outcome) -> None:
    assert len(jsonlines.read(outcome.file).results) == len(outcome.results)


def test_the_time_is_bounded(outcome: Outcome) -> None:
    assert outcome.seconds < 300


def test_what_it_writes_is_not_kept(outcome: Outcome) -> None:
    assert outcome.grown < hostile.NOISE / 2
