"""exp, log and log1p never exceed their proven errors, against ball arithmetic, over the whole stated range."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numba
import numpy as np
import pytest
from flint import arb
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from refimpl import constants, elementary
from refimpl.ball import interval, precision
from refimpl.constants import EXP_STEPS
from refimpl.doubledouble import TINY, U2
from tests.pairs import Pair, value

BITS = 1400  # holds a double-double whose parts lie as far apart as they can
SAMPLES = 3000
LOG1P_REACH = 2.0**40
LOST = 8 * TINY  # what a function may lose to underflow


@numba.njit(error_model="numpy")
def _exp(x: Any) -> Any:
    out, n = np.empty(x.shape), np.empty(len(x), np.int64)
    for i in range(len(x)):
        out[i, 0], out[i, 1], n[i] = elementary.exp_split(x[i, 0], x[i, 1])
    return out, n


@numba.njit(error_model="numpy")
def _logs(x: Any) -> Any:
    out = np.zeros((2, *x.shape))
    for i in range(len(x)):
        if x[i, 0] > 0.0:
            out[0, i, 0], out[0, i, 1] = elementary.log(x[i, 0], x[i, 1])
        if x[i, 0] < LOG1P_REACH:
            out[1, i, 0], out[1, i, 1] = elementary.log1p(x[i, 0], x[i, 1])
    return out


@numba.njit(error_model="numpy")
def _ldexp(h: float, l: float, n: int) -> Any:
    return elementary.ldexp(h, l, n)


def ball(pair: NDArray[Any]) -> arb:
    return arb(float(pair[0])) + arb(float(pair[1]))


def exp_error(x: NDArray[Any], wrong_by: float = 0.0) -> float:
    """The largest error of exp over its stated one."""
    results, n = _exp(x)
    results[:, 1] += wrong_by * results[:, 0]
    worst = 0.0
    with precision(BITS):
        for pair, result, scale in zip(x, results, n, strict=True):
            stated = elementary.EXP
            true = (-ball(pair)).exp() * ball(result) * arb(2) ** int(scale) - 1  # relative to the true value
            assert 1.0 - 1.0 / EXP_STEPS <= result[0] <= 2.0
            worst = max(worst, float(true.abs_upper()) / (stated * U2))
    return worst


def log_errors(x: NDArray[Any], wrong_by: float = 0.0) -> tuple[float, float]:
    """The largest errors of log and log1p over their stated ones."""
    results = _logs(x)
    results[..., 1] += wrong_by * results[..., 0]
    worst = [0.0, 0.0]
    with precision(BITS):
        for i, pair in enumerate(x):
            y = ball(pair)
            for n, stated in enumerate((elementary.LOG, elementary.LOG1P)):
                if not (pair[0] > 0.0 if n == 0 else pair[0] < LOG1P_REACH):
                    continue
                true = (y - 1 if n == 0 else y).log1p()
                error = (ball(results[n, i]) - true).abs_upper()
                allowed = arb(stated * U2) * true.abs_lower() + arb(LOST)
                worst[n] = max(worst[n], float((error / allowed).abs_upper()))
    return worst[0], worst[1]


def exp_arguments(rng: np.random.Generator, n: int, reach: float) -> NDArray[Any]:
    anywhere = rng.uniform(-reach, reach, n)
    small = rng.choice([-1.0, 1.0], n) * 2.0 ** rng.uniform(-1074, 10, n)
    steps = rng.integers(-int(reach * 369), int(reach * 369), n) * (math.log(2.0) / 512)  # where the reduction changes its step
    picked = np.choose(rng.integers(0, 4, n), [anywhere, small, steps, np.round(anywhere)])
    return Pair.around(rng, np.clip(picked, -reach * (1 - 2.0**-50), reach * (1 - 2.0**-50)))


@pytest.mark.parametrize("reach", [0.01, 1.0, 50.0, 750.0, 1400.0, 5000.0])
def test_exp_keeps_its_error(reach: float) -> None:
    assert exp_error(exp_arguments(np.random.default_rng([9, int(reach)]), SAMPLES, reach)) <= 1.0


def log_arguments(rng: np.random.Generator, n: int) -> NDArray[Any]:
    """Positive double-doubles: anywhere, near 1, next to the table's boundaries and the powers of two, subnormal."""
    anywhere = 2.0 ** rng.uniform(-1074, 1023.9, n)
    near_one = 1.0 + rng.choice([-1.0, 1.0], n) * 2.0 ** -rng.integers(1, 54, n).astype(float)
    boundaries = 128.0 / (rng.integers(89, 184, n) - 0.5) * (1.0 + rng.integers(-2, 3, n) * 2.0**-52)
    powers = 2.0 ** rng.integers(-1022, 1023, n).astype(float) * rng.choice([1.0, 1.0 + 2.0**-52, 1.0 - 2.0**-53, np.sqrt(2.0)], n)
    subnormal = rng.integers(1, 2**20, n) * TINY * 2.0 ** rng.integers(0, 33, n)
    unit = rng.uniform(0.4, 1.6, n)
    picked = np.choose(rng.integers(0, 6, n), [anywhere, near_one, boundaries, powers, subnormal, unit])
    return Pair.around(rng, picked)


def test_logs_keep_their_errors() -> None:
    log, log1p = log_errors(log_arguments(np.random.default_rng(10), 2 * SAMPLES))
    assert log <= 1.0
    assert log1p <= 1.0


