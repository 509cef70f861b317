"""Records to report on: of a backend that a script speaks for, and made up of findings, without a process."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from rich.console import Console
from scripted import DESCRIPTION, DIES, Script, vector

from conformance.adapter import Mode
from conformance.backend import Result
from conformance.case import Vector
from conformance.deviations import Expectations, parse
from conformance.finding import Answer, Finding, Verdict
from conformance.record import Record, Selection, held
from conformance.report import jsonlines, terminal
from conformance.runner import Run

DIGEST = "20c541645bdd5d6b11d36cea660d2b9caa9143be57ca52f17ac025a7eb820b4e"
VECTORS = [vector(number) for number in range(6)]
IDS = {one.case.id for one in VECTORS}
TWO_MODES = replace(DESCRIPTION, modes=(Mode("eager"), Mode("jit")), versions={"scripted": "1.0"})
WRONG = Answer(np.array([[np.nan, 0.0, 0.0]]), {}, None, (), False, 0.001)
KNOWN = parse(
    """
[[deviation]]
cases = ["log_softmax/edges/case-[12]-float64"]
mode = "jit"
clause = "LSM-1"
reason = "0 * -inf."
issue = "owner/name#1"
""",
    "scripted.toml",
)


def wrong(*numbers: int) -> Script:
    """A backend that answers those cases with a nan, in both of its modes."""
    return Script({number: [WRONG] for number in numbers}, [TWO_MODES])


def ran(script: Script, asked: Sequence[Vector] = VECTORS, known: Expectations | None = None, selection: Selection | None = None) -> Record:
    """The record of a run."""
    selection = selection or Selection()
    with Run([script], asked) as run:
        results = sorted(run.results(), key=lambda result: result.number)
        about = {name: replace(one, command=name) for name, one in run.descriptions.items()}
    return Record.begun(DIGEST, selection, about).ended(results, held(selection, about, results, {script.name: known}, IDS))


def crashed() -> Record:
    """The record of a run at whose second case the process died, each time."""
    return ran(Script({1: [DIES]}, [TWO_MODES]))


def made(findings: Mapping[str, Sequence[Result]], **changed: Any) -> Record:
    """A record of backends that have those results."""
    descriptions = {name: replace(DESCRIPTION, name=name, versions={name: "1.0"}, command=name) for name in findings}
    results = [result for there in findings.values() for result in there]
    selection = changed.pop("selection", Selection())
    comparisons = held(selection, descriptions, results, dict.fromkeys(findings), ())
    return replace(Record.begun(DIGEST, selection, descriptions).ended(results, comparisons), **changed)


def result(backend: str = "mine", verdict: str = "fail", case: str = "log_softmax/edges/one-float64", **changed: Any) -> Result:
    """A result, by default a failure; what is `changed` is of the finding, save the mode."""
    mode = changed.pop("mode", "eager")
    finding = Finding(
        case, case.partition("/")[0], "forward", "output", "float64", Verdict(verdict), 3.0, 4.0, {}, None, ("LSM-1",), (), accuracy="A"
    )
    kept = None if changed.get("ratio", 3.0) is None else ("A", "B", "N")
    return Result(backend, mode, "A", False, 0.25, replace(finding, **{"kept": kept, **changed}))


def without_time(record: Record) -> Iterator[dict[str, Any]]:
    """The lines of its file, without what differs from run to run."""
    for line in jsonlines.lines(record):
        yield {key: value for key, value in json.loads(line).items() if key not in ("seconds", "began")}


def printed(record: Record, width: int | None, *, apart: bool = False, **of_console: Any) -> str:
    """The summary on a terminal of that width, or where there is none."""
    stream = io.StringIO()
    out = terminal.console(stream) if width is None else Console(file=stream, width=width, force_terminal=True, **of_console)
    terminal.summary(out, record, apart=apart)
    return stream.getvalue()
