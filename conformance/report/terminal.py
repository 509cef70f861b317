"""The report for people: progress while it runs, then the grades of backends and operations and what was not expected.

Colour and the progress bar appear on a terminal only; NO_COLOR is respected.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from conformance.adapter import Description
from conformance.deviations import Comparison
from conformance.judge import Verdict
from conformance.report import grades
from conformance.report.message import command_line, message
from conformance.runner import Result

SHOWN = 5  # unexpected findings that are shown in full
PLAIN_WIDTH = 140  # columns where there is no terminal to ask


def console(stream: TextIO) -> Console:
    """A console that folds nothing where the output is read by a program."""
    return Console(file=stream) if stream.isatty() else Console(file=stream, width=PLAIN_WIDTH, soft_wrap=True)


@contextmanager
def progress(out: Console, total: int) -> Iterator[Progress | None]:
    """A progress bar over that many cases, or None where no one is watching."""
    if not out.is_terminal:
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=out, transient=True) as bar:
        bar.add_task("cases", total=total)
        yield bar


def follow(results: Iterable[Result], bar: Progress | None) -> Iterator[Result]:
    """The results as they come, moving the bar once for each call."""
    for result in results:
        if bar is not None:
            task = bar.tasks[0].id
            bar.update(task, description=f"{result.backend} {result.finding.operation}")
            if result.finding.direction == "forward":
                bar.advance(task)
        yield result


def summary(out: Console, comparisons: Mapping[str, Comparison], results: Sequence[Result], about: Mapping[str, Description]) -> None:
    """The grades, then the worst of the unexpected findings in full, then what no longer holds, then one line."""
    _tables(out, comparisons, results, about)
    unexpected = [result for comparison in comparisons.values() for result in comparison.unexpected]
    for result in worst(unexpected)[:SHOWN]:
        out.print()
        description = about[result.backend]
        again = command_line(description.command, result.finding.case)
        _plain(out, message(result.finding, result.backend, description.version, result.mode, again))
    if len(unexpected) > SHOWN:
        out.print()
        _plain(out, f"... and {len(unexpected) - SHOWN} more; --json FILE keeps them all")
    for comparison in comparisons.values():
        for sentence in (*comparison.problems, *comparison.notes):
            out.print()
            _plain(out, sentence)
    out.print()
    _plain(out, _last_line(comparisons, results))


def worst(results: Sequence[Result]) -> list[Result]:
    """The findings in the order in which to read them: each operation's worst first, so that one doesn't hide the others."""

    def badness(result: Result) -> float:
        ratio = result.finding.ratio
        return math.inf if ratio is None or math.isnan(ratio) else ratio

    turn: Counter[tuple[str, str]] = Counter()
    ordered = []
    for result in sorted(results, key=badness, reverse=True):
        key = (result.backend, result.finding.operation)
        ordered.append((turn[key], result))
        turn[key] += 1
    return [result for _, result in sorted(ordered, key=lambda pair: pair[0])]


def _tables(out: Console, comparisons: Mapping[str, Comparison], results: Sequence[Result], about: Mapping[str, Description]) -> None:
    """The grades, what their signs mean, and a paragraph on each backend."""
    for table in grades.grades(results):
        out.print(table)
        out.print()
    _plain(out, grades.key(results))
    for backend, description in about.items():
        own = [result for result in results if result.backend == backend]
        versions = " ".join(f"{name} {version}" for name, version in description.versions.items())
        out.print()
        _plain(out, f"{backend} ({versions}): {_last_line({backend: comparisons[backend]}, own)}")
        _plain(out, grades.clauses(own))
        if suspicion := grades.suspicion(own):
            _plain(out, suspicion)


def _last_line(comparisons: Mapping[str, Comparison], results: Sequence[Result]) -> str:
    passed = sum(result.finding.verdict == Verdict.PASS for result in results)
    expected = sum(len(comparison.expected) for comparison in comparisons.values())
    unexpected = sum(len(comparison.unexpected) for comparison in comparisons.values())
    stale = sum(len(comparison.problems) for comparison in comparisons.values())
    parts = [f"{passed} passed", f"{expected} failed as expected", f"{unexpected} failed unexpectedly"]
    parts += [f"{stale} expectations no longer hold"] if stale else []
    unsupported = sum(result.finding.verdict == Verdict.UNSUPPORTED for result in results)
    return ", ".join([*parts, f"{unsupported} unsupported"])


def _plain(out: Console, text: str) -> None:
    """Print text as it is: no markup, no highlighting, no folding."""
    out.print(text, markup=False, highlight=False, soft_wrap=True)
