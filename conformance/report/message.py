"""A failure in words that stand alone: where, what was expected and what came, by how much, why, and how to see it again."""

from __future__ import annotations

import math
import shlex
from pathlib import Path

from conformance.judge import Finding, Verdict
from conformance.spec import Level, sections

HEAD = " " * 6
BODY = " " * 8
COLUMN = 11  # where a line's text starts, after its label


def message(finding: Finding, backend: str, version: str, mode: str, again: str = "") -> str:
    """The message on one finding of `backend` at `version`, asked in `mode` ("eager" goes unsaid).

    `again` is the line that asks the case again; without it, that of a backend that its name is enough for.
    """
    case = finding.case.removeprefix(f"{finding.operation}/")
    named = " ".join(filter(None, (backend, version)))
    words = [finding.verdict.upper(), finding.operation, case, named, finding.dtype, finding.direction]
    words += [mode] if mode not in ("", "eager") else []
    lines = ["  ".join(words) + "     " + clauses_text(finding)]
    lines.append(HEAD + "    ".join(filter(None, (finding.place, finding.told.inputs))))
    if finding.told.expected or finding.told.actual:
        radius = f"+/- {finding.told.radius}" if finding.told.radius else ""
        lines.append(BODY + _line("expected", finding.told.expected, finding.told.expected_hex, radius))
        lines.append(BODY + _line("actual", finding.told.actual, finding.told.actual_hex))
    if finding.ratio is not None and finding.verdict != Verdict.ERROR:
        lines.append(BODY + _line("error", *_error(finding)))
    why = "; ".join(filter(None, (finding.note, ", ".join(finding.flags)))) or _statement(finding)
    if why:
        lines.append(HEAD + _line("why", why, width=COLUMN + len(BODY) - len(HEAD)))
    lines.append(HEAD + _line("again", again or command_line(shlex.quote(backend), finding.case), width=COLUMN + len(BODY) - len(HEAD)))
    return "\n".join(lines)


def command_line(command: str, case: str) -> str:
    """The line that asks one case again; `command` is a source's."""
    return f"lossref run {command} --case {case}"


def candidate_line(command: str, path: Path) -> str:
    """The line that asks a candidate again."""
    return f"lossref run {command} --candidate {shlex.quote(str(path))}"


def clauses_text(finding: Finding) -> str:
    """The clauses by level: "MUST SCE-4, GEN-5"."""
    by_level: dict[Level, list[str]] = {}
    known = sections()
    for id in finding.clauses:
        by_level.setdefault(known[id].level if id in known else Level.MUST, []).append(id)
    return "  ".join(f"{level} {', '.join(by_level[level])}" for level in Level if level in by_level)


def _statement(finding: Finding) -> str:
    """The first of the finding's clauses in words."""
    known = sections()
    return next((f"{id}: {known[id].statement}" for id in finding.clauses if id in known), "")


def _error(finding: Finding) -> tuple[str, str]:
    ratio = finding.ratio if finding.ratio is not None else math.nan
    ulps = f" ({figure(finding.ulps)} ulps)" if finding.ulps is not None and math.isfinite(finding.ulps) else ""
    allowed = f"allowed {finding.told.allowed}" if finding.told.allowed else ""
    return f"{figure(ratio)} of the bound{ulps}", " ".join(filter(None, (allowed, f"(class {finding.accuracy})")))


def figure(x: float) -> str:
    """Three figures, never so few that a value past 1 reads as 1."""
    text = f"{x:.3g}"
    return f"{x:.17g}" if x > 1.0 and float(text) <= 1.0 else text


def _line(label: str, *parts: str, width: int = COLUMN) -> str:
    return label.ljust(width) + "    ".join(filter(None, parts))
