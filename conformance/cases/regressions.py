"""Defects known upstream, as cases: one for each that a small call of an operation exposes (`conformance.cases.defects`)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from conformance.case import Case, Recipe, VectorError, seed_of
from conformance.cases import counter
from conformance.cases.build import case_of
from conformance.cases.defects import DEFECTS, Defect
from refimpl.operation import Operation


def cases(operation: Operation) -> Iterator[Case]:
    """`<operation>/regression/<defect>-<dtype>`."""
    for defect in DEFECTS.get(operation.name, ()):
        for dtype in defect.dtypes:
            yield _case(operation, defect, dtype)


def _case(operation: Operation, defect: Defect, dtype: str) -> Case:
    name = f"regression/{defect.name}"
    call: dict[str, Any] = {}
    for key, value in defect.call.items():
        if isinstance(value, Recipe):
            seed = seed_of(f"{operation.name}/{name}/{key}")
            value = counter.sealed(replace(value, seed=seed, dtype=value.dtype or dtype))
        call[key] = value
    clauses = tuple(_clause(operation, defect, label) for label in defect.about)
    return case_of(operation, name, dtype, call, clauses=clauses, flags=defect.flags, source=defect.source)


def _clause(operation: Operation, defect: Defect, label: str) -> str:
    """The id of a clause, given by its id or its edge label."""
    for clause in operation.clauses:
        if label in (clause.id, clause.edge):
            return clause.id
    raise VectorError(f"{operation.name}, defect {defect.name}: no clause has the id or edge label {label!r}; name one that exists")
