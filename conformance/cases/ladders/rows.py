"""Rows of logits in systematic ladders, each with the classes that are asked: what all losses of logits have in common.

A ladder is a table of rows (rows, V) for a dtype, with a target for each. Numbers that the dtype can't hold are rounded to it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import frexp, inf, nan

import numpy as np
from numpy.typing import NDArray

from conformance.cases.table import beside, narrowed
from refimpl import portable
from refimpl.enclosure import FORMATS

Wide = NDArray[np.float64]

# Gaps: around the ends of exp and log in each dtype (float16 17.3, float32 88.7 and 103.97, float64 709.8 and 745.1), and what libraries
# clip at (16.1, 23.03, 27.6, 64).
GAPS = (
    0.0, 2.0**-149, 2.0**-60, 2.0**-25, 2.0**-24, 2.0**-13, 2.0**-12, 2.0**-11, 2.0**-9, 2.0**-8, 2.0**-5, 0.125, 0.5, 1.0, 1.5, 2.0,
    4.0, 5.5, 8.0, 9.75, 10.5, 11.0, 16.0, 17.0, 17.5, 20.0, 23.0, 23.5, 27.5, 28.0, 36.0, 37.0, 40.0, 60.0, 63.0, 65.0, 80.0, 87.0,
    88.0, 89.0, 90.0, 103.0, 104.0, 105.0, 110.0, 150.0, 256.0, 300.0, 512.0, 700.0, 709.0, 710.0, 740.0, 746.0, 800.0, 1024.0, 1340.0,
    2048.0, 5000.0, 11264.0, 30000.0, 65504.0,
)  # fmt: skip
OFFSETS = (
    0.0,
    1.0,
    12.0,
    88.0,
    90.0,
    100.0,
    710.0,
    1000.0,
    1e4,
    32768.0,
    60000.0,
    65504.0,
    1e6,
    2.0**24,
    1e8,
    1e10,
    1e15,
    1e30,
    3e38,
    1e100,
    1.7e308,
)
POSITIONS = (0, 1, 2, 3, 4, 7, 8, 15, 16, 17, 31, 32, 33, 36)  # of 37 classes: each side of the edges of blocks up to 32
CERTAIN = (0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9995, 0.9999, 0.99999)  # of the target, as a trained model is


@dataclass(frozen=True)
class Rows:
    """Rows of logits, and the target of each."""

    logits: Wide
    target: Sequence[int]


def gaps(dtype: str) -> Rows:
    """Two classes any distance apart, the target below the other and above it."""
    values = narrowed(GAPS, dtype)
    below = np.stack([np.zeros_like(values), -values], 1)
    return Rows(np.concatenate([below, below]), [1] * len(values) + [0] * len(values))


def small_gaps(dtype: str) -> Rows:
    """Three classes, two of them close, at a height where the dtype's numbers are far apart."""
    table = [[c, beside(c, n, dtype), beside(c, -n, dtype)] for c in narrowed([0.5, -1.0, 8.0, -100.0, 2048.0], dtype) for n in (1, 2, 7)]
    return Rows(np.array(table), [n % 3 for n in range(len(table))])


def offsets(dtype: str) -> Rows:
    """Rows far from 0, above and below it: all alike, and with their numbers beside each other in the dtype."""
    table, target = [], []
    for size in sorted({float(value) for value in narrowed(OFFSETS, dtype)}):
        for offset in (size, -size):
            near = beside(offset, -1 if offset > 0 else 1, dtype) if offset else 0.0
            table += [[offset, offset, near], [offset, near, offset / 2]]
            target += [0, 1]
    return Rows(np.array(table), target)


