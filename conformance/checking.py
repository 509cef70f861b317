"""The judge for a user's own tests: `check` gives a report, `assert_conforms` raises with the failures as its text.

def test_loss() -> None:
    conformance.assert_conforms(loss, operation="softmax_cross_entropy", dtypes=("float32",))
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from conformance import deviations
from conformance.adapter import Description
from conformance.bound import Accuracy, Promise
from conformance.commands.common import select
from conformance.deviations import Comparison
from conformance.dialects import Dialect, named, resolved
from conformance.finding import Verdict
from conformance.function import Contract, adapt, load
from conformance.grade import cells
from conformance.link import Source
from conformance.links.here import HereSource
from conformance.links.process import WorkerSource
from conformance.promises import promise, spelled
from conformance.report.message import command_line, message
from conformance.report.terminal import SHOWN, worst
from conformance.runner import Result, Run
from conformance.sources import function_command

WIDTH = 240  # columns of a line of a report's text, which quotes what a function raises


@dataclass(frozen=True)
class Report:
    """What became of a function; as a text, the worst failures in full, and counts.

    `results` hold all findings. `comparison` holds them against what was expected: without `expect`, that nothing fails. `unkept` are
    sentences on promised dtypes in which nothing was answered.
    """

    description: Description
    results: tuple[Result, ...]
    comparison: Comparison
    unkept: tuple[str, ...]
    call: str  # what runs one case again, CASE standing for its id

    @property
    def passed(self) -> bool:
        """Whether each promised dtype was answered, nothing failed unexpectedly, and every expectation still holds."""
        return self.comparison.holds and not self.unkept

    @property
    def counts(self) -> Mapping[str, int]:
        """How many tensors had each verdict."""
        return dict(Counter(result.finding.verdict.value for result in self.results))

    @property
    def grades(self) -> Mapping[tuple[str, str], Accuracy | None]:
        """By dtype and direction the accuracy class that was earned (`conformance.grade`), None where no class was kept."""
        return {(place.dtype, place.direction): cell.grade for place, cell in cells(self.results).items() if cell.measured}

    def __str__(self) -> str:
        about, failures = self.description, worst(self.comparison.unexpected)
        counts = ", ".join(f"{number} {verdict}" for verdict, number in sorted(self.counts.items()))
        expected = len(self.comparison.expected)
        parts = [f"{about.name} as {', '.join(about.operations)}: {counts}" + (f"; {expected} as expected" if expected else "")]
        for result in failures[:SHOWN]:
            again = self.call.replace("CASE", result.finding.case)
            parts.append(message(result.finding, about.name, about.version, result.mode, again))
        parts += [f"... and {len(failures) - SHOWN} more"] if len(failures) > SHOWN else []
        parts += [*self.unkept, *self.comparison.problems[:SHOWN], *self.comparison.notes]
        return "\n\n".join("\n".join(map(_cut, part.splitlines())) for part in parts)


def check(
    function: Callable[..., Any] | str,
    *,
    operation: str,
    dtypes: Collection[str] = (),
    promises: Mapping[str, Promise | str] | None = None,
    dialect: str | Mapping[str, str] | None = None,
    tensors: str = "numpy",
    tier: str | None = None,
    cases: str | Sequence[str] = (),
    expect: str | Path | None = None,
) -> Report:
    """Judge a function as `operation`; `conformance.function` says what it takes and returns.

    A callable runs in this process; "package.module:function" in a worker process, which survives whatever it does. `promises` map
    dtypes to promises, or to texts like "A,compute=float64" (`conformance.promises`); `dtypes` are those to ask, by default all that are
    promised, and without promises float64 and float32 in class A. `dialect` is a name, a file or a mapping of choices. `tier` is smoke,
    core or full (default: core; full with `cases`, which are ids or globs). `expect` is a file of known deviations.

    Nothing that the function does raises. Wrong usage does: `conformance.adapter.Unusable`, or another error whose message says what to
    write.
    """
    stated = {dtype: promise(dtype, made) if isinstance(made, str) else made for dtype, made in (promises or {}).items()}
    contract = Contract.of(operation, stated, dtypes, tensors)
    globs = [cases] if isinstance(cases, str) else list(cases)
    chosen, ids = select(contract.operation, None, globs or None, tier or ("full" if globs else "core"))
    chosen = [vector for vector in chosen if vector.case.dtype in contract.promises]
    expectations = None if expect is None else deviations.read(Path(expect))
    if expectations is not None:
        deviations.refuse_unknown(expectations, ids, contract.operation)
    source, call = _source(function, contract, dialect)
    with Run([source], chosen, dialect=_dialect(dialect, source.name)) as run:
        results = tuple(run.results())
        about = run.descriptions[source.name]
    comparison = deviations.compare(results, expectations, about.versions)
    return Report(about, results, comparison, () if globs else unanswered(results, about), call)


def assert_conforms(
    function: Callable[..., Any] | str,
    *,
    operation: str,
    dtypes: Collection[str] = (),
    promises: Mapping[str, Promise | str] | None = None,
    dialect: str | Mapping[str, str] | None = None,
    tensors: str = "numpy",
    tier: str | None = None,
    cases: str | Sequence[str] = (),
    expect: str | Path | None = None,
) -> Report:
    """The same; raises `AssertionError` with the report as its text where it didn't pass."""
    __tracebackhide__ = True  # pytest shows the line of the test
    report = check(
        function,
        operation=operation,
        dtypes=dtypes,
        promises=promises,
        dialect=dialect,
        tensors=tensors,
        tier=tier,
        cases=cases,
        expect=expect,
    )
    if not report.passed:
        raise AssertionError(str(report))
    return report


