"""What the commands share: exit status, usage errors, the choice of vectors, files that can be written."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from conformance.complaint import Complaint

if TYPE_CHECKING:
    from conformance.vectors import Vector

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


class UsageError(Complaint):
    """The arguments can't be what was meant; the message says why and what to write."""


def say(text: str) -> None:
    """A line on the standard output."""
    sys.stdout.write(text + "\n")


def count(text: str) -> int:
    """An argument that is a whole number from 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no count; write a whole number from 1")
    return int(text)


def seconds(text: str) -> float:
    """An argument that is a time."""
    return _positive(text, "time", "seconds")


def minutes(text: str) -> float:
    """An argument that is a time, in seconds."""
    return 60 * _positive(text, "time", "minutes")


def gibibytes(text: str) -> float:
    """An argument that is a size of memory, in bytes."""
    return 2**30 * _positive(text, "size", "GiB")


def _positive(text: str, what: str, unit: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no {what}; write a positive number of {unit}")
    return value


def shard(text: str) -> tuple[int, int]:
    """An argument like 2/3: the second of three parts."""
    index, slash, parts = text.partition("/")
    if not (slash and index.isdecimal() and parts.isdecimal() and 1 <= int(index) <= int(parts)):
        raise argparse.ArgumentTypeError(f"{text!r} is no shard; write I/N, from 1/N to N/N")
    return int(index), int(parts)


def select(operation: str | None, dtype: str | None, globs: Sequence[str] | None, tier: str) -> tuple[list[Vector], set[str]]:
    """The installed vectors that the filters leave, of a tier and those below it; and the ids of all of the operation.

    Raises where a filter names nothing.
    """
    from fnmatch import fnmatchcase

    from conformance import vectors
    from conformance.case import TIERS
    from refimpl.operations import operation as find

    if dtype is not None:
        known_dtype(dtype)
    if tier not in TIERS:
        raise UsageError(f"no tier is named {tier!r}; the tiers are {', '.join(TIERS)}")
    found = vectors.read(operation=None if operation is None else find(operation).name)
    for glob in globs or ():
        if not any(fnmatchcase(vector.case.id, glob) for vector in found):
            raise UsageError(f"no case is named {glob!r}{similar(glob, found)}; see `lossref vectors list`")
    chosen = [
        vector
        for vector in found
        if dtype in (None, vector.case.dtype)
        and TIERS.index(vector.case.tier) <= TIERS.index(tier)
        and (not globs or any(fnmatchcase(vector.case.id, glob) for glob in globs))
    ]
    if not chosen:
        raise UsageError("no case is left by these filters together; leave one of them out")
    return chosen, {vector.case.id for vector in found}


def known_dtype(name: str) -> str:
    """The name of a dtype; raises where it is none."""
    from refimpl.enclosure import FORMATS

    if name not in FORMATS:
        raise UsageError(f"no dtype is named {name!r}; the dtypes are {', '.join(FORMATS)}")
    return name


def similar(name: str, vectors: Sequence[Vector]) -> str:
    """The id that was perhaps meant, as the end of a sentence."""
    from difflib import get_close_matches

    close = get_close_matches(name, [vector.case.id for vector in vectors], n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def writable(path: Path) -> None:
    """See whether the file can be written, before minutes are spent on what goes there; it keeps what it holds."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.open("ab").close()
    except OSError as error:
        raise UsageError(f"{path} can't be written ({error.strerror}); name a file in a folder that you may write to") from error


def writable_folder(folder: Path) -> None:
    """Make the folder, and see whether it can be written to, before minutes are spent on what goes there."""
    import tempfile

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UsageError(f"{folder} can't be written ({error.strerror}); name another folder with --out") from error
