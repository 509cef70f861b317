"""Small implementations of one operation in numpy, right or wrong on purpose, that are judged like any backend.

`conformance/correct` holds right ones, which no bound may accuse; `conformance/faults` wrong ones, each of which some vector must
catch. Both are `Adapter`s of one operation, made by `kernel`; they run in this process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from conformance.adapter import Adapter, Array, Arrays
from conformance.bound import Promise
from conformance.case import Vector
from conformance.dialects import resolved
from conformance.judge import Answer, Finding, judge
from conformance.link import Refusal, Request
from conformance.worker import reply

# function(cotangent=array or None, **inputs, **parameters) -> (output, {input: gradient}); what it raises is its answer
Function = Callable[..., tuple[Array, dict[str, Array]]]


def kernel(name: str, operation: str, function: Function, promises: Mapping[str, Promise], dialect: str | Mapping[str, str]) -> Adapter:
    """A function as a backend of one operation, in the dtypes that it has promises for."""

    def call(_: str, __: str, inputs: Arrays, parameters: Mapping[str, Any], cotangent: Array | None) -> tuple[Array, dict[str, Array]]:
        return function(cotangent=cotangent, **inputs, **parameters)

    return Adapter(name, frozenset({operation}), promises, call, versions=dict, dialect=dialect)


def answered(adapter: Adapter, vectors: Iterable[Vector]) -> Iterator[tuple[Vector, Answer]]:
    """Each vector that the adapter is asked and doesn't refuse, with its answer, in this process."""
    for vector in vectors:
        case = vector.case
        if case.operation not in adapter.operations or case.dtype not in adapter.promises:
            continue
        answer = reply(adapter, Request(case.operation, "eager", case.inputs, case.parameters, case.cotangent, case.layouts))
        if not isinstance(answer, Refusal):
            yield vector, answer


def judged(adapter: Adapter, vectors: Iterable[Vector]) -> Iterator[tuple[Vector, Answer, list[Finding]]]:
    """The same with the findings."""
    dialect = resolved(adapter.dialect, adapter.name)
    for vector, answer in answered(adapter, vectors):
        case = vector.case
        yield vector, answer, judge(vector, answer, adapter.promises[case.dtype], dialect.of(case.operation))
