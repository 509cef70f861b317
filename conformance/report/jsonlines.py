"""Results as JSON lines: a header, a line for each tensor of each case and mode, a footer with counts, grades, clauses and comparisons.

The header says what was run, the footer that it ran to its end: a file without its footer, which is what an interrupted run leaves, is
refused. Non-finite numbers are strings ("inf", "-inf", "nan"); null is a number that wasn't measured. `kept` are the accuracy classes
that a tensor kept, null where it has no number to compare; `statistics` are those of its signed ratios, null where there are none
(`conformance.statistics`). What was expected and what came is written where it isn't a pass, and of the largest ratio of each
operation, dtype, direction and mode. `known` is the place of the deviation that excuses a failure among the footer's `deviations`.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from conformance.adapter import Description, Idiom, Mode
from conformance.backend import Result
from conformance.bound import Promise, Summation
from conformance.complaint import Complaint
from conformance.deviations import FAILING, Comparison, Deviation
from conformance.dialects import Dialect
from conformance.finding import Finding, Statistics, Told, Verdict
from conformance.grade import Cell, Place, by_level, standings
from conformance.record import Record, Selection

FORMAT = "lossref-results/1"
MOMENTS = ("bias", "spread", "bias_allowed", "spread_allowed")


class ReportError(Complaint):
    """A file of results that can't be used or written; the message names it and the remedy."""


def write(path: Path, record: Record) -> None:
    """Write a record, with a footer if it is whole; raises `ReportError` where the file can't be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8") as file:
            file.writelines(text + "\n" for text in lines(record))
    except OSError as error:
        raise ReportError(f"{path} can't be written ({error.strerror}); name a file in a folder that you may write to") from error


def lines(record: Record) -> Iterator[str]:
    """The lines of a file."""
    yield _text(
        {
            "format": FORMAT,
            "vectors": record.digest,
            "selection": asdict(record.selection),
            "began": record.began,
            "seconds": _number(record.seconds),
            "machine": record.machine,
            "backends": {name: asdict(about) for name, about in record.descriptions.items()},
        }
    )
    worst = {id(cell.worst) for cell in record.cells.values()}
    deviations = list({id(one): one for comparison in record.comparisons.values() for _, one in comparison.expected}.values())
    place = {id(one): number for number, one in enumerate(deviations)}
    known = {id(result): place[id(one)] for comparison in record.comparisons.values() for result, one in comparison.expected}
    for result in record.results:
        yield _text({**line(result, told=id(result.finding) in worst), "known": known.get(id(result))})
    if not record.whole:
        return
    counts = Counter(result.finding.verdict.value for result in record.results)
    yield _text(
        {
            "end": FORMAT,
            "results": counts.total(),
            "verdicts": dict(sorted(counts.items())),
            "grades": [_earned(place, cell) for place, cell in record.cells.items() if cell.answered],
            "clauses": {name: by_level(standings(record.of(name))) for name in record.backends},
            "deviations": [asdict(one) for one in deviations],
            "comparisons": {
                name: {"problems": comparison.problems, "notes": comparison.notes} for name, comparison in record.comparisons.items()
            },
        }
    )


def _earned(place: Place, cell: Cell) -> dict[str, Any]:
    """A grade, with the largest ratio and where it was found."""
    worst = cell.worst
    return {
        **asdict(place),
        "grade": cell.grade,
        "answered": cell.answered,
        "measured": cell.measured,
        "ratio": None if worst is None else _number(worst.ratio),
        "case": None if worst is None else worst.case,
        "worst_index": None if worst is None else worst.worst_index,
        "broken": cell.broken,
    }


def line(result: Result, *, told: bool = False) -> dict[str, Any]:
    """One line; with what is `told` of its numbers, of a failure in any case."""
    finding = result.finding
    return {
        "case": finding.case,
        "operation": finding.operation,
        "direction": finding.direction,
        "output": finding.output,
        "mode": result.mode,
        "dtype": finding.dtype,
        "backend": result.backend,
        "number": result.number,
        "verdict": finding.verdict,
        "ratio": _number(finding.ratio, 17),  # exact: the largest is found again
        "ulps": _number(finding.ulps),
        "class": result.accuracy,
        "composed": result.composed,
        "choice": dict(finding.choice),
        "worst_index": finding.worst_index,
        "clauses": finding.clauses,
        "flags": finding.flags,
        "seconds": _number(result.seconds, 4),
        "kept": None if finding.kept is None else "".join(finding.kept),
        "other": dict(finding.other),
        "told": asdict(finding.told) if told or finding.verdict != Verdict.PASS else {"side": finding.side},
        "note": finding.note,
        "statistics": _statistics(finding.statistics),
    }


def _statistics(found: Statistics | None) -> dict[str, Any] | None:
    """Those of a tensor, in units of its bound, and whether they are suspicious."""
    if found is None:
        return None
    return {name: _number(value) for name, value in asdict(found).items()} | {"count": found.count, "suspicious": found.suspicious}


def read(path: Path) -> Record:
    """The record in a file; raises `ReportError` where it isn't whole."""
    try:
        documents = [json.loads(text) for text in path.read_text(encoding="utf-8").rstrip("\n").split("\n")]
    except OSError as error:
        raise ReportError(f"{path} can't be read ({error.strerror}); name a file that `lossref run --json` wrote") from error
    except ValueError as error:
        raise ReportError(f"{path} has a line that is no JSON ({error}); write it again with `lossref run --json`") from error
    if not documents or not all(isinstance(document, dict) for document in documents) or documents[0].get("format") != FORMAT:
        raise ReportError(f"{path} doesn't begin with the header of {FORMAT}; write it with `lossref run --json`")
    header, *found, footer = documents if len(documents) > 1 else (*documents, {})
    if footer.get("end") != FORMAT or footer.get("results") != len(found):
        raise ReportError(f"{path} has no footer, or fewer lines than it counts: the run was cut short; run it again")
    try:
        return _record(header, found, footer)
    except (KeyError, TypeError, ValueError) as error:
        raise ReportError(f"{path} lacks what {FORMAT} has ({error!r}); write it again with `lossref run --json`") from error


