"""The ratio of a right kernel's error to its bound, by the judge."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from conformance.adapter import Adapter
from conformance.case import Case, Expectation, Expected, Vector
from conformance.judge import judge
from conformance.link import Request
from conformance.worker import reply
from refimpl.enclosure import Enclosure
from refimpl.operations import operation


@dataclass(frozen=True)
class Ratio:
    """One tensor of one call: its largest error in units of the allowed one, and where."""

    kernel: str
    operation: str
    direction: str
    dtype: str
    accuracy: str
    ratio: float
    case: str


def vector(case: Case) -> Vector:
    """A case with the reference's enclosures, unproven: the proof is the business of the vectors."""
    stated = operation(case.operation)
    gradients = stated.vjp(cotangent=case.cotangent, **case.call)
    wanted = {name: _kept(gradients[name]) for name in stated.differentiable if name in case.inputs}
    return Vector(case, (Expectation({}, "value", _kept(stated.forward(**case.call)), wanted),))


def _kept(e: Enclosure) -> Expected:
    return Expected(e.shape, None, e)


def ratios(case: Case, kernels: tuple[Adapter, ...]) -> Iterator[Ratio]:
    """The ratios of every kernel of the case's operation; a wrong kind of value is infinitely wrong."""
    asked = vector(case)
    for adapter in kernels:
        if case.operation not in adapter.operations:
            continue
        answer = reply(adapter, Request(case.operation, "eager", case.inputs, case.parameters, case.cotangent))
        assert not hasattr(answer, "reason"), f"{adapter.name} refuses {case.id}"
        for found in judge(asked, answer, adapter.promises[case.dtype], adapter.dialect):
            assert found.ratio is not None, f"{adapter.name} on {case.id}: {found.note}"
            accuracy = adapter.promises[case.dtype].accuracy
            yield Ratio(adapter.name, case.operation, found.direction, case.dtype, accuracy, found.ratio, case.id)
