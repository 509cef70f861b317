"""The dialect that a backend follows, worked out from its answers: which value of each choice explains most of them.

A vector tells something of a choice where its answer is right under some of the values that it permits and wrong under others.
`judge(..., explain=True)` finds those values. Where no value explains all that tell, the choice is contradicted: the backend follows
several definitions, or is wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from conformance.backend import Result
from conformance.conduct import CONDUCT, HALF_OUTPUT, REFUSAL, SUBNORMALS
from conformance.dialects import Dialect, dialects
from refimpl.operations import operations

PERMISSIVE = {REFUSAL.name: "either", HALF_OUTPUT.name: "either", SUBNORMALS.name: "flushed"}  # the value that each answer is right under


@dataclass(frozen=True)
class Evidence:
    """What answers say of one choice in one operation: `telling` vectors, and for each value how many of them it explains."""

    telling: int
    explains: Mapping[str, int]

    @property
    def best(self) -> tuple[str, ...]:
        """The values that explain most."""
        most = max(self.explains.values())
        return tuple(value for value, count in self.explains.items() if count == most)

    @property
    def contradicted(self) -> int:
        """How many of the vectors that tell are not explained by the best value."""
        return self.telling - self.explains[self.best[0]]


@dataclass(frozen=True)
class Inference:
    """What answers say of a dialect: evidence by operation and choice; what they leave open has none.

    `unexplained` counts the answers that are right under no choices.
    """

    evidence: Mapping[tuple[str, str], Evidence]
    untold: tuple[tuple[str, str], ...]
    unexplained: int

    def differences(self, dialect: Dialect) -> dict[tuple[str, str], str]:
        """The choices, by operation, that a dialect answers in another way than the answers do, with its value."""
        found = {}
        for (operation, choice), evidence in self.evidence.items():
            value = _stated(dialect, operation, choice)
            if value is not None and value not in (*evidence.best, PERMISSIVE.get(choice)):
                found[operation, choice] = value
        return found

    def nearest(self) -> list[tuple[Dialect, dict[tuple[str, str], str]]]:
        """The named dialects that differ least, with their differences: all that fit, or all that come as near."""
        compared = [(dialect, self.differences(dialect)) for dialect in dialects().values()]
        least = min(len(differences) for _, differences in compared)
        return [(dialect, differences) for dialect, differences in compared if len(differences) == least]


def infer(results: Iterable[Result]) -> Inference:
    """What the results of one backend, judged with `explain`, say of its dialect."""
    answers = {(result.mode, result.number): result.finding for result in results if result.finding.explained is not None}
    told: dict[tuple[str, str], list[frozenset[str]]] = {}
    asked: set[tuple[str, str]] = set()
    unexplained = 0
    for finding in answers.values():
        assert finding.explained is not None
        permitted, by = finding.explained.permitted, finding.explained.by
        asked |= {(finding.operation, choice) for choice, values in permitted.items() if len(values) > 1}
        unexplained += not by
        for choice in sorted({choice for one in by for choice in one}):
            values = frozenset(one[choice] for one in by if choice in one)
            if choice in PERMISSIVE or values < permitted[choice]:
                told.setdefault((finding.operation, choice), []).append(values)
    evidence = {key: _evidence(sets) for key, sets in sorted(told.items())}
    return Inference(evidence, tuple(sorted(asked - evidence.keys())), unexplained)


def _evidence(sets: list[frozenset[str]]) -> Evidence:
    counts = Counter(value for values in sets for value in values)
    return Evidence(len(sets), dict(counts.most_common()))


def _stated(dialect: Dialect, operation: str, choice: str) -> str | None:
    """The value that a dialect gives a choice; None where the library says nothing of it."""
    default = {one.name: one.default for one in (*operations()[operation].choices, *CONDUCT)}
    return dialect.of(operation).get(choice, None if choice in dialect.silent else default[choice])
