"""The nouns of judging: what a backend answered, and what became of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any

from numpy.typing import NDArray

from conformance.bound import Accuracy
from conformance.case import Case
from conformance.texts import decimal_text, element_text, hex_text, inputs_text, number_text, place_text, short_hex
from refimpl.enclosure import Enclosure, Format, Kind

Array = NDArray[Any]
Place = tuple[int, ...]


class Verdict(StrEnum):
    """What became of one tensor of one case; only PASS counts as a pass."""

    PASS = "pass"
    FAIL = "fail"
    ERROR = "error"
    CRASH = "crash"
    TIMEOUT = "timeout"
    SKIP = "skip"
    UNSUPPORTED = "unsupported"


@dataclass(frozen=True, eq=False)
class Answer:
    """What a backend gave: its output and gradients, or the text of what it raised, and what it did to its inputs.

    A backend without derivatives gives an output and no gradients; one that can't differentiate by some inputs names them in `constants`.
    """

    output: Array | None
    gradients: Mapping[str, Array]
    error: str | None
    modified: tuple[str, ...]
    repeat_differs: bool
    seconds: float
    constants: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Element:
    """One element as it was judged, or the sum of all: what was expected, what came, the error that was allowed, the answer's format."""

    expected: Enclosure
    actual: Array
    bound: float
    target: Format


@dataclass(frozen=True)
class Told:
    """What a finding says of its element in words, where the element itself is not at hand: it was read from a file.

    `format` is the answer's dtype, `side` what `Finding.side` says.
    """

    inputs: str = ""
    expected: str = ""
    expected_hex: str = ""
    radius: str = ""
    actual: str = ""
    actual_hex: str = ""
    allowed: str = ""
    format: str = ""
    side: int = 0


@dataclass(frozen=True)
class Statistics:
    """The signed ratios (answer - truth)/bound of `count` elements: their mean `bias`, and the root of their mean square, `spread`.

    What is allowed of each is what sums that round to nearest may come to (`conformance.statistics`).
    """

    count: int
    bias: float
    spread: float
    bias_allowed: float
    spread_allowed: float

    @property
    def excess(self) -> float:
        """The larger of both in units of what is allowed of it."""
        return max(abs(self.bias) / self.bias_allowed, self.spread / self.spread_allowed)

    @property
    def suspicious(self) -> bool:
        """Whether the errors, inside their bound, are no likely outcome of the promised arithmetic."""
        return self.excess > 1.0


@dataclass(frozen=True)
class Explained:
    """What explains an answer: the values of each choice that the vector permits, and the choices of each expectation that it meets.

    With those goes the conduct that it shows, of which nothing is permitted or not.
    """

    permitted: Mapping[str, frozenset[str]]
    by: tuple[Mapping[str, str], ...]


@dataclass(frozen=True)
class Finding:
    """The verdict on one tensor, with all that a message needs.

    `ratio` and `ulps` are those of the element with the largest ratio, None where no values were compared; `worst_index` is where
    it stands (None: the tensor as a whole, or the sum of its elements). `kept` are the accuracy classes whose bound every number kept
    that stood where a number was expected; None where none did. `other` names the choices under which the answer is right, where it
    isn't under those that were promised; `explained` says what explains the whole answer, where that was asked; `statistics` are those
    of an answer inside its bound, where there are any. `note` says what the numbers don't. `told` are texts, spelled when they are asked
    for, as most findings are a pass that nobody reads.
    """

    case: str
    operation: str
    direction: str  # "forward" or "backward"
    output: str  # "output", or the input that the gradient is of
    dtype: str
    verdict: Verdict
    ratio: float | None
    ulps: float | None
    choice: Mapping[str, str]
    worst_index: Place | None
    clauses: tuple[str, ...]
    flags: tuple[str, ...]
    subject: Case | None = field(default=None, repr=False, compare=False)
    element: Element | None = field(default=None, repr=False, compare=False)
    spelled: Told | None = field(default=None, repr=False, compare=False)  # where the element isn't at hand
    shapes: tuple[str, str] = ("", "")  # expected and actual, where the tensors themselves can't be compared
    kept: tuple[Accuracy, ...] | None = None
    accuracy: str = ""
    other: Mapping[str, str] = field(default_factory=dict)
    explained: Explained | None = None
    statistics: Statistics | None = None
    note: str = ""

    @property
    def place(self) -> str:
        """What is spoken of: "output[3]", "gradient of logits"."""
        return place_text(self.output, self.direction, self.worst_index)

    @cached_property
    def told(self) -> Told:
        """What it says in words; the numbers with some digits more than the answer's dtype has, and exactly in hexadecimal."""
        if self.spelled is not None:
            return self.spelled
        inputs = "" if self.subject is None else inputs_text(self.subject, self.worst_index)
        if self.element is None:
            return Told(inputs, self.shapes[0], actual=self.shapes[1])
        expected, target, radius = self.element.expected, self.element.target, float(self.element.expected.radius.item())
        return Told(
            inputs=inputs,
            expected=decimal_text(expected, target),
            expected_hex=hex_text(expected),
            radius=f"{radius:.2g}" if radius else "",
            actual=element_text(self.element.actual[0]),
            actual_hex=short_hex(float(self.element.actual[0])),
            allowed=number_text(float(f"{self.element.bound:.3g}")),
            format=self.element.actual.dtype.name,
            side=self.side,
        )

    @property
    def badness(self) -> float:
        """Its ratio, to sort by: infinite where there is none, or where it is nan."""
        return math.inf if self.ratio is None or math.isnan(self.ratio) else self.ratio

    @property
    def side(self) -> int:
        """1 where the answer lies above the centre of what was expected, -1 below, 0 where no two numbers differ."""
        if self.spelled is not None:
            return self.spelled.side
        if self.element is None or self.element.expected.kind.item() != Kind.FINITE or math.isnan(self.element.actual[0]):
            return 0
        difference = float(self.element.actual[0]) - self.element.expected.hi.item() - self.element.expected.lo.item()
        return (difference > 0) - (difference < 0)
