"""What became of some of a campaign's points: counts, the worst elements, a digest; tallies of parts merge to that of the whole.

`merged` is associative and commutative and `ZERO` is its identity, so that shards may be of any size, and end in any order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

MODULUS = 1 << 256


class Outcome(StrEnum):
    """What became of one element of an answer."""

    WITHIN = "within"  # no farther from the truth than the promise allows
    BEYOND = "beyond"  # a number, and farther
    KIND = "kind"  # no number where one is due, a number where an infinity is, or an infinity that can't stand for the number
    ANSWERED = "answered"  # a number or an infinity, where nan is due: its row lies outside the operation's domain
    UNDEFINED = "undefined"  # nothing is expected of it
    FORM = "form"  # in a tensor of another shape, or of a dtype that isn't promised
    RAISED = "raised"  # its row's call raised, or that of several rows once so many rows of the block did (`asking.SINGLES`)
    UNSUPPORTED = "unsupported"  # the backend says that it lacks this


FAILURES = frozenset({Outcome.BEYOND, Outcome.KIND, Outcome.ANSWERED, Outcome.FORM, Outcome.RAISED})


@dataclass(frozen=True, order=True)
class Place:
    """An element: of the answer's row at a point, the one at that position (`asking.Asked.columns`)."""

    point: int
    element: int


@dataclass(frozen=True)
class Worst:
    """The largest of some measure, and the first place that attains it."""

    value: float
    place: Place


@dataclass(frozen=True)
class Count:
    """How many elements, and the first of them."""

    number: int
    first: Place


@dataclass(frozen=True)
class Tally:
    """Of so many `points` with so many `elements`: a count for each outcome that there was, and the worst of all numbers.

    `outside` counts the elements of which a nan is expected, as their rows lie outside the operation's domain. `ratio` is the largest error
    over what the promise allows, `ulps` the largest in ulps of the answer's dtype at the truth, among the elements where a number answers a
    number, or that are right but no number, whose error is 0; None where there was none. `digest` is the sum, modulo 2^256, of a SHA-256
    for each block of points: of the block's number and of the answer's bits. `retried` are the calls of several rows that raised though
    none of the rows does alone, and the place of the first row of the first of them.
    """

    points: int = 0
    elements: int = 0
    outcomes: Mapping[Outcome, Count] = field(default_factory=dict)
    outside: int = 0
    ratio: Worst | None = None
    ulps: Worst | None = None
    digest: int = 0
    retried: Count | None = None

    @property
    def passed(self) -> bool:
        """Whether nothing failed."""
        return not FAILURES & self.outcomes.keys() and self.retried is None

    def to_json(self) -> dict[str, Any]:
        """As JSON has it; the digest in hexadecimal."""
        return {
            "points": self.points,
            "elements": self.elements,
            "outcomes": {outcome.value: _counted(count) for outcome, count in sorted(self.outcomes.items())},
            "outside": self.outside,
            "ratio": None if self.ratio is None else [self.ratio.value, *_plain(self.ratio.place)],
            "ulps": None if self.ulps is None else [self.ulps.value, *_plain(self.ulps.place)],
            "digest": f"{self.digest:064x}",
            "retried": None if self.retried is None else _counted(self.retried),
        }

    @staticmethod
    def from_json(found: Mapping[str, Any]) -> Tally:
        """The tally that `to_json` gave."""
        return Tally(
            points=found["points"],
            elements=found["elements"],
            outcomes={Outcome(name): _count(count) for name, count in found["outcomes"].items()},
            outside=found["outside"],
            ratio=_worst(found["ratio"]),
            ulps=_worst(found["ulps"]),
            digest=int(found["digest"], 16),
            retried=None if found["retried"] is None else _count(found["retried"]),
        )


ZERO = Tally()


def merged(a: Tally, b: Tally) -> Tally:
    """The tally of the points of both, which have none in common."""
    outcomes = dict(a.outcomes)
    for outcome, count in b.outcomes.items():
        outcomes[outcome] = _together(count, outcomes.get(outcome))
    return Tally(
        points=a.points + b.points,
        elements=a.elements + b.elements,
        outcomes=outcomes,
        outside=a.outside + b.outside,
        ratio=worse(a.ratio, b.ratio),
        ulps=worse(a.ulps, b.ulps),
        digest=(a.digest + b.digest) % MODULUS,
        retried=b.retried if a.retried is None else _together(a.retried, b.retried),
    )


def worse(a: Worst | None, b: Worst | None) -> Worst | None:
    """The larger of two; of equal ones the one that stands first."""
    if a is None or b is None:
        return a or b
    return min(a, b, key=lambda one: (-one.value, one.place))


def _together(a: Count, b: Count | None) -> Count:
    return a if b is None else Count(a.number + b.number, min(a.first, b.first))


def _counted(count: Count) -> list[int]:
    return [count.number, *_plain(count.first)]


def _count(found: list[int]) -> Count:
    number, *first = found
    return Count(number, Place(*first))


def _plain(place: Place) -> tuple[int, int]:
    return place.point, place.element


def _worst(found: list[Any] | None) -> Worst | None:
    return None if found is None else Worst(float(found[0]), Place(*found[1:]))
