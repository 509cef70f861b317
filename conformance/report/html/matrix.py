"""The matrix of grades, a table for each dtype, and what its signs mean; it needs no program. Every string is escaped here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from html import escape

from conformance.deviations import DIRECTIONS
from conformance.grade import Cell, Place
from conformance.record import Record
from conformance.report.grades import sign
from conformance.report.html.addresses import link
from conformance.report.html.failures import Failure
from refimpl.enclosure import FORMATS
from refimpl.operations import operations

WORDS = {
    "R": "correctly rounded",
    "S": "small relative error, also where the loss is nearly 0",
    "A": "all that correct code in this arithmetic can lose",
    "B": "A, and what log-sum-exp minus logit loses",
    "N": "sums kept in the narrow input dtype",
    "x": "not one class was kept",
    "?": "no number to compare",
    "-": "not supported, so not judged",
}
PLAIN = ("", "eager")  # modes that go unsaid

Row = tuple[str, str]  # a backend and a mode
Counts = Mapping[tuple[Place, bool], int]  # failures at a place, those that are known apart


def matrix(record: Record, failures: Sequence[Failure]) -> str:
    """A table of grades for each dtype in which anything was answered."""
    counts: Counts = Counter((_place(failure), failure[1] is not None) for failure in failures)
    modes = {name: dict.fromkeys(place.mode for place in record.cells if place.backend == name) for name in record.backends}
    rows = [(name, mode) for name, of in modes.items() for mode in of]
    tables = (_table(dtype, rows, record.cells, counts) for dtype in FORMATS)
    return f'<div class="matrix">{"".join(tables)}</div>'


def _place(failure: Failure) -> Place:
    result, finding = failure[0], failure[0].finding
    return Place(result.backend, result.mode, finding.operation, finding.dtype, finding.direction)


def _table(dtype: str, every: Sequence[Row], cells: Mapping[Place, Cell], counts: Counts) -> str:
    """The table of one dtype; backends without an answer in it are named below."""
    there = [name for name in operations() if any(place.operation == name for place in cells)]
    answered = {(place.backend, place.mode) for place, cell in cells.items() if place.dtype == dtype and cell.answered}
    if not answered:
        return ""
    heads = "".join(_head(name) for name in there)
    rows = [row for row in every if row in answered]
    body = "".join(_row(row, row[0] != before, dtype, there, cells, counts) for row, before in zip(rows, _before(rows), strict=True))
    silent = ", ".join(" ".join(row).removesuffix(" eager") for row in every if row not in answered)
    note = f'<p class="quiet">Not judged in {dtype}: {escape(silent)}</p>' if silent else ""
    return (
        f'<section class="grades"><div class="scroll"><table aria-label="Grades in {dtype}"><caption>{dtype}</caption>'
        f"<thead><tr><td></td>{heads}</tr></thead><tbody>{body}</tbody></table></div>{note}</section>"
    )


def _before(rows: Sequence[Row]) -> list[str]:
    """The backend of the row above each."""
    return ["", *(backend for backend, _ in rows[:-1])]


def _head(name: str) -> str:
    prefix, broken = operations()[name].prefix, name.replace("_", "_<wbr>")
    return f'<th scope="col"><abbr title="{name}">{prefix}</abbr><span>{broken}</span></th>'


def _row(row: Row, first: bool, dtype: str, there: Sequence[str], cells: Mapping[Place, Cell], counts: Counts) -> str:
    backend, mode = row
    named = f" <i>{escape(mode)}</i>" if mode not in PLAIN or not first else ""
    label = escape(backend) + named if first else f'<span class="hidden">{escape(backend)}</span>{named}'
    found = []
    for operation in there:
        places = [Place(backend, mode, operation, dtype, direction) for direction in DIRECTIONS]
        found.append(_cell([cells.get(place) for place in places], places, counts))
    return f'<tr{"" if first else " class=mode"}><th scope="row">{label}</th>{"".join(found)}</tr>'


def _cell(both: Sequence[Cell | None], places: Sequence[Place], counts: Counts) -> str:
    known = [cell for cell in both if cell is not None]
    if not any(cell.answered for cell in known):
        return '<td class="none"><span role="img" aria-label="not supported">–</span></td>'
    signs = [sign(cell) for cell in both]
    broken = sorted({id for cell in known for id in cell.broken})
    expected, unexpected = (sum(counts.get((place, flag), 0) for place in places) for flag in (True, False))
    place, composed = places[0], any(cell.composed for cell in known)
    target = link(view="findings", backend=place.backend, mode=place.mode, operation=place.operation, dtype=place.dtype)
    text = escape("; ".join(_words(place, signs, broken, expected, unexpected, composed)))
    grade = (signs[0] if signs[0] == signs[1] else "/".join(signs)).replace("-", "–")
    shown = '<em aria-hidden="true">!</em>' if unexpected else ""
    shown += f"<b>{grade}</b>" + ("<i>*</i>" if composed else "") + (f"<sup>{len(broken)}</sup>" if broken else "")
    status = "unexpected" if unexpected else "known" if expected else "pass"
    return f'<td class="{status}"><a href="{target}" title="{text}" aria-label="{text}">{shown}</a></td>'


def _words(place: Place, signs: Sequence[str], broken: Sequence[str], expected: int, unexpected: int, composed: bool) -> Iterator[str]:
    """A cell in words, for who reads by ear or asks what it means."""
    yield f"{place.backend} {place.mode}, {place.operation}, {place.dtype}"
    for direction, grade in zip(DIRECTIONS, signs, strict=True):
        yield f"{direction} {grade} ({WORDS[grade]})"
    yield f"{len(broken)} clauses broken: {', '.join(broken)}" if broken else "no clause broken"
    if unexpected:
        yield f"{unexpected} unexpected failures"
    if expected:
        yield f"{expected} known deviations"
    if composed:
        yield "composed of the library's own functions"


def legend() -> str:
    """What the signs of the matrix mean."""
    classes = "".join(f"<div><dt>{sign.replace('-', '–')}</dt><dd>{words}</dd></div>" for sign, words in WORDS.items())
    return (
        f'<dl class="legend classes" aria-label="Accuracy classes, tightest first">{classes}</dl>'
        '<p class="legend"><span class="sample pass">S/A</span> forward in class S, backward in A; one letter says both. '
        '<span class="sample known">S<sup>2</sup></span> 2 clauses of the specification are broken, as is known. '
        '<span class="sample unexpected"><em>!</em>x<sup>1</sup></span> something fails that nobody expected. '
        "* the library lacks the loss: its own functions were composed. A grade is the tightest class that held for every number; "
        "a clause can break (a nan, a missing exception) while all numbers are accurate. A cell opens its findings.</p>"
    )
