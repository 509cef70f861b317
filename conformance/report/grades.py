"""The tables that a run ends with: backends and operations, in each cell the grades and the number of broken clauses."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from rich.table import Table
from rich.text import Text

from conformance.backend import Result
from conformance.deviations import DIRECTIONS
from conformance.grade import Cell, Place, Standing, by_level, cells, standings, together
from refimpl.enclosure import FORMATS
from refimpl.operations import operations

FOLDED = " (the loosest of all dtypes)"
KEY = (
    f"S/A 2: grade S forward, A backward{FOLDED}, 2 clauses broken. Grades, best first: R S A B N; "
    "x: none was kept; ?: no number; -: unsupported; *: composed of the library's functions"
)
NAMED = 12  # clauses that are named in a line
GAP = 2  # columns between two of a table

Row = tuple[str, str]  # a backend and one of its modes


def grades(results: Sequence[Result], width: int, *, apart: bool = False) -> Iterator[Table]:
    """A table of all dtypes, or with `apart` one of each: rows of backends and modes, columns of operations by the prefix of their clauses.

    What is wider than `width` goes on in a further table, so that nothing is cut off.
    """
    found = cells(results)
    for title, dtypes in [(dtype, {dtype}) for dtype in FORMATS] if apart else [("", {place.dtype for place in found})]:
        there = {place: cell for place, cell in found.items() if place.dtype in dtypes}
        if there:
            yield from _tables(
                title,
                {label: {name: shown(both) for name, both in by_operation(there, row).items()} for row, label in rows(found).items()},
                width,
            )


def rows(found: Mapping[Place, Cell]) -> dict[Row, str]:
    """Each backend and mode with its name in a table: the mode that a backend names first goes unsaid."""
    there = dict.fromkeys((place.backend, place.mode) for place in found)
    first = dict(reversed(list(there)))
    return {(backend, mode): backend if mode == first[backend] else f"{backend} {mode}" for backend, mode in there}


def by_operation(found: Mapping[Place, Cell], row: Row) -> dict[str, list[Cell | None]]:
    """What a backend and mode showed forward and backward, of all dtypes together, by operation: of all that anything was found of."""
    own: dict[tuple[str, str], list[Cell]] = {}
    for place, cell in found.items():
        if (place.backend, place.mode) == row:
            own.setdefault((place.operation, place.direction), []).append(cell)
    there = [name for name in operations() if any(place.operation == name for place in found)]
    return {name: [together(own.get((name, direction), ())) for direction in DIRECTIONS] for name in there}


def key(results: Sequence[Result]) -> str:
    """What the signs and the columns of the table mean."""
    return legend({result.finding.operation for result in results}, folded=True)


def legend(names: Collection[str], *, folded: bool) -> str:
    """The same, of the operations of those names; `folded`: a grade is of all dtypes."""
    return (KEY if folded else KEY.replace(FOLDED, "")) + ". " + prefixes(names)


def prefixes(names: Collection[str]) -> str:
    """The operations by the prefixes of their clauses: "LSM log_softmax, NLL nll_loss"."""
    return ", ".join(f"{one.prefix} {name}" for name, one in operations().items() if name in names)


def _tables(title: str, there: Mapping[str, Mapping[str, Text]], width: int) -> Iterator[Table]:
    labels, texts = list(there), list(there.values())
    first = min(max(map(len, labels)), width // 3)
    taken = {name: GAP + max(len(operations()[name].prefix), *(of[name].cell_len for of in texts)) for name in texts[0]}
    for block in _blocks(list(taken), taken.__getitem__, width - first):
        table = Table(title=title or None, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 0, 0, GAP))
        table.add_column("", width=first, overflow="fold")
        for name in block:
            table.add_column(operations()[name].prefix, min_width=taken[name] - GAP, no_wrap=True)
        for label, of in zip(labels, texts, strict=True):
            table.add_row(label, *(of[name] for name in block))
        yield table


def _blocks(names: Sequence[str], taken: Callable[[str], int], width: int) -> list[list[str]]:
    """The names in turn, as many in a block as fit."""
    blocks: list[list[str]] = [[]]
    for name in names:
        if blocks[-1] and sum(map(taken, blocks[-1])) + taken(name) > width:
            blocks.append([])
        blocks[-1].append(name)
    return blocks


def shown(both: Sequence[Cell | None]) -> Text:
    """What was shown forward and backward, in one cell of a table."""
    known = [cell for cell in both if cell is not None]
    if not any(cell.answered for cell in known):
        return Text("-", "dim")
    letters = signs(both)
    text = Text(letters, "red" if "x" in letters else "green")
    if any(cell.composed for cell in known):
        text.append("*", "dim")
    broken = {id for cell in known for id in cell.broken}
    if broken:
        text.append(f" {len(broken)}", "yellow")
    return text


def signs(both: Sequence[Cell | None]) -> str:
    """The grades forward and backward: "S/A", or "S" where they are the same."""
    forward, backward = map(sign, both)
    return forward if forward == backward else f"{forward}/{backward}"


def sign(cell: Cell | None) -> str:
    """The grade of a cell; x where no class was kept, ? without a number to compare, - without an answer."""
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
