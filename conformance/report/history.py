"""The history of a backend: its runs, oldest first, and for each of its modes the grades that it had in each of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.table import Table
from rich.text import Text

from conformance.deviations import DIRECTIONS
from conformance.grade import together
from conformance.history import Entry, Listed
from conformance.report.grades import legend, shown
from refimpl.enclosure import FORMATS
from refimpl.operations import operations

SHORT = 8  # hexadecimal digits of a digest


def backends(found: Sequence[Listed]) -> Table:
    """What a store has."""
    table = _table("backend", "versions", "runs", "incomplete", "first (UTC)", "last (UTC)")
    for one in found:
        table.add_row(one.name, ", ".join(one.versions), str(one.runs), str(one.cut), _time(one.first), _time(one.last))
    return table


def runs(entries: Sequence[Entry]) -> Table:
    """How it went, and what was asked; of a run that isn't whole nobody knows which failures were expected."""
    table = _table("run", "began (UTC)", "version", "vectors", "passed", "failed", "unexpected", "asked")
    for column in table.columns[:-1]:
        column.no_wrap = True
    for entry in entries:
        unexpected = str(entry.failed - entry.expected) + (f" + {entry.stale} stale" if entry.stale else "")
        counts = (str(entry.passed), str(entry.failed), unexpected if entry.whole else "incomplete")
        digest = entry.digest[:SHORT]
        asked = entry.selection.text.removeprefix("tier ")
        table.add_row(str(entry.run), _time(entry.began), entry.version, digest, *counts, asked)
    return table


def grades(entries: Sequence[Entry], operation: str | None, dtype: str | None) -> Iterator[Table]:
    """A table for each mode: rows of runs that ended, columns of operations, or of the dtypes of one operation."""
    for mode in dict.fromkeys(mode for entry in entries for mode in entry.modes):
        rows = [entry for entry in entries if entry.whole and mode in entry.modes]
        places = {spot for entry in rows for spot in entry.cells if spot[0] == mode}
        names = [name for name in operations() if any(spot[1] == name for spot in places)]
        dtypes = [name for name in FORMATS if any(spot[2] == name for spot in places)]
        by_dtype = operation is not None and dtype is None
        columns = [(operation, name) for name in dtypes] if by_dtype else [(name, None) for name in names]
        headings = dtypes if by_dtype else [operations()[name].prefix for name in names]
        if not columns:
            continue
        table = _table("run", "version", *headings)
        table.title = mode
        for entry in rows:
            table.add_row(str(entry.run), entry.version, *(_cell(entry, mode, *column) for column in columns))
        yield table


def key(operation: str | None, dtype: str | None, entries: Sequence[Entry]) -> str:
    """What the signs and the columns of the grades mean."""
    return legend({spot[1] for entry in entries for spot in entry.cells}, folded=operation is None and dtype is None)


def _cell(entry: Entry, mode: str, operation: str, dtype: str | None) -> Text:
    both = []
    for direction in DIRECTIONS:
        wanted = [
            cell
            for spot, cell in entry.cells.items()
            if spot[:2] == (mode, operation) and spot[3] == direction and dtype in (None, spot[2])
        ]
        both.append(together(wanted))
    return shown(both)


def _table(*headings: str) -> Table:
    """A table without lines; what is too wide for the terminal is folded, not cut off."""
    table = Table(*headings, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for column in table.columns:
        column.overflow = "fold"
    return table


def _time(stated: str) -> str:
    """Day and minute of an ISO 8601 time."""
    return stated[:16].replace("T", " ")
