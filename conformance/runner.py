"""Runs backends, each in a worker process of its own: deadlines, restarts, and a verdict for every case whatever happens.

One loop in the parent waits for all workers at once. A worker gets its next case before the answer to the last one is
judged, so judging costs no time while a backend computes.
"""

from __future__ import annotations

import math
import multiprocessing
import signal
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path

from conformance.adapter import Description, backends
from conformance.dialects import Dialect
from conformance.judge import UNDEFINED, Answer, Finding, Verdict, judge, promised, unanswered
from conformance.vectors import Vector
from conformance.worker import Failure, Refusal, Request, serve

STARTING = 300.0  # seconds for a worker to import its library, with all of them starting at once on a slow disk
STOPPING = 5.0  # seconds for a worker to leave by itself


class UnknownBackend(Exception):
    """No backend has that name; the message lists those that exist."""


class BackendError(Exception):
    """A backend can't be started; the message says why and what to do."""


@dataclass(frozen=True)
class Result:
    """A finding of the judge with what the runner knows: who answered, in which mode, and how long one call took."""

    backend: str
    mode: str
    accuracy: str
    composed: bool
    seconds: float
    finding: Finding


@dataclass(frozen=True)
class Task:
    """One call that a worker is to make."""

    vector: Vector
    mode: str


def modules(names: Sequence[str]) -> dict[str, str]:
    """The module of each named backend's adapter; raises `UnknownBackend`."""
    known = backends()
    for name in names:
        if name not in known:
            raise UnknownBackend(f"no backend is named {name!r}; the backends are {', '.join(known)}")
    return {name: f"conformance.adapters.{name}" for name in names}


def deadline(vector: Vector) -> float:
    """Seconds that a case may take, both calls and their compilation included: 30, and 20 microseconds an element."""
    return 30.0 + 20e-6 * sum(value.size for value in vector.case.inputs.values())


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Have processes that are started in this block ignore Ctrl-C from their first instruction on: the parent ends them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class Session:
    """One backend, its worker process, and the tasks that it still has to do."""

    def __init__(
        self, name: str, module: str, vectors: Sequence[Vector], timeout: float | None, folder: Path, dialect: Dialect | None = None
    ) -> None:
        self.name = name
        self.vectors = vectors
        self.description: Description | None = None
        self._module = module
        self._timeout = timeout
        self._dialect = dialect
        self._log = folder / f"{name}.log"
        self._tasks: deque[Task] = deque()
        self._current: Task | None = None
        self.started = False  # the worker that runs now has sent its description
        self.start()

    @property
    def done(self) -> bool:
        """Whether nothing is left to do or to wait for."""
        return self.started and self._current is None and not self._tasks

    def start(self) -> None:
        """Start a worker process."""
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self._log.write_bytes(b"")
        self.process = context.Process(target=serve, args=(self._module, theirs, str(self._log)), daemon=True)
        with _uninterrupted():
            self.process.start()
        theirs.close()
        self.started = False
        self.expires = time.monotonic() + STARTING

    @property
    def handles(self) -> list[Connection | int]:
        """What to wait for: a message, or the end of the process."""
        return [self.connection, self.process.sentinel]

    def receive(self) -> list[Result]:
        """Take the worker's message, give it its next task, and judge; a worker that has died is replaced."""
        try:
            # The process may have ended after its last message: that message comes first.
            message = self.connection.recv() if self.connection.poll() else None
        except Exception:  # end of file, or bytes that are no message
            message = None
        if isinstance(message, Description) and not self.started:
            return self._begin(message)
        if isinstance(message, Failure):
            raise BackendError(self._why(message))
        task, self._current = self._current, None
        if task is None or not isinstance(message, Answer | Refusal):
            return self._lost(task, Verdict.CRASH, self._post_mortem())
        self.submit()
        if isinstance(message, Refusal):
            return self._without_answer(task, Verdict.UNSUPPORTED, message.reason)
        findings = judge(task.vector, message, self._described.promises[task.vector.case.dtype], self._dialect_of(task.vector))
        return [self._result(task, finding, message.seconds) for finding in findings]

    def expire(self) -> list[Result]:
        """The deadline has passed: end the worker and start another."""
        if not self.started:
            self.kill()
            raise BackendError(f"backend {self.name!r} did not start within {STARTING:.0f} seconds; try it alone: lossref run {self.name}")
        task, self._current = self._current, None
        return self._lost(task, Verdict.TIMEOUT, f"no answer within {self._allowed:.3g} seconds")

    def submit(self) -> None:
        """Send the next task, if the worker is free."""
        if not self.started or self._current is not None or not self._tasks:
            return
        self._current = task = self._tasks.popleft()
        case = task.vector.case
        self._allowed = deadline(task.vector) if self._timeout is None else self._timeout
        self.expires = time.monotonic() + self._allowed
        # A worker that died meanwhile can't be written to; the end of its process is noticed in the main loop.
        with suppress(OSError):
            self.connection.send(Request(case.operation, task.mode, case.inputs, case.parameters, case.cotangent, case.layouts))

    def close(self) -> None:
        """Ask the worker to stop, and end it if it doesn't."""
        with suppress(OSError):
            self.connection.send(None)
        self.process.join(STOPPING)
        self.kill()

    def kill(self) -> None:
        """End the worker process now."""
        self.process.kill()
        self.process.join()
        self.connection.close()

    def _begin(self, description: Description) -> list[Result]:
        self.started = True
        first = self.description is None
        self.description = description if self._dialect is None else replace(description, dialect=self._dialect)
        results = []
        if first:
            for mode in description.modes:
                for vector in self.vectors:
                    task, case = Task(vector, mode), vector.case
                    if not description.asks(mode, case.group):
                        continue
                    if case.operation not in description.operations:
                        results += self._without_answer(task, Verdict.UNSUPPORTED, f"{self.name} has no {case.operation}")
                    elif case.dtype not in description.promises:
                        results += self._without_answer(task, Verdict.UNSUPPORTED, f"{self.name} documents no {case.dtype}")
                    elif promised(vector, self._dialect_of(vector)) is None:
                        results += self._without_answer(task, Verdict.UNSUPPORTED, UNDEFINED)
                    else:
                        self._tasks.append(task)
        return results

    def _lost(self, task: Task | None, verdict: Verdict, text: str) -> list[Result]:
        """The worker is gone, or has to go: the task gets `verdict` and the rest goes on in a new process."""
        if not self.started:
            raise BackendError(f"backend {self.name!r} could not be started: {text}; reinstall it, or run the other backends alone")
        self.kill()
        self.start()
        return [] if task is None else self._without_answer(task, verdict, text)

    def _post_mortem(self) -> str:
        """How the process ended, with the last line that it wrote."""
        self.process.join(STOPPING)
        code = self.process.exitcode
        if code is None:
            how = "the process sent something that is no answer"
        elif code < 0:
            with suppress(ValueError):
                return f"the process was ended by {signal.Signals(-code).name}{self._last_words()}"
            how = f"the process was ended by signal {-code}"
        else:
            how = f"the process ended with status {code}"
        return how + self._last_words()

    def _last_words(self) -> str:
        with self._log.open("rb") as file:
            file.seek(max(0, self._log.stat().st_size - 1000))
            lines = file.read().decode(errors="replace").strip().splitlines()
        return f" ({lines[-1]})" if lines else ""

    def _why(self, failure: Failure) -> str:
        if failure.missing is not None:
            return f"backend {self.name!r} is not installed (no module {failure.missing!r}); install it: pip install 'lossref[{self.name}]'"
        return f"backend {self.name!r} could not be imported: {failure.reason}; reinstall it: pip install --force-reinstall '{self.name}'"

    @property
    def _described(self) -> Description:
        assert self.description is not None
        return self.description

    def _without_answer(self, task: Task, verdict: Verdict, text: str) -> list[Result]:
        dialect = self._dialect_of(task.vector)
        return [self._result(task, finding, math.nan) for finding in unanswered(task.vector, verdict, text, dialect)]

    def _dialect_of(self, vector: Vector) -> dict[str, str]:
        return self._described.dialect.of(vector.case.operation)

    def _result(self, task: Task, finding: Finding, seconds: float) -> Result:
        case, described = task.vector.case, self._described
        accuracy = described.promises[case.dtype].accuracy if case.dtype in described.promises else ""
        return Result(self.name, task.mode, accuracy, case.operation in described.composed, seconds, finding)


