"""The nouns of the vectors: a case, the recipe of a large array, and what is expected of an answer.

`conformance.vectors` exports them; the generators in `conformance.cases` make the cases.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from conformance.complaint import Complaint
from refimpl.enclosure import Enclosure, format_of, round_to_format
from refimpl.operation import Index, IndexOrReal, Input, Operation, OutOfRange, Real

Array = NDArray[Any]

GROUPS = ("edges", "ladder", "random", "regression")
TIERS = ("smoke", "core", "full")  # each holds those before it

# What a flag says of a case, for whoever reads the vectors' files.
FLAGS = {
    "layout": "an input lies in memory otherwise than contiguously; `layouts` says how",
    "many-classes": "more classes than a count or a sum in the vector's dtype can hold, or than one block of a kernel takes",
    "many-rows": "more rows than a count or a sum in the vector's dtype can hold",
}


class VectorError(Complaint):
    """A vector, or a file of vectors, that can't be used; the message names the case or file, the field and the remedy."""


@dataclass(frozen=True)
class Recipe:
    """How to make an array again from a counter (`conformance.cases.counter`), and the SHA-256 of the bytes that it must give.

    `holds` names the map from draws to values; `axis` is the class axis (probability), `below` the number of classes (index,
    some_ignored) or of elements before the step (step), `ignored` the index that stands for no class (some_ignored), `values` the
    numbers (repeat, step).
    """

    holds: str
    seed: int
    shape: tuple[int, ...]
    dtype: str
    axis: int = -1
    below: int = 0
    ignored: int = 0
    values: tuple[float, ...] = ()
    sha256: str = ""
    generator: str = "lossref-counter-1"


@dataclass(frozen=True, eq=False)
class Case:
    """One call, bit-exact: `inputs` as arrays, `parameters` as given (the rest have their defaults), and a cotangent.

    Every floating-point array has the dtype named `dtype`; indices are int64. `clauses` are the ids of the spec that the case is
    evidence for, `source` the upstream issue of a regression. An array that has an entry in `recipes` (under the input's name,
    or "cotangent") is kept as that recipe. `layouts` names, for some inputs or "cotangent", how their elements lie in memory when a
    backend gets them (`conformance.layouts`); the others are contiguous. `tier` is the smallest tier that holds the case; `since` the
    version of the vectors that had it first, `supersedes` the id of the case that it replaces, or empty.
    """

    id: str
    operation: str
    dtype: str
    inputs: Mapping[str, Array]
    parameters: Mapping[str, Any]
    cotangent: Array | None
    clauses: tuple[str, ...]
    flags: tuple[str, ...] = ()
    source: str = ""
    recipes: Mapping[str, Recipe] = field(default_factory=dict)
    layouts: Mapping[str, str] = field(default_factory=dict)
    tier: str = "core"
    since: str = "2026.11"
    supersedes: str = ""

    @property
    def group(self) -> str:
        return self.id.split("/")[1]

    @property
    def call(self) -> dict[str, Any]:
        """Inputs and parameters as the keywords of the operation's functions."""
        return {**self.inputs, **self.parameters}


@dataclass(frozen=True, eq=False)
class Expected:
    """The enclosures of a tensor of `shape`: of every element, or of those at the flat indices `where`.

    `total` encloses the sum of all elements, where only some are kept and all are finite. `terms` (elements, K) are the coefficients
    of the error bound of each kept element, in the order of `refimpl.bounds.TERMS`: a promise's bound is their scalar product with the
    K numbers that follow from it. None where the operation states no bound.
    """

    shape: tuple[int, ...]
    where: NDArray[np.int64] | None
    values: Enclosure
    total: Enclosure | None = None
    terms: NDArray[np.float64] | None = None


@dataclass(frozen=True, eq=False)
class Expectation:
    """What an answer must be under `choices`, which names only the choices that matter for the case.

    `kind` "error": the backend must raise, or return nan in every element of the output and of the gradients.
    """

    choices: Mapping[str, str]
    kind: str
    output: Expected
    gradients: Mapping[str, Expected]


@dataclass(frozen=True, eq=False)
class Unread(Sequence[Expectation]):
    """Expectations whose `choices` are known; `make` reads the one at a position when it is first used."""

    choices: Sequence[Mapping[str, str]]
    make: Callable[[int], Expectation]
    _read: dict[int, Expectation] = field(default_factory=dict)

    @overload
    def __getitem__(self, index: int) -> Expectation: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Expectation, ...]: ...
    def __getitem__(self, index: int | slice) -> Expectation | tuple[Expectation, ...]:
        positions = range(len(self))[index]
        if isinstance(positions, range):
            return tuple(map(self._at, positions))
        return self._at(positions)

    def __len__(self) -> int:
        return len(self.choices)

    def _at(self, position: int) -> Expectation:
        if position not in self._read:
            self._read[position] = self.make(position)
        return self._read[position]


@dataclass(frozen=True, eq=False)
class Vector:
    """A case and what is expected of it, one expectation for each permitted combination of choices."""

    case: Case
    expectations: Sequence[Expectation]

    @property
    def choices(self) -> Sequence[Mapping[str, str]]:
        """Those of each expectation, for which none that is still unread has to be read."""
        known = self.expectations
        return known.choices if isinstance(known, Unread) else [expectation.choices for expectation in known]


def exactly(value: Any, dtype: str, what: str) -> Array:
    """Numbers as an array of `dtype`; raises `VectorError`, naming `what`, for one that the dtype can't hold."""
    wide = np.asarray(value, np.float64)
    array = rounded(wide, dtype)
    if not np.array_equal(array.astype(np.float64), wide, equal_nan=True):
        worst = wide[array.astype(np.float64) != wide].flat[0]
        raise VectorError(f"{what}: {dtype} can't hold {float(worst)!r} exactly; choose another number or leave out that dtype")
    return array


def rounded(wide: NDArray[np.float64], dtype: str) -> Array:
    """Float64 values rounded once to `dtype`, to nearest with ties to even; every nan is the canonical one.

    The detour is for bfloat16, which ml_dtypes reaches from float64 by way of float32, rounding twice.
    """
    target = format_of(dtype)
    narrow = np.where(wide == 0.0, wide, round_to_format(wide, target)) if dtype == "bfloat16" else wide
    with np.errstate(over="ignore", under="ignore"):
        array = np.array(narrow, np.float64).astype(target.dtype)
    array[np.isnan(wide)] = np.nan
    return array


def seed_of(text: str) -> int:
    """A seed below 2^48: the first six bytes, big-endian, of the SHA-256 of `text`."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big")


def checksum(array: Array) -> str:
    """The SHA-256 of an array's little-endian bytes in C order."""
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def output_shape(operation: Operation, call: Mapping[str, Any]) -> tuple[int, ...]:
    """The shape of the operation's output, also where a target is out of range."""
    try:
        return operation.forward(**call).shape
    except OutOfRange:
        return operation.forward(**{name: _harmless(operation.inputs.get(name), value) for name, value in call.items()}).shape


def _harmless(kind: Input | None, value: Any) -> Any:
    indices = isinstance(kind, Index) or (isinstance(kind, IndexOrReal) and np.asarray(value).dtype.kind in "iu")
    return np.zeros_like(value) if indices else value


def class_axis(operation: Operation, shape: tuple[int, ...]) -> int | None:
    """The class axis of a tensor with the shape of the operation's first input, by that input's axes."""
    kind = next(iter(operation.inputs.values()))
    if not isinstance(kind, Real) or not shape:
        return None
    return 1 if kind.axes.startswith("N V") and len(shape) > 1 else len(shape) - 1
