"""A hill-climb over populations: vary every member, keep what is worse for the reference, start again where nothing improves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

P = TypeVar("P", bound="Population")

PATIENCE = 40  # generations without an improvement after which a climb starts again; more of them where a generation is small
SPREAD = 12  # every so many generations the better half replaces the other
LEAST = 8  # evaluations that a call of a kernel costs as much as, however few it makes
KINDS = ("share", "units")


@dataclass(frozen=True)
class Scores:
    """For each slot: the largest error over its radius, and in units of 2^-106 of the terms' magnitude."""

    share: NDArray[np.float64]
    units: NDArray[np.float64]

    def of(self, kind: str) -> NDArray[np.float64]:
        return self.share if kind == "share" else self.units

    def where(self, mask: NDArray[np.bool_], other: Scores) -> Scores:
        return Scores(np.where(mask, self.share, other.share), np.where(mask, self.units, other.units))

    def take(self, slots: NDArray[np.intp]) -> Scores:
        return Scores(self.share[slots], self.units[slots])


class Population(Protocol):
    """Inputs, one a slot."""

    @property
    def slots(self) -> int: ...

    def take(self, slots: NDArray[np.intp]) -> Any: ...


class Space(Protocol[P]):
    """What is searched. `mix` is None where children share something that their parents don't: they replace them together or not at all."""

    def start(self, rng: np.random.Generator) -> P: ...

    def vary(self, rng: np.random.Generator, population: P) -> P: ...

    def mix(self, better: NDArray[np.bool_], children: P, parents: P) -> P | None: ...

    def scores(self, population: P) -> Scores: ...


@dataclass(frozen=True)
class Found(Generic[P]):
    """The worst input of one climb, as a population of one slot, and how it scored within its population."""

    member: P
    score: float


def climb(space: Space[P], rng: np.random.Generator, kind: str, more: Callable[[int], bool], first: P | None = None) -> Iterator[Found[P]]:
    """One `Found` for each start, while `more(evaluations of the last step)` says so; the first start may be given."""
    going = True
    while going:
        population = first if first is not None else space.start(rng)
        first = None
        scores = space.scores(population)
        going = more(max(population.slots, LEAST))
        stale, generation, patience = 0, 0, PATIENCE * max(1, 8 // population.slots)
        while going and stale < patience:
            generation += 1
            children = space.vary(rng, population)
            theirs = space.scores(children)
            going = more(max(children.slots, LEAST))
            stale += 1
            if theirs.of(kind).max() > scores.of(kind).max():
                stale = 0
            better = theirs.of(kind) >= scores.of(kind)  # ties move on: a plateau is walked, not sat on
            mixed = space.mix(better, children, population)
            if mixed is not None:
                population, scores = mixed, theirs.where(better, scores)
            elif stale == 0:
                population, scores = children, theirs
            if generation % SPREAD == 0 and population.slots > 1:
                order = np.argsort(-scores.of(kind), kind="stable")
                order = np.concatenate([order[: (len(order) + 1) // 2], order[: len(order) // 2]])
                population, scores = population.take(order), scores.take(order)
        best = np.array([int(np.argmax(scores.of(kind)))])
        yield Found(population.take(best), float(scores.of(kind)[best[0]]))


def within(evaluations: int) -> Callable[[int], bool]:
    """A budget of evaluations."""
    left = evaluations

    def more(spent: int) -> bool:
        nonlocal left
        left -= spent
        return left > 0

    return more
