"""Arrays from a counter: pseudo-random inputs that any language can make again, bit for bit.

Element i (in C order) of an array with a seed takes two 64-bit draws, u = draw(seed, 2i) and v = draw(seed, 2i + 1), where

    draw(seed, n) = mix(seed + (n + 1)*0x9E3779B97F4A7C15)      all arithmetic modulo 2^64
    mix(z):  z = (z ^ (z >> 30))*0xBF58476D1CE4E5B9;  z = (z ^ (z >> 27))*0x94D049BB133111EB;  z ^ (z >> 31)

(SplitMix64: G. Steele, D. Lea and C. Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014). The maps from draws
to values, below, need integers and at most one rounded division in float64; the result is rounded once to the array's dtype.
`vectors/README.md` states the same with test values.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from conformance.case import Array, Recipe, VectorError, checksum, rounded

Draws = NDArray[np.uint64]


def draw(seed: int, first: int, count: int) -> Draws:
    """The draws numbered first, first + 1, ... of a seed."""
    number = np.arange(first + 1, first + count + 1, dtype=np.uint64)
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + number * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def make(recipe: Recipe) -> Array:
    """The array of a recipe; raises `VectorError` for an unknown map, or where the bytes aren't those of its checksum."""
    values = _values(replace(recipe, dtype="int64" if recipe.dtype == "int64" else "", sha256=""))
    array = values if recipe.dtype == "int64" else rounded(values, recipe.dtype)
    if recipe.sha256 and checksum(array) != recipe.sha256:
        raise VectorError(f"the recipe {recipe.holds} with seed {recipe.seed} doesn't give the bytes of its checksum; reinstall lossref")
    return array


@lru_cache(maxsize=4)
def _values(recipe: Recipe) -> Array:
    """The values before they are rounded to a dtype: the vectors of one name have them in common."""
    maps: dict[str, Callable[[Draws, Draws, Recipe], Array]] = {
        "logits": _logits,
        "probability": _probability,
        "positive_probability": _positive_probability,
        "log_probability": _log_probability,
        "weight": _weight,
        "index": _index,
        "some_ignored": _some_ignored,
        "cotangent": _cotangent,
        "repeat": _repeat,
        "step": _step,
    }
    if recipe.generator != "lossref-counter-1" or recipe.holds not in maps:
        raise VectorError(f"no generator {recipe.generator!r} makes {recipe.holds!r}; use a release of lossref that knows it")
    drawn = recipe.holds not in ("repeat", "step")
    pairs = draw(recipe.seed, 0, 2 * math.prod(recipe.shape) if drawn else 0)
    values = maps[recipe.holds](pairs[0::2], pairs[1::2], recipe)
    values = np.ascontiguousarray(values, np.int64 if recipe.dtype == "int64" else np.float64).reshape(recipe.shape)
    values.flags.writeable = False
    return values


def sealed(recipe: Recipe) -> Recipe:
    """The recipe with the checksum of the array that it makes."""
    return replace(recipe, sha256=checksum(make(replace(recipe, sha256=""))))


def _logits(u: Draws, v: Draws, recipe: Recipe) -> NDArray[np.float64]:
    """About normal, standard deviation 2.9, within +-10: the sum of the four 16-bit pieces of u, with 30 more bits from v."""
    sixteen = np.uint64(0xFFFF)
    pieces = sum(((u >> np.uint64(shift)) & sixteen).astype(np.int64) for shift in (0, 16, 32, 48))
    low = (v & np.uint64(2**30 - 1)).astype(np.int64)
    return np.ldexp(((pieces - 131070) * 2**30 + low) * 5, -46)


def _probability(u: Draws, v: Draws, recipe: Recipe) -> NDArray[np.float64]:
    """Squares of 1 + (u mod 2^16), zero where v is a multiple of 8, over their sum along the class axis.

    Where all are zero the first becomes 1. Weights and sums are integers below 2^53.
    """
    root = (u & np.uint64(0xFFFF)).astype(np.int64) + 1
    weight = np.where(v % np.uint64(8) == 0, 0, root * root).reshape(recipe.shape)
    first = np.moveaxis(weight, recipe.axis, 0)  # a view
    if first.size:
        first[0][first.sum(axis=0) == 0] = 1
    result: NDArray[np.float64] = weight / weight.sum(axis=recipe.axis, keepdims=True)
    return result


def _positive_probability(u: Draws, v: Draws, recipe: Recipe) -> NDArray[np.float64]:
    """32768 + (u mod 2^16), over its sum along the class axis: no zeros, and none in float16 at 50000 classes."""
    weight = ((u & np.uint64(0xFFFF)).astype(np.int64) + 32768).reshape(recipe.shape)
    result: NDArray[np.float64] = weight / weight.sum(axis=recipe.axis, keepdims=True)
    return result


def _log_probability(u: Draws, v: Draws, recipe: Recipe) -> NDArray[np.float64]:
    """-(1 + u mod 2^16)/4096: from -16 to just below 0."""
    return -((u & np.uint64(0xFFFF)).astype(np.float64) + 1.0) / 4096.0


def _weight(u: Draws, v: Draws, recipe: Recipe) -> NDArray[np.float64]:
    """(2 + u mod 15)/8, from 0.25 to 2; zero where v is a multiple of 8."""
    return np.where(v % np.uint64(8) == 0, 0.0, ((u % np.uint64(15)).astype(np.float64) + 2.0) / 8.0)


def _index(u: Draws, v: Draws, recipe: Recipe) -> NDArray[np.int64]:
    """u mod `below`."""
    return (u % np.uint64(recipe.below)).astype(np.int64)


def _some_ignored(u: Draws, v: Draws, recipe: Recipe) -> NDArray[np.int64]:
    """`ignored` where v is a multiple of 4, else u mod `below`."""
    return np.where(v % np.uint64(4) == 0, recipe.ignored, _index(u, v, recipe))


def _cotangent(u: Draws, v: Draws, recipe: Recipe) -> NDArray[np.float64]:
    """+-(1 + k/8) with k = 1 + (seed + i) mod 7; negative where u is odd. Neighbours differ, none is 1, every dtype holds them."""
    k = 1 + (recipe.seed % 7 + np.arange(u.size, dtype=np.int64)) % 7
    return np.where(u % np.uint64(2) == 1, -1.0, 1.0) * (1.0 + k / 8.0)


def _repeat(u: Draws, v: Draws, recipe: Recipe) -> Array:
    """The numbers of `values`, over and over."""
    cycle = np.asarray(recipe.values, np.int64 if recipe.dtype == "int64" else np.float64)
    size = math.prod(recipe.shape)
    return np.tile(cycle, -(-size // cycle.size))[:size]


def _step(u: Draws, v: Draws, recipe: Recipe) -> Array:
    """The first of `values` for the first `below` elements, then the others over and over."""
    values = _repeat(u, v, replace(recipe, values=recipe.values[1:]))
    values[: recipe.below] = recipe.values[0]
    return values
