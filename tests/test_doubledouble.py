"""Error-free transforms are exact, and no double-double operation exceeds the error that its module states, over the whole range."""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numba
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from refimpl import doubledouble as dd
from refimpl import jit
from tests.pairs import Pair, value

U = Fraction(1, 2**53)
STATED = {
    name: int(error) * U**2 * (1 + int(higher or 0) * U)
    for name, error, higher in re.findall(r"^    (\w+) +(\d+) u\^2(?:\(1\+(\d)u\))?", dd.__doc__ or "", re.MULTILINE)
}
SAMPLES = 4000

finite = st.floats(allow_nan=False, allow_infinity=False)


def test_the_module_states_an_error_for_every_operation() -> None:
    assert set(STATED) == {"add", "add_positive", "add_float", "mul", "mul_float", "div"}
    for constant, names in {dd.ADD: ("add", "add_positive"), dd.MUL: ("mul",), dd.MUL_FLOAT: ("mul_float",), dd.DIV: ("div",)}.items():
        assert all(int(constant) * U**2 <= STATED[name] <= int(constant) * U**2 * (1 + 6 * U) for name in names)
    assert Fraction(dd.U2) == U**2
    assert Fraction(dd.TINY) == Fraction(1, 2**1074)


@numba.njit(error_model="numpy")
def _two_sum(a: float, b: float) -> Any:
    return dd.two_sum(a, b)


@numba.njit(error_model="numpy")
def _fast_two_sum(a: float, b: float) -> Any:
    return dd.fast_two_sum(a, b)


@numba.njit(error_model="numpy")
def _two_prod(a: float, b: float) -> Any:
    return dd.two_prod(a, b)


@numba.njit(error_model="numpy")
def _fma(a: float, b: float, c: float) -> Any:
    return jit.fma(a, b, c)


@given(finite, finite)
def test_two_sum_is_exact(a: float, b: float) -> None:
    s, e = _two_sum(a, b)
    assume(abs(Fraction(a) + Fraction(b)) < Fraction(2) ** 1023)
    assert value(s, e) == Fraction(a) + Fraction(b)
    assert s == a + b


@given(finite, finite)
def test_fast_two_sum_is_exact_for_operands_in_order(a: float, b: float) -> None:
    a, b = (a, b) if abs(a) >= abs(b) else (b, a)
    assume(abs(Fraction(a) + Fraction(b)) < Fraction(2) ** 1023)
    assert value(*_fast_two_sum(a, b)) == Fraction(a) + Fraction(b)
    assert value(*_fast_two_sum(0.0, b)) == Fraction(b)


@given(finite, finite)
def test_two_prod_is_exact_above_2_to_the_minus_969(a: float, b: float) -> None:
    exact = Fraction(a) * Fraction(b)
    assume(exact == 0 or Fraction(2) ** -969 < abs(exact) < Fraction(2) ** 1023)
    p, e = _two_prod(a, b)
    assert value(p, e) == exact
    assert p == a * b


@given(finite, finite)
def test_two_prod_loses_at_most_the_smallest_subnormal(a: float, b: float) -> None:
    exact = Fraction(a) * Fraction(b)
    assume(abs(exact) < Fraction(2) ** 1023)
    assert abs(value(*_two_prod(a, b)) - exact) <= Fraction(dd.TINY)


@given(finite, finite, finite)
def test_fma_rounds_once(a: float, b: float, c: float) -> None:
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    assume(abs(exact) < Fraction(2) ** 1023)
    assert _fma(a, b, c) == float(exact)


@numba.njit(error_model="numpy")
def _results(a: Any, b: Any) -> Any:
    """Each operation on pairs a, b (n, 2): (6, n, 2)."""
    out = np.empty((6, len(a), 2))
    for i in range(len(a)):
        ah, al, bh, bl = a[i, 0], a[i, 1], b[i, 0], b[i, 1]
        out[0, i, 0], out[0, i, 1] = dd.add(ah, al, bh, bl)
        out[1, i, 0], out[1, i, 1] = dd.add_positive(ah, al, bh, bl)
        out[2, i, 0], out[2, i, 1] = dd.add_float(ah, al, bh)
        out[3, i, 0], out[3, i, 1] = dd.mul(ah, al, bh, bl)
        out[4, i, 0], out[4, i, 1] = dd.mul_float(ah, al, bh)
        out[5, i, 0], out[5, i, 1] = dd.div(ah, al, bh, bl)
    return out


