"""What the runner needs of a backend that runs somewhere: ask it, wait for it, hear it, end it.

A source knows how to start a backend; a link is one that was started. Each way in (a worker process, a program, a folder of answers, this
very process) is a pair of them. The first reply of a link is a `Description`, or a `Failure`; then comes one reply for each request.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from conformance.adapter import Array, Arrays, Description
from conformance.finding import Answer


@dataclass(frozen=True, eq=False)
class Request:
    """One call of an operation in one of the adapter's modes; `layouts` says how inputs, or the cotangent, lie in memory."""

    operation: str
    mode: str
    inputs: Arrays
    parameters: Mapping[str, Any]
    cotangent: Array | None
    layouts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Refusal:
    """The backend lacks the operation or that value of a parameter; `reason` says which."""

    reason: str


@dataclass(frozen=True)
class Failure:
    """The backend couldn't be started; `missing` names the module where that is why, `remedy` says what else to do.

    `misnamed` says that what was named is no backend.
    """

    reason: str
    missing: str | None = None
    remedy: str = ""
    misnamed: bool = False


class CannotStart(Exception):
    """Raised by what makes an adapter, where the reason is known: the reason, and the remedy."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(f"{reason}; {remedy}")
        self.failure = Failure(reason, remedy=remedy)


@dataclass(frozen=True)
class Gone:
    """The backend has ended, or sent something that is no reply; `how` says it in words, with the last that it wrote."""

    how: str


@dataclass(frozen=True)
class Missing:
    """There is no answer to the request, and there will be none, but the backend goes on; `how` says it in words."""

    how: str


Reply = Description | Failure | Answer | Refusal | Gone | Missing


class Link(Protocol):
    """A backend that was started."""

    def ask(self, request: Request) -> None:
        """Send a request; waits for nobody. That nobody is there any more shows in `receive`."""

    def receive(self) -> Reply | None:
        """What has come; None while no whole reply has."""

    def memory(self) -> int:
        """The resident memory in bytes of all its processes; 0 where it has none of its own. May be asked from any thread."""

    def stop(self) -> None:
        """Ask it to leave, and end it if it doesn't."""

    def kill(self) -> None:
        """End all its processes now; may be called again, and from any thread."""


class Source(Protocol):
    """A backend that can be started, any number of times and side by side."""

    @property
    def name(self) -> str:
        """Its name in reports."""

    def open(self, wake: Callable[[], None]) -> Link:
        """Start it. It calls `wake`, from any thread, whenever `receive` has something to give."""
