"""The table that a run ends with: backends, operations and dtypes, in each cell the grades and the number of broken clauses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.table import Table
from rich.text import Text

from conformance.backend import Result
from conformance.grade import Cell, Place, Standing, by_level, cells, standings
from refimpl.enclosure import FORMATS
from refimpl.operations import operations

KEY = (
    "S/A 2: grade S forward and A backward, 2 clauses broken. Classes, tightest first: R S A B N; x: not one was kept; "
    "?: no number to compare; -: unsupported; *: composed of the library's functions"
)
DIRECTIONS = ("forward", "backward")
NAMED = 12  # clauses that are named in a line


def grades(results: Sequence[Result]) -> Iterator[Table]:
    """A table for each dtype: rows of backends, and of their modes; columns of operations, by the prefix of their clauses."""
    found = cells(results)
    there = [name for name in operations() if any(place.operation == name for place in found)]
    rows = list(dict.fromkeys((place.backend, place.mode) for place in found))
    first = dict(reversed(rows))
    for dtype in FORMATS:
        if not any(place.dtype == dtype for place in found):
            continue
        table = Table(title=dtype, title_justify="left", title_style="bold", box=None, pad_edge=False)
        table.add_column("", min_width=max(len(f"{backend} {mode}") for backend, mode in rows), no_wrap=True)
        for name in there:
            table.add_column(operations()[name].prefix, min_width=7, no_wrap=True)
        for backend, mode in rows:
            label = backend if mode == first[backend] else f"{backend} {mode}"
            table.add_row(label, *(_cell(found, backend, mode, name, dtype) for name in there))
        yield table


def key(results: Sequence[Result]) -> str:
    """What the signs and the columns of the table mean."""
    there = {result.finding.operation for result in results}
    return KEY + "\n" + ", ".join(f"{one.prefix} {name}" for name, one in operations().items() if name in there)


def _cell(found: Mapping[Place, Cell], backend: str, mode: str, operation: str, dtype: str) -> Text:
    both = [found.get(Place(backend, mode, operation, dtype, direction)) for direction in DIRECTIONS]
    known = [cell for cell in both if cell is not None]
    if not any(cell.answered for cell in known):
        return Text("-", "dim")
    signs = [_sign(cell) for cell in both]
    text = Text(signs[0] if signs[0] == signs[1] else "/".join(signs), "red" if "x" in signs else "green")
    if any(cell.composed for cell in known):
        text.append("*", "dim")
    broken = {id for cell in known for id in cell.broken}
    if broken:
        text.append(f" {len(broken)}", "yellow")
    return text


def _sign(cell: Cell | None) -> str:
    if cell is None or not cell.answered:
        return "-"
    if not cell.measured:
        return "?"
    return cell.grade or "x"


def clauses(results: Sequence[Result]) -> str:
    """The clauses that one backend kept and broke, by level: "MUST: 61 kept, 2 inaccurate (KLD-1, SCE-3); SHOULD: 4 kept"."""
    parts = []
    for level, of_level in by_level(standings(results)).items():
        counts = [f"{len(ids)} {standing}" + _named(ids, standing) for standing, ids in of_level.items() if ids]
        parts.append(f"{level}: {', '.join(counts)}")
    return "; ".join(parts)


def suspicion(results: Sequence[Result]) -> str:
    """What is inside its bounds and yet no likely outcome of the promised arithmetic, the farthest from it first; "" where nothing is."""
    found = [(one, one.finding.statistics) for one in results if one.finding.statistics is not None]
    suspicious = [(one, there) for one, there in found if there.suspicious]
    if not suspicious:
        return ""
    one, worst = max(suspicious, key=lambda pair: pair[1].excess)
    if abs(worst.bias) > worst.bias_allowed:
        what, value, allowed = "errors lean to one side: a bias", f"{worst.bias:+.2g}", worst.bias_allowed
    else:
        what, value, allowed = "errors scatter widely: a spread", f"{worst.spread:.2g}", worst.spread_allowed
    where = f"{one.finding.case}, {one.finding.direction}, {one.mode}"
    also = f"; {len(suspicious)} tensors in all" if len(suspicious) > 1 else ""
    return f"{what} of {value} of the bound, where sums as promised have at most {allowed:.2g} ({where}){also}"


def _named(ids: Sequence[str], standing: Standing) -> str:
    if standing == Standing.KEPT:
        return ""
    return f" ({', '.join(ids[:NAMED])}{', ...' if len(ids) > NAMED else ''})"
