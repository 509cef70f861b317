"""A machine whose clock is ours, and peers that do as they are told."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from conformance.bench.peer import Call, Kind, Peer
from conformance.bench.problem import FORWARD, Problem
from conformance.bench.timing import CALLS, Clock


class Machine:
    """A clock that stands still but for the calls that are made and the pauses; `log` is what happened."""

    def __init__(self) -> None:
        self.time = 0.0
        self.log: list[str] = []

    def clock(self) -> Clock:
        return Clock(lambda: self.time, self._sleep)

    def _sleep(self, seconds: float) -> None:
        self.time += seconds
        self.log.append(f"pause {seconds}")

    def call(self, name: str, seconds: Callable[[int], float]) -> Callable[[], object]:
        """A caller whose n-th call takes seconds(n)."""
        count = 0

        def run() -> None:
            nonlocal count
            self.time += seconds(count)
            self.log.append(name)
            count += 1

        return run

    def turns(self) -> list[str]:
        """The log, a call of the same name after another left out, and the pauses."""
        calls = [name for name in self.log if not name.startswith("pause")]
        return [name for n, name in enumerate(calls) if n % (CALLS + 1) == 0]


def fake(name: str, prepare: Callable[[Problem, int], Call], kind: Kind = Kind.PEER, works: tuple[str, ...] = (FORWARD,)) -> Peer:
    return Peer(name, "of the tests", dict.fromkeys(works, prepare), (), kind)


def constant(value: float, run: Callable[[], object] = lambda: None) -> Callable[[Problem, int], Call]:
    return lambda on, _: Call(run, lambda _: {"loss": np.array(value)}, lambda _: 0, on)


def raising(error: Exception) -> Callable[[Problem, int], Call]:
    def prepare(on: Problem, count: int) -> Call:
        raise error

    return prepare


def ticking(
    machine: Machine, name: str, seconds: float, kind: Kind = Kind.PEER, part: int = 1 << 30, works: tuple[str, ...] = (FORWARD,)
) -> Peer:
    run = machine.call(name, lambda _: seconds)
    return fake(name, lambda on, _: Call(run, lambda _: {}, lambda _: 0, on.part(part)), kind, works)
