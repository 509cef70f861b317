"""What a campaign asks: every point of a space, each point one row of a call, decoded from an integer.

A `Space` fixes an operation, its parameters and the number of classes V, and names the places (`logits[0]`, `q[1]`) that take every bit
pattern of the dtype: both zeros, the subnormal numbers, the infinities and every nan. A place that isn't varied holds a fixed operand. The
digits of a point, the last one running fastest, are the target's class, where the operation has a target and `targets` says that it
varies, then the patterns of the varied places in their order:

    softmax_cross_entropy/pairs of float16    point = (target * 2^16 + bits of logits[0]) * 2^16 + bits of logits[1]

No operation here refuses a call for the numbers in it: a row outside the operation's domain (a negative probability, a nan, a +inf)
has an expected answer of its own, mostly nan, and its neighbours theirs. Only a target that names no class would refuse all of a call,
and no point has one.

Points are asked in blocks of `BLOCK` rows, one call a block; shards begin and end where blocks do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conformance.case import Case, exactly
from conformance.complaint import Complaint
from conformance.deviations import DIRECTIONS
from refimpl.enclosure import FORMATS
from refimpl.operation import Index, IndexOrReal, Real
from refimpl.operations import operation

BLOCK = 1 << 16  # points that are one call, and one term of the digest
MOST = 1 << 62  # points that are numbered; more are out of anyone's reach

Array = NDArray[Any]


class CampaignError(Complaint):
    """A campaign that can't be; the message names what, its value and the remedy."""


@dataclass(frozen=True)
class Space:
    """The rows of V = `classes` that vary so; `fixed` are the operands of the other places, unless a campaign gives its own."""

    name: str
    summary: str
    classes: int
    varied: tuple[str, ...]
    fixed: Mapping[str, float] = field(default_factory=dict)
    targets: bool = False
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def operation(self) -> str:
        """Whose space it is."""
        return self.name.partition("/")[0]

    @property
    def inputs(self) -> tuple[str, ...]:
        """The real inputs of the operation."""
        return tuple(name for name, kind in operation(self.operation).inputs.items() if isinstance(kind, Real) and not kind.optional)

    @property
    def places(self) -> tuple[str, ...]:
        """All places, varied or not."""
        return tuple(f"{name}[{v}]" for name in self.inputs for v in range(self.classes))

    @cached_property
    def row(self) -> tuple[int, ...]:
        """The shape of what the output has for a row."""
        of = operation(self.operation)
        some: dict[str, Array] = {name: np.zeros((1, self.classes)) for name in self.inputs}
        some |= {name: np.zeros(1, np.int64) for name, kind in of.inputs.items() if isinstance(kind, Index | IndexOrReal)}
        return of.forward(**some, **self.parameters).shape[1:]

    def size(self, dtype: str) -> int:
        """The number of points in a dtype."""
        return (self.classes if self.targets else 1) * 2 ** (bits_of(dtype) * len(self.varied))


NONE = {"reduction": "none"}
SPACES: Mapping[str, Space] = {
    space.name: space
    for space in (
        Space("log_softmax/one", "every logit beside a fixed one", 2, ("logits[0]",), {"logits[1]": 0.0}),
        Space("log_softmax/pairs", "every pair of logits", 2, ("logits[0]", "logits[1]")),
        Space("log_softmax/triples", "every three logits", 3, ("logits[0]", "logits[1]", "logits[2]")),
        Space(
            "softmax_cross_entropy/pairs",
            "every pair of logits, with either target",
            2,
            ("logits[0]", "logits[1]"),
            targets=True,
            parameters=NONE,
        ),
        Space(
            "softmax_cross_entropy/smoothed-pairs",
            "the same with a label smoothing of 0.125",
            2,
            ("logits[0]", "logits[1]"),
            targets=True,
            parameters=NONE | {"label_smoothing": 0.125},
        ),
        Space("entropy_with_logits/pairs", "every pair of logits", 2, ("logits[0]", "logits[1]")),
        Space("entropy/terms", "every term -p ln p", 1, ("p[0]",)),
        Space("entropy/one", "every p beside a fixed one", 2, ("p[0]",), {"p[1]": 0.25}),
        Space("entropy/pairs", "every pair p", 2, ("p[0]", "p[1]")),
        Space("cross_entropy/terms", "every term -p ln q", 1, ("p[0]", "q[0]")),
        Space("kl_divergence/terms", "every term p ln(p/q)", 1, ("p[0]", "q[0]")),
        Space("kl_divergence/p", "the terms of every p with a fixed q", 1, ("p[0]",), {"q[0]": 0.25}),
        Space("kl_divergence/q", "the terms of every q with a fixed p", 1, ("q[0]",), {"p[0]": 0.25}),
        Space("kl_div/terms", "every p (ln p - log_q)", 1, ("log_q[0]", "p[0]"), parameters=NONE),
    )
}


