"""A program in any language, which speaks lossref-protocol/1 on its standard input and output (`exec:COMMAND`).

Each request is sent twice, under two ids, to see whether the answer repeats. What is no message, or not the one that was due, ends the
program, as nothing that follows can be relied on.
"""

from __future__ import annotations

import shlex
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from conformance import vectors
from conformance.adapter import Description
from conformance.finding import Answer
from conformance.link import Failure, Gone, Link, Refusal, Reply, Request
from conformance.links.child import Child
from conformance.protocol import description, messages
from conformance.protocol.messages import Answered, Heard, Malformed

AT_ONCE = 1 << 16  # bytes that are read before their number is looked at
REMEDY = "run it by hand and type its first line, the hello of docs/protocol.md"


@dataclass(frozen=True)
class ProgramSource:
    """A command, as a shell would split it; a `strict` check of its messages knows no further fields. `jobs` run at the same time."""

    command: str
    strict: bool = False
    jobs: int = 1

    @property
    def name(self) -> str:
        """What a user calls it by."""
        return f"exec:{self.command}"

    def open(self, wake: Callable[[], None]) -> Link:
        """Start the program and say hello."""
        try:
            return ProgramLink(shlex.split(self.command), wake, strict=self.strict, jobs=self.jobs)
        except (OSError, ValueError) as error:  # of the start, or of quotes that don't end
            wake()
            return NotStarted(str(error))


@dataclass(frozen=True)
class NotStarted:
    """The link to a backend that isn't there."""

    why: str

    def ask(self, request: Request) -> None:
        """Nobody hears it."""

    def receive(self) -> Reply | None:
        """Why there is none."""
        return Failure(self.why, remedy="write the command as a shell would take it, with the path of a program that is there")

    def memory(self) -> int:
        """None."""
        return 0

    def stop(self) -> None:
        """There is nothing to end."""

    def kill(self) -> None:
        """There is nothing to end."""


class ProgramLink:
    """A program that runs. Raises `OSError` where it can't be started."""

    def __init__(self, command: list[str], wake: Callable[[], None], *, strict: bool, jobs: int) -> None:
        self._strict = strict
        self._described = False
        self._constants: tuple[str, ...] = ()
        self._lines = 0  # of its output
        self._longest = messages.SLACK
        self._id = 0
        self._request: Request | None = None
        self._folder = Path(tempfile.mkdtemp(prefix="lossref-"))
        self._inputs = self._folder / "inputs"
        try:
            self._child = Child(command, self._hear, wake, jobs)
        except BaseException:
            shutil.rmtree(self._folder)
            raise
        self._child.send(messages.line(messages.hello(vectors.digest(), str(self._folder))))

    def ask(self, request: Request) -> None:
        """Send a request for the first time."""
        self._longest = messages.longest(request)
        self._request, self._began = request, time.perf_counter()
        self._send(request)

    def receive(self) -> Reply | None:
        """What has come."""
        message = self._child.take()
        if isinstance(message, Gone) and not self._described:
            return Failure(f"{message.how}, before its reply to hello", remedy=REMEDY)
        assert message is None or isinstance(message, Reply)
        return message

    def memory(self) -> int:
        """The resident memory of the program and what it started."""
        return self._child.memory()

    def stop(self) -> None:
        """Say stop and let it leave."""
        self._child.send(messages.line(messages.STOP))
        self._child.leave()
        shutil.rmtree(self._folder, ignore_errors=True)

    def kill(self) -> None:
        """End it now."""
        self._child.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _send(self, request: Request) -> None:
        self._id += 1
        self._child.send(messages.line({"id": self._id, **messages.run(request, self._inputs, f"{self._inputs}/")}))

    # What follows runs in the thread that reads the program's output, so that the second request never waits for the judge.

    def _hear(self, stream: IO[bytes]) -> Reply:
        """The next reply: the description, then what the two answers to a request come to."""
        try:
            value = self._next(stream)
            return self._answered(value, stream) if self._described else self._describe(value)
        except Malformed as error:
            why = f"line {self._lines} of its output: {error}"
            return Gone(why) if self._described else Failure(why, remedy=REMEDY)

    def _describe(self, value: Mapping[str, Any]) -> Description:
        described = description.read(value, strict=self._strict)
        self._constants, self._described = described.constants, True
        return described

    def _answered(self, value: Mapping[str, Any], stream: IO[bytes]) -> Answer | Refusal:
        request = self._request
        if request is None:
            raise Malformed("it was sent when nothing was asked")
        first = self._read(value, request)
        seconds = time.perf_counter() - self._began
        second = first
        if isinstance(first, Answered):
            self._send(request)
            second = self._read(self._next(stream), request)
        self._request = None
        shutil.rmtree(self._inputs, ignore_errors=True)
        return messages.combined(first, second, seconds, self._constants)

    def _read(self, value: Mapping[str, Any], request: Request) -> Heard:
        return messages.reply(value, self._id, self._folder, messages.most(request), strict=self._strict)

    def _next(self, stream: IO[bytes]) -> dict[str, Any]:
        """The object in the next line. The call may have begun before the request was sent that the line answers."""
        line = b""
        self._lines += 1
        while not line.endswith(b"\n"):
            piece = stream.readline(AT_ONCE)
            if not piece and not line:
                raise EOFError
            line += piece
            if len(line) > self._longest:
                raise Malformed(f"{messages.shown(line)} goes on for more than {self._longest} bytes")
            if not piece:
                raise Malformed(f"{messages.shown(line)} is where the output ends, within a line")
        return messages.parsed(line)
