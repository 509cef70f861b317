"""The judge for a user's own tests: `check` gives a report, `assert_conforms` raises with the failures as its text.

def test_loss() -> None:
    conformance.assert_conforms(loss, operation="softmax_cross_entropy", dtypes=("float32",))
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

from conformance import deviations
from conformance.adapter import Description
from conformance.bound import Accuracy, Promise
from conformance.commands.common import UsageError, select
from conformance.deviations import DIRECTIONS, Comparison, Expectations
from conformance.dialects import Dialect, named, resolved
from conformance.function import Contract, adapt, load
from conformance.grade import cells
from conformance.link import Source
from conformance.links.here import HereSource
from conformance.links.process import WorkerSource
from conformance.promises import promise, spelled
from conformance.record import unanswered
from conformance.report.highlights import worst
from conformance.report.message import command_line, message
from conformance.runner import Result, Run
from conformance.sources import function_command
from conformance.vectors import Vector

SHOWN = 5  # failures in full; a test's report need not fit a screen
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

    def again(self, case: str) -> str:
        """The line that asks a case again."""
        return self.call.replace("CASE", case)

    def __str__(self) -> str:
        return "\n\n".join((self._head, *self._parts))

    def _repr_html_(self) -> str:
        """The same for a notebook, with a table of the grades."""
        grades, headed = self.grades, 'style="text-align:left"'
        dtypes, cells = dict.fromkeys(dtype for dtype, _ in grades), []
        for dtype in dtypes:
            earned = (grades[dtype, direction] or "no class" if (dtype, direction) in grades else "-" for direction in DIRECTIONS)
            cells.append(f"<tr><th {headed}>{dtype}</th>" + "".join(f"<td {headed}>{one}</td>" for one in earned) + "</tr>")
        heads = "".join(f"<th {headed}>{text}</th>" for text in ("grades", *DIRECTIONS))
        table = f"<table><thead><tr>{heads}</tr></thead><tbody>{''.join(cells)}</tbody></table>" if cells else ""
        parts = "".join(f'<pre style="white-space:pre-wrap">{escape(part)}</pre>' for part in self._parts)
        return f"<div><p><b>{'passed' if self.passed else 'failed'}</b> {escape(self._head)}</p>{table}{parts}</div>"

    @property
    def _head(self) -> str:
        """What was asked, and how many tensors had each verdict."""
        about, expected = self.description, len(self.comparison.expected)
        counts = ", ".join(f"{number} {verdict}" for verdict, number in sorted(self.counts.items()))
        return _cut(f"{about.name} as {', '.join(about.operations)}: {counts}" + (f"; {expected} as expected" if expected else ""))

    @property
    def _parts(self) -> list[str]:
        """The worst failures in full, and what else doesn't hold."""
        about, failures = self.description, worst(self.comparison.unexpected)
        parts = [message(one.finding, about.name, about.version, one.mode, self.again(one.finding.case)) for one in failures[:SHOWN]]
        parts += [f"... and {len(failures) - SHOWN} more"] if len(failures) > SHOWN else []
        parts += [*self.unkept, *self.comparison.problems[:SHOWN], *self.comparison.notes]
        return ["\n".join(map(_cut, part.splitlines())) for part in parts]


@dataclass(frozen=True)
class Question:
    """The keywords of `check`, looked up: what is asked of a function, on which vectors, and what is expected of its answers."""

    contract: Contract
    vectors: tuple[Vector, ...]
    dialect: str | Mapping[str, str] | None
    expectations: Expectations | None
    ids: Collection[str]  # of all the cases of the operation
    whole: bool  # all of the tier, not single cases

    @staticmethod
    def of(
        *,
        operation: str,
        dtypes: Collection[str] = (),
        promises: Mapping[str, Promise | str] | None = None,
        dialect: str | Mapping[str, str] | None = None,
        tensors: str = "numpy",
        tier: str | None = None,
        cases: str | Sequence[str] = (),
        expect: str | Path | None = None,
    ) -> Question:
        """The question that the keywords ask; raises what `check` raises for wrong usage."""
        stated = {dtype: promise(dtype, made) if isinstance(made, str) else made for dtype, made in (promises or {}).items()}
        contract = Contract.of(operation, stated, dtypes, tensors)
        globs = [cases] if isinstance(cases, str) else list(cases)
        chosen, ids = select(contract.operation, None, globs or None, tier or ("full" if globs else "core"))
        expectations = None if expect is None else deviations.read(Path(expect))
        if expectations is not None:
            deviations.refuse_unknown(expectations, ids, contract.operation)
        vectors = tuple(vector for vector in chosen if vector.case.dtype in contract.promises)
        if not vectors:
            there = ", ".join(dict.fromkeys(vector.case.dtype for vector in chosen))
            raise UsageError(
                f"nothing is asked: what is promised is {', '.join(contract.promises)}, and the chosen cases are of {there}; "
                "name a dtype of theirs in dtypes or promises, or choose other cases"
            )
        return Question(contract, vectors, dialect, expectations, ids, not globs)

    def put(self, function: Callable[..., Any] | str, vectors: Sequence[Vector] | None = None) -> Report:
        """Ask a function, on all of the vectors or on some."""
        source, call = _source(function, self.contract, self.dialect)
        with Run([source], self.vectors if vectors is None else vectors, dialect=_dialect(self.dialect, source.name)) as run:
            results = tuple(run.results())
            about = run.descriptions[source.name]
        whole = self.whole and vectors is None
        comparison = deviations.compare(results, self.expectations, about.versions, ids=self.ids)
        return Report(about, results, comparison, unanswered(results, about) if whole else (), call)


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
    question = Question.of(
        operation=operation,
        dtypes=dtypes,
        promises=promises,
        dialect=dialect,
        tensors=tensors,
        tier=tier,
        cases=cases,
        expect=expect,
    )
    return question.put(function)


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
