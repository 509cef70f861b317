"""The journal of a campaign: JSON lines that are only ever appended, from which a campaign that was cut short goes on.

    {"format": "lossref-campaign/1", "campaign": {...}, "versions": {...}, "block": 65536, "shard": 4194304}
    {"start": 0, "stop": 4194304, "cpu": 2.1, "tally": {...}}           a shard that is finished
    {"start": 4194304, "stop": 8388608, "lost": "ended by SIGSEGV"}     one without an answer; it is asked again when the campaign goes on

The header says what is asked, and by which versions of lossref, of the spec and of the backend's libraries. A journal of another campaign
or of other versions is refused, since their tallies don't add up to one. `shard` is the number of points of a shard, a multiple of the
`block` of which digests are made.

A line is written with one call as soon as its shard is finished, so that nothing is lost where this process ends, however that happens.
Every `INTERVAL` seconds the disk is made to hold what was written, so a machine that fails loses the shards of so many seconds. A last
line that is only half written is dropped. One process writes at a time: the file is locked, until that process ends.

A shard that stands there twice counts once. Where the two tallies differ, the backend doesn't give the same answers again, and that is an
error: no tally of such a backend means anything.
"""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple

from conformance.campaign.tally import Tally, merged
from conformance.complaint import Complaint

FORMAT = "lossref-campaign/1"
INTERVAL = 1.0  # seconds between two waits for the disk: each takes some 50 ms where that is busy


class JournalError(Complaint):
    """A journal that can't be made, read or gone on with; the message names it, what is wrong, and the remedy."""


class Shard(NamedTuple):
    """The points of a campaign from `start` to before `stop`."""

    start: int
    stop: int


@dataclass(frozen=True)
class Header:
    """What a journal is of. `block` and `shard` are counts of points."""

    campaign: Mapping[str, Any]
    versions: Mapping[str, str]
    block: int
    shard: int


