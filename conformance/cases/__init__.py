"""Where inputs come from: the clauses' own examples, systematic ladders, seeded random calls, and defects known upstream."""

from __future__ import annotations

from collections.abc import Iterable

from conformance.case import Case, VectorError
from conformance.cases import edges, ladders, random, regressions
from refimpl.operation import Operation


def cases(operation: Operation, more: Iterable[Case] = ()) -> list[Case]:
    """All cases of an operation, by group, in the order of their ids' definition, `more` regressions among them that a search found.

    Raises `VectorError` for an id used twice.
    """
    found = [*edges.cases(operation), *ladders.cases(operation), *random.cases(operation), *regressions.cases(operation), *more]
    seen: set[str] = set()
    for case in found:
        if case.id in seen:
            raise VectorError(f"{case.id}: two cases have this id; rename one")
        seen.add(case.id)
    return found
