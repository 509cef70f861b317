"""The text of an index: one vector a line, under a line with the parameters that its set shares; and the records of a proof."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from conformance.case import VectorError
from conformance.storage.text import REMEDY, line

_SET = '{"parameters":'
_OPEN = ',"vectors":['


def page(head: Mapping[str, Any], sets: Iterable[tuple[str, Sequence[str]]]) -> bytes:
    """The file with this head, and these sets of parameters and vectors, both as canonical JSON."""
    bodies = [_SET + parameters + _OPEN + "\n" + ",\n".join(vectors) + "\n]}" for parameters, vectors in sets]
    return (line(head)[:-1] + ',"sets":[\n' + ",\n".join(bodies) + "\n]}\n").encode()


def records(name: str, index: bytes) -> list[bytes]:
    """What each vector's leaf of the Merkle tree holds: its set's parameters, a line feed, and the vector, as they stand in the file.

    Raises `VectorError` for a file whose lines aren't an index's.
    """
    found, parameters = [], b""
    lines = index.split(b"\n")
    if len(lines) < 4 or lines[-2:] != [b"]}", b""]:
        raise VectorError(f"{name}: its lines aren't those of an index; {REMEDY}")
    for one in lines[1:-2]:
        if one.startswith(_SET.encode()) and one.endswith(_OPEN.encode()):
            parameters = one[len(_SET) : -len(_OPEN)]
        elif one.startswith(b'{"') and parameters:
            found.append(parameters + b"\n" + one.removesuffix(b","))
        elif one not in (b"]}", b"]},"):
            raise VectorError(f"{name}: its lines aren't those of an index; {REMEDY}")
    return found
