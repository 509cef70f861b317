"""Pairwise summation of double-doubles: the error grows with the logarithm of the number of terms.

A sum is formed block by block. The blocks' sums stand on a stack of levels, like the digits of a binary counter: level j holds the sum of
2^j blocks or nothing, and after block number n (from 1) as many levels are merged as n ends with zeros. `total` adds what is
left, lowest level first. The order depends on the number of blocks alone.

Depth. Let B be the number of blocks, the last of which may be short and is then not on the stack, and 2^K <= B' < 2^(K+1) that of those
on it. A block at level j has passed j additions; `total` adds it to what stands below, and the sum then meets the filled levels above, at
most K - j: together K + 1 <= ceil(log2 B), except where B = 2^K. Then all blocks are at level K and nothing is added to them; and
B = B' + 1 = 2^(K+1) has K + 1 = log2 B. So a block passes at most ceil(log2 B) additions that round (adding to nothing does not), each
with a relative error of ADD u^2.

Source: N. Higham, "The accuracy of floating point summation", SIAM J. Sci. Comput. 14(4), 1993.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from refimpl.doubledouble import add
from refimpl.jit import inline, routine

LEVELS = 48  # 2^48 blocks are more than memory holds


def depth(blocks: int) -> float:
    """The number of additions that a block's sum passes through, at most."""
    return float(math.ceil(math.log2(max(blocks, 1))))


@inline
def stack() -> Any:
    """The levels, (hi, lo) by LEVELS, all empty."""
    return np.zeros((2, LEVELS))


@routine
def push(levels: Any, block: int, h: float, l: float) -> None:
    """Add the sum of block number `block`, counted from 1."""
    level = 0
    while block & 1 == 0:
        h, l = add(levels[0, level], levels[1, level], h, l)
        levels[0, level], levels[1, level] = 0.0, 0.0
        block >>= 1
        level += 1
    levels[0, level], levels[1, level] = h, l


@routine
def total(levels: Any, blocks: int, h: float, l: float) -> Any:
    """The sum of the `blocks` blocks on the stack and of h + l, the last one; leaves the stack empty."""
    level = 0
    while blocks >> level > 0:
        h, l = add(levels[0, level], levels[1, level], h, l)
        levels[0, level], levels[1, level] = 0.0, 0.0
        level += 1
    return h, l