def unanswered(results: Sequence[Result], about: Description) -> tuple[str, ...]:
    """A sentence for each dtype that a function promises and of which every case was unsupported, with the first reason."""
    sentences = []
    for dtype in about.promises:
        there = [result.finding for result in results if result.finding.dtype == dtype]
        if there and all(finding.verdict == Verdict.UNSUPPORTED for finding in there):
            sentences.append(f"{about.name} promises {dtype} and answers none of its cases: {there[0].note}")
    return tuple(sentences)


def _source(function: Callable[..., Any] | str, contract: Contract, dialect: str | Mapping[str, str] | None) -> tuple[Source, str]:
    """How to reach the function, and the line that asks CASE again: of a shell, or of Python where a shell can't say it."""
    stated = {dtype: spelled(dtype, made).partition("=")[2] for dtype, made in contract.promises.items()}
    keywords = {"operation": contract.operation, "promises": stated, "tensors": contract.tensors, "dialect": dialect}
    words = [f"{key}={value!r}" for key, value in keywords.items() if value not in (None, "numpy")]
    if isinstance(function, str):
        source = WorkerSource(function, partial(load, function, contract))
        if dialect is not None and not isinstance(dialect, str):
            return source, _call(repr(function), words)
        return source, command_line(function_command(function, contract, dialect), "CASE")
    own = function if hasattr(function, "__qualname__") else type(function)
    name = own.__qualname__.rpartition(".<locals>.")[2]
    adapter = adapt(function, f"{own.__module__}:{name}", contract)
    return HereSource(adapter.name, lambda: adapter), _call(name, words)


def _call(name: str, words: Sequence[str]) -> str:
    return f"print(conformance.check({', '.join([name, *words])}, cases='CASE'))"


def _dialect(stated: str | Mapping[str, str] | None, name: str) -> Dialect | None:
    if stated is None:
        return None
    return named(stated) if isinstance(stated, str) else resolved(stated, name)


def _cut(line: str) -> str:
    return line if len(line) <= WIDTH else line[: WIDTH - 3] + "..."