def _record(header: Mapping[str, Any], found: list[dict[str, Any]], footer: Mapping[str, Any]) -> Record:
    results = tuple(map(_result, found))
    deviations = [Deviation(**{**one, "cases": tuple(one["cases"])}) for one in footer["deviations"]]
    known = [(result, one["known"]) for result, one in zip(results, found, strict=True)]
    comparisons = {}
    for name, stated in footer["comparisons"].items():
        failures = [(result, place) for result, place in known if result.backend == name and result.finding.verdict in FAILING]
        comparisons[name] = Comparison(
            unexpected=tuple(result for result, place in failures if place is None),
            expected=tuple((result, deviations[place]) for result, place in failures if place is not None),
            problems=tuple(stated["problems"]),
            notes=tuple(stated["notes"]),
        )
    return Record(
        digest=header["vectors"],
        selection=Selection(**{**header["selection"], "cases": tuple(header["selection"]["cases"])}),
        descriptions={name: _description(about) for name, about in header["backends"].items()},
        results=results,
        comparisons=comparisons,
        began=header["began"],
        seconds=float(header["seconds"]),
        machine=header["machine"],
    )


def _result(one: Mapping[str, Any]) -> Result:
    stated = one["statistics"]
    finding = Finding(
        case=one["case"],
        operation=one["operation"],
        direction=one["direction"],
        output=one["output"],
        dtype=one["dtype"],
        verdict=Verdict(one["verdict"]),
        ratio=_float(one["ratio"]),
        ulps=_float(one["ulps"]),
        choice=one["choice"],
        worst_index=None if one["worst_index"] is None else tuple(one["worst_index"]),
        clauses=tuple(one["clauses"]),
        flags=tuple(one["flags"]),
        spelled=Told(**one["told"]),
        kept=None if one["kept"] is None else tuple(one["kept"]),
        accuracy=one["class"],
        other=one["other"],
        statistics=None if stated is None else Statistics(**{name: float(stated[name]) for name in MOMENTS}, count=stated["count"]),
        note=one["note"],
    )
    seconds = _float(one["seconds"])
    return Result(
        one["backend"], one["mode"], one["class"], one["composed"], math.nan if seconds is None else seconds, finding, one["number"]
    )


def _description(about: Mapping[str, Any]) -> Description:
    """A description again, of what JSON made of it."""
    modes = []
    for mode in about["modes"]:
        promises = None if mode["promises"] is None else _promises(mode["promises"])
        cases = None if mode["cases"] is None else tuple(mode["cases"])
        modes.append(Mode(**{**mode, "cases": cases, "promises": promises, "idiom": _idiom(mode["idiom"])}))
    lists = {name: tuple(about[name]) for name in ("operations", "composed", "constants")}
    dialect = about["dialect"]
    dialect = Dialect(**{**dialect, "source": tuple(dialect["source"]), "silent": tuple(dialect["silent"])})
    changed = {"modes": tuple(modes), "promises": _promises(about["promises"]), "dialect": dialect, "idiom": _idiom(about["idiom"])}
    return Description(**{**about, **lists, **changed})


def _promises(stated: Mapping[str, Any]) -> dict[str, Promise]:
    return {key: Promise(**{**one, "summation": Summation(**one["summation"])}) for key, one in stated.items()}


def _idiom(stated: Mapping[str, Any] | None) -> Idiom | None:
    return None if stated is None else Idiom(**stated)


def _float(x: float | str | None) -> float | None:
    return None if x is None else float(x)


def _number(x: float | None, digits: int = 6) -> float | str | None:
    if x is None:
        return None
    return float(f"{x:.{digits}g}") if math.isfinite(x) else str(float(x))


_text = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
