"""Vectors of small calls, the right answers to them under any choices, and what the judge says of answers."""

from __future__ import annotations

from typing import Any

import numpy as np

from conformance.bound import Promise
from conformance.case import Case, Vector
from conformance.expect import expect
from conformance.judge import Answer, Finding, judge
from refimpl.enclosure import FORMATS
from refimpl.operation import OutOfRange
from refimpl.operations import operation

A = {name: Promise("A", compute="float64") for name in FORMATS}
X3, X2 = [[1.0, 2.0, 3.0]], [[1.0, 2.0, 3.0], [0.0, 0.0, 1.0]]


def vector(op: str, dtype: str = "float32", cotangent: Any = 1.0, **call: Any) -> Vector:
    """What is expected of a call."""
    stated = operation(op)
    given = {name: np.asarray(value) for name, value in call.items() if name in stated.inputs}
    inputs = {name: value.astype(FORMATS[dtype].dtype) if value.dtype.kind == "f" else value for name, value in given.items()}
    parameters = {name: value for name, value in call.items() if name not in stated.inputs}
    g = np.asarray(cotangent, FORMATS[dtype].dtype)
    return expect(Case(f"{op}/edges/example-{dtype}", op, dtype, inputs, parameters, g, (stated.clauses[0].id,)))


def answer(v: Vector, dtype: str | None = None, **choices: str) -> Answer:
    """The right answer under some choices, in the case's dtype or another; an exception where the target names no class."""
    case, stated = v.case, operation(v.case.operation)
    try:
        output, gradients = stated.forward(**case.call, **choices), stated.vjp(**case.call, **choices, cotangent=case.cotangent)
    except OutOfRange as error:
        return Answer(None, {}, f"IndexError: {error}", (), repeat_differs=False, seconds=0.0)
    rounded = {name: value.round(dtype or case.dtype) for name, value in gradients.items()}
    return Answer(output.round(dtype or case.dtype), rounded, None, (), repeat_differs=False, seconds=0.0)


def findings(v: Vector, given: Answer, dialect: dict[str, str]) -> list[Finding]:
    return judge(v, given, A[v.case.dtype], dialect)
