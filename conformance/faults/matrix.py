"""The matrix: which vectors catch which fault, and whether a right kernel is accused.

A vector catches a kernel where a finding on it is no pass. Two faults that fail on the same vectors in the same directions are
one fault under two names: no vector tells them apart.
"""

from __future__ import annotations

import multiprocessing
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from hashlib import sha256
from typing import Any

from conformance import correct, vectors
from conformance.adapter import Adapter
from conformance.case import TIERS, Vector
from conformance.dialects import resolved
from conformance.faults import Fault, faults
from conformance.judge import Answer, Verdict, judge, promised
from conformance.kernel import answered

Failing = tuple[tuple[str, tuple[str, ...]], ...]  # direction and clauses of each finding that is no pass
SHARES = 6  # of the vectors for each process, so that all end at about the same time


@dataclass(frozen=True)
class Failure:
    """A vector on which a kernel failed."""

    size: int
    id: str
    group: str
    failing: Failing


@dataclass(frozen=True)
class Look:
    """What some vectors say of one kernel: how many it was asked, and those on which it failed."""

    asked: int
    failures: Sequence[Failure]


@dataclass(frozen=True)
class Seen:
    """What the vectors of a tier say of one kernel.

    `asked` vectors were judged; `failed` holds for each that failed the directions in which it did, the smallest inputs first;
    `broken` counts the vectors by the clauses that their failing findings name, `groups` by their group.
    """

    name: str
    asked: int
    failed: Mapping[str, tuple[str, ...]]
    broken: Mapping[str, int]
    groups: Mapping[str, int]

    @property
    def signature(self) -> frozenset[tuple[str, str]]:
        return frozenset((id, direction) for id, directions in self.failed.items() for direction in directions)


@dataclass(frozen=True)
class Row:
    """A fault and what was seen of it."""

    fault: Fault
    seen: Seen

    @property
    def caught(self) -> tuple[str, ...]:
        """The vectors that catch it, the smallest first: by its gradient, where the fault is in that."""
        either = self.fault.direction == "forward"
        return tuple(id for id, directions in self.seen.failed.items() if either or "backward" in directions)

    @property
    def smallest(self) -> str:
        """The id of the caught vector with the fewest input elements."""
        return next(iter(self.caught), "")

    @property
    def named(self) -> bool:
        """Whether the clause that it is said to break is among those that the findings name."""
        return self.fault.clause in self.seen.broken

    @property
    def astray(self) -> tuple[str, ...]:
        """The vectors on which the loss of a fault in the gradient is wrong too."""
        if self.fault.direction == "forward":
            return ()
        return tuple(id for id, directions in self.seen.failed.items() if "forward" in directions)


@dataclass(frozen=True)
class Matrix:
    """All of it: the faults, and the right kernels, which no vector should catch."""

    rows: tuple[Row, ...]
    right: tuple[Seen, ...]

    @property
    def missed(self) -> list[str]:
        return [row.fault.name for row in self.rows if not row.caught]

    @property
    def alike(self) -> list[tuple[str, ...]]:
        """The names of caught faults that the vectors can't tell apart."""
        by: dict[frozenset[tuple[str, str]], list[str]] = {}
        for row in self.rows:
            if row.caught:
                by.setdefault(row.seen.signature, []).append(row.fault.name)
        return [tuple(names) for names in by.values() if len(names) > 1]

    @property
    def astray(self) -> list[Row]:
        return [row for row in self.rows if row.astray]

    @property
    def accused(self) -> list[Seen]:
        return [seen for seen in self.right if seen.failed]

    @property
    def holds(self) -> bool:
        """Whether every fault is caught and told apart, in the direction that it states, and no right kernel is accused."""
        return not (self.missed or self.alike or self.astray or self.accused)


def matrix(found: Sequence[Fault], right: Sequence[Adapter], tier: str, jobs: int) -> Matrix:
    """Judge faults and right kernels on the installed vectors of a tier; in this process for a single job.

    In more than one, both must be among those that `faults` and `right_kernels` list. Each process has some of the vectors and all
    kernels, so that it reads little and judges equal answers once.
    """
    kernels = [*(fault.adapter for fault in found), *right]
    if jobs == 1:
        looks = [look(kernels, _asked(kernels, tier))]
    else:
        shares = jobs * SHARES
        with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
            looks = list(pool.map(_look_listed, [list(map(_key, kernels))] * shares, [tier] * shares, range(shares), [shares] * shares))
    seen = [_seen(adapter.name, [one[n] for one in looks]) for n, adapter in enumerate(kernels)]
    return Matrix(tuple(Row(fault, one) for fault, one in zip(found, seen, strict=False)), tuple(seen[len(found) :]))


