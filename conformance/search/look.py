"""What one call showed: the failures, each with its cause, and the scores that a search climbs."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from conformance.case import Case, Vector
from conformance.deviations import FAILING
from conformance.finding import Verdict
from conformance.runner import Result
from conformance.search.cause import Cause, cause
from conformance.search.subject import Subject

Tensor = tuple[str, str, str, str]  # an operation, a dtype, a direction and a tensor
Whose = tuple[str, Cause]  # a backend, and what is wrong with it


@dataclass(frozen=True)
class Failure:
    """A failed finding and what it is about; `vector` holds what was expected, unproven while the search goes on."""

    cause: Cause
    result: Result
    vector: Vector

    @property
    def whose(self) -> Whose:
        """Its cause, of whichever backend it is."""
        return self.result.backend, self.cause


@dataclass(frozen=True)
class Look:
    """What became of a call. `scores` are what to climb, by a label: logarithms, so that a step is a factor. A call may be `undefined`."""

    failures: tuple[Failure, ...] = ()
    scores: Mapping[str, float] = field(default_factory=dict)
    results: tuple[Result, ...] = ()
    undefined: bool = False


Looker = Callable[[Case], Look]  # asks whoever is searched


def alone(subject: Subject, case: Case) -> Look:
    """Ask one backend: the scores are the ratios to the bound of what passed, by direction and tensor."""
    expectation = subject.expectation(case)
    if expectation is None:
        return Look(undefined=True)
    vector = Vector(case, (expectation,))
    results = subject.ask(vector)
    scores = {
        f"{result.finding.direction} {result.finding.output}": math.log2(result.finding.ratio)
        for result in results
        if result.finding.verdict == Verdict.PASS and result.finding.ratio  # neither None nor 0
    }
    return Look(tuple(failures(vector, results)), scores, tuple(results))


def failures(vector: Vector, results: Iterable[Result]) -> Iterator[Failure]:
    """Those among the results on a vector."""
    return (Failure(cause(one.finding), one, vector) for one in results if one.finding.verdict in FAILING)


def digest(case: Case) -> bytes:
    """Of all that a backend gets: one for two cases that are the same call."""
    of = hashlib.blake2b(repr((case.operation, case.dtype, sorted(case.parameters.items()), sorted(case.layouts.items()))).encode())
    for name, array in (*case.inputs.items(), ("cotangent", case.cotangent)):
        if array is not None:
            of.update(f"{name} {array.dtype} {array.shape}".encode())
            of.update(array.tobytes())
    return of.digest()
