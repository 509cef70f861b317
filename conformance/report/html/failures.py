"""The failures of a record, worst first, each with the known deviation that excuses it or none."""

from __future__ import annotations

from collections.abc import Sequence

from conformance.backend import Result
from conformance.deviations import FAILING, Deviation
from conformance.record import Record

Failure = tuple[Result, Deviation | None]


def failures(record: Record) -> list[Failure]:
    """All of them in the order in which to read them.

    That is what nobody expected, then the larger ratio, then values before gradients, then the smaller input.
    """
    known = {id(result): deviation for comparison in record.comparisons.values() for result, deviation in comparison.expected}
    found = [(result, known.get(id(result))) for result in record.results if result.finding.verdict in FAILING]
    return sorted(found, key=_badness)


def first(found: Sequence[Failure]) -> Failure:
    """The one to begin with: the first that says what was expected and what came, if it is as unexpected as the very first."""
    return next((failure for failure in found if _says(failure[0]) and (failure[1] is None) == (found[0][1] is None)), found[0])


def _says(result: Result) -> bool:
    return bool(result.finding.told.expected and result.finding.told.actual)


def _badness(failure: Failure) -> tuple[bool, float, bool, int]:
    result, deviation = failure
    return deviation is not None, -result.finding.badness, result.finding.direction == "backward", len(result.finding.told.inputs)
