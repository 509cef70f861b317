"""The bits of an answer beside those of the number that it should have been: the truth, rounded once to the answer's dtype."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from conformance.finding import Told
from refimpl.enclosure import FORMATS, Format, round_fraction

SLACK = Fraction(11, 10)  # a radius is told in two digits


def bits(told: Told) -> tuple[str, str]:
    """Expected and actual as hexadecimal integers, "" where a number isn't known or lies too close to the middle of two."""
    target = FORMATS.get(told.format)
    if target is None:
        return "", ""
    expected = _rounded(told, target)
    return "" if expected is None else pattern(expected, target), pattern(_actual(told), target)


def pattern(x: float, target: Format) -> str:
    """The bits of a number that `target` holds, as a hexadecimal integer of its width; of nan those of the canonical one."""
    with np.errstate(over="ignore"):
        return np.asarray(x, np.float64).astype(target.dtype).tobytes()[::-1].hex()


def _actual(told: Told) -> float:
    """The number that came: exactly by its hexadecimal digits, or one that has none."""
    return float.fromhex(told.actual_hex) if told.actual_hex else float(told.actual)


def _rounded(told: Told, target: Format) -> float | None:
    """The truth rounded to `target`; None where there is none, or the enclosure leaves it open."""
    if not told.expected_hex:
        try:
            return float(told.expected)  # an infinity or a nan
        except ValueError:  # "undefined", or an overflow in words
            return -math.inf if told.expected.startswith("-") else math.inf if told.expected.startswith("overflow") else None
    centre = sum((sign * Fraction(float.fromhex(part)) for sign, part in _parts(told.expected_hex)), Fraction(0))
    radius = Fraction(float(told.radius or 0)) * SLACK
    low, high = (round_fraction(end, target) for end in (centre - radius, centre + radius))
    return low if low == high else None


def _parts(text: str) -> list[tuple[int, str]]:
    """`hi`, and `lo` with its sign, of "hi - lo"."""
    hi, *rest = text.split(" ")
    return [(1, hi), *([(-1 if rest[0] == "-" else 1, rest[1])] if rest else [])]
