"""The building blocks of the arithmetic as something to search: two double-doubles in, one out, and the error that is stated for it.

Operands stay where nothing underflows or overflows; what is lost below is the callers' concern and is searched with the operations.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from flint import arb
from numpy.typing import NDArray

from refimpl import doubledouble as dd
from refimpl import elementary, pointwise
from refimpl.ball import precision
from refimpl.doubledouble import U2
from refimpl.jit import frozen, kernel
from tests.pairs import Pair
from tests.search import mutate
from tests.search.climb import Scores
from tests.test_doubledouble import STATED
from tests.test_elementary import exp_arguments, log_arguments

Float = NDArray[np.float64]
Truth = Callable[[arb, arb, arb], arb]  # of a, b and the leading part of b

BITS = (300, 1400, 5000)
SLOTS = 64


@dataclass(frozen=True)
class Block:
    """One building block: its number in `run`, its true value, the stated error in units of u^2, and what operands it takes.

    `reach` bounds the exponents of both operands, `ordered` asks for |a| >= |b|, `positive` for operands above 0, `only_a` says that it
    takes no b, and `limit` bounds |a|.
    """

    code: int
    truth: Truth
    stated: float
    reach: int = 200
    ordered: bool = False
    positive: bool = False
    single: bool = False  # operands are float64 numbers
    only_a: bool = False
    limit: float = math.inf


@kernel
def run(code: int, x: Any, out: Any) -> None:
    """The block with that number on every row (ah, al, bh, bl) of x: (h, l, n), a result (h + l) * 2^n."""
    for i in range(len(x)):
        ah, al, bh, bl = x[i, 0], x[i, 1], x[i, 2], x[i, 3]
        h, l, n = 0.0, 0.0, 0
        if code == 0:
            h, l = dd.two_sum(ah, bh)
        elif code == 1:
            h, l = dd.fast_two_sum(ah, bh)
        elif code == 2:
            h, l = dd.two_prod(ah, bh)
        elif code == 3:
            h, l = dd.add(ah, al, bh, bl)
        elif code == 4:
            h, l = dd.add_positive(ah, al, bh, bl)
        elif code == 5:
            h, l = dd.add_float(ah, al, bh)
        elif code == 6:
            h, l = dd.mul(ah, al, bh, bl)
        elif code == 7:
            h, l = dd.mul_float(ah, al, bh)
        elif code == 8:
            h, l = dd.div(ah, al, bh, bl)
        elif code == 9:
            h, l, n = elementary.exp_split(ah, al)
        elif code == 10:
            h, l = elementary.log(ah, al)
        elif code == 11:
            h, l = elementary.log1p(ah, al)
        else:
            h, l = pointwise.log_ratio(ah, bh)
        out[i, 0], out[i, 1], out[i, 2] = h, l, n


BLOCKS: dict[str, Block] = {
    "two_sum": Block(0, lambda a, b, bh: a + b, 0.0, single=True),
    "fast_two_sum": Block(1, lambda a, b, bh: a + b, 0.0, single=True, ordered=True),
    "two_prod": Block(2, lambda a, b, bh: a * b, 0.0, single=True),
    "add": Block(3, lambda a, b, bh: a + b, float(STATED["add"] / dd.U2)),
    "add_positive": Block(4, lambda a, b, bh: a + b, float(STATED["add_positive"] / dd.U2), positive=True),
    "add_float": Block(5, lambda a, b, bh: a + bh, float(STATED["add_float"] / dd.U2)),
    "mul": Block(6, lambda a, b, bh: a * b, float(STATED["mul"] / dd.U2)),
    "mul_float": Block(7, lambda a, b, bh: a * bh, float(STATED["mul_float"] / dd.U2)),
    "div": Block(8, lambda a, b, bh: a / b, float(STATED["div"] / dd.U2)),
    "exp_split": Block(9, lambda a, b, bh: a.exp(), elementary.EXP, reach=60, only_a=True, limit=5000.0 * (1 - 2.0**-50)),
    "log": Block(10, lambda a, b, bh: (a - 1).log1p(), elementary.LOG, reach=900, positive=True, only_a=True),
    "log1p": Block(11, lambda a, b, bh: a.log1p(), elementary.LOG1P, reach=850, positive=True, only_a=True, limit=2.0**40),
    "log_ratio": Block(12, lambda a, b, bh: (a / b).log(), pointwise.LOG_RATIO, reach=900, positive=True, single=True),
}


@dataclass(frozen=True)
class Operands:
    """A population: rows (ah, al, bh, bl)."""

    x: Float

    @property
    def slots(self) -> int:
        return len(self.x)

    def take(self, slots: NDArray[np.intp]) -> Operands:
        return Operands(self.x[slots])


@dataclass(frozen=True)
class BlockSpace:
    """A block as `climb` searches it; `wrong_by` is a fault for tests: that much of its own size is added to every result."""

    block: Block
    wrong_by: float = 0.0

    def start(self, rng: np.random.Generator) -> Operands:
        reach = int(rng.choice([0, 3, 60, self.block.reach]))
        a, b = (Pair.many(rng, SLOTS, min(reach, self.block.reach)) for _ in range(2))
        near = rng.random(SLOTS) < 0.3  # operands that nearly cancel, or nearly agree
        b[near] = a[near] * rng.choice([-1.0, 1.0], (SLOTS, 1))[near]
        b = np.where(rng.random((SLOTS, 1)) < 0.5, b, mutate.floats(rng, b))
        if self.block.only_a:
            edges = log_arguments(rng, SLOTS) if self.block.positive else exp_arguments(rng, SLOTS, rng.choice([1.0, 50.0, 5000.0]))
            a, b[:] = np.where(rng.random((SLOTS, 1)) < 0.7, edges, a), (1.0, 0.0)
        return Operands(self._proper(np.concatenate([a, b], axis=1)))

    def vary(self, rng: np.random.Generator, population: Operands) -> Operands:
        x = population.x.copy()
        for part in range(2):
            touched = rng.random(len(x)) < 0.7
            x[touched, part::2] = mutate.floats(rng, x[touched, part::2], share=0.6)
        tie = rng.random((len(x), 2)) < 0.1  # a low part of exactly half an ulp, or its neighbour
        half = np.spacing(np.abs(x[:, ::2])) / 2.0 * rng.choice([-1.0, 1.0, 1.0 - 2.0**-53], (len(x), 2))
        x[:, 1::2] = np.where(tie, half, x[:, 1::2])
        return Operands(self._proper(x))

    def mix(self, better: NDArray[np.bool_], children: Operands, parents: Operands) -> Operands | None:
        return Operands(np.where(better[:, None], children.x, parents.x))

    def scores(self, population: Operands) -> Scores:
        """The error over the stated one, and in units of u^2; for an exact block, inf where it is not."""
        results = self._results(population.x)
        share, units = np.zeros(len(results)), np.zeros(len(results))
        for i, (row, result) in enumerate(zip(population.x.tolist(), results.tolist(), strict=True)):
            units[i] = self._units(row, result)
            share[i] = units[i] / self.block.stated if self.block.stated else (math.inf if units[i] else 0.0)
        return Scores(share, units)

    def _results(self, x: Float) -> Float:
        out = np.empty((len(x), 3))
        run(self.block.code, frozen(x), out)
        out[:, 1] += self.wrong_by * out[:, 0]
        return out

    def _units(self, row: list[float], result: list[float]) -> float:
        for bits in BITS:
            with precision(bits):
                a, b, bh = arb(row[0]) + arb(row[1]), arb(row[2]) + arb(row[3]), arb(row[2])
                true = self.block.truth(a, b, bh)
                if true == 0:
                    return 0.0 if result[0] == result[1] == 0.0 else math.inf
                error = ((arb(result[0]) + arb(result[1])) * arb(2) ** int(result[2]) - true) / true
                low, high = error.abs_lower(), error.abs_upper()
                if high - low <= 2.0**-20 * U2:
                    return float(low / U2) if low > 0 else 0.0
        raise ArithmeticError(f"no ball of {BITS[-1]} bits shows the error at {row}")

    def _proper(self, x: Float) -> Float:
        """Rows brought to what the block takes: double-doubles, or float64 numbers, in its range and order."""
        x = np.where(np.isfinite(x), x, 1.0)
        h, l = x[:, ::2], x[:, 1::2]
        if self.block.positive:
            h = np.abs(h)
        size = np.clip(np.abs(h), 2.0**-self.block.reach, 2.0**self.block.reach)
        size[:, 0] = np.minimum(size[:, 0], self.block.limit)
        h = np.copysign(size, h)
        half = np.spacing(size) / 2.0
        l = np.zeros_like(h) if self.block.single else np.clip(l, -half, half)
        s = h + l
        l = (h - s) + l
        if self.block.ordered:
            swap = np.abs(s[:, :1]) < np.abs(s[:, 1:])
            s, l = np.where(swap, s[:, ::-1], s), np.where(swap, l[:, ::-1], l)
        return np.stack([s[:, 0], l[:, 0], s[:, 1], l[:, 1]], axis=1)
