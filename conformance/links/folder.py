"""A folder in place of a program (`dir:FOLDER`): requests out, answers in, for a device that can't hold a process.

`requests.jsonl`, which `write` makes, holds what a program would be sent: hello, then every request twice, then stop; calls that are the
same are asked for once. The device, or whoever carries the files to it and back, writes `answers.jsonl`: the reply to hello in its first
line, then the answers in any order. A request that has no answer, or two, or one that is no answer, has the verdict of a crash.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

from conformance import vectors
from conformance.adapter import Description, Mode
from conformance.case import Vector
from conformance.complaint import Complaint
from conformance.link import Failure, Link, Missing, Refusal, Reply, Request
from conformance.protocol import description, messages
from conformance.protocol.messages import Heard, Malformed

REQUESTS, ANSWERS, INPUTS = "requests.jsonl", "answers.jsonl", "inputs"
MODE = Mode("eager")  # the one in which a folder is asked
ANEW = "write the requests anew with `lossref ask`, and have those answered"


class FolderError(Complaint):
    """A folder that can't be asked or judged: why, and what to do."""

    def __init__(self, why: str, remedy: str) -> None:
        super().__init__(f"{why}; {remedy}")
        self.why, self.remedy = why, remedy


def write(folder: Path, chosen: Iterable[Vector]) -> int:
    """Write the requests of these vectors to a folder that exists, and return their number.

    Raises `FolderError` for a folder that holds requests or answers already.
    """
    for name in (REQUESTS, ANSWERS):
        if (folder / name).exists():
            raise FolderError(f"{folder / name} is there already", "name another folder, or delete it")
    digest, count = hashlib.sha256(), -1  # without stop
    body = folder / f"{REQUESTS}.part"
    with body.open("wb") as file:
        for line in _lines(chosen, folder):
            digest.update(line)
            file.write(line)
            count += 1
    with (folder / REQUESTS).open("wb") as file, body.open("rb") as rest:  # the digest of what follows is in the first line
        file.write(messages.line(messages.hello(vectors.digest(), ".", requests=digest.hexdigest())))
        file.writelines(rest)
    body.unlink()
    return count


def _lines(chosen: Iterable[Vector], folder: Path) -> Iterator[bytes]:
    asked: set[bytes] = set()
    for vector in chosen:
        case = vector.case
        request = Request(case.operation, MODE.name, case.inputs, case.parameters, case.cotangent, case.layouts)
        message = messages.run(request, folder / INPUTS, f"{INPUTS}/")
        key = _key(message)
        if key not in asked:
            asked.add(key)
            for id in (2 * len(asked) - 1, 2 * len(asked)):
                yield messages.line({"id": id, **message})
    yield messages.line(messages.STOP)


def _key(message: Mapping[str, Any]) -> bytes:
    """By which a request without its id is found again: the digest of its canonical form."""
    return hashlib.sha256(json.dumps(message, sort_keys=True).encode()).digest()


@dataclass(frozen=True)
class FolderSource:
    """A folder that holds requests and answers; a `strict` check of the answers knows no further fields."""

    folder: Path
    strict: bool = False

    @property
    def name(self) -> str:
        """What a user calls it by."""
        return f"dir:{self.folder}"

    def open(self, wake: Callable[[], None]) -> Link:
        """A link to what the folder holds, which is read when it is first needed and then kept."""
        return FolderLink(self, wake)

    @cached_property
    def contents(self) -> Contents:
        """What the folder holds; raises `FolderError` where it can't be judged."""
        return Contents(self.folder, strict=self.strict)


class FolderLink:
    """A folder as the link to a backend: each request is answered at once."""

    def __init__(self, source: FolderSource, wake: Callable[[], None]) -> None:
        self._source, self._wake = source, wake
        self._described = False
        self._request: Request | None = None
        wake()

    def ask(self, request: Request) -> None:
        """Note the request."""
        self._request = request
        self._wake()

    def receive(self) -> Reply | None:
        """The description, then the answer to the last request."""
        if not self._described:
            self._described = True
            try:
                return self._source.contents.description
            except FolderError as error:
                return Failure(error.why, remedy=error.remedy)
        if self._request is None:
            return None
        request, self._request = self._request, None
        try:
            return self._source.contents.answer(request)
        except Malformed as error:
            return Missing(str(error))

    def memory(self) -> int:
        """A folder has no process."""
        return 0

    def stop(self) -> None:
        """There is nothing to end."""

    def kill(self) -> None:
        """There is nothing to end."""


