"""Runs backends, each behind links of its own: deadlines, a ceiling of memory, and a verdict for every case whatever happens.

One loop waits for all links at once. A link gets its next case before the answer to the last one is judged, so judging costs no time
while a backend computes. A second thread looks at the memory that they take, as the loop may be busy judging.

How long a run can take. A case of n elements takes at most d = 30 s + 20e-6 s * n and the allowance of its mode, or --timeout, and a
link at most s = 300 s to start. A case that is lost costs at most 2 (d + s): it is asked a second time, and each time a link is started.
A backend that never answers is asked 10 cases of each operation in each of its modes, and one more for each further worker: with O
operations and M modes it ends within 2 O M (10 + jobs) (d + s). One that answers now and then is asked all its C cases: 2 C (d + s).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence

import psutil

from conformance.adapter import Description
from conformance.backend import Backend, Result, Task
from conformance.case import TIERS, Vector
from conformance.dialects import Dialect
from conformance.lane import BackendError, Lane, deadline
from conformance.link import Source

__all__ = ["BackendError", "Result", "Run", "Task", "ceiling", "deadline"]

GIB = 2**30
LOOKING = 0.25  # seconds after which a link is looked at that said nothing: its end may go unnoticed where its children live on
WEIGHING = 0.05  # seconds between two looks at the memory
SHARE = 100  # cases for which starting another worker is worth its time
ABANDONED = "its process was lost, and another could not be started"


def ceiling() -> float:
    """The memory in bytes that a worker may take: 8 GiB, or three quarters of this machine's where that is less."""
    return min(8 * GIB, 0.75 * psutil.virtual_memory().total)


class Run:
    """Backends on vectors. Use it as a context manager; `results` yields as they come, `descriptions` are there from the start.

    `jobs` workers run at a time; `timeout` in seconds takes the place of the cases' deadlines, `memory` in bytes of the ceiling,
    `dialect` of those that the backends declare. Modes that are too costly for `tier` aren't asked. `explain` has findings say which
    choices explain an answer. A run that `waits` has no `results`: it makes the calls that `ask` is given, one at a time. `vectors` may be
    a function that reads them, which is called while the backends start.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        vectors: Sequence[Vector] | Callable[[], Sequence[Vector]],
        jobs: int = 1,
        timeout: float | None = None,
        dialect: Dialect | None = None,
        memory: float | None = None,
        tier: str = TIERS[-1],
        explain: bool = False,
        waits: bool = False,
    ) -> None:
        self._backends = [Backend(source, dialect, tier, explain, waits) for source in sources]
        self._read = vectors
        self._tier = tier
        self._jobs = jobs
        self._timeout = timeout
        self._memory = ceiling() if memory is None else memory
        self._awake = threading.Event()
        self._lanes: list[Lane] = []
        self._early: list[Result] = []

    def __enter__(self) -> Run:
        """Start every backend and wait for its description, so that what isn't installed is said before anything runs."""
        self._scales = _Scales(self._lanes, self._memory)
        self._scales.start()
        try:
            self._lanes += [self._lane(backend) for backend in self._backends]
            self._vectors = self._read() if callable(self._read) else self._read
            for backend in self._backends:
                backend.vectors = self._vectors
            while starting := [lane for lane in self._lanes if not lane.begun]:
                self._early += self._step(starting)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._scales.stop()
        for lane in self._lanes:
            if lane.backend.waits and not lane.busy and not lane.ended:
                lane.leave()
            elif not lane.ended:
                lane.kill()

    @property
    def descriptions(self) -> dict[str, Description]:
        """What each backend says of itself."""
        return {backend.name: backend.description for backend in self._backends if backend.description is not None}

    @property
    def total(self) -> int:
        """How many calls are made or skipped: cases times the modes that they are asked in, over all backends."""
        cases = [vector.case.id for vector in self._vectors]
        return sum(mode.asks(case, self._tier) for about in self.descriptions.values() for mode in about.modes for case in cases)

    def results(self) -> Iterator[Result]:
        """Every finding, as they come: `Result.number` gives them an order that doesn't depend on time."""
        yield from self._early
        waiting = list(self._lanes)
        working: list[Lane] = []
        while waiting or working:
            while len(working) < self._jobs and (lane := waiting.pop(0) if waiting else self._another(working)) is not None:
                working.append(lane)
            for lane in working:
                lane.feed()
            working = [lane for lane in working if not lane.ended]
            if working:
                yield from self._step(working)
            for backend in self._backends:
                if backend.tasks and all(lane.ended for lane in self._lanes if lane.backend is backend):
                    yield from backend.abandoned(ABANDONED)

    def calls(self, name: str) -> list[Task]:
        """All calls that the backend of that name can be asked to make, in order."""
        return list(self._lane_of(name).backend.calls())

    def ask(self, name: str, task: Task) -> list[Result]:
        """The findings on one call of the backend, made now. Its process stays for the next."""
        lane = self._lane_of(name)
        results = lane.backend.queue(task)
        try:
            while not results and not lane.ended:
                lane.feed()
                results += self._step([lane])
        except BaseException:  # someone's alarm: the answer that is due is no other task's
            lane.drop()
            raise
        return results or lane.backend.abandoned(ABANDONED)

    def _lane_of(self, name: str) -> Lane:
        return next(lane for lane in self._lanes if lane.backend.name == name)

    def _lane(self, backend: Backend) -> Lane:
        return Lane(backend, self._awake.set, self._timeout)

    def _another(self, working: Sequence[Lane]) -> Lane | None:
        """A further worker for the backend with the most to do for each that it has, where it is worth its time."""

        def share(backend: Backend) -> float:
            return len(backend.tasks) / (1 + sum(lane.backend is backend for lane in working))

        backend = max((lane.backend for lane in working), key=share, default=None)
        if backend is None or share(backend) < SHARE:
            return None
        self._lanes.append(self._lane(backend))
        return self._lanes[-1]

    def _step(self, lanes: Sequence[Lane]) -> list[Result]:
        """Wait until one of the lanes has something to say or runs out of time."""
        self._awake.wait(max(0.0, min(LOOKING, *(lane.expires - time.monotonic() for lane in lanes))))
        self._awake.clear()
        return [result for lane in lanes if lane.busy for result in lane.step()]


class _Scales(threading.Thread):
    """Ends the links of busy lanes that take more than `most` bytes of memory."""

    def __init__(self, lanes: Sequence[Lane], most: float) -> None:
        super().__init__(daemon=True)
        self._lanes = lanes
        self._most = most
        self._stopped = threading.Event()

    def run(self) -> None:
        """Look, until told to stop."""
        while not self._stopped.wait(WEIGHING):
            for lane in list(self._lanes):
                link = lane.link
                if lane.busy and (taken := link.memory()) > self._most:
                    lane.heavy = link, f"the process took {taken / GIB:.3g} GiB of memory and was ended; {self._most / GIB:.3g} are allowed"
                    link.kill()

    def stop(self) -> None:
        """Look no more."""
        self._stopped.set()
        self.join()
