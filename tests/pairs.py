"""Double-doubles to test with: mantissas random, sparse, or near powers of two; low parts absent, tiny, or as large as can be."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray


def value(h: float, l: float) -> Fraction:
    """The rational number h + l."""
    return Fraction(float(h)) + Fraction(float(l))


class Pair:
    """Arrays (n, 2) of double-doubles."""

    @staticmethod
    def many(rng: np.random.Generator, n: int, reach: int, *, positive: bool = False) -> NDArray[Any]:
        """n double-doubles with |h| between about 2^-reach and 2^reach."""
        random = rng.uniform(1.0, 2.0, n)
        sparse = 1.0 + rng.integers(0, 2, n) * 2.0 ** -rng.integers(1, 53, n).astype(float)
        edges = rng.choice([1.0, 1.0 + 2.0**-52, 2.0 - 2.0**-52, 1.5, np.sqrt(2.0), 1.0 + 2.0**-26, 2.0 - 2.0**-26], n)
        h = np.choose(rng.integers(0, 3, n), [random, sparse, edges]) * 2.0 ** rng.integers(-reach, reach + 1, n).astype(float)
        return Pair.around(rng, h if positive else h * rng.choice([-1.0, 1.0], n))

    @staticmethod
    def around(rng: np.random.Generator, h: NDArray[Any]) -> NDArray[Any]:
        """Double-doubles whose leading parts are `h` or next to it, renormalised."""
        n = h.shape
        share = np.choose(
            rng.integers(0, 5, n),
            [rng.uniform(-1.0, 1.0, n), np.ones(n), -np.ones(n), np.zeros(n), rng.choice([-1.0, 1.0], n) * 2.0 ** rng.uniform(-300, 0, n)],
        )
        with np.errstate(under="ignore"):
            l = share * np.spacing(np.abs(h)) / 2.0
        s = h + l
        return np.stack([s, (h - s) + l], axis=-1)