class Journal:
    """What is finished of a campaign, in a file that is made where there is none; without a path, in one that is gone afterwards.

    `tally` is that of all that is finished, `lost` are the shards without an answer, each with how that came, `cpu` the processors' time
    in seconds that what is finished took. Use it as a context manager. Raises `JournalError`.
    """

    def __init__(self, path: Path | None, header: Header) -> None:
        self.tally = Tally()
        self.lost: dict[Shard, str] = {}
        self.cpu = 0.0
        self._name = "the journal" if path is None else str(path)
        self._header = header
        self._lines: dict[int, tuple[int, int]] = {}  # the start of a shard that is finished: place and length of its line, in bytes
        self._due = 0.0
        self._file = self._opened(path)
        try:
            self._read()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._file:
            os.fsync(self._file.fileno())

    def has(self, shard: Shard) -> bool:
        """Whether that shard is finished."""
        return shard.start in self._lines

    def within(self, start: int, stop: int) -> int:
        """How many shards are finished of those that begin from `start` to before `stop`."""
        return sum(start <= begin < stop for begin in self._lines)

    def finish(self, shard: Shard, tally: Tally, cpu: float) -> None:
        """Note what came of a shard."""
        entry = {**shard._asdict(), "cpu": round(cpu, 6), "tally": tally.to_json()}
        if not self.has(shard):
            place = self._file.seek(0, os.SEEK_END)
            self._count(entry, place, self._append(entry))
        else:
            self._refuse_another(shard, tally)

    def lose(self, shard: Shard, how: str) -> None:
        """Note that a shard has no answer."""
        self.lost[shard] = how
        self._append({**shard._asdict(), "lost": how})

    def _opened(self, path: Path | None) -> IO[bytes]:
        if path is None:
            return tempfile.TemporaryFile(buffering=0)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("ab+", buffering=0)
        except OSError as error:
            raise JournalError(f"{path} can't be written ({error.strerror}); name a file in a folder that you may write to") from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.close()
            if isinstance(error, BlockingIOError):
                raise JournalError(f"{path} is being written by another process; wait for it to end, or name another file") from error
            raise JournalError(f"{path} can't be locked ({error.strerror}); name a file on a local disk") from error
        return file

    def _read(self) -> None:
        """Take in what is there; begin the file where there is nothing."""
        end = 0
        self._file.seek(0)
        with os.fdopen(os.dup(self._file.fileno()), "rb") as lines:
            for number, line in enumerate(lines, 1):
                if not line.endswith(b"\n"):
                    break
                entry = self._parsed(number, line)
                if number == 1:
                    self._compare(entry)
                else:
                    self._take(number, entry, end, len(line))
                end += len(line)
        self._file.truncate(end)
        if end == 0:
            self._append({"format": FORMAT, **asdict(self._header)})

    def _parsed(self, number: int, line: bytes) -> dict[str, Any]:
        try:
            entry = json.loads(line)
        except ValueError as error:
            raise self._wrong(number, f"no JSON ({error})") from error
        if not isinstance(entry, dict):
            raise self._wrong(number, "no object")
        return entry

    def _compare(self, found: Mapping[str, Any]) -> None:
        """Raise where the file is of another campaign or of other versions."""
        if found.get("format") != FORMAT:
            raise JournalError(f"{self._name} is no journal of a campaign in the format {FORMAT}; name another file")
        ours = json.loads(json.dumps(asdict(self._header)))
        for name, value in ours.items():
            if value == found.get(name):
                continue
            field, here, there = _difference(name, value, found.get(name))
            remedy = "install what it was begun with" if name == "versions" else "ask for what it was begun with"
            raise JournalError(f"{self._name}: its {field} is {_shown(there)}, here it is {_shown(here)}; {remedy}, or name another file")

    def _take(self, number: int, entry: Mapping[str, Any], place: int, length: int) -> None:
        try:
            if "lost" in entry:
                self.lost[self._shard(entry)] = str(entry["lost"])
            else:
                self._count(entry, place, length)
        except (KeyError, TypeError, ValueError) as error:
            raise self._wrong(number, f"no shard of this campaign ({error})") from error

    def _shard(self, entry: Mapping[str, Any]) -> Shard:
        shard = Shard(entry["start"], entry["stop"])
        if shard.start % self._header.shard or not 0 < shard.stop - shard.start <= self._header.shard:
            raise ValueError(f"from {shard.start} to {shard.stop}")
        return shard

    def _count(self, entry: Mapping[str, Any], place: int, length: int) -> None:
        """Add a shard that is finished, whose line has that place and length in the file."""
        shard = self._shard(entry)
        tally = Tally.from_json(entry["tally"])
        if self.has(shard):
            self._refuse_another(shard, tally)
            return
        self._lines[shard.start] = place, length
        self.tally = merged(self.tally, tally)
        self.cpu += float(entry["cpu"])
        self.lost.pop(shard, None)

    def _refuse_another(self, shard: Shard, tally: Tally) -> None:
        """Raise where the shard that is there has another tally."""
        place, length = self._lines[shard.start]
        if tally != Tally.from_json(json.loads(os.pread(self._file.fileno(), length, place))["tally"]):
            raise JournalError(
                f"{self._name}: the points from {shard.start} to {shard.stop} came twice, with different tallies: the backend doesn't"
                " answer the same way again, so that no tally of it holds; find out why, and begin with a new file"
            )

    def _append(self, entry: Mapping[str, Any]) -> int:
        """Write a line; its length in bytes."""
        line = json.dumps(entry, separators=(",", ":"), allow_nan=False).encode() + b"\n"
        try:
            if self._file.write(line) < len(line):
                raise OSError(0, "it took only a part of a line")
            if time.monotonic() >= self._due:
                os.fsync(self._file.fileno())
                self._due = time.monotonic() + INTERVAL
        except OSError as error:
            raise JournalError(f"{self._name} can't be written ({error.strerror}); make room for it, and give the command again") from error
        return len(line)

    def _wrong(self, number: int, what: str) -> JournalError:
        return JournalError(f"{self._name}: line {number} is {what}; take it out, and its points are asked again")


def _difference(name: str, here: Any, there: Any) -> tuple[str, Any, Any]:
    """The innermost field that differs, as a path, with its two values."""
    if isinstance(here, dict) and isinstance(there, dict):
        for key in sorted({*here, *there}):
            if here.get(key) != there.get(key):
                return _difference(f"{name}.{key}", here.get(key), there.get(key))
    return name, here, there


def _shown(value: Any) -> str:
    return "not there" if value is None else json.dumps(value)
