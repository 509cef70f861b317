"""Defects known upstream, as cases: one for each that a small call of an operation exposes (`conformance.cases.defects`)."""

from __future__ import annotations

from collections.abc import Iterator

from conformance.case import Case
from conformance.cases import table
from conformance.cases.defects import DEFECTS
from refimpl.operation import Operation


def cases(operation: Operation) -> Iterator[Case]:
    """`<operation>/regression/<defect>-<dtype>`."""
    return table.cases(operation, "regression", DEFECTS.get(operation.name, ()))
