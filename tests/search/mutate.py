"""Small changes of float64 numbers and of rows: the steps of the climb."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Rng = np.random.Generator


def floats(rng: Rng, x: Array, share: float = 1.0) -> Array:
    """Each number changed with that probability: a bit of its mantissa, a few ulps, a power of two, a short mantissa, or another number."""
    x = np.array(x, np.float64, order="C")
    bit = np.int64(1) << rng.integers(0, 52, x.shape)
    with np.errstate(all="ignore"):
        flipped = (x.view(np.int64) ^ bit).view(np.float64)
        stepped = x + np.spacing(x) * rng.integers(-3, 4, x.shape)
        scaled = x * 2.0 ** rng.integers(-3, 4, x.shape)
        keep = np.int64(-1) << rng.integers(0, 52, x.shape)
        short = (x.view(np.int64) & keep).view(np.float64)
        other = np.copysign(rng.uniform(0.5, 1.0, x.shape) * 2.0 ** np.frexp(np.where(np.isfinite(x), x, 1.0))[1], x)
        choice = rng.choice(5, x.shape, p=[0.45, 0.25, 0.1, 0.1, 0.1])
        changed = np.choose(choice, [flipped, stepped, scaled, short, other])
    return np.where((rng.random(x.shape) < share) & np.isfinite(x), changed, x)


def _one(rng: Rng, x: Array) -> Array:
    """One number of each row."""
    chosen = np.arange(x.shape[1]) == rng.integers(x.shape[1], size=(len(x), 1))
    return np.where(chosen, floats(rng, x), x)


def _few(rng: Rng, x: Array) -> Array:
    return floats(rng, x, share=0.4)


def _tie(rng: Rng, x: Array) -> Array:
    """One number becomes another of its row, or that one's neighbour."""
    rows = np.arange(len(x))
    source, target = rng.integers(x.shape[1], size=(2, len(x)))
    result = x.copy()
    with np.errstate(all="ignore"):
        near = x[rows, source] + np.spacing(x[rows, source]) * rng.choice([0, 0, -1, 1], len(x))
    result[rows, target] = np.where(np.isfinite(near), near, x[rows, source])
    return result


def _swap(rng: Rng, x: Array) -> Array:
    rows = np.arange(len(x))
    a, b = rng.integers(x.shape[1], size=(2, len(x)))
    result = x.copy()
    result[rows, a], result[rows, b] = x[rows, b], x[rows, a]
    return result


def _scale(rng: Rng, x: Array) -> Array:
    """Whole rows, by a power of two or a little."""
    factor = rng.choice([0.5, 2.0, 1.0 + 2.0**-10, 1.0 - 2.0**-10, 1.25, 0.75], (len(x), 1))
    with np.errstate(all="ignore"):
        return np.where(np.isfinite(x * factor), x * factor, x)


def _shift(rng: Rng, x: Array) -> Array:
    """Whole rows, by a common offset."""
    offset = rng.normal(size=(len(x), 1)) * 2.0 ** rng.integers(-20, 12, (len(x), 1))
    with np.errstate(all="ignore"):
        return np.where(np.isfinite(x + offset), x + offset, x)


def _cross(rng: Rng, x: Array) -> Array:
    """Numbers of another row."""
    return np.where(rng.random(x.shape) < 0.5, x[rng.permutation(len(x))], x)


_STEPS: tuple[Callable[[Rng, Array], Array], ...] = (_one, _few, _tie, _swap, _scale, _shift, _cross)
_CHANCES = np.array([0.4, 0.25, 0.1, 0.05, 0.07, 0.06, 0.07])


def rows(rng: Rng, x: Array, masked: float) -> Array:
    """Rows (n, V) with one step each; here and there a number becomes `masked`, what annuls a class."""
    step = rng.choice(len(_STEPS), len(x), p=_CHANCES)[:, None]
    changed = np.choose(step, [take(rng, x) for take in _STEPS])
    mask = (rng.random((len(x), 1)) < 0.03) & (np.arange(x.shape[1]) == rng.integers(x.shape[1], size=(len(x), 1)))
    return np.where(mask, masked, changed)