def exponents(dtype: str) -> Rows:
    """2^e, 0 and -2^e for exponents from the smallest subnormal number to where the gap is still a number of the dtype."""
    target = FORMATS[dtype]
    low, high = (frexp(value)[1] - 1 for value in (target.tiny, target.largest))
    powers = sorted({*range(low, high, max(1, (high - low) // 24)), *range(-14, 12), high - 1})
    values = np.ldexp(1.0, powers)
    return Rows(np.stack([values, np.zeros_like(values), -values], 1), [n % 3 for n in range(len(values))])


def ties(dtype: str) -> Rows:
    """The maximum once, twice, ... and everywhere among seven classes, from the left and from the right."""
    table = []
    for count in range(1, 8):
        row = np.where(np.arange(7) < count, 3.0, [-1.0, 0.5, 2.0, -4.0, 1.0, 0.0, 2.5])
        table += [row, row[::-1]]
    return Rows(np.array(table), [n % 7 for n in range(len(table))])


def masks(dtype: str) -> Rows:
    """Every pattern of masked classes among four that leaves one; the target any class that isn't masked."""
    table, target = [], []
    for pattern in range(15):
        masked = [bool(pattern >> v & 1) for v in range(4)]
        for label in range(4):
            if not masked[label]:
                table.append(np.where(masked, -inf, [0.5, -2.0, 1.0, 3.0]))
                target.append(label)
    return Rows(np.array(table), target)


def positions(dtype: str) -> Rows:
    """37 classes, the target at each side of the edges of blocks; the maximum there, just after it, or far from it."""
    return _at(POSITIONS[:9])


def last_positions(dtype: str) -> Rows:
    """The rest of `positions`: the later classes."""
    return _at(POSITIONS[9:])


def _at(labels: Sequence[int]) -> Rows:
    table = np.tile(np.arange(37) % 5 * 0.25 - 2.0, (3 * len(labels), 1))
    tops = [top for label in labels for top in (label, (label + 1) % 37, 36 - label)]
    table[np.arange(len(tops)), tops] = 6.0
    return Rows(table, [label for label in labels for _ in range(3)])


def masked_blocks(dtype: str) -> Rows:
    """66 classes: the first b masked, the last b masked, all but the first, the last, or number b."""
    table, target = [], []
    base = np.arange(66) % 7 * 0.5 - 1.0
    for block in (2, 4, 8, 16, 32):
        for alive in (np.arange(66) >= block, np.arange(66) < 66 - block, np.arange(66) == block):
            table.append(np.where(alive, base, -inf))
            target.append(int(np.flatnonzero(alive)[-1]))
    return Rows(np.array(table), target)


def slopes(dtype: str) -> Rows:
    """64 classes that rise or fall, slowly and fast: every block of a running maximum changes it, or none."""
    up = np.arange(64, dtype=np.float64)
    table = [
        up / 16,
        -up / 16,
        up,
        -up,
        up * 12,
        -up * 12,
        np.sqrt(up) * 3,
        np.where(up % 2 == 0, up, -up),
        up // 8 * 30,
        (63 - up) // 8 * 30,
    ]
    return Rows(narrowed(table, dtype), [0, 63, 63, 0, 5, 60, 32, 62, 8, 1])


def below_zero(dtype: str) -> Rows:
    """Rows wholly below 0 of 3 classes and alike: lanes beyond the row that count as 0 outweigh it."""
    table = [[-size, -size - step, -size] for size in (0.5, 5.0, 20.0, 50.0, 88.0, 100.0, 120.0, 1000.0, 30000.0) for step in (0.0, 1.0)]
    return Rows(narrowed(table, dtype), [n % 3 for n in range(len(table))])


def trained(dtype: str) -> Rows:
    """50 classes as a trained model gives them: the target's probability from 0.5 to 0.99999, or another class has it."""
    table, target = [], []
    rest = np.arange(50) * 37 % 50 / 32.0
    for n, p in enumerate(CERTAIN):
        label = n * 11 % 50
        row = rest.copy()
        row[label] = portable.log(portable.exp(np.delete(rest, label)).sum() * p / (1 - p))
        table.append(np.round(row * 64) / 64)  # every dtype but bfloat16 holds it
        target.append(label if n % 3 else (label + 1) % 50)
    return Rows(narrowed(table, dtype), target)


def confident(dtype: str) -> Rows:
    """Five classes and a loss that goes to 0: the target 4 to 80 above the others."""
    heights = (4.0, 6.0, 8.0, 9.0, 10.0, 12.0, 14.0, 16.0, 17.0, 20.0, 24.0, 36.0, 37.0, 40.0, 80.0)
    return Rows(np.array([[0.0, 0.5, height, -1.0, 0.25] for height in heights]), [2] * len(heights))


def strange(dtype: str) -> Rows:
    """A nan, a +inf or nothing but masked classes, at the target or beside it, between rows that are in order."""
    fine = [0.5, -1.0, 2.0]
    table = [
        fine,
        [nan, 0.0, 1.0],
        fine,
        [0.0, 1.0, nan],
        [0.0, inf, 1.0],
        fine,
        [inf, -inf, 0.0],
        [-inf, nan, 0.0],
        [-inf, -inf, -inf],
        fine,
    ]
    return Rows(np.array(table), [0, 1, 2, 2, 1, 1, 2, 0, 0, 2])


def masked_targets(dtype: str) -> Rows:
    """The target is masked: the first, the last, beside a masked class, or all but one are."""
    table = [[-inf, 0.0, 1.0], [0.0, 1.0, -inf], [-inf, -inf, 1.0], [-inf, 1.0, -inf], [0.5, -inf, -60.0], [0.5, 0.0, -2.0]]
    return Rows(np.array(table), [0, 2, 1, 0, 1, 1])


FINITE: Mapping[str, Callable[[str], Rows]] = {
    "gaps": gaps,
    "small-gaps": small_gaps,
    "offsets": offsets,
    "exponents": exponents,
    "ties": ties,
    "masks": masks,
    "positions": positions,
    "last-positions": last_positions,
    "masked-blocks": masked_blocks,
    "slopes": slopes,
    "below-zero": below_zero,
    "trained": trained,
    "confident": confident,
}
