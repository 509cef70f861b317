"""What a search says: each finding as it comes, and at the end what was found, what was covered and what was not."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.table import Table

from conformance.deviations import DIRECTIONS
from conformance.report.message import figure
from conformance.search.coverage import Coverage
from conformance.search.differ import Parting, Partings
from conformance.search.engine import Limits, Search
from conformance.search.session import Found, Session
from conformance.search.subject import Cell, Subject
from conformance.texts import decimal_text, element_text, inputs_text, place_text
from refimpl.enclosure import FORMATS, format_of
from refimpl.operation import Number, OneOf, Switch
from refimpl.operations import operation, operations

LABEL = 13  # columns of the label of a line that belongs to a finding
SHOWN = 10  # partings


def head(subjects: Sequence[Subject], cells: Sequence[Cell], limits: Limits, folder: Path) -> str:
    """What is searched."""
    whose = " and ".join(
        f"{one.about.name} {one.about.version}".strip() + f" ({', '.join(dict.fromkeys(map(one.mode, cells)))})" for one in subjects
    )
    names, dtypes = (list(dict.fromkeys(part)) for part in zip(*cells, strict=True))
    what = f"{', '.join(names)} in {', '.join(dtypes)}"
    return f"Search of {whose}: {what}; {limits.seconds / 60:.3g} minutes, seed {limits.seed}; findings go to {folder}"


def told(found: Found) -> str:
    """The message on a finding, with what is known of it."""
    lines = [found.text]
    when = "by an earlier search" if found.before else f"after {found.after:.0f} s and {found.calls} calls"
    edges = ", ".join(found.failure.cause.edges) or "an ordinary call"
    also = "; ".join(f"{place_text(one.cause.tensor, one.cause.direction, None)}: {one.cause.symptom}" for one in found.others)
    for label, text in (("also", also), ("found", f"{when}, in {edges}"), ("listed as", "; ".join(found.defects)), ("but", found.doubt)):
        if text:
            lines.append(" " * 6 + label.ljust(LABEL) + text)
    return "\n".join(lines)


def table(coverage: Coverage) -> Table:
    """A row for each operation and dtype that was asked: the calls, how large they were, the worst ratio and the failures by direction."""
    made = Table(box=None, pad_edge=False)
    results = [f"{text} {direction}" for direction in DIRECTIONS for text in ("worst", "failed")]
    for head in ("", "calls", "most classes", "most rows", *results):
        made.add_column(head, justify="right" if head else "left")
    for cell, reached in coverage.reached.items():
        words = [f"{cell[0]} {cell[1]}", str(reached.calls), str(reached.classes), str(reached.rows)]
        for direction in DIRECTIONS:
            there = [worst for (name, dtype, along, _), worst in coverage.worst.items() if (name, dtype, along) == (*cell, direction)]
            passed = [worst.ratio for worst in there if worst.passed]
            words += [figure(max(passed)) if passed else "-", str(sum(worst.failed for worst in there))]
        made.add_row(*words)
    return made


def covered(coverage: Coverage, cells: Sequence[Cell], search: Search) -> Iterator[str]:
    """Sentences on what the calls reached, and what they did not."""
    asked = [cell for cell in cells if coverage.reached[cell].calls] if coverage.reached else []
    never = [f"{name} {dtype}" for name, dtype in cells if (name, dtype) not in asked]
    total = len(operations()) * len(FORMATS)
    yield (
        f"Asked: {len(asked)} of the {len(cells)} pairs of an operation and a dtype that were to be asked ({total} exist)"
        + (f"; never {', '.join(never)}" if never else "")
    )
    for name, how in search.given_up.items():
        yield f"Given up: {name}, which was lost too often: {how}"
    undefined = sum(one.undefined for one in coverage.reached.values())
    if undefined:
        yield f"Not asked: {undefined} calls for which the dialect's choices are not defined"
    if search.skipped:
        yield f"Not asked: {search.skipped} calls like those at which the backend was lost"
    for name, values in _parameters(cells).items():
        seen = coverage.parameters[name]
        missed = [value for value in values if not seen[value]]
        reached = ", ".join(f"{value} {count}" for value, count in seen.most_common()) or "nothing"
        yield f"{name}: {reached}" + (f"; never {', '.join(missed)}" if missed else "")
    yield f"In memory: {', '.join(f'{name} {count}' for name, count in coverage.layouts.most_common())}"


def _parameters(cells: Sequence[Cell]) -> dict[str, list[str]]:
    """The parameters of the operations that were to be asked, each with the values that there are to reach."""
    found: dict[str, list[str]] = {}
    for name in dict.fromkeys(name for name, _ in cells):
        for parameter, kind in operation(name).parameters.items():
            values = [str(kind.default)]
            if isinstance(kind, OneOf):
                values = list(kind.options)
            elif isinstance(kind, Switch):
                values = ["False", "True"]
            elif isinstance(kind, Number):
                values = [str(kind.low), str(kind.high), "between"]
            found.setdefault(parameter, []).extend(value for value in values if value not in found.get(parameter, []))
    return found


def known(session: Session, backend: str) -> Iterator[str]:
    """Which of the listed defects of a backend were found, and which were missed."""
    found, missed = session.rediscovered(backend)
    if not found and not missed:
        yield f"{backend}: no defect of it is listed"
        return
    yield f"{backend}: {len(found)} of the {len(found) + len(missed)} listed defects were found again"
    yield from (f"  found   {one.title}" for one in found)
    yield from (f"  missed  {one.title}" for one in missed)


def mended(paths: Sequence[Path]) -> Iterator[str]:
    """On candidates of earlier searches that don't fail any more."""
    for path in paths:
        yield f"{path} doesn't fail any more; delete it"


def partings(found: Partings) -> Iterator[str]:
    """Where two backends part most, by how much, and who is nearer to the truth."""
    first, second = found.first.about.name, found.second.about.name
    yield f"{found.compared} tensors of {first} and {second} were compared; {found.apart} more are held against different definitions"
    for parting in sorted(found.furthest.values(), key=lambda one: -one.distance)[:SHOWN]:
        case, (mine, theirs) = parting.case, parting.findings
        yield f"{case.operation}  {case.dtype}  {mine.direction}: they part by {figure(parting.distance)} of the larger bound"
        yield f"      {place_text(mine.output, mine.direction, parting.place)}    {inputs_text(case, parting.place)}"
        yield f"        {'truth':<{LABEL}}{decimal_text(parting.truth, format_of(case.dtype))}"
        for name, actual, error, finding in zip((first, second), parting.actual, parting.errors, (mine, theirs), strict=True):
            yield f"        {name:<{LABEL}}{element_text(actual)}    {figure(error)} away: {finding.verdict}"
        yield f"        {'nearer':<{LABEL}}{nearer(parting, first, second)}"


def nearer(parting: Parting, first: str, second: str) -> str:
    """Who is nearer to the truth; a nan is further from a number than anything."""
    one, other = (math.inf if math.isnan(error) else error for error in parting.errors)
    return "neither" if one == other else first if one < other else second


def counts(session: Session) -> str:
    """What it all came to: "8 causes, 3 of them no listed defect; 12000 calls, 20 a second"."""
    causes, new, calls, seconds = len(session.found), len(session.unknown), session.coverage.calls, session.seconds
    return f"{causes} causes, {new} of them no listed defect; {calls} calls in {seconds:.0f} s, {calls / seconds:.3g} a second"
