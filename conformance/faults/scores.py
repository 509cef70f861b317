"""The published score: how many of the faults each suite catches, kept in `docs/faults.json` and shown in the README.

A suite is asked only about the faults of operations and dtypes that it tests; the rest it can't see.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from conformance.faults.matrix import Matrix, Row
from conformance.page import filled

MAKER = "lossref faults --write"
OURS = "lossref, tier core"


def record(root: Path, suites: Mapping[str, Mapping[str, bool]], total: int) -> None:
    """Keep what suites see ({suite: {fault that it is asked about: caught}}) of `total` faults, in a checkout, and show it.

    Suites of other names stay as they were.
    """
    file, readme = root / "docs" / "faults.json", root / "README.md"
    kept: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {"suites": {}}
    counted = {suite: {"caught": sum(seen.values()), "asked": len(seen)} for suite, seen in suites.items()}
    scores = {"faults": total, "suites": {**kept["suites"], **counted}}
    file.write_text(json.dumps(scores, indent=1) + "\n", encoding="utf-8")
    readme.write_text(filled(readme.read_text(encoding="utf-8"), MAKER, {"faults": table(scores)}), encoding="utf-8")


def table(scores: Mapping[str, Any]) -> str:
    """The scores as a table in Markdown, the best first."""
    lines = ["| suite | faults caught | of those that it is asked about | of all |", "|---|---|---|---|"]
    for suite, score in sorted(scores["suites"].items(), key=lambda item: (-item[1]["caught"], item[0])):
        lines.append(
            f"| {suite} | {score['caught']} | {_percent(score['caught'], score['asked'])} | {_percent(score['caught'], scores['faults'])} |"
        )
    return "\n".join(lines)


def write_page(root: Path, found: Matrix) -> None:
    """Fill the table of `docs/faults.md`."""
    page = root / "docs" / "faults.md"
    page.write_text(filled(page.read_text(encoding="utf-8"), MAKER, {"faults": page_table(found)}), encoding="utf-8")


def page_table(found: Matrix) -> str:
    """One line a fault, by operation."""
    lines: list[str] = []
    for operation in dict.fromkeys(row.fault.operation for row in found.rows):
        lines += [
            f"### {operation}",
            "",
            "| fault | dtype | breaks | mistake | seen | caught by | smallest |",
            "|---|---|---|---|---|---|---|",
        ]
        lines += [_line(row) for row in found.rows if row.fault.operation == operation]
        lines.append("")
    return "\n".join(lines).rstrip()


def _line(row: Row) -> str:
    fault, end = row.fault, row.smallest.partition("/")[2]
    gradient = ", gradient" if fault.direction == "backward" else ""
    cells = (
        fault.name.rpartition("/")[2],
        ", ".join(fault.adapter.promises) + gradient,
        fault.clause,
        fault.mistake.replace("|", "\\|"),
        fault.seen,
        f"{len(row.caught)} of {row.seen.asked}",
        f"`{end}`" if end else "",
    )
    return f"| {' | '.join(cells)} |"


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f} %" if whole else "-"
