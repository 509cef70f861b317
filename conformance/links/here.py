"""An adapter in this very process, for debuggers and for functions that exist only here: no deadline, no ceiling, nothing is survived."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

from conformance.adapter import Adapter
from conformance.link import Failure, Link, Reply, Request
from conformance.worker import reply, start


@dataclass(frozen=True)
class HereSource:
    """An adapter by the function that makes it, as for a worker process."""

    name: str
    load: Callable[[], Adapter]

    def open(self, wake: Callable[[], None]) -> Link:
        """Make the adapter."""
        return HereLink(self.load, wake)


class HereLink:
    """An adapter that answers while it is asked."""

    def __init__(self, load: Callable[[], Adapter], wake: Callable[[], None]) -> None:
        self._wake = wake
        self._reply: Reply | None
        started = start(load)
        if isinstance(started, Failure):
            self._reply = started
        else:
            self._adapter, self._reply = started
        wake()

    def ask(self, request: Request) -> None:
        """Answer it."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._reply = reply(self._adapter, request)
        self._wake()

    def receive(self) -> Reply | None:
        """The description, then each answer once."""
        found, self._reply = self._reply, None
        return found

    def memory(self) -> int:
        """None of its own."""
        return 0

    def stop(self) -> None:
        """There is nothing to end."""

    def kill(self) -> None:
        """There is nothing to end."""
