"""The grade: the tightest accuracy class whose bound a backend kept on all that it answered, whatever class it promised."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from conformance.bound import CLASSES, Accuracy, Promise
from conformance.case import Vector
from conformance.judge import Answer, Verdict, judge


def kept(vector: Vector, answer: Answer, promise: Promise, dialect: Mapping[str, str]) -> frozenset[Accuracy]:
    """The classes whose bounds every tensor of an answer keeps, the rest of the promise being as it is.

    R, S and A are nested, and both B and N hold A, so that the classes above a kept one aren't asked.
    """
    found: set[Accuracy] = set()
    for accuracy in CLASSES:
        if found & {"R", "S", "A"}:
            found.add(accuracy)
            continue
        findings = judge(vector, answer, replace(promise, accuracy=accuracy), dialect)
        if all(finding.verdict in (Verdict.PASS, Verdict.UNSUPPORTED) for finding in findings):
            found.add(accuracy)
    return frozenset(found)


def grade(classes: Iterable[frozenset[Accuracy]]) -> Accuracy | None:
    """The tightest class that is in all of the sets (of one operation and dtype); None where none is, or there are no sets."""
    common = frozenset(CLASSES)
    some = False
    for one in classes:
        common, some = common & one, True
    return next((accuracy for accuracy in CLASSES if some and accuracy in common), None)