class Contents:
    """What a folder holds: the ids of its requests, where their answers stand, and `description`.

    Raises `FolderError` where files are missing, aren't as they were written, or ask other vectors than those installed.
    """

    def __init__(self, folder: Path, *, strict: bool) -> None:
        self._folder, self._strict = folder, strict
        self._ids: dict[bytes, list[int]] = defaultdict(list)
        self._places: dict[int, list[tuple[int, int]]] = defaultdict(list)  # an answer's line, and the byte where it begins
        self._strange = ""  # the first line that answers no request
        for name in (REQUESTS, ANSWERS):
            if not (folder / name).is_file():
                raise FolderError(f"{folder / name} isn't there", f"write the requests with `lossref ask {folder}`, and have them answered")
        with (folder / REQUESTS).open("rb") as file:
            self._read_requests(file)
        with (folder / ANSWERS).open("rb") as file:
            self.description = self._read_answers(file)

    def answer(self, request: Request) -> Reply:
        """What was answered to a request; raises `Malformed` where nothing was, or no answer."""
        ids = self._ids.get(_key(messages.run(request, None, f"{INPUTS}/")))
        if ids is None:
            return Refusal(f"{REQUESTS} doesn't ask it")
        first, second = (self._reply(id, request) for id in ids)
        return messages.combined(first, second, math.nan, self.description.constants)

    def _reply(self, id: int, request: Request) -> Heard:
        places = self._places.get(id, [])
        if not places:
            raise Malformed(f"{ANSWERS} has no answer to request {id}{self._strange}")
        if len(places) > 1:
            raise Malformed(f"{ANSWERS} answers request {id} more than once: in lines {' and '.join(str(number) for number, _ in places)}")
        number, begin = places[0]
        with (self._folder / ANSWERS).open("rb") as file:
            file.seek(begin)
            line = file.readline(messages.longest(request))
        try:
            return messages.reply(messages.parsed(line), id, self._folder, messages.most(request), strict=self._strict)
        except Malformed as error:
            raise Malformed(f"line {number} of {ANSWERS}: {error}") from error

    def _read_requests(self, file: BinaryIO) -> None:
        path, digest = self._folder / REQUESTS, hashlib.sha256()
        try:
            hello = messages.parsed(file.readline())
            messages.checked("hello", hello, strict=True)
        except Malformed as error:
            raise FolderError(f"line 1 of {path}: {error}", ANEW) from error
        lines = file.readlines()
        for line in lines:
            digest.update(line)
        if digest.hexdigest() != hello.get("requests"):
            raise FolderError(f"{path} isn't as it was written: its digest isn't the one in its first line", ANEW)
        if hello["vectors"] != vectors.digest():
            raise FolderError(f"{path} asks the vectors with the digest {hello['vectors']}, and here are {vectors.digest()}", ANEW)
        for message in map(messages.parsed, lines[:-1]):
            id = message.pop("id")
            self._ids[_key(message)].append(id)

    def _read_answers(self, file: BinaryIO) -> Description:
        try:
            line = file.readline()
            described = description.read(messages.parsed(line), strict=self._strict)
            if described.modes != (MODE,):
                raise Malformed("field modes: a folder is asked in one mode; leave the field out")
        except Malformed as error:
            raise FolderError(f"line 1 of {self._folder / ANSWERS}: {error}", "write the reply to hello there") from error
        begin = len(line)
        for number, line in enumerate(file, 2):
            try:
                id = messages.parsed(line).get("id")
                if type(id) is not int or not 1 <= id <= 2 * len(self._ids):
                    raise Malformed(f"field id: {id!r:.40} is that of no request")
                self._places[id].append((number, begin))
            except Malformed as error:
                self._strange = self._strange or f" (line {number}: {error})"
            begin += len(line)
        return described