@dataclass(frozen=True, eq=False)
class Campaign:
    """One backend asked all of a space in one dtype: what a shard needs beside its ends, and what a journal is of.

    `mode` is one of the backend's, "" standing for its first. `fixed` are pairs of a place and its operand, in place of the space's own.
    `direction` is "forward", the output, or "backward", the gradients for a cotangent of 1. `device`, `dialect`, `promises` and `tensors`
    are what `conformance.sources.Options` says of them. Two are equal whose fields are; 0.0 and -0.0 are two operands. Raises
    `CampaignError` for what can't be.
    """

    backend: str
    space: str
    dtype: str
    mode: str = ""
    fixed: tuple[tuple[str, float], ...] = ()
    direction: str = DIRECTIONS[0]
    device: str | None = None
    dialect: str | None = None
    promises: tuple[str, ...] = ()
    tensors: str = "numpy"

    def __post_init__(self) -> None:
        if self.space not in SPACES:
            raise CampaignError(f"no space is named {self.space!r}; the spaces are {', '.join(SPACES)}")
        if self.dtype not in FORMATS:
            raise CampaignError(f"no dtype is named {self.dtype!r}; the dtypes are {', '.join(FORMATS)}")
        if self.direction not in DIRECTIONS:
            raise CampaignError(f"the direction is {self.direction!r}; it is forward or backward")
        space = SPACES[self.space]
        held = [place for place in space.places if place not in space.varied]
        if len(dict(self.fixed)) < len(self.fixed):
            raise CampaignError(f"an operand is given twice among {', '.join(place for place, _ in self.fixed)}; give each once")
        for place, value in self.fixed:
            if place not in held:
                there = f"its fixed operands are {', '.join(held)}" if held else "it has no fixed operand"
                raise CampaignError(f"{self.space} has no fixed operand {place!r}; {there}")
            exactly(value, self.dtype, f"the operand {place}")
            if math.isnan(value):
                raise CampaignError(f"the operand {place} is nan, which equals nothing; choose a number or an infinity")
        if space.size(self.dtype) > MOST:
            raise CampaignError(
                f"{self.space} of {self.dtype} has {space.size(self.dtype):.2g} points; choose a narrower dtype or another space"
            )
        object.__setattr__(self, "fixed", tuple(sorted({**space.fixed, **dict(self.fixed)}.items())))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Campaign) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    @cached_property
    def _key(self) -> tuple[object, ...]:
        return *(getattr(self, one.name) for one in fields(self) if one.name != "fixed"), *self._operands.items()

    @property
    def _operands(self) -> dict[str, str]:
        """The fixed operands in hexadecimal, which tells all of them from each other."""
        return {place: value.hex() for place, value in self.fixed}

    @property
    def of(self) -> Space:
        """Its space."""
        return SPACES[self.space]

    @cached_property
    def size(self) -> int:
        """The number of its points."""
        return self.of.size(self.dtype)

    def to_dict(self) -> dict[str, Any]:
        """Its fields as JSON has them."""
        stated = {one.name: getattr(self, one.name) for one in fields(self)}
        return stated | {"fixed": self._operands, "promises": list(self.promises)}

    @staticmethod
    def from_dict(found: Mapping[str, Any]) -> Campaign:
        """The campaign that `to_dict` gave; raises `CampaignError` for fields that it doesn't give."""
        known = {one.name for one in fields(Campaign)}
        if found.keys() != known:
            raise CampaignError(f"a campaign has the fields {', '.join(sorted(known))}, not {', '.join(sorted(found))}")
        fixed = tuple((place, float.fromhex(value)) for place, value in found["fixed"].items())
        return Campaign(**{**found, "fixed": fixed, "promises": tuple(found["promises"])})

    def inputs(self, start: int, stop: int) -> dict[str, Array]:
        """The inputs of the call on points start to stop: (rows, V) arrays of the dtype, and a target (rows,) where there is one.

        Raises `CampaignError` for points that it doesn't have.
        """
        if not 0 <= start < stop <= self.size:
            raise CampaignError(f"{self.space} of {self.dtype} has points 0 to {self.size - 1}; {start} to {stop - 1} are none")
        space, bits, rows = self.of, bits_of(self.dtype), stop - start
        target = FORMATS[self.dtype].dtype
        places = {name: np.empty((rows, space.classes), target) for name in space.inputs}
        for place, value in self.fixed:
            name, v = _parsed(place)
            places[name][:, v] = exactly(value, self.dtype, place)
        left = np.arange(start, stop, dtype=np.uint64)
        for place in reversed(space.varied):
            name, v = _parsed(place)
            places[name][:, v] = left.astype(f"u{bits // 8}").view(target)
            left >>= np.uint64(bits)
        found: dict[str, Array] = dict(places)
        for name, kind in operation(space.operation).inputs.items():
            if isinstance(kind, Index | IndexOrReal):
                found[name] = left.astype(np.int64)
        return found

    def case(self, point: int) -> Case:
        """The call on one point alone."""
        inputs, name = self.inputs(point, point + 1), self.space.partition("/")[2]
        id = f"{self.of.operation}/campaign/{name}-{point}-{self.dtype}"
        return Case(id, self.of.operation, self.dtype, inputs, self.of.parameters, self.cotangent(inputs), ())

    def cotangent(self, inputs: Mapping[str, Array]) -> Array | None:
        """A 1 for each element of the output; None in a forward campaign."""
        if self.direction == "forward":
            return None
        rows = len(next(iter(inputs.values())))
        return np.ones((rows, *self.of.row), FORMATS[self.dtype].dtype)


def bits_of(dtype: str) -> int:
    """The bits of one number."""
    return 8 * FORMATS[dtype].dtype.itemsize


def _parsed(place: str) -> tuple[str, int]:
    """The input and the class of a place like `logits[1]`."""
    name, _, rest = place.partition("[")
    return name, int(rest.removesuffix("]"))
