"""One link of a backend at work: it takes the backend's tasks in turn, and whatever becomes of it, each has its verdict.

A link that is lost (it ended, hung, sent nonsense, took too much memory) is replaced. A task at which it ended is asked once more, alone
in the new process, to tell a call that ends any process from one that met what earlier calls had left behind; its verdict stays.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass

from conformance.adapter import Description, Unusable, backends
from conformance.backend import Backend, Result, Task
from conformance.case import Vector
from conformance.complaint import UNABLE, Complaint
from conformance.finding import Answer, Verdict
from conformance.link import Failure, Gone, Link, Missing, Refusal, Reply

STARTING = 300.0  # seconds for a backend to import its library, with all of them starting at once on a slow disk


class BackendError(Complaint):
    """A backend can't be started; the message says why and what to do."""

    status = UNABLE


def deadline(vector: Vector) -> float:
    """Seconds that a case may take, both calls included: 30, and 20 microseconds an element."""
    return 30.0 + 20e-6 * sum(value.size for value in vector.case.inputs.values())


@dataclass(frozen=True)
class _Again:
    """A task that is asked once more: how the process was lost, and what that process was asked before it."""

    task: Task
    how: str
    before: str


class Lane:
    """A link, the task that it was asked, and until when it may take; `ended` once it won't be asked again.

    `heavy` is a link that was ended because of the memory that it took, and how much that was.
    """

    def __init__(self, backend: Backend, wake: Callable[[], None], timeout: float | None) -> None:
        self.backend = backend
        self.ended = False
        self.begun = False  # the link has described the backend
        self.heavy: tuple[Link, str] | None = None
        self._wake = wake
        self._timeout = timeout
        self._task: Task | None = None
        self._again: _Again | None = None
        self._open()

    @property
    def expires(self) -> float:
        """When it will have taken too long, on the clock `time.monotonic`."""
        return self._expires

    @property
    def busy(self) -> bool:
        """Whether something is due from the link."""
        return not self.ended and (not self.begun or self._task is not None)

    def feed(self) -> None:
        """Ask the next task, if the link is free; without one, let it leave, unless the backend waits."""
        if self.busy or self.ended:
            return
        if self._again is not None:
            self._task = self._again.task
        elif self.backend.tasks:
            self._task = self.backend.tasks.popleft()
        else:
            if not self.backend.waits:
                self.leave()
            return
        self._allowed = deadline(self._task.vector) + self.backend.allowance(self._task) if self._timeout is None else self._timeout
        self._expires = time.monotonic() + self._allowed
        self.link.ask(self._task.request)

    def step(self) -> list[Result]:
        """Take what came, ask the next task, and judge."""
        reply = self.link.receive()
        if reply is None:
            return self._expired() if time.monotonic() >= self._expires else []
        if not self.begun:
            return self._begin(reply)
        task, self._task = self._task, None
        assert task is not None  # or nothing would be due
        if isinstance(reply, Missing):
            return self.backend.unanswered(task, Verdict.CRASH, reply.how)
        if not isinstance(reply, Answer | Refusal):
            return self._crashed(task, self._how(reply))
        again, self._again = self._again, None
        self._before = task.vector.case.id
        if self.backend.spoils(task):
            self._replace()
        self.feed()
        if again is None:
            return self.backend.judged(task, reply)
        return self.backend.lost(
            task, Verdict.CRASH, f"{again.how}; answered in a new process: what came before it matters ({again.before})"
        )

    def drop(self) -> None:
        """Forget what is due, and go on with a new link."""
        self._task = self._again = None
        self.backend.tasks.clear()
        self._replace()

    def leave(self) -> None:
        """Let the link end, which is free."""
        self.ended = True
        self.link.stop()

    def kill(self) -> None:
        """End the link now."""
        self.ended = True
        self.link.kill()

    def _open(self) -> None:
        self.link = self.backend.source.open(self._wake)
        self.begun = False
        self._before = "nothing"  # the case that the link was asked last
        self._expires = time.monotonic() + STARTING

    def _replace(self) -> None:
        """Go on with a new link, if there is anything to ask it."""
        self.link.kill()
        if self._again is not None or self.backend.tasks or self.backend.waits:
            self._open()
        else:
            self.ended = True

    def _begin(self, reply: Reply) -> list[Result]:
        if isinstance(reply, Description):
            self.begun = True
            return self.backend.begin(reply)
        if isinstance(reply, Failure):
            if reply.misnamed:
                self.kill()
                raise Unusable(reply.reason)
            return self._not_begun(self._why(reply))
        return self._not_begun(f"could not be started: {self._how(reply)}; reinstall it, or run the other backends alone")

    def _not_begun(self, why: str) -> list[Result]:
        """Raises `BackendError` where the backend never began; else what it was to be asked is lost, unless another link goes on."""
        self.kill()
        if self.backend.description is None:
            raise BackendError(f"backend {self.backend.name!r} {why}")
        again, self._again = self._again, None
        return [] if again is None else self.backend.lost(again.task, Verdict.CRASH, f"{again.how}; a new process {why}")

    def _crashed(self, task: Task, how: str) -> list[Result]:
        again, self._again = self._again, None
        if again is not None:
            results = self.backend.lost(task, Verdict.CRASH, f"{again.how}; asked again alone in a new process: {how}")
        else:
            results, self._again = [], _Again(task, how, self._before)
        self._replace()
        return results

    def _expired(self) -> list[Result]:
        if not self.begun:
            return self._not_begun(
                f"did not start within {STARTING:.0f} seconds; try it alone: lossref run {shlex.quote(self.backend.name)}"
            )
        task, self._task = self._task, None
        assert task is not None  # or there would be nothing to wait for
        again, self._again = self._again, None
        late = f"no answer within {self._allowed:.3g} seconds"
        if again is None:
            results = self.backend.lost(task, Verdict.TIMEOUT, late)
        else:
            results = self.backend.lost(task, Verdict.CRASH, f"{again.how}; asked again alone in a new process: {late}")
        self._replace()
        return results

    def _how(self, reply: Reply) -> str:
        """How the link was lost."""
        if self.heavy is not None and self.heavy[0] is self.link:
            return self.heavy[1]
        return reply.how if isinstance(reply, Gone) else f"it sent a {type(reply).__name__} that was not due"

    def _why(self, failure: Failure) -> str:
        ours = self.backend.name in backends()
        if failure.missing is not None:
            remedy = f"install it: pip install 'lossref[{self.backend.name}]'" if ours else "install what has that module"
            return f"is not installed (no module {failure.missing!r}); {remedy}"
        if failure.remedy:
            return f"could not be started: {failure.reason}; {failure.remedy}"
        remedy = f"reinstall it: pip install --force-reinstall '{self.backend.name}'" if ours else "mend what its import runs"
        return f"could not be imported: {failure.reason}; {remedy}"
