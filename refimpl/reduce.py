"""From rows to results: row layout, scale, sums over rows, denominators, and the last step to an `Enclosure`.

Row kernels write, for each row or element, a kind and scale * (hi + lo +/- radius). A finite element whose hi or lo is not
finite (an intermediate product beyond float64) was not determined: its radius becomes +inf, and the exact form decides.

Errors. A sum of n rows passes each term through at most `additions(n)` additions of ADD u^2; a division adds DIV u^2. The radii
themselves are computed in float64 with a few roundings each; `UP` covers those and all second-order terms in u.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refimpl import sums
from refimpl.doubledouble import ADD, DIV, TINY, U2, add, div, two_prod
from refimpl.enclosure import Enclosure, Exact, Float, Kind
from refimpl.jit import frozen, kernel, over_rows
from refimpl.operation import InvalidInput
from refimpl.rows import HUGE, SCALE_DOWN

UP = 1.0 + 2.0**-30  # rounds a radius up, one that was summed over 2^26 rows included
BLOCK = 16  # numbers that are added one after the other; the blocks are added pairwise
_AT_ONCE = 1 << 19  # elements that are widened at a time
_LEAST_PRODUCT, _LARGEST_PRODUCT = 2.0**-960, 2.0**960  # between them no part of a product underflows, and no sum overflows
_BEYOND = 2.0**1023 - 2.0**969  # half of where float64 rounds to infinity


@dataclass(frozen=True)
class Parts:
    """Arrays of scale * (hi + lo +/- radius) with their kinds, as the row kernels write them."""

    kind: NDArray[np.uint8]
    hi: Float
    lo: Float
    radius: Float

    @staticmethod
    def empty(*shape: int) -> Parts:
        return Parts(np.zeros(shape, np.uint8), np.zeros(shape), np.zeros(shape), np.zeros(shape))

    def arrays(self) -> tuple[NDArray[Any], Float, Float, Float]:
        return self.kind, self.hi, self.lo, self.radius

    def reshape(self, shape: tuple[int, ...]) -> Parts:
        return Parts(self.kind.reshape(shape), self.hi.reshape(shape), self.lo.reshape(shape), self.radius.reshape(shape))

    def moveaxis(self, source: int, destination: int) -> Parts:
        kind = np.moveaxis(self.kind, source, destination)
        hi, lo, radius = (np.moveaxis(array, source, destination) for array in (self.hi, self.lo, self.radius))
        return Parts(kind, hi, lo, radius)

    def broadcast(self, shape: tuple[int, ...]) -> Parts:
        kind, hi, lo, radius = (np.broadcast_to(array, shape) for array in self.arrays())
        return Parts(kind, hi, lo, radius)


def scale_of(values: NDArray[Any]) -> float:
    """The factor for linear terms in `values`: 2^-64 where one is so large that differences may leave float64, else 1."""
    if values.dtype != np.float64:  # no narrower format reaches so far
        return 1.0
    return SCALE_DOWN if _holds_huge(frozen(values.reshape(-1))) else 1.0


@kernel
def _holds_huge(values: Any) -> bool:
    """Whether some number is as large as HUGE, and finite."""
    found = 0
    for i in range(values.size):
        magnitude = abs(values[np.uint64(i)])
        found += 1 if HUGE <= magnitude < np.inf else 0
    return found > 0


def class_rows(name: str, values: NDArray[Any], axis: int) -> NDArray[Any]:
    """An array with its class axis last, as frozen rows (rows, V); raises `InvalidInput` where there is no class."""
    moved = np.moveaxis(values, axis, -1)
    if moved.shape[-1] == 0:
        raise InvalidInput(f"{name} has shape {values.shape}; pass at least one class")
    return frozen(moved.reshape(math.prod(moved.shape[:-1]), moved.shape[-1]))


def over_wide_rows(compiled: Any, x: NDArray[Any], by_row: Sequence[NDArray[Any]], shared: Sequence[Any]) -> None:
    """Call `compiled(start, stop, x, *by_row, *shared)` over all rows of x (rows, V), shared out to threads.

    The kernels take float32 and float64 rows, so those of a half format are widened, which is exact, a few at a time, together with the
    parts of the arrays `by_row` that belong to them (an empty one belongs to no row).
    """
    rows, classes = x.shape
    if x.dtype in (np.float32, np.float64):
        over_rows(compiled, rows, x.size, x, *by_row, *shared)
        return
    step = max(1, _AT_ONCE // classes)
    for first in range(0, rows, step):
        part = frozen(x[first : first + step].astype(np.float32))
        over_rows(compiled, len(part), part.size, part, *(array[first : first + step] for array in by_row), *shared)


@kernel
def _canonical(start: int, stop: int, kind: Any, hi: Any, lo: Any, radius: Any, scale: float) -> None:
    for i in range(start, stop):
        k, h, l, r = kind[i], hi[i], lo[i], radius[i]
        if scale != 1.0:
            if k == 0 and abs(h) - abs(l) - r > 2.0 * (_BEYOND * scale):
                k, h = 4, math.copysign(np.inf, h)
            h, l = h / scale, l / scale
            r = (r + 4.0 * TINY) / scale if r > 0.0 else 0.0
        if k == 0 and not (np.isfinite(h) and np.isfinite(l) and np.isfinite(r)):
            h, l, r = 0.0, 0.0, np.inf
        if k != 0:
            h, l, r = (np.nan if k == 3 or k == 5 else h), 0.0, 0.0
        kind[i], hi[i], lo[i], radius[i] = k, h + 0.0, l, r


def finish(parts: Parts, scale: float = 1.0, exact: Exact | None = None) -> Enclosure:
    """Undo the scale and give the canonical enclosure, in the place of the parts: they must be the caller's own."""
    shape = parts.hi.shape
    kind, hi, lo, radius = (np.ascontiguousarray(array).reshape(-1) for array in parts.arrays())
    over_rows(_canonical, hi.size, hi.size, kind, hi, lo, radius, scale)
    return Enclosure(kind.reshape(shape), hi.reshape(shape), lo.reshape(shape), radius.reshape(shape), exact)


