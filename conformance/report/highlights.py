"""What every summary of a record says: its counts, and the findings to read first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from conformance.deviations import Deviation
from conformance.finding import Verdict
from conformance.record import Record
from conformance.report.message import command_line, message
from conformance.runner import Result

SHOWN = 3  # findings that are shown in full


def worst_of(record: Record) -> tuple[str, list[tuple[Result, Deviation | None]]]:
    """What to read first, with a line that says what it is: the unexpected failures, or else the known deviations, the worst first."""
    unexpected = [result for comparison in record.comparisons.values() for result in comparison.unexpected]
    if unexpected:
        return f"{_of(len(unexpected), 'unexpected failures')}:", [(result, None) for result in worst(unexpected)]
    known = {id(result): deviation for comparison in record.comparisons.values() for result, deviation in comparison.expected}
    expected = [result for comparison in record.comparisons.values() for result, _ in comparison.expected]
    heading = f"Nothing failed unexpectedly. {_of(len(expected), 'known deviations')}:"
    return heading, [(result, known[id(result)]) for result in worst(expected)]


def told(record: Record, result: Result, deviation: Deviation | None = None) -> str:
    """The message on a result of a record; `deviation` is the one that excuses it."""
    description, finding = record.descriptions[result.backend], result.finding
    if deviation is not None:
        excuse = f"known: {deviation.reason.removesuffix('.')}" + (f" ({deviation.issue})" if deviation.issue else "")
        finding = replace(finding, spelled=finding.told, note="; ".join(filter(None, (finding.note, excuse))))
    again = command_line(description.command or description.name, finding.case)
    return message(finding, result.backend, description.version, result.mode, again)


def worst(results: Sequence[Result]) -> list[Result]:
    """The findings in the order in which to read them: the worst of each backend, then of its operations, so that none hides the others."""
    turn: Counter[tuple[str, str]] = Counter()  # how many of an operation there were
    place: Counter[tuple[str, int]] = Counter()  # and how many of a backend in that turn
    ordered = []
    for result in sorted(results, key=lambda result: result.finding.badness, reverse=True):
        operation = result.backend, result.finding.operation
        backend = result.backend, turn[operation]
        ordered.append(((turn[operation], place[backend]), result))
        turn[operation] += 1
        place[backend] += 1
    return [result for _, result in sorted(ordered, key=lambda pair: pair[0])]


def counts(record: Record, *backends: str) -> str:
    """How many tensors passed, failed and were unsupported, of some backends or of all: "12 passed, 0 failed as expected, ..."."""
    named = backends or record.backends
    verdicts = Counter(result.finding.verdict for result in record.results if result.backend in named)
    there = [comparison for name, comparison in record.comparisons.items() if name in named]
    stale = sum(len(comparison.problems) for comparison in there)
    parts = [
        f"{verdicts[Verdict.PASS]} passed",
        f"{sum(len(comparison.expected) for comparison in there)} failed as expected",
        f"{sum(len(comparison.unexpected) for comparison in there)} failed unexpectedly",
        *([f"{stale} expectations don't hold"] if stale else []),
        f"{verdicts[Verdict.UNSUPPORTED]} unsupported",
    ]
    return ", ".join(parts)


def _of(number: int, what: str) -> str:
    return f"The {SHOWN} worst of {number} {what}" if number > SHOWN else f"The {what}, the worst first"
