"""One backend of a run: what it still has to be asked, and the verdicts on what it answered, or didn't."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from conformance.adapter import Description
from conformance.case import TIERS, Vector
from conformance.dialects import Dialect
from conformance.finding import Answer, Finding, Verdict
from conformance.judge import UNDEFINED, defined, judge, promised, unanswered
from conformance.link import Refusal, Request, Source

MOST = 10  # losses in a row of one operation in one mode, after which the rest of it isn't asked

Key = tuple[str, str, str, str, str]  # a backend, a mode, the id of a case, a direction and a tensor


@dataclass(frozen=True)
class Result:
    """A finding of the judge with what the runner knows: who answered, in which mode, and how long one call took.

    `number` is the place of the call among the backend's calls, in the order of modes and vectors, whoever answered first. `answer` is
    what the finding was made from, where the backend waits for its questions; of thousands of answers nobody would have the memory.
    """

    backend: str
    mode: str
    accuracy: str
    composed: bool
    seconds: float
    finding: Finding
    number: int = 0
    answer: Answer | None = field(default=None, repr=False, compare=False)

    @property
    def key(self) -> Key:
        """What it is of, whichever run asked it."""
        finding = self.finding
        return self.backend, self.mode, finding.case, finding.direction, finding.output


@dataclass(frozen=True)
class Task:
    """One call that a backend is to make."""

    number: int
    vector: Vector
    mode: str

    @property
    def request(self) -> Request:
        """What is sent."""
        case = self.vector.case
        return Request(case.operation, self.mode, case.inputs, case.parameters, case.cotangent, case.layouts)


class Backend:
    """A source with its tasks and, once the first of its links has begun, its description.

    `vectors` are given before it begins. `dialect` takes the place of the one that the backend declares. A task's results are returned
    once; the order in which tasks are taken is that of modes and vectors; modes that are too costly for `tier` aren't asked. Of an
    operation that is lost `MOST` times in a row in one mode, the rest isn't asked. `explain` has findings say which choices explain an
    answer. One that `waits` has no task but those that are queued for it.
    """

    def __init__(
        self,
        source: Source,
        dialect: Dialect | None = None,
        tier: str = TIERS[-1],
        explain: bool = False,
        waits: bool = False,
    ) -> None:
        self.source = source
        self.name = source.name
        self.description: Description | None = None
        self.tasks: deque[Task] = deque()
        self.waits = waits
        self.vectors: Sequence[Vector] = ()
        self._dialect = dialect
        self._tier = tier
        self._explain = explain
        self._losses: Counter[tuple[str, str]] = Counter()
        self._given_up: dict[tuple[str, str], tuple[Verdict, str]] = {}  # (mode, operation): what the rest of it is said to be, and why

    def begin(self, description: Description) -> list[Result]:
        """Note what it says of itself; the results of what it says that it lacks. What a later link says is of no interest."""
        if self.description is not None:
            return []
        self.description = description if self._dialect is None else replace(description, dialect=self._dialect)
        return [] if self.waits else [result for task in self.calls() for result in self.queue(task)]

    def calls(self) -> Iterator[Task]:
        """All that it can be asked of its vectors."""
        calls = ((mode, vector) for mode in self.described.modes for vector in self.vectors if mode.asks(vector.case.id, self._tier))
        return (Task(number, vector, mode.name) for number, (mode, vector) in enumerate(calls))

    def queue(self, task: Task) -> list[Result]:
        """Note that a task is to be asked; the results of one that isn't, as the backend says that it lacks it, or was lost too often."""
        case = task.vector.case
        if case.operation not in self.described.operations:
            return self.unanswered(task, Verdict.UNSUPPORTED, f"{self.name} has no {case.operation}")
        if self.described.promise(case.operation, case.dtype, task.mode) is None:
            return self.unanswered(task, Verdict.UNSUPPORTED, f"{self.name} documents no {case.dtype}")
        if not defined(task.vector, self._choices(task)):
            return self.unanswered(task, Verdict.UNSUPPORTED, UNDEFINED)
        if (task.mode, case.operation) in self._given_up:
            return self.unanswered(task, *self._given_up[task.mode, case.operation])
        self.tasks.append(task)
        return []

    def judged(self, task: Task, reply: Answer | Refusal) -> list[Result]:
        """The results of what it answered."""
        case = task.vector.case
        self._losses[task.mode, case.operation] = 0
        if isinstance(reply, Refusal):
            return self.unanswered(task, Verdict.UNSUPPORTED, reply.reason)
        promise = self.described.promise(case.operation, case.dtype, task.mode)
        assert promise is not None  # or it would not have been asked
        findings = judge(task.vector, reply, promise, self._choices(task), self._explain)
        kept = reply if self.waits else None
        return [replace(self._result(task, finding, reply.seconds), answer=kept) for finding in findings]

    def unanswered(self, task: Task, verdict: Verdict, why: str) -> list[Result]:
        """The results of a task that has no answer."""
        return [self._result(task, finding, math.nan) for finding in unanswered(task.vector, verdict, why, self._choices(task))]

    def lost(self, task: Task, verdict: Verdict, why: str) -> list[Result]:
        """The results of a task at which a link was lost, and of those that aren't asked because of it."""
        key = task.mode, task.vector.case.operation
        self._losses[key] += 1
        results = self.unanswered(task, verdict, why)
        if self._losses[key] >= MOST:
            self._given_up[key] = verdict, f"not asked: the {MOST} cases before it had no answer; the last: {why}"
            left, self.tasks = self.tasks, deque()
            results += [result for other in left for result in self.queue(other)]
        return results

    def abandoned(self, why: str) -> list[Result]:
        """The results of all that is left, where no link can be opened any more."""
        left, self.tasks = self.tasks, deque()
        return [result for task in left for result in self.unanswered(task, Verdict.CRASH, f"not asked: {why}")]

    def spoils(self, task: Task) -> bool:
        """Whether a call may spoil those after it."""
        if not self.described.fragile:
            return False
        expectation = promised(task.vector, self._choices(task))
        return expectation is not None and expectation.kind == "error"

    def allowance(self, task: Task) -> float:
        """The seconds that the task's mode takes beyond a case's deadline."""
        return next(mode.allowance for mode in self.described.modes if mode.name == task.mode)

    @property
    def described(self) -> Description:
        """The description, where there is one."""
        assert self.description is not None
        return self.description

    def _choices(self, task: Task) -> dict[str, str]:
        return self.described.choices(task.vector.case.operation, task.mode)

    def _result(self, task: Task, finding: Finding, seconds: float) -> Result:
        case, described = task.vector.case, self.described
        promise = described.promise(case.operation, case.dtype, task.mode)
        accuracy = "" if promise is None else promise.accuracy
        return Result(self.name, task.mode, accuracy, case.operation in described.composed, seconds, finding, task.number)
