"""The report for people: progress while it runs, then a summary that fits a screen.

Colour and the progress bar appear on a terminal only; NO_COLOR is respected. On a terminal lines are folded at words to its width.
"""

from __future__ import annotations

import re
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from conformance.finding import Verdict
from conformance.grade import Standing, by_level, standings
from conformance.record import Record
from conformance.report import grades
from conformance.report.highlights import SHOWN, counts, told, worst_of
from conformance.runner import Result

PLAIN_WIDTH = 140  # columns where there is no terminal to ask
NARROW = 12  # columns for the names of clauses, however narrow the terminal
LINE = 24  # columns of those names where they have to be folded
COUNTS = ("passed", "expected", "unexpected")
LABELLED = re.compile(r" +(?:(?:expected|actual|error|why) +)?")  # what a folded line is hung from


def console(stream: TextIO) -> Console:
    """A console that folds and colours nothing where the output is read by a program, and takes every text as it stands."""
    if stream.isatty():
        return Console(file=stream, markup=False, emoji=False)
    return Console(file=stream, width=PLAIN_WIDTH, soft_wrap=True, force_terminal=False, markup=False, emoji=False)


@contextmanager
def progress(out: Console, total: int) -> Iterator[Progress | None]:
    """A progress bar over that many calls, or None where no one is watching."""
    if not out.is_terminal:
        yield None
        return
    tally = TextColumn(" ".join(f"{{task.fields[{name}]}} {name}" for name in COUNTS))
    name = TextColumn("{task.description}", markup=False)
    columns = (name, BarColumn(None), MofNCompleteColumn(), tally, TimeRemainingColumn(compact=True))
    with Progress(*columns, console=out, transient=True, expand=True) as bar:
        fields: dict[str, Any] = dict.fromkeys(COUNTS, 0)
        bar.add_task("", total=total, **fields)
        yield bar


def follow(results: Iterable[Result], bar: Progress | None, count: Callable[[Result], str]) -> Iterator[Result]:
    """The results as they come, moving the bar once for each call; `count` says which of `COUNTS` a result adds to, "" for none."""
    tally: Counter[str] = Counter()
    for result in results:
        if bar is not None:
            tally[count(result)] += 1
            step = result.finding.direction == "forward"
            fields: dict[str, Any] = {name: tally[name] for name in COUNTS}
            bar.update(bar.task_ids[0], advance=step, description=result.backend[:16], **fields)
        yield result


def summary(out: Console, record: Record, *, kept: Path | None = None, apart: bool = False) -> None:
    """The grades, with `apart` by dtype; the backends; the worst findings in full; what no longer holds; how to see more; one line.

    `kept` is the file that keeps the results.
    """
    for table in grades.grades(record.results, out.width, apart=apart):
        out.print(table)
        if apart:
            out.print()
    _plain(out, grades.key(record.results))
    out.print()
    out.print(_backends(record, out.width))
    for backend in record.backends:
        if suspicion := grades.suspicion(record.of(backend)):
            _plain(out, f"{backend}: {suspicion}")
    heading, found = worst_of(record)
    if found:
        out.print()
        _plain(out, heading)
    for result, deviation in found[:SHOWN]:
        _plain(out, told(record, result, deviation))
    for comparison in record.comparisons.values():
        for sentence in (*comparison.problems, *comparison.notes):
            out.print()
            _plain(out, sentence)
    name = "FILE" if kept is None else str(kept)
    first = "--json FILE keeps all results; then " if kept is None else ""
    _plain(out, f"More: {first}lossref report {name} --html report.html, or --by-dtype")
    _plain(out, counts(record))


def _backends(record: Record, width: int) -> Table:
    """A row for each backend: its version, how many tensors passed, failed and were unsupported, the clauses that were broken."""
    names = {name: f"{name} {about.version}" for name, about in record.descriptions.items()}
    first = min(max(map(len, names.values())), width // 4)
    heads = (*COUNTS, "unsupported")
    left = max(NARROW, width - first - sum(len(head) + grades.GAP for head in heads) - grades.GAP)
    table = Table(box=None, pad_edge=False, padding=(0, 0, 0, grades.GAP))
    table.add_column("", width=first, overflow="fold")
    for head in heads:
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("clauses broken", width=left)
    for name, label in names.items():
        own, comparison = record.of(name), record.comparisons[name]
        verdicts = Counter(result.finding.verdict for result in own)
        numbers = verdicts[Verdict.PASS], len(comparison.expected), len(comparison.unexpected), verdicts[Verdict.UNSUPPORTED]
        table.add_row(label, *map(str, numbers), _broken(own, max(left, LINE)))
    return table


def _broken(results: Sequence[Result], width: int) -> str:
    """The clauses that one backend broke, those that MUST hold first, as many as fit into a line: "3 of 42: MUST SCE-1 SCE-4 +1"."""
    standing = standings(results)
    words = []
    for level, of in by_level(standing).items():
        ids = sorted(of[Standing.BROKEN] + of[Standing.INACCURATE], key=lambda id: (id.partition("-")[0], int(id.partition("-")[2])))
        words += [f"{level} {id}" if not place else id for place, id in enumerate(ids)]
    if not words:
        return f"0 of {len(standing)}"
    text, left = f"{len(words)} of {len(standing)}:", len(words)
    for word in words:
        if len(f"{text} {word} +{left}") > width and left < len(words):
            return f"{text} +{left}"
        text, left = f"{text} {word}", left - 1
    return text


def _plain(out: Console, text: str) -> None:
    """Print text as it is: no markup, no highlighting; on a terminal folded, save what is to be copied."""
    lines = [_folded(line, out.width) for line in text.splitlines()] if out.is_terminal else [text]
    out.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)


def _folded(line: str, width: int) -> str:
    if len(line) <= width or line.lstrip().startswith("again "):
        return line
    hung = LABELLED.match(line)
    indent = " " * (hung.end() if hung else 0)
    return textwrap.fill(line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
