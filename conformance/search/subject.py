"""The backend that is searched: it is asked one call after the other, in a process of its own, and outlives whatever a call does to it."""

from __future__ import annotations

from collections.abc import Collection
from types import TracebackType

import numpy as np

from conformance.adapter import Description, Unusable
from conformance.backend import MOST
from conformance.bound import Promise
from conformance.candidate import GROUP
from conformance.case import TIERS, Case, Expectation, Vector
from conformance.dialects import Dialect
from conformance.expect import unproven
from conformance.finding import Verdict
from conformance.link import Source
from conformance.runner import Result, Run, Task
from refimpl.enclosure import FORMATS
from refimpl.operation import NotPermitted
from refimpl.operations import operation, operations

LOST = (Verdict.CRASH, Verdict.TIMEOUT)
LIKE = f"{GROUP}/found"  # between the operation and the dtype: what is drawn is named as candidates are, which a mode asks too
TIMEOUT = 20.0  # seconds that a call may take, whatever its size

HOSTILE = np.errstate(all="ignore")  # there are infinities among the inputs, and bounds that add up to more than float64 holds

Cell = tuple[str, str]  # an operation and a dtype


class Subject:
    """One backend. Use it as a context manager; `about` is there from the start.

    It is asked in the mode that is named, or without one each operation and dtype in the first mode that a run asks a vector like a
    candidate of them. Raises `Unusable` for a mode, an operation or a dtype that it doesn't have.
    """

    def __init__(
        self, source: Source, mode: str | None = None, timeout: float = TIMEOUT, memory: float | None = None, dialect: Dialect | None = None
    ) -> None:
        self.source = source
        self._timeout = timeout
        self._memory = memory
        self._dialect = dialect
        self._named = mode
        self._losses = 0

    def __enter__(self) -> Subject:
        self._run = self._start()
        self.about: Description = self._run.descriptions[self.source.name]
        known = {mode.name: mode for mode in self.about.modes}
        if self._named is not None and self._named not in known:
            self._run.__exit__()
            raise Unusable(f"{self.about.name} has no mode {self._named!r}; its modes are {', '.join(known)}")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._run.__exit__(kind, error, trace)

    def cells(self, operations_: Collection[str] = (), dtypes: Collection[str] = ()) -> list[Cell]:
        """What it can be asked, of those operations and dtypes, or of all; the narrowest dtype first, where most goes wrong."""
        for name in operations_:
            if operation(name).name not in self.about.operations:
                raise Unusable(f"{self.about.name} has no {name}; it has {', '.join(self.about.operations)}")
        there = [(name, dtype) for dtype in reversed(FORMATS) for name in operations() if self._modes((name, dtype))]
        found = [(name, dtype) for name, dtype in there if name in (operations_ or (name,)) and dtype in (dtypes or (dtype,))]
        if not found:
            known = ", ".join(dict.fromkeys(dtype for _, dtype in there))
            raise Unusable(f"{self.about.name} documents nothing of that in {', '.join(dtypes)}; it documents {known}")
        return found

    def mode(self, cell: Cell) -> str:
        """The mode in which one of its cells is asked."""
        return self._modes(cell)[0]

    def choices(self, cell: Cell) -> dict[str, str]:
        """The choices of an operation as it makes them in a dtype."""
        made = self.about.choices(cell[0], self.mode(cell))
        return {choice.name: made.get(choice.name, choice.default) for choice in operation(cell[0]).choices}

    def promise(self, case: Case) -> Promise:
        """What it promises of a case that it can be asked."""
        made = self.about.promise(case.operation, case.dtype, self.mode(_cell(case)))
        assert made is not None  # or the case would be in none of its cells
        return made

    @HOSTILE
    def expectation(self, case: Case) -> Expectation | None:
        """What its answer must be, unproven; None where its choices aren't defined for the call."""
        try:
            return unproven(case, self.choices(_cell(case)))
        except NotPermitted:
            return None

    @HOSTILE
    def ask(self, vector: Vector) -> list[Result]:
        """Its findings on a call. A run gives up an operation that is lost too often in a row; a search goes on with a new one."""
        if self._losses >= MOST - 1:
            self._run.__exit__()
            self._run, self._losses = self._start(), 0
        results = self._run.ask(self.source.name, Task(0, vector, self.mode(_cell(vector.case))))
        lost = any(result.finding.verdict in LOST for result in results)
        self._losses = self._losses + 1 if lost else 0
        return results

    def _start(self) -> Run:
        run = Run([self.source], [], timeout=self._timeout, dialect=self._dialect, memory=self._memory, waits=True)
        return run.__enter__()

    def _modes(self, cell: Cell) -> list[str]:
        """The modes in which a cell can be asked."""
        name, dtype = cell
        if name not in self.about.operations:
            return []
        like = f"{name}/{LIKE}-{dtype}"
        modes = [mode for mode in self.about.modes if self._named == mode.name or (self._named is None and mode.asks(like, TIERS[-1]))]
        return [mode.name for mode in modes if self.about.promise(name, dtype, mode.name) is not None]


def _cell(case: Case) -> Cell:
    return case.operation, case.dtype
