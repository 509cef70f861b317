"""The examples of an operation's clauses: each becomes one case for each of its dtypes."""

from __future__ import annotations

from collections.abc import Iterator

from conformance.case import Case, VectorError
from conformance.cases.build import case_of
from refimpl.operation import Example, Operation


def cases(operation: Operation) -> Iterator[Case]:
    """`<operation>/edges/<example>-<dtype>`. An example that several clauses share is one case with all their ids."""
    examples: dict[str, Example] = {}
    owners: dict[str, list[str]] = {}
    for clause in operation.clauses:
        for example in clause.examples:
            first = examples.setdefault(example.name, example)
            if first is not example and repr(first) != repr(example):
                raise VectorError(f"{clause.id}: another clause has a different example {example.name!r}; rename one")
            owners.setdefault(example.name, []).append(clause.id)
    for name, example in examples.items():
        for dtype in example.dtypes:
            yield case_of(operation, f"edges/{name}", dtype, example.call, clauses=tuple(owners[name]), flags=example.flags)
