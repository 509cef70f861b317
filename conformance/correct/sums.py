"""Sums over the last axis in the orders that a promise can name, every addition rounded to the accumulator's dtype."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from conformance.adapter import Array
from conformance.bound import Summation


@dataclass(frozen=True)
class Order:
    """A way to sum, and the promise that it makes true."""

    total: Callable[[Array], Array]
    summation: Summation


def in_turn(x: Array) -> Array:
    """One accumulator."""
    if x.shape[-1] == 0:
        return np.zeros(x.shape[:-1], x.dtype)
    return np.asarray(np.add.accumulate(x, axis=-1)[..., -1])


def halving(x: Array) -> Array:
    """A balanced tree: the second half is added to the first until one number is left."""
    while x.shape[-1] > 1:
        half = -(-x.shape[-1] // 2)
        upper = x[..., half:]
        x = np.concatenate([x[..., : upper.shape[-1]] + upper, x[..., upper.shape[-1] : half]], axis=-1)
    return in_turn(x)


def padded(x: Array, block: int) -> Array:
    """(..., blocks, block), the last block filled with zeros."""
    missing = -x.shape[-1] % block
    filled = np.concatenate([x, np.zeros((*x.shape[:-1], missing), x.dtype)], axis=-1)
    return filled.reshape(*x.shape[:-1], filled.shape[-1] // block, block)


def striped(x: Array) -> Array:
    """Eight accumulators, each taking every eighth term, then a tree over them."""
    return halving(in_turn(np.moveaxis(padded(x, 8), -1, -2)))


def blocked(block: int) -> Order:
    """Blocks one after the other, and their sums likewise."""
    return Order(lambda x: in_turn(in_turn(padded(x, block))), Summation("blocked", 1, block))


SEQUENTIAL = Order(in_turn, Summation())
PAIRWISE = Order(halving, Summation("pairwise"))
LANES = Order(striped, Summation("lanes", 8))