def see(adapter: Adapter, chosen: Iterable[Vector]) -> Seen:
    """Judge one kernel on those vectors that it is asked, in this process."""
    return _seen(adapter.name, [look([adapter], chosen)[0]])


def look(kernels: Sequence[Adapter], chosen: Iterable[Vector]) -> list[Look]:
    """Judge kernels on those vectors that each is asked, in this process."""
    asked, failures = [0] * len(kernels), [list[Failure]() for _ in kernels]
    for vector in chosen:
        case, known = vector.case, dict[Any, Failing]()
        for n, adapter in enumerate(kernels):
            for _, answer in answered(adapter, (vector,)):
                asked[n] += 1
                failing = _failing(adapter, vector, answer, known)
                if failing:
                    failures[n].append(Failure(_size(vector), case.id, case.group, failing))
    return [Look(*one) for one in zip(asked, failures, strict=True)]


def _seen(name: str, looks: Iterable[Look]) -> Seen:
    """What all shares of the vectors say of a kernel."""
    looks = tuple(looks)
    failures = sorted((failure for one in looks for failure in one.failures), key=lambda failure: (failure.size, failure.id))
    broken, groups = Counter[str](), Counter[str]()
    for failure in failures:
        groups[failure.group] += 1
        broken.update({clause for _, clauses in failure.failing for clause in clauses})
    failed = {failure.id: tuple(dict.fromkeys(direction for direction, _ in failure.failing)) for failure in failures}
    return Seen(name, sum(one.asked for one in looks), failed, dict(sorted(broken.items())), dict(sorted(groups.items())))


def _failing(adapter: Adapter, vector: Vector, answer: Answer, known: dict[Any, Failing]) -> Failing:
    """What the judge says of an answer; `known` is what it said of others to the vector.

    Of the same answer under the same promise it says the same, so it is asked once. Most faults give the right kernel's bits on most
    vectors: two thirds of a matrix's time are saved here.
    """
    promise, dialect = adapter.promises[vector.case.dtype], resolved(adapter.dialect, adapter.name).of(vector.case.operation)
    tensors = {"": answer.output, **answer.gradients}
    bits = [(name, value.dtype.name, value.shape, sha256(value.tobytes()).digest()) for name, value in tensors.items() if value is not None]
    key = (promise, repr(dialect), tuple(bits), answer.error, answer.modified, answer.repeat_differs)
    if key not in known:
        fine = (Verdict.PASS, Verdict.UNSUPPORTED)
        expectation = promised(vector, dialect)
        if expectation is None:  # a value of a choice that isn't defined for the call
            return ()
        found = judge(replace(vector, expectations=(expectation,)), answer, promise, dialect)  # other choices are no question here
        known[key] = tuple((finding.direction, finding.clauses) for finding in found if finding.verdict not in fine)
    return known[key]


def right_kernels() -> tuple[Adapter, ...]:
    """The right kernels that `conformance.correct` lists."""
    return tuple(correct.correct())


def of_tier(operations: Iterable[str], tier: str) -> tuple[Vector, ...]:
    """The installed vectors of operations in a tier and those below it."""
    return _of_tier(tuple(sorted(set(operations))), tier)


@cache
def _of_tier(operations: tuple[str, ...], tier: str) -> tuple[Vector, ...]:
    within = TIERS[: TIERS.index(tier) + 1]
    return tuple(vector for name in operations for vector in vectors.read(operation=name) if vector.case.tier in within)


def _size(vector: Vector) -> int:
    return sum(array.size for array in vector.case.inputs.values())


def _key(adapter: Adapter) -> tuple[str, ...]:
    """What another process finds a kernel by: a function can't be sent."""
    return (adapter.name, *sorted(adapter.operations))


@cache
def _listed() -> dict[tuple[str, ...], Adapter]:
    return {_key(adapter): adapter for adapter in (*(fault.adapter for fault in faults()), *right_kernels())}


def _look_listed(keys: Sequence[tuple[str, ...]], tier: str, share: int, shares: int) -> list[Look]:
    """Judge listed kernels on every so manieth vector, counted by size."""
    kernels = [_listed()[key] for key in keys]
    return look(kernels, sorted(_asked(kernels, tier), key=_size, reverse=True)[share::shares])


def _asked(kernels: Iterable[Adapter], tier: str) -> tuple[Vector, ...]:
    return of_tier((name for adapter in kernels for name in adapter.operations), tier)
