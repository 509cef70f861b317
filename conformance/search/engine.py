"""The search: Hypothesis draws calls, climbs towards the largest ratio to the bound, and shrinks what fails, one cause at a time.

A round is so many calls of one operation in one dtype. It ends early at the first failure that no known cause explains; that failure is
shrunk to the smallest call with the same symptom, its cause is known from then on, and there is another round. So one defect never hides
another one, and what is known already costs no more than the calls that meet it. Operations and dtypes have their turns until the time is
up.

The database that Hypothesis keeps in a folder holds the calls with the best scores; the next search in that folder begins with them.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from unittest import SkipTest

from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings, target
from hypothesis.database import DirectoryBasedExampleDatabase
from hypothesis.errors import FlakyFailure

from conformance.case import Case
from conformance.search.calls import cases
from conformance.search.edges import edges_of
from conformance.search.look import Failure, Look, Looker, Whose, digest
from conformance.search.subject import LOST, Cell
from refimpl.operations import operation

ROUND = 100  # calls
SWEEP = 10.0  # seconds in which all operations and dtypes have a turn, at least
SHRINKING = 15.0  # seconds that a failure may be shrunk
SHRINKS = 200  # calls that it may be shrunk by
LOSSES = 5  # calls of an operation that may be lost for a reason that is known, before the rest of it isn't asked
PHASES = (Phase.reuse, Phase.generate, Phase.target, Phase.shrink)


@dataclass(frozen=True)
class Limits:
    """How long a search takes: until `seconds` have gone by or so many `calls` were made, shrinking aside; what it draws from, and how.

    One that doesn't climb only draws.
    """

    seconds: float
    calls: float = math.inf
    seed: int = 0
    climbs: bool = True


class Search:
    """A search through `cells`, which keeps its database in `folder`; `known` are the causes that it starts with.

    It tells of each failure when it has been shrunk, and is told what else is known by that; it notes every call. `given_up` holds the
    operations that were lost too often, each with how; `skipped` counts the calls that are like one at which the backend was lost.
    """

    def __init__(
        self,
        ask: Looker,
        cells: Sequence[Cell],
        folder: Path,
        limits: Limits,
        *,
        known: Iterable[Whose] = (),
        tell: Callable[[Failure], Iterable[Whose]],
        note: Callable[[Cell, Case, Look], None],
    ) -> None:
        self.known = list(known)
        self.given_up: dict[str, str] = {}
        self.rounds = self.calls = self.skipped = 0
        self._ask = ask
        self._cells = cells
        self._limits = limits
        self._folder = folder
        self._tell = tell
        self._note = note
        self._losses: Counter[str] = Counter()
        self._begun: set[Cell] = set()

    def run(self) -> None:
        """Search until the time is up."""
        self.ends = time.monotonic() + self._limits.seconds
        while (left := self._left()) and not self.over:
            now = time.monotonic()
            over = now + max((self.ends - now) / 2, SWEEP)  # all have had their turn when half of the time has gone by
            while left and not self.over:
                share = _weight(left[0]) / sum(map(_weight, left))
                now = time.monotonic()
                self._turn(left.pop(0), min(self.ends, now + share * max(0.0, over - now)))
                left = [cell for cell in left if cell[0] not in self.given_up]

    @property
    def over(self) -> bool:
        """Whether nothing more is looked for."""
        return time.monotonic() >= self.ends or self.calls >= self._limits.calls

    def _left(self) -> list[Cell]:
        return [cell for cell in self._cells if cell[0] not in self.given_up]

    def _turn(self, cell: Cell, ends: float) -> None:
        """Rounds of one operation and dtype, until one finds nothing that is new; at its first turn, one that draws nothing before them."""
        if cell not in self._begun:
            self._begun.add(cell)
            self._round(cell, ends, draws=False)
        while not self.over and time.monotonic() < ends and cell[0] not in self.given_up and self._round(cell, ends):
            pass

    def explained(self, failure: Failure) -> bool:
        """Whether a failure may be of a cause that is known."""
        return any(backend == failure.result.backend and one.explains(failure.cause) for backend, one in self.known)

    def look(self, cell: Cell, case: Case) -> Look:
        """Ask a case, unless it is one at which the backend is known to be lost."""
        lost = [one for _, one in self.known if one.operation == cell[0] and one.symptom in LOST and one.edges]
        if lost:
            edges = set(edges_of(case))
            if any(edges.issuperset(one.edges) for one in lost):
                self.skipped += 1
                return Look()
        found = self._ask(case)
        self.calls += 1
        self._note(cell, case, found)
        again = [one for one in found.failures if one.result.finding.verdict in LOST and self.explained(one)]
        if again:
            self._losses[cell[0]] += 1
            if self._losses[cell[0]] >= LOSSES:
                self.given_up[cell[0]] = again[0].result.finding.note
        return found

    def _round(self, cell: Cell, ends: float, draws: bool = True) -> bool:
        """Whether a new cause was found. One that doesn't draw climbs on from what the database has of an earlier search."""
        self.rounds += 1
        hunt = _Hunt(self, cell, ends)
        left_out = {Phase.generate: not draws, Phase.target: not self._limits.climbs}
        phases = [phase for phase in PHASES if not left_out.get(phase, False)]

        @given(cases(*cell))
        def test(case: Case) -> None:
            if hunt.shows(case):
                raise _Shown

        wanted = settings(
            max_examples=ROUND,
            database=DirectoryBasedExampleDatabase(self._folder / "-".join(cell)),
            deadline=None,
            phases=phases,
            verbosity=Verbosity.quiet,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        )
        # What ends it: a failure, one that varies (the smallest is at hand all the same), nothing that was kept, no time.
        with suppress(_Shown, FlakyFailure, SkipTest, _Over):
            wanted(seed(f"{self._limits.seed} {cell} {self.rounds}")(test))()
        if hunt.smallest is None:
            return False
        self.known += [hunt.smallest.whose, *self._tell(hunt.smallest)]
        return True


