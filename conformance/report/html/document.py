"""What the page's program reads: a record as tables of columns, which deflate well.

A column of numbers refers to a table by its rows, counted from 0, with -1 for none. Ratios and ulps have three digits; what isn't finite
is a string ("inf"), what wasn't measured null, and so the index of what is no element: a tensor as a whole, the sum
of all. `results` are those that were answered; of the rest only counts are kept.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Mapping
from typing import Any

from conformance import spec
from conformance.adapter import Description
from conformance.backend import Result
from conformance.bound import Promise
from conformance.case import FLAGS, Vector
from conformance.finding import Finding
from conformance.grade import ANSWERED, standings
from conformance.record import Record
from conformance.report import grades
from conformance.report.chapter import plain
from conformance.report.html import scripts
from conformance.report.html.bits import bits
from conformance.report.html.facts import facts
from conformance.report.html.failures import Failure
from conformance.report.html.matrix import WORDS
from refimpl.enclosure import FORMATS
from refimpl.operations import operations

ATTRIBUTES = ("backend", "mode", "operation", "dtype", "direction", "output")
TOLD = ("inputs", "expected", "expected_hex", "radius", "actual", "actual_hex", "allowed", "format")


class Table:
    """A list without repetitions, whose rows are referred to by number."""

    def __init__(self) -> None:
        self._rows: dict[Hashable, int] = {}

    def row(self, value: Hashable) -> int:
        """The number of the row that holds this, a new one where there is none."""
        return self._rows.setdefault(value, len(self._rows))

    def rows(self) -> list[Any]:
        """What it holds, in order."""
        return list(self._rows)


def document(record: Record, vectors: Mapping[str, Vector], failures: list[Failure]) -> dict[str, Any]:
    """All that the page knows; `failures` are the record's, worst first."""
    answered = [result for result in record.results if result.finding.verdict in ANSWERED]
    used = dict.fromkeys(result.finding.case for result in answered)
    return {
        "tier": record.selection.tier,
        "backends": [_backend(record, name) for name in record.backends],
        "operations": [
            {"name": one.name, "prefix": one.prefix, "summary": one.summary}
            for one in operations().values()
            if any(result.finding.operation == one.name for result in record.results)
        ],
        "dtypes": [name for name in FORMATS if any(result.finding.dtype == name for result in record.results)],
        "formats": {one.name: [one.precision, one.emax.bit_length() + 1] for one in FORMATS.values()},
        "clauses": [_clause(one) for one in spec.sections().values()],
        "classes": WORDS,
        "flags": FLAGS,
        "cases": [facts(vectors[case].case) for case in used],
        **_results(record, vectors, answered, failures),
        "unsupported": _unsupported(record),
    }


def _backend(record: Record, name: str) -> dict[str, Any]:
    about, comparison = record.descriptions[name], record.comparisons.get(name)
    own = record.of(name)
    return {
        "name": name,
        "versions": [f"{package} {version}" for package, version in about.versions.items()],
        "command": about.command or name,
        "device": about.device,
        "dialect": about.dialect.name,
        "promises": _promises(about),
        "suspicion": grades.suspicion(own),
        "problems": list(comparison.problems) if comparison else [],
        "notes": list(comparison.notes) if comparison else [],
        "standings": {id: str(standing) for id, standing in standings(own).items()},
    }


def _promises(about: Description) -> list[list[str]]:
    """What is promised, by mode and by dtype, or operation and dtype."""
    rows = [["", key, _promise(promise)] for key, promise in about.promises.items()]
    rows += [[mode.name, key, _promise(promise)] for mode in about.modes for key, promise in (mode.promises or {}).items()]
    return rows


def _promise(promise: Promise) -> str:
    kept = "" if promise.store in (None, promise.compute) else f", stored as {promise.store}"
    return f"class {promise.accuracy}, computed in {promise.compute}{kept}, sums {promise.summation.kind}"


def _clause(section: spec.Section) -> dict[str, Any]:
    parts = [[label, plain(text)] for label, text in section.parts.items()]
    return {"id": section.id, "level": section.level, "statement": plain(section.statement), "chapter": section.chapter, "parts": parts}


def _results(record: Record, vectors: Mapping[str, Vector], answered: list[Result], failures: list[Failure]) -> dict[str, Any]:
    known = {id(result): deviation for result, deviation in failures if deviation is not None}
    deviations, places, sets, texts, said, cases = Table(), Table(), Table(), Table(), Table(), Table()
    written = scripts.chosen(failures, vectors, record.descriptions)
    failing = {id(result) for result, _ in failures}
    worst = {id(cell.worst) for cell in record.cells.values()}
    columns: dict[str, list[Any]] = {name: [] for name in ("place", "case", "verdict", "ratio", "ulps", "side", "clauses", "kept")}
    columns |= {name: [] for name in ("known", "note", "other", "told")}
    told: dict[str, list[Any]] = {name: [] for name in (*TOLD, "index", "bits", "script")}
    for result in answered:
        finding, deviation = result.finding, known.get(id(result))
        place = (result.backend, result.mode, finding.operation, finding.dtype, finding.direction, finding.output)
        row = -1
        if id(result) in failing or id(finding) in worst:
            row = len(told["script"])
            _tell(told, finding, written.get(id(result), ""))
        entry = {
            "place": places.row((*place, result.accuracy, result.composed)),
            "case": cases.row(finding.case),
            "verdict": texts.row(finding.verdict.value),
            "ratio": number(finding.ratio),
            "ulps": number(finding.ulps),
            "side": finding.side,
            "clauses": sets.row(finding.clauses),
            "kept": -1 if finding.kept is None else texts.row("".join(finding.kept)),
            "known": -1 if deviation is None else deviations.row(deviation),
            "note": said.row(finding.note) if finding.note else -1,
            "other": said.row(_choices(finding.other)) if finding.other else -1,
            "told": row,
        }
        for name, value in entry.items():
            columns[name].append(value)
    return {
        "places": places.rows(),
        "sets": sets.rows(),
        "texts": texts.rows(),
        "notes": said.rows(),
        "deviations": [
            {"clause": one.clause, "reason": one.reason, "issue": one.issue, "until": one.until, "varies": one.varies}
            for one in deviations.rows()
        ],
        "results": columns,
        "told": told,
    }


def _tell(told: dict[str, list[Any]], finding: Finding, script: str) -> None:
    """One more row of what is told."""
    for name in TOLD:
        told[name].append(getattr(finding.told, name))
    told["index"].append(None if finding.worst_index is None else ", ".join(map(str, finding.worst_index)))
    told["bits"].append(bits(finding.told))
    told["script"].append(script)


def _choices(choices: Mapping[str, str]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in choices.items())


def _unsupported(record: Record) -> list[list[Any]]:
    """What wasn't answered, by place and reason, with how often."""
    counts = Counter(
        (result.backend, result.mode, result.finding.operation, result.finding.dtype, result.finding.direction, result.finding.note)
        for result in record.results
        if result.finding.verdict not in ANSWERED
    )
    return [[*place, count] for place, count in counts.items()]


def number(x: float | None) -> float | str | None:
    """Three digits, never so few that a ratio past 1 reads as 1."""
    if x is None:
        return None
    if not math.isfinite(x):
        return str(float(x))
    short = float(f"{x:.3g}")
    return x if short <= 1.0 < x else short