OPERATIONS: tuple[tuple[str, Callable[[Fraction, Fraction, Fraction], Fraction]], ...] = (
    ("add", lambda a, b, bh: a + b),
    ("add_positive", lambda a, b, bh: abs(a) + abs(b)),
    ("add_float", lambda a, b, bh: a + bh),
    ("mul", lambda a, b, bh: a * b),
    ("mul_float", lambda a, b, bh: a * bh),
    ("div", lambda a, b, bh: a / b),
)


def worst_errors(a: Any, b: Any, wrong_by: float = 0.0) -> dict[str, float]:
    """The largest error of each operation over its stated one, for operands whose results do not underflow."""
    positive = [np.where(p[:, :1] < 0.0, -p, p) for p in (a, b)]
    results, positive_results = _results(a, b), _results(*positive)
    worst = dict.fromkeys(STATED, 0.0)
    for n, (name, exact) in enumerate(OPERATIONS):
        for i in range(len(a)):
            true = exact(value(*a[i]), value(*b[i]), Fraction(b[i, 0]))
            h, l = (positive_results if name == "add_positive" else results)[n, i]
            error = abs(value(h, l + wrong_by * h) - true)
            assert abs(l) <= np.spacing(abs(h)) / 2 or h == l == 0.0, (name, a[i], b[i])
            if error:
                worst[name] = max(worst[name], float(error / (STATED[name] * abs(true))))
    return worst


@pytest.mark.parametrize("reach", [0, 3, 60, 450])
def test_no_operation_exceeds_its_stated_error(reach: int) -> None:
    """On pairs of nearby, distant and adversarial mantissas; 2^-450 to 2^450, so that no product or quotient underflows."""
    rng = np.random.default_rng([6, reach])
    a, b = Pair.many(rng, SAMPLES, reach), Pair.many(rng, SAMPLES, reach)
    cancelling = rng.random(SAMPLES) < 0.2
    b[cancelling] = -a[cancelling]
    b[cancelling, 1] *= rng.choice([1.0, 0.5, 0.0, -1.0], np.count_nonzero(cancelling))
    for name, ratio in worst_errors(a, b).items():
        assert ratio <= 1.0, name


@given(st.integers(0, 2**32 - 1), st.integers(0, 450))
def test_no_operation_exceeds_its_stated_error_on_drawn_pairs(seed: int, reach: int) -> None:
    rng = np.random.default_rng(seed)
    for name, ratio in worst_errors(Pair.many(rng, 8, reach), Pair.many(rng, 8, reach)).items():
        assert ratio <= 1.0, name


def test_the_measure_sees_a_larger_error() -> None:
    """Twice the largest stated error, added to every result, is beyond all of them."""
    rng = np.random.default_rng(7)
    largest = 2.0 * dd.DIV * dd.U2
    assert min(worst_errors(Pair.many(rng, 50, 3), Pair.many(rng, 50, 3), wrong_by=largest).values()) > 1.0


def test_sums_are_exact_to_their_error_down_to_the_subnormals() -> None:
    """Additions are never affected by underflow."""
    rng = np.random.default_rng(8)
    a = Pair.many(rng, SAMPLES, 40) * 2.0**-1030
    b = Pair.many(rng, SAMPLES, 40) * 2.0**-1030
    a, b = (np.stack(dd_sum, axis=1) for dd_sum in (_renormalised(a), _renormalised(b)))
    results = _results(a, b)
    for i in range(SAMPLES):
        for n, true in ((0, value(*a[i]) + value(*b[i])), (2, value(*a[i]) + Fraction(b[i, 0]))):
            assert abs(value(*results[n, i]) - true) <= STATED[OPERATIONS[n][0]] * abs(true)


def _renormalised(pairs: Any) -> Any:
    """Pairs that were scaled into the subnormals, as double-doubles again."""
    s = pairs[:, 0] + pairs[:, 1]
    return s, (pairs[:, 0] - s) + pairs[:, 1]
