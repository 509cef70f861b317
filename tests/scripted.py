"""A backend without a process, whose links do what a script says of each case: for what the runner makes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from conformance.adapter import Description
from conformance.bound import Promise
from conformance.case import Case, Vector
from conformance.dialects import resolved
from conformance.expect import expect
from conformance.finding import Answer
from conformance.link import Gone, Link, Reply, Request

ANSWERED = ("log_softmax", "entropy_with_logits")
DESCRIPTION = Description("scripted", ANSWERED, {"float64": Promise("A", compute="float64")}, {}, resolved({}, ""))
DIES, HANGS = Gone("it died"), None


def vector(number: int, operation: str = "log_softmax") -> Vector:
    """A case that its first logit numbers."""
    logits = np.array([[float(number), 1.0, 0.5]])
    return expect(Case(f"{operation}/edges/case-{number}-float64", operation, "float64", {"logits": logits}, {}, None, ("LSM-1",)))


@dataclass
class Script:
    """A source. `replies` has what becomes of a case, by its number, at each time that it is asked, the last for ever; else it is answered.

    `starts` are the first replies of its links in turn, the last for ever. It notes what each link was `asked`, and how it ended.
    """

    replies: Mapping[int, list[Reply | None]] = field(default_factory=dict)
    starts: list[Reply | None] = field(default_factory=lambda: [DESCRIPTION])
    name: str = "scripted"
    asked: list[list[int]] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    times: dict[int, int] = field(default_factory=dict)

    def open(self, wake: Callable[[], None]) -> Link:
        self.asked.append([])
        self.ended.append("")
        wake()
        return ScriptedLink(self, len(self.asked) - 1, wake)


@dataclass(eq=False)
class ScriptedLink:
    """A link of a script's."""

    script: Script
    index: int
    wake: Callable[[], None]
    begun: bool = False
    next: Reply | None = None

    def ask(self, request: Request) -> None:
        self.next = self._reply(request)
        self.wake()

    def receive(self) -> Reply | None:
        if not self.begun:
            self.begun = True
            return self.script.starts[min(self.index, len(self.script.starts) - 1)]
        found, self.next = self.next, None
        return found

    def memory(self) -> int:
        return 0

    def stop(self) -> None:
        self.script.ended[self.index] = "stopped"

    def kill(self) -> None:
        self.script.ended[self.index] = self.script.ended[self.index] or "killed"

    def _reply(self, request: Request) -> Reply | None:
        if request.operation not in ANSWERED:
            return Answer(None, {}, "an error, as it should be", (), False, 0.0)
        logits = request.inputs["logits"]
        number = int(logits.flat[0])
        self.script.asked[self.index].append(number)
        turn = self.script.times[number] = self.script.times.get(number, -1) + 1
        if replies := self.script.replies.get(number):
            return replies[min(turn, len(replies) - 1)]
        log_p = logits - logits.max() - np.log(np.exp(logits - logits.max()).sum())
        output = log_p if request.operation == "log_softmax" else -(np.exp(log_p) * log_p).sum(-1)
        return Answer(output, {}, None, (), False, 0.0)
