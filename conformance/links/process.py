"""A Python adapter in a worker process of its own: requests and replies are pickled, and each reply names its request."""

from __future__ import annotations

import importlib
import io
import pickle
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import IO

from conformance.adapter import Adapter, Unusable
from conformance.link import CannotStart, Gone, Link, Reply, Request
from conformance.links.child import Child

# The worker finds modules where this process finds them.
PROGRAM = "import sys; sys.path[:] = {path!r}; from conformance.worker import main; main()"


@dataclass(frozen=True)
class WorkerSource:
    """An adapter by the function that makes it in the worker process: importable by its name, with what is given to it.

    Each worker takes its share of the processors, where `jobs` run at the same time.
    """

    name: str
    load: Callable[[], Adapter]
    jobs: int = 1

    def open(self, wake: Callable[[], None]) -> Link:
        """Start a worker."""
        return ProcessLink(self.load, wake, self.jobs)


def module_source(name: str, place: str, device: str | None = None, jobs: int = 1) -> WorkerSource:
    """The adapter at a place, as in `load`, as a backend, for one of its library's devices."""
    return WorkerSource(name, partial(load, place, device), jobs)


def load(place: str, device: str | None) -> Adapter:
    """The adapter at `module:name`, or the `ADAPTER` of a module, for that device.

    Raises `Unusable` where there is none, and `CannotStart` where the library doesn't have the device.
    """
    module, _, name = place.partition(":")
    adapter = getattr(importlib.import_module(module), name or "ADAPTER", None)
    if not isinstance(adapter, Adapter):
        raise Unusable(f"{module} has no {name or 'ADAPTER'} that is a conformance.adapter.Adapter; declare one there")
    if device is None or device == adapter.device:
        return adapter
    if adapter.on is None:
        raise CannotStart(f"it has no device {device!r}", f"leave out --device: it runs on {adapter.device}")
    try:
        return adapter.on(device)
    except ValueError as error:
        raise CannotStart(str(error), "name another with --device, or leave it out") from error


class ProcessLink:
    """A worker process."""

    def __init__(self, load: Callable[[], Adapter], wake: Callable[[], None], jobs: int = 1) -> None:
        program = PROGRAM.format(path=sys.path)
        self._child = Child([sys.executable, "-c", program], _message, wake, jobs)
        self._asked = 0
        self._child.send(pickle.dumps(load))

    def ask(self, request: Request) -> None:
        """Send a request."""
        self._asked += 1
        message = io.BytesIO()
        pickle.dump((self._asked, request), message, protocol=5)
        self._child.send(message.getvalue())

    def receive(self) -> Reply | None:
        """What has come."""
        message = self._child.take()
        if message is None or isinstance(message, Gone):
            return message
        match message:
            case (int(number), reply) if number == self._asked and isinstance(reply, Reply):
                return reply
            case (int(number), _):
                return Gone(f"it answered request {number} when {self._asked} was asked")
        return Gone(f"it sent a {type(message).__name__}, which is no answer")

    def memory(self) -> int:
        """The resident memory of the worker and what it started."""
        return self._child.memory()

    def stop(self) -> None:
        """Let it leave."""
        self._child.leave()

    def kill(self) -> None:
        """End it now."""
        self._child.kill()


def _message(stream: IO[bytes]) -> object:
    return pickle.load(stream)
