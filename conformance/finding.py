"""The nouns of judging: what a backend answered, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from numpy.typing import NDArray

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

    A backend without derivatives gives an output and no gradients.
    """

    output: Array | None
    gradients: Mapping[str, Array]
    error: str | None
    modified: tuple[str, ...]
    repeat_differs: bool
    seconds: float


@dataclass(frozen=True)
class Finding:
    """The verdict on one tensor, with all that a message needs.

    `ratio` and `ulps` are those of the element with the largest ratio, None where no values were compared; `worst_index` is where
    it stands (None: the tensor as a whole, or the sum of its elements), and `place` to `allowed` are texts that speak of it. `note`
    says what the numbers don't.
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
    place: str = ""
    inputs: str = ""
    expected: str = ""
    expected_hex: str = ""
    radius: str = ""
    actual: str = ""
    actual_hex: str = ""
    allowed: str = ""
    accuracy: str = ""
    note: str = ""
