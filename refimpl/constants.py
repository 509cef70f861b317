"""The constants of the elementary functions, computed from their definitions in exact integer arithmetic.

Nothing here is a literal copied from elsewhere: every table is derived when the module is imported, in under ten
milliseconds, and a test compares it with ball arithmetic.
"""

from __future__ import annotations

from fractions import Fraction
from math import factorial, isqrt

import numpy as np
from numpy.typing import NDArray

_BITS = 320  # of the fixed-point integers below; their errors stay below 2^-300
_ONE = 1 << _BITS


def split(value: Fraction) -> tuple[float, float]:
    """A rational as a double-double: both parts rounded to nearest, so the error is at most u^2 |value|."""
    hi = float(value)
    return hi, float(value - Fraction(hi))


def _atanh_of_inverse(n: int) -> int:
    """atanh(1/n) in fixed point, by its Taylor series."""
    term = _ONE // n
    total, k = 0, 1
    while term:
        total += term // k
        term //= n * n
        k += 2
    return total


LN2 = Fraction(2 * _atanh_of_inverse(3), _ONE)  # ln 2 = 2 atanh(1/3)

EXP_STEPS = 1024  # exp(x) = 2^(k/EXP_STEPS) * exp(r)


def _powers_of_two() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """2^(j/EXP_STEPS) for j below EXP_STEPS, as double-doubles; the step is ln 2's root taken by integer square roots."""
    root = 2 << _BITS
    for _ in range(EXP_STEPS.bit_length() - 1):
        root = isqrt(root << _BITS)
    powers, value = [], _ONE
    for _ in range(EXP_STEPS):
        powers.append(split(Fraction(value, _ONE)))
        value = value * root >> _BITS
    hi, lo = np.array(powers).T
    return hi.copy(), lo.copy()


def _minus_logs(low: int, high: int, unit: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """-ln(j/unit) for j from `low` to `high`, as double-doubles, by ln(j+1) = ln j + 2 atanh(1/(2j+1)); exact at j = unit."""
    logs = {unit: 0}
    for j in range(unit, high):
        logs[j + 1] = logs[j] + 2 * _atanh_of_inverse(2 * j + 1)
    for j in range(unit, low, -1):
        logs[j - 1] = logs[j] - 2 * _atanh_of_inverse(2 * j - 1)
    hi, lo = np.array([split(Fraction(-logs[j], _ONE)) for j in range(low, high + 1)]).T
    return hi.copy(), lo.copy()


def _short(value: Fraction, bits: int) -> tuple[float, Fraction]:
    """`value` cut to a multiple of 2^-bits, and what was cut off."""
    head = Fraction(int(value * 2**bits), 2**bits)
    return float(head), value - head


POWER_HI, POWER_LO = _powers_of_two()
STEP_PER_UNIT = float(EXP_STEPS / LN2)
STEP_1, _rest = _short(LN2 / EXP_STEPS, 40)  # 30 bits, so that k*STEP_1 is exact for |k| < 2^23
STEP_2, STEP_3 = split(_rest)
LN2_HI, LN2_LO = split(LN2)

LOG_LOW, LOG_UNIT, LOG_HIGH = 90, 128, 182  # reciprocals j/128 of mantissas from sqrt(1/2) to sqrt(2)
MINUS_LOG_HI, MINUS_LOG_LO = _minus_logs(LOG_LOW, LOG_HIGH, LOG_UNIT)

INVERSE_FACTORIAL = [split(Fraction(1, factorial(n))) for n in range(8)]
LOG_SERIES = [(0.0, 0.0)] + [split(Fraction((-1) ** (n + 1), n)) for n in range(1, 16)]  # log1p(r) = sum of LOG_SERIES[n] r^n
