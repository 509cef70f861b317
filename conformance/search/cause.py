"""What a finding on a drawn call is about: two inputs that show one defect have one cause, two defects two, as far as that can be told.

A cause is the tensor, what is wrong with it (`symptom`), and the edges of the row where that shows. The dtype is part of it only where a
number is too far from a number, as how far is too far depends on it. Of an input that has been shrunk only the edges that matter are
left; one that hasn't may have others by chance, so that `Cause.explains` asks for no more than a known cause has.

What is held against the causes that a search found are the defects that a file of expectations gives a title: the causes of what they
show when they are asked again.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from conformance.deviations import FAILING, Expectations
from conformance.finding import Element, Finding, Verdict
from conformance.findings import Defect, defects, shows
from conformance.link import Source
from conformance.runner import Result, Run
from conformance.search.edges import clauses_of, edges_of, rules
from conformance.search.rows import Call
from conformance.vectors import Vector
from refimpl.enclosure import Kind

__all__ = ["Cause", "Listed", "Trace", "cause", "clauses_of", "listed", "rediscovered"]

COARSE = 2.0**-4  # of the truth, and FAR times what is allowed: an error that no arithmetic makes, however coarse
FAR = 8.0
INACCURATE = "out of its bound"
LOST = ("0 for a number", "nan for a number", "inf for a number", "-inf for a number")
CONDUCT = {"GEN-2": "another dtype", "GEN-3": "an input is modified", "GEN-4": "a second call differs"}
EXCEPTION = re.compile(r"[A-Za-z_][\w.]*")


@dataclass(frozen=True, order=True)
class Cause:
    """What a finding is about; `tensor` is "output", or the input that the gradient is of, `dtype` empty where it is no part of it."""

    operation: str
    direction: str
    tensor: str
    symptom: str
    dtype: str
    edges: tuple[str, ...]

    def explains(self, other: Cause) -> bool:
        """Whether what the other is about may be this: it has all that this has, and perhaps more edges."""
        return replace(self, edges=()) == replace(other, edges=()) and set(self.edges) <= set(other.edges)


def cause(finding: Finding) -> Cause:
    """The cause of a finding that the judge has made and that failed; raises `ValueError` for another one."""
    if finding.subject is None or finding.verdict not in FAILING:
        raise ValueError(f"{finding.case} has the verdict {finding.verdict}, or was read from a file; name a failure as it was judged")
    symptom, row = _symptom(finding), Call(finding.subject).row(finding.worst_index)
    edges = edges_of(finding.subject, row, finding.direction)
    if symptom in LOST and any(edge.endswith("than the dtype holds") for edge in edges):
        symptom = "no number for a number"  # which of these depends on the other numbers
    return Cause(
        operation=finding.operation,
        direction=finding.direction,
        tensor=finding.output,
        symptom=symptom,
        dtype=finding.dtype if symptom == INACCURATE else "",
        edges=edges,
    )


def _symptom(finding: Finding) -> str:
    if finding.verdict in (Verdict.CRASH, Verdict.TIMEOUT):
        return str(finding.verdict)
    if finding.verdict == Verdict.ERROR or (finding.ratio is None and finding.shapes == ("", "")):
        return _raised(finding.note)
    if finding.shapes != ("", ""):
        return "another shape" if "GEN-1" in finding.clauses else "no dtype that is known"
    if finding.element is not None and finding.badness > 1.0:
        return _wrong(finding.element)
    return next((text for id, text in CONDUCT.items() if id in finding.clauses), "no refusal")


def _raised(note: str) -> str:
    """By the exception's type, which a message begins with; that of a program may begin with anything."""
    name, colon, _ = note.partition(":")
    return name.rpartition(".")[2] if colon and EXCEPTION.fullmatch(name) else "an error"


def _wrong(element: Element) -> str:
    """What stands where something else was expected."""
    kind, actual = Kind(int(element.expected.kind.item())), float(element.actual[0])
    truth = element.expected.hi.item()
    if kind != Kind.FINITE or not np.isfinite(actual):
        return f"{_sort(actual)} for {'an overflow' if kind == Kind.OVERFLOW else _sort(truth)}"
    if actual == 0.0:
        return "0 for a number"
    error = abs(actual - truth)
    return "another number" if error > COARSE * abs(truth) and error > FAR * element.bound else INACCURATE


def _sort(value: float) -> str:
    return "nan" if np.isnan(value) else "a number" if np.isfinite(value) else "inf" if value > 0 else "-inf"


@dataclass(frozen=True)
class Trace:
    """What a case of a listed defect shows today, and the edges without which that would be another defect."""

    cause: Cause
    needed: frozenset[str]

    def left_by(self, found: Cause) -> bool:
        """Whether a cause that a search found explains it, and needs these edges too."""
        return found.explains(self.cause) and self.needed <= set(found.edges)


@dataclass(frozen=True)
class Listed:
    """A defect that a file of expectations gives a title, with what its cases show today: nothing where it is mended."""

    title: str
    traces: tuple[Trace, ...]


def listed(source: Source, expectations: Expectations, vectors: Sequence[Vector]) -> list[Listed]:
    """The defects that a file of expectations has among `vectors`, the shortest case of each deviation asked again."""
    by_title: dict[str, list[Defect]] = {}
    ids = [vector.case.id for vector in vectors]
    for deviation in (one for one in expectations.deviations if any(map(one.names, ids))):
        for defect in defects(replace(expectations, deviations=(deviation,)), vectors):
            by_title.setdefault(defect.title, []).append(defect)
    results = _asked(source, [defect for of in by_title.values() for defect in of])
    return [Listed(title, tuple(_traces(of, results, vectors))) for title, of in by_title.items()]


def _traces(of: Sequence[Defect], results: Sequence[Result], vectors: Sequence[Vector]) -> Iterator[Trace]:
    """What the results show of a defect that was split by its deviations.

    Needed are the edges that all cases of the deviation have, if its clause speaks of them, or if they are about which rows count and how
    many. Where none are, as only the definition is broken, it is all that they have in common, or that this one has.
    """
    for defect in of:
        (deviation,) = defect.deviations
        common = set[str].intersection(*(set(edges_of(vector.case)) for vector in vectors if deviation.names(vector.case.id)))
        for result in results:
            if shows(deviation, defect, result):
                found = cause(result.finding)
                shared = common & set(found.edges)
                telling = {rule.edge for rule in rules(found.operation) if rule.clause == deviation.clause or rule.of_rows}
                yield Trace(found, frozenset(shared & telling or shared or found.edges))


def _asked(source: Source, of: Sequence[Defect]) -> list[Result]:
    """What a backend answers to the cases of these, in its first mode, or in those that a deviation names."""
    vectors = {defect.vector.case.id: defect.vector for defect in of}
    with Run([source], list(vectors.values()), waits=True) as run:
        first = run.descriptions[source.name].modes[0].name
        asked = {(defect.vector.case.id, defect.deviations[0].mode or first) for defect in of}
        tasks = [task for task in run.calls(source.name) if (task.vector.case.id, task.mode) in asked]
        return [result for task in tasks for result in run.ask(source.name, task)]


def rediscovered(known: Sequence[Listed], causes: Collection[Cause]) -> tuple[list[Listed], list[Listed]]:
    """Of the defects that still show, those that one of the causes is of, and those that none is."""
    showing = [one for one in known if one.traces]
    found = [one for one in showing if any(trace.left_by(each) for trace in one.traces for each in causes)]
    return found, [one for one in showing if one not in found]
