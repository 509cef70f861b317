"""Two backends against each other: how far apart their answers to one call lie, and which of them is nearer to the truth.

The distance of two numbers is in units of the larger of their bounds, so that two which conform are never more than 2 apart. A nan and a
number, or an infinity and another number, are infinitely far apart. Where the two define the loss differently, nothing is compared.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from conformance.bound import allowed
from conformance.case import Array, Case, Expected, Vector
from conformance.finding import Finding
from conformance.runner import Result
from conformance.search.look import Look, Tensor, failures
from conformance.search.subject import Subject
from refimpl.enclosure import Enclosure, Float


@dataclass(frozen=True, eq=False)
class Parting:
    """Where two answers lie furthest apart: the element of the case, both numbers, the truth, and both findings.

    `errors` are the distances of the numbers from the truth, nan where there is none.
    """

    case: Case
    distance: float
    place: tuple[int, ...]
    truth: Enclosure
    actual: tuple[float, float]
    errors: tuple[float, float]
    findings: tuple[Finding, Finding]


@dataclass
class Partings:
    """Asks two backends, and keeps the furthest parting of each tensor: of two alike that of the smaller call.

    `compared` and `apart` count the tensors that were compared, and those that the two define differently.
    """

    first: Subject
    second: Subject
    furthest: dict[Tensor, Parting] = field(default_factory=dict)
    compared: int = 0
    apart: int = 0

    def look(self, case: Case) -> Look:
        """Ask both: the scores are the logarithms of the distances, by direction and tensor."""
        answers = []
        for subject in (self.first, self.second):
            expectation = subject.expectation(case)
            if expectation is None:
                return Look(undefined=True)
            vector = Vector(case, (expectation,))
            answers.append((subject, vector, subject.ask(vector)))
        scores = {}
        (one, of_one, results), (other, of_other, others) = answers
        for mine, theirs in _pairs(results, others):
            pair = (_held(one, of_one, mine), _held(other, of_other, theirs))
            parting = _parting(case, (mine.finding, theirs.finding), pair)
            if parting is None:
                self.apart += 1
                continue
            self.compared += 1
            if 0.0 < parting.distance < math.inf:
                scores[f"{mine.finding.direction} {mine.finding.output}"] = math.log2(parting.distance)
            self._keep(parting)
        failed = (*failures(of_one, results), *failures(of_other, others))
        return Look(failed, scores, (*results, *others))

    def _keep(self, parting: Parting) -> None:
        finding = parting.findings[0]
        key = finding.operation, finding.dtype, finding.direction, finding.output
        before = self.furthest.get(key)
        if parting.distance > 0.0 and (before is None or _order(parting) > _order(before)):
            self.furthest[key] = parting


def _order(parting: Parting) -> tuple[float, int]:
    return parting.distance, -sum(array.size for array in parting.case.inputs.values())


@dataclass(frozen=True, eq=False)
class _Held:
    """One backend's tensor with what it is held against: the numbers at the places that the expectation keeps."""

    actual: Array
    expected: Expected
    bound: Float


def _pairs(results: list[Result], others: list[Result]) -> Iterator[tuple[Result, Result]]:
    """The results of two backends on the same tensor, where both answered."""
    by_tensor = {(other.finding.direction, other.finding.output): other for other in others}
    for result in results:
        other = by_tensor.get((result.finding.direction, result.finding.output))
        if other is not None and result.finding.ratio is not None and other.finding.ratio is not None:
            yield result, other


def _held(subject: Subject, vector: Vector, result: Result) -> _Held | None:
    """What a backend answered; None where it had to refuse."""
    (expectation,) = vector.expectations
    answer, finding = result.answer, result.finding
    if expectation.kind == "error" or answer is None:
        return None
    forward = finding.direction == "forward"
    actual = answer.output if forward else answer.gradients[finding.output]
    assert actual is not None  # there is a ratio
    expected = expectation.output if forward else expectation.gradients[finding.output]
    output, gradients = allowed(vector.case, expectation, subject.promise(vector.case), actual.dtype.name)
    flat = actual.reshape(-1).astype(np.float64)
    kept = flat if expected.where is None else flat[expected.where]
    return _Held(kept, expected, np.asarray(output if forward else gradients[finding.output]).reshape(-1))


def _parting(case: Case, findings: tuple[Finding, Finding], pair: tuple[_Held | None, _Held | None]) -> Parting | None:
    """How far two answers part; None where they are held against different truths."""
    one, other = pair
    if one is None or other is None or not _same(one.expected, other.expected):
        return None
    if one.actual.size == 0:
        return Parting(case, 0.0, (), one.expected.values, (0.0, 0.0), (0.0, 0.0), findings)
    with np.errstate(all="ignore"):
        distance = np.abs(one.actual - other.actual) / np.maximum(one.bound, other.bound)
    alike = (one.actual == other.actual) | (np.isnan(one.actual) & np.isnan(other.actual))
    distance = np.where(alike, 0.0, np.where(np.isnan(distance), np.inf, distance))
    at = int(distance.argmax())
    truth, where = one.expected.values, one.expected.where
    centre = float(truth.hi.reshape(-1)[at])
    numbers = float(one.actual[at]), float(other.actual[at])
    errors = abs(numbers[0] - centre), abs(numbers[1] - centre)
    place = np.unravel_index(at if where is None else int(where[at]), one.expected.shape)
    return Parting(case, float(distance[at]), tuple(map(int, place)), _element(truth, at), numbers, errors, findings)


def _same(a: Expected, b: Expected) -> bool:
    """Whether two expectations are of one truth."""
    if not np.array_equal([] if a.where is None else a.where, [] if b.where is None else b.where):
        return False
    return a.shape == b.shape and all(
        np.array_equal(getattr(a.values, part), getattr(b.values, part), equal_nan=part != "kind") for part in ("kind", "hi", "lo")
    )


def _element(e: Enclosure, at: int) -> Enclosure:
    kind, hi, lo, radius = (np.asarray(part.reshape(-1)[at]) for part in (e.kind, e.hi, e.lo, e.radius))
    return Enclosure(kind, hi, lo, radius)
