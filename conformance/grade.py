"""Grades: the accuracy that a backend earned, whatever it promised; and the clauses that it kept.

A grade is the tightest class whose bound every number kept that stood where a number was expected, on every vector of one operation,
dtype, mode and direction. Whatever else can be wrong, a nan for a number, another shape or dtype, an exception or none, is no matter of
accuracy: it breaks clauses, which are counted apart. An answer that is right under choices that weren't promised has the accuracy that it
has under those.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from operator import attrgetter

from conformance.backend import Result
from conformance.bound import CLASSES, Accuracy
from conformance.finding import Finding, Verdict
from conformance.spec import Level, sections

ANSWERED = (Verdict.PASS, Verdict.FAIL, Verdict.ERROR, Verdict.CRASH, Verdict.TIMEOUT)
GENERAL = ("GEN-1", "GEN-2", "GEN-3", "GEN-4", "GEN-5")  # shape, dtype, inputs, repetition, bound: held wherever values were compared
BOUND = "GEN-5"


@dataclass(frozen=True)
class Place:
    """What a grade is of."""

    backend: str
    mode: str
    operation: str
    dtype: str
    direction: str


@dataclass(frozen=True)
class Cell:
    """What a backend showed there.

    `grade` is None where no class was kept. `answered` tensors had an answer or failed to have one, `measured` of them a number where
    one was expected. `worst` is the finding with the largest ratio, None where none has one; `broken` are the clauses that a failure
    names, in order.
    """

    grade: Accuracy | None
    answered: int
    measured: int
    worst: Finding | None
    broken: tuple[str, ...]
    composed: bool


class Standing(StrEnum):
    """How a clause stands; of several, the worst. A number that is out of its bound leaves it open whether more than that is wrong."""

    KEPT = "kept"
    INACCURATE = "inaccurate"
    BROKEN = "broken"


def grade(kept: Iterable[Iterable[Accuracy]]) -> Accuracy | None:
    """The tightest class that is in all of the sets; None where none is, or there are no sets."""
    sets = [frozenset(one) for one in kept]
    common = frozenset(CLASSES).intersection(*sets)
    return next((accuracy for accuracy in CLASSES if sets and accuracy in common), None)


def cells(results: Iterable[Result]) -> dict[Place, Cell]:
    """Of each place that results are of, what they show."""
    found: dict[Place, list[Result]] = {}
    for result in results:
        finding = result.finding
        place = Place(result.backend, result.mode, finding.operation, finding.dtype, finding.direction)
        found.setdefault(place, []).append(result)
    return {place: _cell(there) for place, there in found.items()}


def _cell(results: Sequence[Result]) -> Cell:
    answered = [result.finding for result in results if result.finding.verdict in ANSWERED]
    kept = [finding.kept for finding in answered if finding.kept is not None]
    return Cell(
        grade=grade(kept),
        answered=len(answered),
        measured=len(kept),
        worst=max((finding for finding in answered if finding.ratio is not None), key=attrgetter("badness"), default=None),
        broken=tuple(sorted({id for finding in answered if finding.verdict != Verdict.PASS for id in finding.clauses})),
        composed=results[0].composed,
    )


def together(found: Iterable[Cell]) -> Cell | None:
    """What several cells show: the worst grade and finding, all clauses that are broken; None where nothing was answered."""
    there = [cell for cell in found if cell.answered]
    if not there:
        return None
    grades = [cell.grade for cell in there if cell.measured]
    return Cell(
        grade=None if None in grades else max((one for one in grades if one is not None), key=CLASSES.index, default=None),
        answered=sum(cell.answered for cell in there),
        measured=sum(cell.measured for cell in there),
        worst=max((cell.worst for cell in there if cell.worst is not None), key=attrgetter("badness"), default=None),
        broken=tuple(sorted({id for cell in there for id in cell.broken})),
        composed=any(cell.composed for cell in there),
    )


def standings(results: Iterable[Result]) -> dict[str, Standing]:
    """How each clause stands that the results of one backend say something of."""
    order = list(Standing)
    found: dict[str, Standing] = {}
    for result in results:
        finding = result.finding
        if finding.verdict not in ANSWERED:
            continue
        named = dict.fromkeys(finding.clauses, Standing.BROKEN)
        if finding.verdict == Verdict.PASS:
            general = GENERAL if finding.ratio is not None else ()
            named = dict.fromkeys((*finding.clauses, *general), Standing.KEPT)
        elif BOUND in finding.clauses:
            named = {id: Standing.BROKEN if id == BOUND else Standing.INACCURATE for id in finding.clauses}
        for id, standing in named.items():
            found[id] = max(found.get(id, Standing.KEPT), standing, key=order.index)
    return found


def by_level(found: Mapping[str, Standing]) -> dict[Level, dict[Standing, list[str]]]:
    """The clauses by level and standing, in order; levels of which there are none are left out."""
    known = sections()
    sorted_in: dict[Level, dict[Standing, list[str]]] = {}
    for level in Level:
        of_level = {id: standing for id, standing in sorted(found.items()) if id in known and known[id].level == level}
        if of_level:
            sorted_in[level] = {one: [id for id, standing in of_level.items() if standing == one] for one in Standing}
    return sorted_in
