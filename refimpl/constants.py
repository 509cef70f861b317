"""The constants of the elementary functions, computed from their definitions in exact integer arithmetic.

Nothing here is a literal copied from elsewhere: every table is derived when the module is imported, in under ten
milliseconds, and a test compares it with ball arithmetic.
"""

from __future__ import annotations

from fractions import Fraction
from math import cos, factorial, isqrt, pi

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


def _exp2(x: Fraction) -> int:
    """2^x in fixed point for |x| <= 1, by the Taylor series of exp."""
    argument = int(x * LN2 * _ONE)
    term, total, n = _ONE, 0, 0
    while term:
        total += term
        n += 1
        term = term * argument // (n * _ONE)
        if abs(term) <= 1:  # a negative one never reaches 0 by flooring
            break
    return total


def _exp2_polynomial(degree: int) -> list[float]:
    """The coefficients, lowest first, of the polynomial that equals 2^x at the Chebyshev nodes of [-1/2, 1/2].

    Its distance from 2^x is at most 2 * 4^-(degree + 1) * sqrt(2) * (ln 2)^(degree + 1)/(degree + 1)! for the exact nodes; these
    are rounded to 20 bits. Newton's divided differences, then the nested form multiplied out.
    """
    count = degree + 1
    nodes = [Fraction(round(cos(pi * (2 * k + 1) / (2 * count)) * 2**20), 2**21) for k in range(count)]
    table = [Fraction(_exp2(x), _ONE) for x in nodes]
    for level in range(1, count):
        for i in range(count - 1, level - 1, -1):
            table[i] = Fraction(int((table[i] - table[i - 1]) / (nodes[i] - nodes[i - level]) * _ONE), _ONE)
    polynomial = [Fraction(0)] * (count + 1)
    for i in range(count - 1, -1, -1):
        polynomial = [(table[i] if power == 0 else polynomial[power - 1]) - nodes[i] * polynomial[power] for power in range(count)] + [
            Fraction(0)
        ]
    return [float(c) for c in polynomial[:count]]


def _short(value: Fraction, bits: int) -> tuple[float, Fraction]:
    """`value` cut to a multiple of 2^-bits, and what was cut off."""
    head = Fraction(int(value * 2**bits), 2**bits)
    return float(head), value - head


POWER_HI, POWER_LO = _powers_of_two()
STEP_PER_UNIT = float(EXP_STEPS / LN2)
STEP_1, _rest = _short(LN2 / EXP_STEPS, 40)  # 30 bits, so that k*STEP_1 is exact for |k| < 2^23
STEP_2, STEP_3 = split(_rest)
LN2_HI, LN2_LO = split(LN2)
LN2_SHORT, _rest = _short(LN2, 42)  # so that its product with an exponent is exact
LN2_REST = float(_rest)

LOG_LOW, LOG_UNIT, LOG_HIGH = 90, 128, 182  # reciprocals j/128 of mantissas from sqrt(1/2) to sqrt(2)
MINUS_LOG_HI, MINUS_LOG_LO = _minus_logs(LOG_LOW, LOG_HIGH, LOG_UNIT)

INVERSE_FACTORIAL = [split(Fraction(1, factorial(n))) for n in range(8)]
LOG_SERIES = [(0.0, 0.0)] + [split(Fraction((-1) ** (n + 1), n)) for n in range(1, 16)]  # log1p(r) = sum of LOG_SERIES[n] r^n
EXP2_COARSE, EXP2_FINE = _exp2_polynomial(9), _exp2_polynomial(11)
