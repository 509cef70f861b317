"""The record of a run: what was asked, of whom, and what came of it. Every report is made from one, just run or read from a file."""

from __future__ import annotations

import platform
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property

from conformance.adapter import Description
from conformance.backend import Result
from conformance.deviations import Comparison, Expectations, compare
from conformance.finding import Verdict
from conformance.grade import Cell, Place, cells
from conformance.sources import is_function


@dataclass(frozen=True)
class Selection:
    """What part of the vectors a run asks: of a tier and those below it, those that every filter leaves; shard `index` of `count`.

    Vectors go to the shards in turn, in the order of their files, so that each has its share of every operation.
    """

    tier: str = "full"
    operation: str | None = None
    dtype: str | None = None
    cases: tuple[str, ...] = ()
    index: int = 1
    count: int = 1

    @property
    def text(self) -> str:
        """In words: "tier core, operation kl_div, shard 1 of 3"."""
        parts = [f"tier {self.tier}"]
        parts += [f"operation {self.operation}"] if self.operation else []
        parts += [f"dtype {self.dtype}"] if self.dtype else []
        parts += [f"cases {' '.join(self.cases)}"] if self.cases else []
        parts += [f"shard {self.index} of {self.count}"] if self.count > 1 else []
        return ", ".join(parts)


@dataclass(frozen=True)
class Record:
    """A run of the vectors with a `digest`, on a `machine`, from `began` (UTC, ISO 8601) for `seconds`.

    `results` are in the order of the backends and of their calls. A run that was cut short is not `whole`, and has no comparisons.
    """

    digest: str
    selection: Selection
    descriptions: Mapping[str, Description]
    results: tuple[Result, ...]
    comparisons: Mapping[str, Comparison]
    began: str = ""
    seconds: float = 0.0
    machine: str = ""
    whole: bool = True

    @classmethod
    def begun(cls, digest: str, selection: Selection, descriptions: Mapping[str, Description]) -> Record:
        """The record of a run that begins now, here."""
        began = datetime.now(UTC).isoformat(timespec="seconds")
        machine = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
        return cls(digest, selection, descriptions, (), {}, began, machine=machine, whole=False)

    def ended(self, results: Iterable[Result], comparisons: Mapping[str, Comparison] | None = None) -> Record:
        """The record of that run as it ends now; without comparisons it was cut short."""
        seconds = (datetime.now(UTC) - datetime.fromisoformat(self.began)).total_seconds()
        return replace(self, results=tuple(results), comparisons=comparisons or {}, seconds=seconds, whole=comparisons is not None)

    @property
    def backends(self) -> tuple[str, ...]:
        """The names of the backends, in the order in which they were named."""
        return tuple(self.descriptions)

    @property
    def holds(self) -> bool:
        """Whether all was as promised or as expected."""
        return self.whole and all(comparison.holds for comparison in self.comparisons.values())

    @cached_property
    def cells(self) -> Mapping[Place, Cell]:
        """What each backend showed at each place."""
        return cells(self.results)

    def of(self, backend: str) -> Sequence[Result]:
        """The results of one backend."""
        return [result for result in self.results if result.backend == backend]


def held(
    selection: Selection,
    descriptions: Mapping[str, Description],
    results: Iterable[Result],
    known: Mapping[str, Expectations | None],
    ids: Collection[str],
) -> dict[str, Comparison]:
    """The results of each backend, held against what is known of it and, of a function that was asked all, against what it promises.

    `ids` are those of all the cases that there are, at least of the operation that was asked.
    """
    of: dict[str, list[Result]] = {name: [] for name in descriptions}
    for result in results:
        of[result.backend].append(result)
    found = {}
    for name, about in descriptions.items():
        comparison = compare(of[name], known[name], about.versions, about.idle(selection.tier), ids)
        asked_all = is_function(name) and not selection.cases and selection.count == 1
        unkept = unanswered(of[name], about) if asked_all else ()
        found[name] = replace(comparison, problems=(*comparison.problems, *unkept))
    return found


def unanswered(results: Sequence[Result], about: Description) -> tuple[str, ...]:
    """A sentence for each dtype that a function promises and of which every case was unsupported, with the first reason."""
    sentences = []
    for dtype in about.promises:
        there = [result.finding for result in results if result.finding.dtype == dtype]
        if there and all(finding.verdict == Verdict.UNSUPPORTED for finding in there):
            sentences.append(f"{about.name} promises {dtype} and answers none of its cases: {there[0].note}")
    return tuple(sentences)
