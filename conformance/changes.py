"""What changed between two runs of the same vectors: tensors, grades, clauses.

A tensor is answered where its verdict is a pass or a failure. It is worse off where it passed and fails, or failed and now ends in an
error, a crash or a timeout; it vanished where it was answered and no longer is. Worse, vanished, a grade that fell and a clause newly
broken are regressions. A ratio that moved is none: it stays on the same side of its bound.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields

from conformance.backend import Key, Result
from conformance.bound import CLASSES, Accuracy
from conformance.complaint import Complaint
from conformance.finding import Verdict
from conformance.grade import ANSWERED, Cell, Place, Standing, standings
from conformance.record import Record, Selection

SEVERITY = {Verdict.PASS: 0, Verdict.FAIL: 1, Verdict.ERROR: 2, Verdict.TIMEOUT: 3, Verdict.CRASH: 3}
JUDGED = (Verdict.PASS, Verdict.FAIL)  # an answer; without one nothing can vanish
FACTOR = 2.0  # a ratio that doubled has lost a bit of its accuracy
NOTABLE = 0.1  # of the bound: below that one rounding more or less, in sums of a few terms, is a factor of 2


class IncomparableError(Complaint):
    """Two records aren't of the same vectors; the message says in what they differ, and what to do."""


@dataclass(frozen=True)
class Change:
    """What a tensor was and is."""

    before: Result
    after: Result

    @property
    def factor(self) -> float:
        """By how much its ratio grew; infinite where it was none."""
        before, after = self.before.finding.badness, self.after.finding.badness
        return after / before if before else math.inf


@dataclass(frozen=True)
class Regrade:
    """What a grade was and is; None where no class was kept."""

    place: Place
    before: Accuracy | None
    after: Accuracy | None


@dataclass(frozen=True)
class Changes:
    """All that changed. `broken` and `mended` are clauses by backend; `notes` say what else differs between the runs."""

    worse: tuple[Change, ...]
    better: tuple[Change, ...]
    vanished: tuple[Result, ...]
    appeared: tuple[Result, ...]
    moved: tuple[Change, ...]
    fell: tuple[Regrade, ...]
    rose: tuple[Regrade, ...]
    broken: Mapping[str, tuple[str, ...]]
    mended: Mapping[str, tuple[str, ...]]
    notes: tuple[str, ...]

    @property
    def regressed(self) -> bool:
        """Whether anything is worse than it was."""
        return bool(self.worse or self.vanished or self.fell or self.broken)


def compare(old: Record, new: Record) -> Changes:
    """What changed from `old` to `new`; raises `IncomparableError` where that can't be said."""
    refuse_others(old, new)
    both = [name for name in new.backends if name in old.backends]
    before, after = _answered(old, both), _answered(new, both)
    changes = [Change(before[key], after[key]) for key in after if key in before]
    regrades = [
        Regrade(place, old.cells[place].grade, cell.grade)
        for place, cell in new.cells.items()
        if place in old.cells and _measured(cell) and _measured(old.cells[place])
    ]
    standing = {name: (standings(old.of(name)), standings(new.of(name))) for name in both}
    return Changes(
        worse=tuple(one for one in changes if _severity(one.after) > _severity(one.before)),
        better=tuple(one for one in changes if _severity(one.after) < _severity(one.before)),
        vanished=tuple(result for key, result in before.items() if key not in after and result.finding.verdict in JUDGED),
        appeared=tuple(result for key, result in after.items() if key not in before),
        moved=tuple(one for one in changes if _severity(one.after) == _severity(one.before) and _moved(one)),
        fell=tuple(one for one in regrades if _looseness(one.after) > _looseness(one.before)),
        rose=tuple(one for one in regrades if _looseness(one.after) < _looseness(one.before)),
        broken={name: ids for name, (was, now) in standing.items() if (ids := _worse(was, now))},
        mended={name: ids for name, (was, now) in standing.items() if (ids := _worse(now, was))},
        notes=tuple(_notes(old, new)),
    )


def refuse_others(old: Record, new: Record) -> None:
    """Raise `IncomparableError` where two records, of which the new one may just have begun, aren't of the same vectors and backends."""
    if old.digest != new.digest:
        raise IncomparableError(
            f"the old run is of the vectors {old.digest} and the new one of {new.digest}: a verdict on one says nothing of the other; "
            "run the old version again with the vectors of today"
        )
    differing = [field.name for field in fields(Selection) if getattr(old.selection, field.name) != getattr(new.selection, field.name)]
    if differing:
        raise IncomparableError(
            f"the old run asked {old.selection.text}, the new one {new.selection.text}: {', '.join(differing)} differ; "
            "run both with the same options, and merge shards first"
        )
    if not set(old.backends) & set(new.backends):
        raise IncomparableError(
            f"the old run is of {', '.join(old.backends)}, the new one of {', '.join(new.backends)}; name runs with a backend in common"
        )


def _answered(record: Record, backends: Iterable[str]) -> dict[Key, Result]:
    named = set(backends)
    return {result.key: result for result in record.results if result.backend in named and result.finding.verdict in ANSWERED}


def _severity(result: Result) -> int:
    return SEVERITY[result.finding.verdict]


def _moved(change: Change) -> bool:
    if change.before.finding.ratio is None or change.after.finding.ratio is None:
        return False
    less, more = sorted((change.before.finding.badness, change.after.finding.badness))
    return more >= NOTABLE and more > FACTOR * less


def _measured(cell: Cell) -> bool:
    return cell.measured > 0


def _looseness(grade: Accuracy | None) -> int:
    return len(CLASSES) if grade is None else CLASSES.index(grade)


def _worse(was: Mapping[str, Standing], now: Mapping[str, Standing]) -> tuple[str, ...]:
    """The clauses that stand worse than they did, of those that both say something of."""
    order = list(Standing)
    return tuple(sorted(id for id in was if id in now and order.index(now[id]) > order.index(was[id])))


def _notes(old: Record, new: Record) -> Iterable[str]:
    for name in old.backends:
        if name not in new.backends:
            yield f"{name} is in the old run only: not compared"
    for name in new.backends:
        if name not in old.backends:
            yield f"{name} is in the new run only: not compared"
            continue
        was, now = old.descriptions[name], new.descriptions[name]
        for package in sorted(was.versions.keys() | now.versions.keys()):
            versions = was.versions.get(package, "none"), now.versions.get(package, "none")
            if versions[0] != versions[1]:
                yield f"{name}: {package} {' -> '.join(versions)}"
        differing = [part for part in ("operations", "promises", "dialect", "modes", "device") if getattr(was, part) != getattr(now, part)]
        if differing:
            yield f"{name} describes itself otherwise than it did, and is judged by that: {', '.join(differing)}"