def _weight(cell: Cell) -> int:
    """The share of an operation in the time: as many parts as its calls have."""
    stated = operation(cell[0])
    return len(stated.inputs) + len(stated.parameters)


class _Shown(Exception):
    """A call shows what is hunted."""


class _Over(BaseException):
    """A round ends: its time is up, or its operation given up.

    No exception that Hypothesis takes for an answer: a call that isn't asked isn't one without a score.
    """


class _Hunt:
    """One round: until a failure is found that nothing explains it looks for one, and from then on for smaller ones with its symptom.

    A call that was asked isn't asked again, so that an answer which varies is no contradiction.
    """

    def __init__(self, search: Search, cell: Cell, ends: float) -> None:
        self.smallest: Failure | None = None
        self._search = search
        self._cell = cell
        self._ends = ends
        self._left = SHRINKS
        self._seen: dict[bytes, tuple[Failure | None, Look]] = {}

    def shows(self, case: Case) -> bool:
        """Whether a call shows what is hunted."""
        key = digest(case)
        if key not in self._seen:
            self._seen[key] = self._asked(case)
        failure, found = self._seen[key]
        for label, score in found.scores.items():
            target(score, label=label)
        if failure is not None:
            self.smallest = failure  # Hypothesis ends with the smallest
        return failure is not None

    def _asked(self, case: Case) -> tuple[Failure | None, Look]:
        over = time.monotonic() > self._ends or self._left == 0 or (self.smallest is None and self._search.over)
        if over or self._cell[0] in self._search.given_up:
            raise _Over
        found = self._search.look(self._cell, case)
        fresh = [one for one in found.failures if not self._search.explained(one)]
        if self.smallest is None:
            if fresh:
                self._ends = time.monotonic() + SHRINKING
            return (fresh[0] if fresh else None), found
        self._left -= 1
        wanted = self.smallest
        return next((one for one in fresh if _alike(one, wanted)), None), found


def _alike(a: Failure, b: Failure) -> bool:
    """Whether two failures may have one cause, their edges aside."""
    return a.result.backend == b.result.backend and replace(a.cause, edges=()) == replace(b.cause, edges=())
