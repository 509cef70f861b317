"""What a search has covered: the calls by operation and dtype, how large they were, their parameters, and the worst ratios."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from conformance.bound import sizes
from conformance.case import Case
from conformance.deviations import FAILING
from conformance.finding import Verdict
from conformance.search.look import Look, Tensor
from conformance.search.subject import Cell
from refimpl.operation import Number
from refimpl.operations import operation


@dataclass
class Worst:
    """Of one tensor: the largest ratio to the bound among the calls that passed, and how many passed and failed."""

    ratio: float = 0.0
    passed: int = 0
    failed: int = 0


@dataclass
class Reached:
    """Of the calls of one operation in one dtype: how many, the most classes and rows, and how many were undefined for its choices."""

    calls: int = 0
    undefined: int = 0
    classes: int = 0
    rows: int = 0


@dataclass
class Coverage:
    """The tally of a search, to which each call is added."""

    reached: dict[Cell, Reached] = field(default_factory=lambda: defaultdict(Reached))
    worst: dict[Tensor, Worst] = field(default_factory=lambda: defaultdict(Worst))
    parameters: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))  # by name, the calls with each value
    layouts: Counter[str] = field(default_factory=Counter)

    @property
    def calls(self) -> int:
        """How many calls were made."""
        return sum(one.calls for one in self.reached.values())

    def add(self, cell: Cell, case: Case, look: Look) -> None:
        """Count a call."""
        at, stated = self.reached[cell], operation(cell[0])
        if look.undefined:
            at.undefined += 1
            return
        classes, rows = sizes(stated, case.inputs)
        at.calls += 1
        at.classes, at.rows = max(at.classes, classes), max(at.rows, rows)
        for name, value in case.parameters.items():
            kind = stated.parameters[name]
            between = isinstance(kind, Number) and value not in (kind.low, kind.high, kind.default)
            self.parameters[name]["between" if between else str(value)] += 1
        for name in set(stated.inputs) - set(case.inputs):
            self.parameters[name]["absent"] += 1
        self.layouts.update(case.layouts.values() or ("contiguous",))
        for result in look.results:
            finding = result.finding
            worst = self.worst[(*cell, finding.direction, finding.output)]
            worst.failed += finding.verdict in FAILING
            if finding.verdict == Verdict.PASS:
                worst.passed += 1
                worst.ratio = max(worst.ratio, finding.ratio or 0.0)
