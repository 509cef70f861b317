"""How an implementation orders its sums, and how many roundings that puts on the longest path from a term to the result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Kind = Literal["sequential", "lanes", "pairwise", "blocked", "online"]

EXPONENTIAL = 2
RESCALING = EXPONENTIAL + 2  # roundings of an online softmax's step: an exponential, a product, an addition


@dataclass(frozen=True)
class Summation:
    """The order of a sum of n terms.

    "sequential": one accumulator. "lanes": `lanes` of them in turn, which are then added pairwise. The others cut the terms into
    blocks of `block`, each summed by lanes: "blocked" adds the blocks' sums in turn, "pairwise" in a balanced tree, "online" in turn
    with a rescaling before each, as an online softmax does.
    """

    kind: Kind = "sequential"
    lanes: int = 1
    block: int = 1

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"{self.kind!r} is no order of summation; use one of {', '.join(get_args(Kind))}")
        for name in ("lanes", "block"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; promise at least one")

    def depth(self, terms: int) -> int:
        """Roundings on the longest path of a sum of `terms`; the first term of an accumulator is exact."""
        if self.kind == "sequential":
            return max(terms - 1, 0)
        if self.kind == "lanes":
            return self._in_lanes(terms)
        blocks = -(-terms // self.block)
        inside = self._in_lanes(min(terms, self.block))
        if self.kind == "blocked":
            return inside + max(blocks - 1, 0)
        if self.kind == "online":
            return inside + RESCALING * blocks
        # A tree that splits into halves of whole lanes may need one level more than an even one.
        return inside + (0 if blocks <= 1 else (blocks - 1).bit_length() + 1)

    def rescaling(self, terms: int) -> int:
        """Those of them that are errors of the exponentials by which an online softmax rescales."""
        return EXPONENTIAL * -(-terms // self.block) if self.kind == "online" else 0

    def _in_lanes(self, terms: int) -> int:
        used = min(self.lanes, max(terms, 1))
        return max(-(-terms // self.lanes) - 1, 0) + (used - 1).bit_length()


SEQUENTIAL = Summation()