class Run:
    """Backends on vectors. Use it as a context manager; `results` yields as they come, `descriptions` are there from the start.

    `dialect` takes the place of those that the backends declare.
    """

    def __init__(
        self,
        backends: Mapping[str, str],
        vectors: Sequence[Vector],
        jobs: int = 1,
        timeout: float | None = None,
        dialect: Dialect | None = None,
    ) -> None:
        self._modules = backends
        self._vectors = vectors
        self._jobs = jobs
        self._dialect = dialect
        self._timeout = timeout
        self._sessions: list[Session] = []
        self._early: list[Result] = []

    def __enter__(self) -> Run:
        """Start every worker and wait for its description, so that what isn't installed is said before anything runs."""
        self._folder = tempfile.TemporaryDirectory(prefix="lossref-")
        try:
            for name, module in self._modules.items():
                self._sessions.append(Session(name, module, self._vectors, self._timeout, Path(self._folder.name), self._dialect))
            while starting := [session for session in self._sessions if not session.started]:
                self._early += self._step(starting)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for session in self._sessions:
            if session.done:
                session.close()
            else:
                session.kill()
        self._folder.cleanup()

    @property
    def descriptions(self) -> dict[str, Description]:
        """What each backend says of itself."""
        return {session.name: session.description for session in self._sessions if session.description is not None}

    @property
    def total(self) -> int:
        """How many calls are made or skipped: cases times the modes that they are asked in, over all backends."""
        groups = [vector.case.group for vector in self._vectors]
        return sum(about.asks(mode, group) for about in self.descriptions.values() for mode in about.modes for group in groups)

    def results(self) -> Iterator[Result]:
        """Every finding, of up to `jobs` backends at a time."""
        yield from self._early
        waiting = deque(self._sessions)
        working: list[Session] = []
        while waiting or working:
            while waiting and len(working) < self._jobs:
                working.append(waiting.popleft())
            for session in working:
                session.submit()
            working = [session for session in working if not session.done]
            if working:
                yield from self._step(working)

    def _step(self, sessions: Sequence[Session]) -> list[Result]:
        """Wait until one of the sessions has something to say or runs out of time."""
        handles = [handle for session in sessions for handle in session.handles]
        ready = wait(handles, max(0.0, min(session.expires for session in sessions) - time.monotonic()))
        results = []
        for session in sessions:
            if any(handle in ready for handle in session.handles):
                results += session.receive()
            elif time.monotonic() >= session.expires:
                results += session.expire()
        return results