def additions(terms: int) -> float:
    """The additions that round on the way of a term into a sum of blocks, at most."""
    return min(terms, BLOCK) - 1 + sums.depth(math.ceil(terms / BLOCK))


@kernel
def _total(kind: Any, hi: Any, lo: Any, radius: Any, result: Any) -> int:
    """Writes the sum of the elements to `result` (hi, lo, sum of radii, sum of magnitudes); returns its kind."""
    levels = sums.stack()
    h, l, r, magnitude = 0.0, 0.0, 0.0, 0.0
    positive, negative, nan = False, False, False
    for block in range(0, hi.size, BLOCK):
        if block > 0:
            sums.push(levels, block // BLOCK, h, l)
        h, l, br, bm = 0.0, 0.0, 0.0, 0.0
        for i in range(block, min(block + BLOCK, hi.size)):
            if kind[i] == 0:
                h, l = add(h, l, hi[i], lo[i])
                br += radius[i]
                bm += abs(hi[i])
            elif kind[i] == 1:
                positive = True
            elif kind[i] == 2:
                negative = True
            else:
                nan = True
        r += br
        magnitude += bm
    result[0], result[1] = sums.total(levels, (hi.size - 1) // BLOCK, h, l)
    result[2], result[3] = r, magnitude
    if nan or (positive and negative):
        return 3
    return 1 if positive else 2 if negative else 0


@kernel
def _quotient(a: Any, b: Any, result: Any) -> None:
    result[0], result[1] = div(a[0], a[1], b[0], b[1])


def joined(*parts: Parts) -> Parts:
    """1-d parts, one after the other."""
    kind = np.concatenate([part.kind for part in parts])
    hi, lo, radius = (np.concatenate(arrays) for arrays in zip(*(part.arrays()[1:] for part in parts), strict=True))
    return Parts(kind, hi, lo, radius)


def total(parts: Parts) -> Parts:
    """The sum of all elements, as 0-d parts. Infinities of both signs, or a nan, give nan."""
    result = np.zeros(4)
    code = _total(*(frozen(array.reshape(-1)) for array in parts.arrays()), result)
    hi, lo, radii, magnitude = result.tolist()
    if code != Kind.FINITE:
        hi, lo, radii, magnitude = {1: np.inf, 2: -np.inf, 3: np.nan}[code], 0.0, 0.0, 0.0
    radius = 0.0 if parts.hi.size <= 1 and radii == 0.0 else (radii + ADD * additions(parts.hi.size) * U2 * magnitude) * UP
    return _scalar(code, hi, lo, radius)


def quotient(numerator: Parts, denominator: Parts) -> Parts:
    """numerator / denominator, for 0-d parts and a positive denominator; undetermined where one of them left float64."""
    below = float(denominator.hi)
    if numerator.kind != Kind.FINITE:
        return numerator
    result = np.zeros(2)
    exponents = [int(np.frexp(part.hi)[1]) for part in (numerator, denominator)]  # brought to 1: a remainder must not underflow
    near_one = [np.ldexp([part.hi, part.lo], -n) for part, n in zip((numerator, denominator), exponents, strict=True)]
    _quotient(*(frozen(pair) for pair in near_one), result)
    with np.errstate(over="ignore", under="ignore"):
        result = np.ldexp(result, exponents[0] - exponents[1])
    if not np.isfinite(result).all():  # no nan of a value, as 0/0 is: only the exact form knows
        return _scalar(0, 0.0, 0.0, np.inf)
    relative = DIV * U2 + float(denominator.radius) / below
    exact = below == 1.0 and float(denominator.radius) == 0.0 == float(denominator.lo)
    radius = float(numerator.radius) if exact else (float(numerator.radius) / below + relative * abs(result[0])) * UP + 8 * TINY
    return _scalar(0, result[0], result[1], radius)


def divided(total: Parts, denominator: Float | None, over_nothing: float) -> Parts:
    """A total over the sum of the numbers in `denominator` (undivided for None); `over_nothing` where that sum is 0."""
    if denominator is None:
        return total
    parts = _sum(denominator)
    return quotient(total, parts) if parts.hi != 0.0 else constant(over_nothing)


def factor(cotangent: float, denominator: Float | None) -> Parts:
    """cotangent over the sum of the numbers in `denominator`: 0 for a cotangent of 0, nan for a sum of 0."""
    return constant(0.0) if cotangent == 0.0 else divided(constant(cotangent), denominator, np.nan)


@kernel
def _products(a: Any, b: Any, hi: Any, lo: Any) -> None:
    for i in range(a.size):
        hi[i], lo[i] = two_prod(a[i], b[i])


def product_terms(a: Float, b: Float) -> Float | None:
    """Numbers whose sum is the sum of a * b, exactly, for arrays that broadcast; None where a product leaves the range for that."""
    a, b = (array.reshape(-1) for array in np.broadcast_arrays(a, b))
    hi, lo = np.empty(a.size), np.empty(a.size)
    _products(frozen(a), frozen(b), hi, lo)
    safe = (hi > _LEAST_PRODUCT) & (hi < _LARGEST_PRODUCT)
    return np.concatenate([hi[safe], lo[safe], [0.0]]) if (safe | (a == 0.0) | (b == 0.0)).all() else None


def _sum(numbers: Float) -> Parts:
    return total(exact_parts(numbers))


def _scalar(kind: int, hi: float, lo: float, radius: float) -> Parts:
    return Parts(np.array(kind, np.uint8), np.array(hi), np.array(lo), np.array(radius))


def constant(value: float) -> Parts:
    """An exact number, an infinity or nan, as 0-d parts."""
    code = 3 if value != value else 1 if value == np.inf else 2 if value == -np.inf else 0
    return _scalar(code, value, 0.0, 0.0)


def exact_parts(values: Float) -> Parts:
    """Finite float64 numbers as parts without error."""
    return Parts(np.zeros(values.shape, np.uint8), values, np.zeros(values.shape), np.zeros(values.shape))
