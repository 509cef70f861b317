"""What changed between two runs in words: under each heading its sentences, regressions first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from conformance.backend import Result
from conformance.changes import FACTOR, Change, Changes, Regrade

SHOWN = 20  # sentences under a heading


def lines(changes: Changes) -> Iterator[str]:
    """The lines of a report, all of them; the last one counts."""
    for heading, sentences in sections(changes):
        yield heading
        yield from (f"  {sentence}" for sentence in sentences)
        yield ""
    yield summary(changes)


def sections(changes: Changes) -> Iterator[tuple[str, Sequence[str]]]:
    """Headings and their sentences, those left out of which there are none."""
    moved = sorted(changes.moved, key=lambda change: max(change.factor, 1 / change.factor if change.factor else float("inf")), reverse=True)
    found = (
        ("Between the runs", changes.notes),
        ("Worse", [_change(one) for one in changes.worse]),
        ("Answered no more", list(_groups(changes.vanished))),
        ("Grades that fell", [_regrade(one) for one in changes.fell]),
        ("Clauses newly broken", [f"{name}: {', '.join(ids)}" for name, ids in changes.broken.items()]),
        ("Better", [_change(one) for one in changes.better]),
        ("Answered now", list(_groups(changes.appeared))),
        ("Grades that rose", [_regrade(one) for one in changes.rose]),
        ("Clauses mended", [f"{name}: {', '.join(ids)}" for name, ids in changes.mended.items()]),
        (f"Ratios that moved by more than a factor of {FACTOR:g}, the verdict the same", [_change(one) for one in moved]),
    )
    return ((heading, sentences) for heading, sentences in found if sentences)


def shortened(sentences: Sequence[str]) -> list[str]:
    """The first of the sentences, and how many more there are."""
    rest = len(sentences) - SHOWN
    return [*sentences[:SHOWN], *([f"... and {rest} more"] if rest > 0 else [])]


def summary(changes: Changes) -> str:
    """Counts: "2 worse, 1 answered no more, 0 better, 4 new; 1 grade fell, 0 rose: a regression"."""
    tensors = (
        f"{len(changes.worse)} worse, {len(changes.vanished)} answered no more, {len(changes.better)} better, {len(changes.appeared)} new"
    )
    grades = f"{len(changes.fell)} {'grade' if len(changes.fell) == 1 else 'grades'} fell, {len(changes.rose)} rose"
    return f"{tensors}; {grades}: {'a regression' if changes.regressed else 'no regression'}"


def _change(change: Change) -> str:
    before, after = change.before.finding, change.after.finding
    parts = [f"{before.verdict} -> {after.verdict}"] if before.verdict != after.verdict else []
    if before.ratio is not None and after.ratio is not None:
        parts.append(f"{before.ratio:.3g} -> {after.ratio:.3g} of the bound")
    parts += [" ".join(after.clauses)] if after.verdict != before.verdict else []
    return f"{_named(change.after)}: {', '.join(filter(None, parts))}"


def _named(result: Result) -> str:
    finding = result.finding
    tensor = finding.output if finding.direction == "forward" else f"gradient of {finding.output}"
    return f"{_backend(result)} {finding.case} {tensor}"


def _regrade(one: Regrade) -> str:
    place = one.place
    where = f"{place.backend} {place.mode} {place.operation} {place.dtype} {place.direction}"
    return f"{where}: {one.before or 'none'} -> {one.after or 'none'}"


def _groups(results: Iterable[Result]) -> Iterator[str]:
    """How many tensors there are of each backend and operation, by verdict, and the first case."""
    groups: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        groups.setdefault((_backend(result), result.finding.operation), []).append(result)
    for (backend, operation), there in groups.items():
        verdicts = Counter(result.finding.verdict.value for result in there)
        counted = ", ".join(f"{number} {verdict}" for verdict, number in sorted(verdicts.items()))
        yield f"{backend} {operation}: {counted} ({there[0].finding.case}{', ...' if len(there) > 1 else ''})"


def _backend(result: Result) -> str:
    return result.backend if result.mode == "eager" else f"{result.backend} {result.mode}"