def test_log1p_keeps_its_error_near_powers_of_two_and_table_boundaries() -> None:
    rng = np.random.default_rng(11)
    powers = 2.0 ** rng.integers(-3, 41, 900) * rng.choice([1.0, np.sqrt(2.0)], 900) - rng.choice([0.0, 1.0], 900)
    edges = np.concatenate([powers, 128.0 / (rng.integers(89, 128, 900) + 0.5) - 1.0, 2.0 ** rng.uniform(-1074, -900, 300)])
    y = np.abs(edges) * (1.0 + rng.integers(-3, 4, edges.size) * 2.0**-52)
    assert log_errors(Pair.around(rng, y))[1] <= 1.0


def test_a_double_double_that_differs_from_1_only_in_its_low_part() -> None:
    lows = np.array([sign * 2.0**-e for e in (54, 60, 106, 200, 500, 900, 1022, 1050, 1074) for sign in (1.0, -1.0)])
    assert log_errors(np.stack([np.ones(lows.size), lows], axis=1))[0] <= 1.0


def test_the_measures_see_a_larger_error() -> None:
    rng = np.random.default_rng(12)
    assert exp_error(exp_arguments(rng, 50, 50.0), wrong_by=2 * elementary.EXP * U2) > 1.0
    assert min(log_errors(log_arguments(rng, 50), wrong_by=2 * elementary.LOG1P * U2)) > 1.0


def test_the_values_at_0_and_1_are_exact() -> None:
    result, n = _exp(np.zeros((1, 2)))
    assert value(*result[0]) * 2 ** int(n[0]) == 1
    logs = _logs(np.array([[1.0, 0.0], [0.0, 0.0]]))
    assert value(*logs[0, 0]) == 0
    assert value(*logs[1, 1]) == 0


@given(st.floats(-5000.0, 5000.0), st.floats(-1.0, 1.0))
def test_exp_keeps_its_error_on_drawn_arguments(h: float, share: float) -> None:
    assert exp_error(_pair(h * (1 - 2.0**-50), share)) <= 1.0


@given(st.floats(0.0, allow_infinity=False, exclude_min=True), st.floats(-1.0, 1.0))
def test_logs_keep_their_errors_on_drawn_arguments(h: float, share: float) -> None:
    if h < 2.0**1023:
        assert max(log_errors(_pair(h, share))) <= 1.0


def _pair(h: float, share: float) -> NDArray[Any]:
    s, l = h, float(share * np.spacing(abs(h)) / 2)
    return np.array([[s + l, (s - (s + l)) + l]])


@given(st.floats(1.0, 2.0), st.floats(-1.0, 1.0), st.integers(-1072, 1022))
def test_ldexp_is_exact_or_rounds_each_part_once(h: float, share: float, n: int) -> None:
    l = share * 2.0**-53
    for part, result in zip((h, l), _ldexp(h, l, n), strict=True):
        exact = Fraction(part) * Fraction(2) ** n
        assert result == float(exact)  # float() of a rational rounds once


@given(st.floats(1.0, 2.0), st.integers(1074, 2000))
def test_ldexp_far_below_the_subnormals_is_within_half_of_the_smallest(h: float, n: int) -> None:
    assert abs(Fraction(_ldexp(h, 0.0, -n)[0]) - Fraction(h) / 2**n) <= Fraction(TINY) / 2


def _within(pair: tuple[float, float], true: arb, error: Fraction) -> bool:
    ends = interval(true)
    assert ends is not None
    return max(abs(value(*pair) - end) for end in ends) <= error * abs(ends[0])


def test_the_constants_are_those_of_ball_arithmetic() -> None:
    u2 = Fraction(U2)
    with precision(500):
        ln2 = arb(2).log()
        assert _within((constants.LN2_HI, constants.LN2_LO), ln2, u2)
        for j in range(EXP_STEPS):
            true = (ln2 * j / EXP_STEPS).exp()
            assert _within((constants.POWER_HI[j], constants.POWER_LO[j]), true, u2)
        for j in range(constants.LOG_LOW, constants.LOG_HIGH + 1):
            true = -(arb(j) / constants.LOG_UNIT).log()
            pair = constants.MINUS_LOG_HI[j - constants.LOG_LOW], constants.MINUS_LOG_LO[j - constants.LOG_LOW]
            assert value(*pair) == 0 if j == constants.LOG_UNIT else _within(pair, true, u2)
        for n, pair in enumerate(constants.INVERSE_FACTORIAL):
            assert _within(pair, 1 / arb(math.factorial(n)), u2)
        for n, pair in list(enumerate(constants.LOG_SERIES))[1:]:
            assert _within(pair, arb((-1) ** (n + 1)) / n, u2)


def test_the_steps_of_the_reduction_add_up_and_are_short() -> None:
    first, second, third = (Fraction(step) for step in (constants.STEP_1, constants.STEP_2, constants.STEP_3))
    assert first.numerator.bit_length() <= 30  # so that k times it is exact for |k| < 2^23
    assert 5000 * EXP_STEPS / math.log(2) < 2**23
    with precision(500):
        ends = interval(arb(2).log() / EXP_STEPS)
    assert ends is not None
    assert max(abs(first + second + third - end) for end in ends) <= abs(third) * Fraction(1, 2**53)
    assert float(EXP_STEPS / constants.LN2) == constants.STEP_PER_UNIT
