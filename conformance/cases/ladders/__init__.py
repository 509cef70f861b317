"""Ladders: every step of a size, an exponent, a mask or a position, rather than one example of each."""

from __future__ import annotations

from collections.abc import Iterator

from conformance.case import Case
from conformance.cases import table
from conformance.cases.ladders import classes, distributions, logits, memory
from refimpl.operation import Operation

TABLES = (logits.ENTRIES, distributions.ENTRIES, classes.ENTRIES, memory.ENTRIES)


def cases(operation: Operation) -> Iterator[Case]:
    """`<operation>/ladder/<entry>-<dtype>`."""
    for entries in TABLES:
        yield from table.cases(operation, "ladder", entries.get(operation.name, ()))
