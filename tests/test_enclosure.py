"""Enclosures round once and correctly, decide by their exact form or not at all, and contain what they should and nothing else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from flint import arb
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from refimpl.ball import MAX_BITS, Ball, precision
from refimpl.enclosure import ROUNDINGS, SHOWN, Enclosure, Format, Kind, Undecided, enclosure, format_of, interval_of
from tests import markup

EVERY = pytest.mark.parametrize("name", ROUNDINGS)
SAMPLES = 4000


def made(hi: Any, lo: Any = 0.0, radius: Any = 0.0, exact: Any = None) -> Enclosure:
    hi, lo, radius = (np.array(part, np.float64) for part in np.broadcast_arrays(hi, lo, radius))
    return enclosure(hi, lo, radius, None, exact)


def nearest(x: Fraction, form: Format) -> float:
    """x rounded to nearest with ties to even, by comparing the distances to the two neighbours in the format."""
    sign, x = (-1.0, -x) if x < 0 else (1.0, x)
    excess = int(x / Fraction(form.tiny)).bit_length() - form.precision  # a number in the format has at most `precision` bits
    step = Fraction(form.tiny) * 2 ** max(excess, 0)
    below = x // step * step
    even = (below / step) % 2 == 0
    up = x - below > step / 2 or (x - below == step / 2 and not even)
    rounded = below + step if up else below
    return sign * (float(rounded) if rounded <= Fraction(form.largest) else math.inf)


def midpoints(rng: np.random.Generator, form: Format, n: int) -> NDArray[Any]:
    """Points halfway between neighbours of the format, as (hi, lo): subnormal, normal, next to powers of two, at the overflow."""
    exponent = rng.integers(form.emin - form.precision, form.emax + 1, n)
    mantissa = rng.integers(0, 2 ** (form.precision - 1), n) * rng.choice([0, 1], n, p=[0.3, 0.7])
    step = np.maximum(exponent, form.emin) - form.precision + 1
    with np.errstate(over="ignore"):
        number = np.ldexp((2.0 ** (form.precision - 1) * (exponent >= form.emin) + mantissa), step)
        half = np.ldexp(0.5, step)  # 0 below the subnormals of float64
    number = np.where(rng.random(n) < 0.1, form.largest, np.minimum(number, form.largest))
    half = np.where(number == form.largest, np.ldexp(0.5, form.emax - form.precision + 1), half)
    with np.errstate(over="ignore"):
        s = number + half
    fits = np.isfinite(s)
    hi = np.where(fits, s, number)
    return np.stack([hi, np.where(fits, half - (hi - number), half)], axis=1) * rng.choice([-1.0, 1.0], (n, 1))


@EVERY
def test_rounding_of_exact_numbers_at_and_next_to_midpoints(name: str) -> None:
    """Ties, and what lies off a tie by the last bit of the low part or far less: the traps of rounding twice."""
    form, rng = ROUNDINGS[name], np.random.default_rng([13, *name.encode()])
    pairs = midpoints(rng, form, SAMPLES)
    off = rng.choice([-1.0, 0.0, 1.0], SAMPLES) * rng.choice([2.0**-90, 2.0**-60, 2.0**-53, 2.0**-1074], SAMPLES)
    scale = np.where(off % 2.0**-1073 != 0.0, 1.0, np.abs(pairs[:, 0]))
    lo = pairs[:, 1] + np.where(pairs[:, 1] == 0.0, off * scale, 0.0)
    rounded = made(pairs[:, 0], lo).round(name)
    assert rounded.dtype == form.dtype
    for h, l, r in zip(pairs[:, 0], lo, rounded.astype(np.float64), strict=True):
        assert r == nearest(Fraction(float(h)) + Fraction(float(l)), form), (h, l)


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(-1.0, 1.0), st.sampled_from(sorted(ROUNDINGS)))
def test_rounding_of_drawn_double_doubles(hi: float, share: float, name: str) -> None:
    lo = share * math.ulp(hi) / 2
    assert float(made(hi, lo).round(name)) == nearest(Fraction(hi) + Fraction(lo), ROUNDINGS[name])


@EVERY
def test_numbers_of_the_format_are_left_alone(name: str) -> None:
    form, rng = ROUNDINGS[name], np.random.default_rng(14)
    x = rng.integers(0, 2 ** (8 * form.dtype.itemsize), 5000, dtype=np.uint64).astype(f"u{form.dtype.itemsize}").view(form.dtype)
    with np.errstate(invalid="ignore"):  # signalling nans
        wide = x.astype(np.float64)
    x, wide = x[np.isfinite(wide)], wide[np.isfinite(wide)]
    rounded = made(wide).round(name)
    assert (rounded == x).all()


@EVERY
def test_the_thresholds_of_overflow_and_underflow(name: str) -> None:
    form = ROUNDINGS[name]
    half = float(np.ldexp(0.5, form.emax - form.precision + 1))
    below = -half * 2.0**-60
    for sign in (1.0, -1.0):
        assert float(made(sign * form.largest, sign * half).round(name)) == sign * math.inf  # a tie goes to the even neighbour, 2^(emax+1)
        assert float(made(sign * form.largest, sign * (half * (1 - 2.0**-53))).round(name)) == sign * form.largest
        if form.precision < 53:
            assert float(made(sign * (form.largest + half), sign * below).round(name)) == sign * form.largest
            assert float(made(sign * form.tiny / 2, sign * form.tiny * 2.0**-90).round(name)) == sign * form.tiny
        assert float(made(sign * form.tiny / 2).round(name)) == 0.0
        assert float(made(sign * form.tiny).round(name)) == sign * form.tiny


@EVERY
def test_every_zero_is_positive(name: str) -> None:
    for e in (made(-0.0), made(0.0), made(-0.0, -0.0), made(-(2.0**-1074))):
        rounded = e.round(name).astype(np.float64)
        assert rounded != 0.0 or not np.signbit(rounded)


@EVERY
def test_non_finite_kinds_round_to_themselves(name: str) -> None:
    kinds = np.array([0, 0, 0, Kind.UNDEFINED, Kind.OVERFLOW, Kind.OVERFLOW], np.uint8)
    hi = np.array([np.inf, -np.inf, np.nan, 0.0, np.inf, -np.inf])
    e = enclosure(hi, np.ones(6), np.ones(6), kinds)
    assert e.kind.tolist() == [Kind.POSITIVE_INFINITY, Kind.NEGATIVE_INFINITY, Kind.NAN, Kind.UNDEFINED, Kind.OVERFLOW, Kind.OVERFLOW]
    assert not e.lo.any()
    assert not e.radius.any()
    np.testing.assert_array_equal(e.round(name).astype(np.float64), [np.inf, -np.inf, np.nan, np.nan, np.inf, -np.inf])


@EVERY
def test_a_radius_that_straddles_a_midpoint_is_decided_by_the_exact_form(name: str) -> None:
    form = ROUNDINGS[name]
    tie, half_step = midpoint(form)
    for offset in (2.0**-300, -(2.0**-300)):

        def exact(where: Sequence[int], bits: int, offset: float = offset) -> list[Ball]:
            with precision(bits):  # 300 bits do not tell it from the midpoint
                return [(arb(1) + arb(half_step)) * (1 + arb(offset))]

        e = made(tie[0], tie[1], 2.0**-80, exact)
        assert float(e.round(name)) == (1.0 if offset < 0 else 1.0 + 2 * half_step)
        with pytest.raises(Undecided, match=rf"element \(\) .* straddles two values of {name}; call the operation again"):
            made(tie[0], tie[1], 2.0**-80).round(name)


@EVERY
def test_an_exact_midpoint_stays_undecided(name: str) -> None:
    """A ball that never shrinks to one side: no precision decides, and nothing is guessed."""
    tie, half_step = midpoint(ROUNDINGS[name])
    asked: list[int] = []

    def exact(where: Sequence[int], bits: int) -> list[Ball]:
        asked.append(bits)
        return [arb(1) + arb(half_step, 2.0**-500)]

    with pytest.raises(Undecided, match="straddles"):
        made(tie[0], tie[1], 2.0**-80, exact).round(name)
    assert asked[-1] == MAX_BITS


def midpoint(form: Format) -> tuple[tuple[float, float], float]:
    """The midpoint after 1 as (hi, lo), and half the step."""
    half_step = 2.0**-form.precision
    return ((1.0, half_step) if form.precision == 53 else (1.0 + half_step, 0.0)), half_step


def test_an_exact_form_may_find_what_the_kernel_did_not_determine() -> None:
    for value in (math.inf, -math.inf, math.nan):
        e = made(0.0, 0.0, math.inf, lambda where, bits, value=value: [value])
        np.testing.assert_array_equal(e.round(), value)
    with pytest.raises(Undecided):
        made(0.0, 0.0, math.inf).round()


@given(
    st.floats(-1e300, 1e300),
    st.floats(-1.0, 1.0),
    st.floats(0.0, 2.0**-40),
    st.floats(-1.0, 1.0),
    st.sampled_from(sorted(ROUNDINGS)),
)
def test_a_rounding_holds_for_every_number_of_the_enclosure(hi: float, share: float, relative: float, place: float, name: str) -> None:
    lo = share * math.ulp(hi) / 2
    e = made(hi, lo, relative * abs(hi))
    try:
        rounded = float(e.round(name))
    except Undecided:
        low, high = interval_of(e, 0)
        slack = Fraction(math.ulp(hi)) * Fraction(1, 2**50) + Fraction(1, 2**1073)
        assert nearest(low - slack, ROUNDINGS[name]) != nearest(high + slack, ROUNDINGS[name])
        return
    low, high = interval_of(e, 0)
    inside = low + (high - low) * (Fraction(place) + 1) / 2
    assert rounded == nearest(inside, ROUNDINGS[name])


def test_numpy_sees_an_array() -> None:
    e = made([1.0, 2.0 + 2.0**-30], [2.0**-60, 0.0])
    np.testing.assert_array_equal(np.asarray(e), [1.0, 2.0 + 2.0**-30])
    assert np.asarray(e).dtype == np.float64
    assert np.asarray(e, "float32").dtype == np.float32
    assert np.asarray(e, ROUNDINGS["bfloat16"].dtype).dtype == ROUNDINGS["bfloat16"].dtype
    assert e.shape == (2,)
    assert e.size == 2
    with pytest.raises(TypeError, match="dtype 'int64' is not supported; use one of float64"):
        np.asarray(e, np.int64)
    with pytest.raises(TypeError, match="dtype 'float128x' is not supported"):
        e.round("float128x")
    assert format_of(np.float16).name == "float16"


def test_a_part_keeps_its_exact_form() -> None:
    """Each element of the whole has its own exact form; a part must ask for the right one."""
    asked: list[int] = []

    def exact(where: Sequence[int], bits: int) -> list[Ball]:
        asked.extend(where)
        return [arb(index) for index in where]

    grid = np.arange(12.0).reshape(3, 4)
    e = enclosure(grid, np.zeros_like(grid), np.full_like(grid, 0.5), None, exact)
    for key in (1, (2, 3), np.s_[::2, 1:], np.s_[..., ::-1], (np.array([2, 0]), np.array([1, 3])), grid % 5 == 0, None):
        part = e[key]
        asked.clear()
        np.testing.assert_array_equal(np.asarray(part.round()), grid[key])
        assert asked == grid[key].reshape(-1).astype(int).tolist()
        assert part.shape == grid[key].shape
    assert made([1.0, 2.0])[0].exact is None


def test_contains_accepts_what_lies_inside_and_refuses_what_does_not() -> None:
    e = made([1.0, 1.0, 0.0], [2.0**-60, 0.0, 0.0], [2.0**-100, 0.0, np.inf])
    with precision(300):
        centre, radius = arb(1) + arb(2.0**-60), arb(2.0**-100)
        assert e.contains(0, centre)
        assert e.contains(0, centre + radius)
        assert e.contains(0, centre - radius)
        assert not e.contains(0, centre + radius * (1 + arb(2.0**-90)))
        assert not e.contains(0, centre - radius * (1 + arb(2.0**-90)))
        assert not e.contains(0, arb(1))
        assert not e.contains(0, arb(1, 1))  # a ball that sticks out
        assert not e.contains(0, arb("nan"))
        assert e.contains(1, arb(1))
        assert not e.contains(1, arb(1) + arb(2.0**-200))
        assert e.contains(2, arb(10) ** 300)
    for other in (math.inf, -math.inf, math.nan):
        assert not any(e.contains(index, other) for index in range(3))


def test_contains_tells_the_kinds_apart() -> None:
    hi = np.array([np.inf, -np.inf, np.nan, np.nan, np.inf, -np.inf])
    kinds = np.array([1, 2, 3, 5, 4, 4], np.uint8)
    e = enclosure(hi, np.zeros(6), np.zeros(6), kinds)
    with precision(200):
        beyond = arb(2) ** 1024
        candidates: list[Ball] = [math.inf, -math.inf, math.nan, arb(1), beyond, -beyond]
        table = [[e.contains(index, candidate) for candidate in candidates] for index in range(6)]
    expected = {(0, 0), (1, 1), (2, 2), (3, 2), (4, 4), (5, 5)}
    assert {(i, j) for i in range(6) for j in range(6) if table[i][j]} == expected


@EVERY
def test_ulp_is_the_distance_to_the_next_number(name: str) -> None:
    form, rng = ROUNDINGS[name], np.random.default_rng(15)
    bits = np.dtype(f"u{form.dtype.itemsize}")
    largest = int(np.array(form.largest).astype(form.dtype).view(bits))
    codes = np.concatenate([rng.integers(0, largest, 3000), [0, 1, 2, largest - 1]]).astype(bits)
    x, following = (c.view(form.dtype).astype(np.float64) for c in (codes, codes + np.ones(1, bits)))
    np.testing.assert_array_equal(form.ulp(x), following - x)
    np.testing.assert_array_equal(form.ulp(-x), following - x)
    top = float(np.ldexp(1.0, form.emax - form.precision + 1))
    np.testing.assert_array_equal(form.ulp(np.array([form.largest, np.inf, -np.inf, np.nan])), np.full(4, top))


@EVERY
def test_the_formats_are_those_of_their_dtypes(name: str) -> None:
    import ml_dtypes

    form, info = ROUNDINGS[name], ml_dtypes.finfo(ROUNDINGS[name].dtype)
    assert (form.largest, form.normal, form.tiny) == (float(info.max), float(info.smallest_normal), float(info.smallest_subnormal))
    assert form.unit == float(info.eps) / 2


def test_an_enclosure_shows_what_it_is() -> None:
    assert repr(made(1.5, 0.0, 2.0**-100)) == "Enclosure(1.5 + 0.0 +/- 7.89e-31)"
    assert repr(made(math.inf)) == "Enclosure(positive infinity, inf)"
    assert "shape=(2,)" in repr(made([1.0, 2.0]))


def test_a_notebook_shows_value_radius_and_kind() -> None:
    e = made([[0.5, math.inf, math.nan]], [[2.0**-60, 0.0, 0.0]], [[2.0**-110, 0.0, 0.0]])
    shown = e._repr_html_()
    assert markup.tags(shown) >= {"table"}
    assert markup.text(shown) == (
        "Enclosure, shape (1, 3) index value radius kind 0, 0 0.5 +8.6736173798840355e-19 7.7e-34 finite "
        "0, 1 inf  positive infinity 0, 2 nan  nan"
    )
    assert markup.text(made(0.5)._repr_html_()).endswith("kind  0.5 0 finite")


def test_a_notebook_is_not_flooded() -> None:
    assert made(np.arange(float(SHOWN)))._repr_html_().count("<tr>") == SHOWN + 1
    shown = made(np.arange(1000.0).reshape(10, 100))._repr_html_()
    assert shown.count("<tr>") == SHOWN + 1
    assert markup.text(shown).endswith("0, 19 19.0 0 finite ... and 980 more")
    assert markup.text(made(np.zeros((0, 3)))._repr_html_()) == "Enclosure, shape (0, 3) index value radius kind"
