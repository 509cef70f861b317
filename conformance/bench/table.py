"""One table: everyone who computes a thing, at a shape and in a dtype, in turns; with errors, times and ratios."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from importlib.metadata import PackageNotFoundError
from statistics import median
from typing import Any

from conformance.bench.peer import Absent, Call, Kind, Peer, Unsupported
from conformance.bench.problem import BenchError, Problem, Shape, errors, expected
from conformance.bench.timing import Clock, Spread, first_line, ratios, spread, take_turns
from refimpl.jit import threads as usable


class State(StrEnum):
    """What became of a peer."""

    DONE = "done"
    ABSENT = "not installed"
    UNSUPPORTED = "unsupported"
    FAILED = "failed"


@dataclass(frozen=True)
class Line:
    """One peer. `seconds` are those of each round, for the whole shape; `errors` in ulps; `on` the part that was computed, if not all."""

    peer: Peer
    state: State
    note: str = ""
    seconds: tuple[float, ...] = ()
    errors: tuple[tuple[str, float], ...] = ()
    on: Shape | None = None

    @property
    def median(self) -> float:
        return median(self.seconds)


@dataclass(frozen=True)
class Table:
    """The lines of one computation: the reference first, the limits last, in between by their times."""

    work: str
    shape: Shape
    dtype: str
    rounds: int
    lines: tuple[Line, ...]

    @property
    def bases(self) -> list[Line]:
        """The lines that all are compared with: those of the reference and the limits."""
        return [line for line in self.lines if line.peer.kind != Kind.PEER and line.state == State.DONE]

    def ratio(self, line: Line, base: Line) -> Spread:
        """How many times as long as the base: round by round."""
        return spread(ratios(line.seconds, base.seconds))


def attempt(prepare: Callable[[], Any]) -> tuple[Any, State, str]:
    """What a peer's preparation returns, or what became of it and why."""
    try:
        return prepare(), State.DONE, ""
    except (ModuleNotFoundError, PackageNotFoundError) as error:
        return None, State.ABSENT, f"no module {error.name!r}"
    except Absent as error:
        return None, State.ABSENT, str(error)
    except Unsupported as error:
        return None, State.UNSUPPORTED, str(error)
    except Exception as error:  # whatever a library raises is its answer, and is shown as such
        return None, State.FAILED, first_line(error)


def measure(peers: Sequence[Peer], work: str, problem: Problem, rounds: int, threads: int, clock: Clock | None = None) -> Table:
    """The table of those peers that compute it. Every answer is compared with the reference's before it is timed."""
    right: dict[int, Any] = {}

    def prepare(peer: Peer) -> tuple[Call, dict[str, float]]:
        call = peer.works[work](problem, threads)
        answer = call.answer(call.run())
        if answer and id(call.on) not in right:
            right[id(call.on)] = (call.on, expected(work, call.on))  # kept with its part, whose id would be used again
        return call, errors(work, answer, right[id(call.on)][1]) if answer else {}

    calls: dict[str, Call] = {}
    lines: dict[str, Line] = {}
    for peer in (peer for peer in peers if work in peer.works):
        found, state, note = attempt(partial(prepare, peer))
        lines[peer.name] = Line(peer, state, note)
        if found is not None:
            calls[peer.name], far = found
            part = calls[peer.name].on
            lines[peer.name] = Line(peer, state, "", (), tuple(far.items()), part.shape if part is not problem else None)
    seconds, failures = take_turns({name: call.run for name, call in calls.items()}, rounds, clock)
    for name, call in calls.items():
        line = lines[name]
        if name in failures:
            lines[name] = Line(line.peer, State.FAILED, failures[name])
        else:
            share = problem.logits.size / call.on.logits.size
            lines[name] = Line(line.peer, State.DONE, "", tuple(share * s for s in seconds[name]), line.errors, line.on)
    return Table(work, problem.shape, problem.dtype, rounds, tuple(sorted(lines.values(), key=_place)))


def _place(line: Line) -> tuple[int, bool, float]:
    rank = list(Kind).index(line.peer.kind)
    return rank, line.state != State.DONE, line.median if line.seconds and rank else 0.0


@contextmanager
def using(threads: int) -> Iterator[None]:
    """Let this process use only so many processors, by which every library counts its threads."""
    if threads == usable():
        yield
        return
    if threads > usable() or not hasattr(os, "sched_setaffinity"):
        raise BenchError(f"this process has {usable()} processors, not {threads}; write --threads {usable()} or leave it out")
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:threads])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
