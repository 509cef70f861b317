"""Results as JSON lines: a header, a line for each tensor of each case and mode, a footer with the counts, grades and clauses.

The header says what was run, the footer that it ran to its end: a file without its footer, which is what an interrupted run leaves, is
refused. Non-finite numbers are strings ("inf", "-inf", "nan"); null is a number that wasn't measured. `kept` are the accuracy classes
that a tensor kept, null where it has no number to compare; `statistics` are those of its signed ratios, null where there are none
(`conformance.statistics`). What was expected and what came is written where it isn't a pass.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from conformance.adapter import Description
from conformance.complaint import Complaint
from conformance.finding import Statistics, Verdict
from conformance.grade import Cell, Place, by_level, cells, standings
from conformance.runner import Result

FORMAT = "lossref-results/1"


class ReportError(Complaint):
    """A file of results that can't be used or written; the message names it and the remedy."""


def write(path: Path, results: Iterable[Result], descriptions: Mapping[str, Description], digest: str, *, whole: bool = True) -> None:
    """Write the results, with a footer if they are the `whole` run's; raises `ReportError` where the file can't be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8") as file:
            file.writelines(text + "\n" for text in lines(results, descriptions, digest, whole=whole))
    except OSError as error:
        raise ReportError(f"{path} can't be written ({error.strerror}); name a file in a folder that you may write to") from error


def lines(results: Iterable[Result], descriptions: Mapping[str, Description], digest: str, *, whole: bool = True) -> Iterator[str]:
    """The lines of a file."""
    yield _text({"format": FORMAT, "vectors": digest, "backends": {name: _described(d) for name, d in descriptions.items()}})
    counts: Counter[str] = Counter()
    results = list(results)
    for result in results:
        counts[result.finding.verdict] += 1
        yield _text(record(result))
    if not whole:
        return
    earned = [_earned(place, cell) for place, cell in cells(results).items() if cell.answered]
    stand = {name: by_level(standings(one for one in results if one.backend == name)) for name in descriptions}
    verdicts = dict(sorted(counts.items()))
    yield _text({"end": FORMAT, "results": counts.total(), "verdicts": verdicts, "grades": earned, "clauses": stand})


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


def record(result: Result) -> dict[str, Any]:
    """One line."""
    finding = result.finding
    told = finding.verdict != Verdict.PASS
    return {
        "case": finding.case,
        "operation": finding.operation,
        "direction": finding.direction,
        "output": finding.output,
        "mode": result.mode,
        "dtype": finding.dtype,
        "backend": result.backend,
        "verdict": finding.verdict,
        "ratio": _number(finding.ratio),
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
        "expected": finding.expected if told else "",
        "actual": finding.actual if told else "",
        "allowed": finding.allowed if told else "",
        "note": finding.note,
        "statistics": _statistics(finding.statistics),
    }


def _statistics(found: Statistics | None) -> dict[str, Any] | None:
    """Those of a tensor, in units of its bound, and whether they are suspicious."""
    if found is None:
        return None
    return {name: _number(value) for name, value in asdict(found).items()} | {"count": found.count, "suspicious": found.suspicious}


def read(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The header and the lines of a file; raises `ReportError` where it isn't whole."""
    try:
        documents = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except OSError as error:
        raise ReportError(f"{path} can't be read ({error.strerror}); name a file that `lossref run --json` wrote") from error
    except ValueError as error:
        raise ReportError(f"{path} has a line that is no JSON ({error}); write it again with `lossref run --json`") from error
    if not documents or not all(isinstance(document, dict) for document in documents) or documents[0].get("format") != FORMAT:
        raise ReportError(f"{path} doesn't begin with the header of {FORMAT}; write it with `lossref run --json`")
    header, *results, footer = documents if len(documents) > 1 else (*documents, {})
    if footer.get("end") != FORMAT or footer.get("results") != len(results):
        raise ReportError(f"{path} has no footer, or fewer lines than it counts: the run was cut short; run it again")
    return header, results


def _described(description: Description) -> dict[str, Any]:
    return {
        "versions": dict(description.versions),
        "device": description.device,
        "dialect": {
            "name": description.dialect.name,
            "choices": dict(description.dialect.choices),
            "operations": {name: dict(values) for name, values in description.dialect.operations.items()},
        },
        "modes": [mode.name for mode in description.modes],
        "promises": {dtype: asdict(promise) for dtype, promise in description.promises.items()},
        "composed": description.composed,
    }


def _number(x: float | None, digits: int = 6) -> float | str | None:
    if x is None:
        return None
    return float(f"{x:.{digits}g}") if math.isfinite(x) else str(float(x))


def _text(document: Mapping[str, Any]) -> str:
    return json.dumps(document, ensure_ascii=False, allow_nan=False)
