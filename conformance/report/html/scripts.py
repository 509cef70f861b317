"""Scripts that show a failure first hand, for as many as a page has room for; the command that prints one, for all."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping

from conformance.adapter import Description
from conformance.backend import Result
from conformance.case import Vector
from conformance.deviations import Deviation
from conformance.script import ScriptError, line, script

MOST = 600  # scripts of a page
LONG = 6000  # characters of a script that is left to the command
PROGRAM = "exec:"


def chosen(
    failures: Iterable[tuple[Result, Deviation | None]], vectors: Mapping[str, Vector], about: Mapping[str, Description]
) -> dict[int, str]:
    """Scripts by the `id` of the result. `failures` come worst first; of each clause and cell one has its turn before any has a second.

    What no script can be written for, or only one that fills a page, has none.
    """
    turn: Counter[tuple[object, ...]] = Counter()
    ranked = []
    for result, deviation in failures:
        finding = result.finding
        key = result.backend, result.mode, finding.operation, finding.dtype, finding.direction, finding.clauses
        ranked.append((turn[key], result, deviation))
        turn[key] += 1
    found: dict[int, str] = {}
    for _, result, deviation in sorted(ranked, key=lambda one: one[0]):
        if len(found) == MOST:
            break
        text = _text(vectors[result.finding.case], result, about[result.backend], deviation)
        if text is not None and len(text) <= LONG:
            found[id(result)] = text
    return found


def _text(vector: Vector, result: Result, about: Description, deviation: Deviation | None) -> str | None:
    """The script, or None where there can be none."""
    title, why = (deviation.defect or "", deviation.reason) if deviation else ("", "")
    named = (shlex.split(about.command) or [about.name])[0]
    try:
        if named.startswith(PROGRAM):
            return line(vector, result, about, named.removeprefix(PROGRAM), title, why)
        return script(vector, result, about, title, why)
    except ScriptError:
        return None
