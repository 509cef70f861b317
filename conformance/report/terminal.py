"""The report for people: progress while it runs, then a table of backends and operations and what was not expected.

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
from rich.table import Table
from rich.text import Text

from conformance.adapter import Description
from conformance.expected import FAILING, Comparison
from conformance.judge import Verdict
from conformance.report.message import message
from conformance.runner import Result
from refimpl.enclosure import FORMATS

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
    """The table, then the worst of the unexpected findings in full, then what no longer holds, then one line."""
    _table(out, comparisons, results, about)
    unexpected = [result for comparison in comparisons.values() for result in comparison.unexpected]
    for result in worst(unexpected)[:SHOWN]:
        out.print()
        version = " ".join(list(about[result.backend].versions.values())[:1])
        _plain(out, message(result.finding, result.backend, version, result.mode))
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


def _table(out: Console, comparisons: Mapping[str, Comparison], results: Sequence[Result], about: Mapping[str, Description]) -> None:
    operations = sorted({result.finding.operation for result in results})
    for backend, description in about.items():
        excused = {id(result) for result, _ in comparisons[backend].expected}
        dtypes = [dtype for dtype in FORMATS if any(r.finding.dtype == dtype for r in results if r.backend == backend)]
        versions = " ".join(f"{name} {version}" for name, version in description.versions.items())
        table = Table(title=f"{backend} ({versions})", title_justify="left", title_style="bold")
        table.add_column("operation")
        for dtype in dtypes:
            table.add_column(dtype, justify="right")
        for operation in operations:
            there = [result for result in results if result.backend == backend and result.finding.operation == operation]
            cells = [_cell([result for result in there if result.finding.dtype == dtype], excused) for dtype in dtypes]
            table.add_row(operation + (" (composed)" if operation in description.composed else ""), *cells)
        out.print(table)
    _plain(out, "passed / expected to fail / FAILED; - unsupported")


def _cell(results: Sequence[Result], excused: set[int]) -> Text:
    passed = sum(result.finding.verdict == Verdict.PASS for result in results)
    failing = [result for result in results if result.finding.verdict in FAILING]
    known = sum(id(result) in excused for result in failing)
    if not passed and not failing:
        return Text("-", "dim")
    cell = Text(str(passed), "green")
    if known or failing:
        cell.append(f" / {known}", "yellow")
    if len(failing) > known:
        cell.append(f" / {len(failing) - known}", "bold red")
    return cell


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
