"""Rounding, checked against an enumeration of each format: its numbers in order, and what lies at and beside the points between them.

No rounding is done to say what is expected. Between neighbours a < b of a format lies their midpoint m: what is below it rounds to a, what
is above it to b, and m itself to the one of the two whose last bit is even.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

from refimpl.enclosure import FORMATS, ROUNDINGS, Format, Kind, enclosure, format_of, round_fraction, round_parts, round_to_format

NARROW = [name for name, form in ROUNDINGS.items() if form.precision < 53]
EVERY = pytest.mark.parametrize("name", ROUNDINGS)
SAMPLES = 20_000
Wide = NDArray[np.float64]


def neighbours(form: Format) -> tuple[Wide, Wide, NDArray[np.bool_]]:
    """Neighbours a < b among the non-negative numbers, and whether a's last bit is even: all of them, or for wide formats a sample.

    After the largest number comes what would be next if exponents went on; it stands for infinity.
    """
    kind = np.dtype(f"u{form.dtype.itemsize}")
    last = int(np.array(form.largest).astype(form.dtype).view(kind))
    codes = np.arange(last + 1, dtype=np.uint64)[: 2**16] if last < 2**16 else np.zeros(0, np.uint64)
    if last >= 2**16:
        drawn = np.random.default_rng([21, *form.name.encode()]).integers(0, last, SAMPLES, dtype=np.uint64)
        codes = np.unique(np.concatenate([drawn, np.arange(64, dtype=np.uint64), np.uint64(last) - np.arange(64, dtype=np.uint64)]))
    a = codes.astype(kind).view(form.dtype).astype(np.float64)
    following = (np.minimum(codes + np.uint64(1), np.uint64(last))).astype(kind).view(form.dtype).astype(np.float64)
    step = np.where(codes == last, form.ulp(np.array(form.largest)), following - a)
    return a, step, codes % 2 == 0


def rounded(hi: Wide, lo: Wide, form: Format) -> Wide:
    """The rounding of hi + lo, by the public method."""
    return enclosure(hi, lo, np.zeros_like(hi)).round(form.name).astype(np.float64)


def above(a: Wide, step: Wide, form: Format) -> Wide:
    """The neighbour above, infinity after the largest number."""
    with np.errstate(over="ignore"):
        b = a + step
    return np.where(b > form.largest, np.inf, b)


@EVERY
def test_every_number_and_every_midpoint_rounds_as_the_enumeration_says(name: str) -> None:
    form = ROUNDINGS[name]
    a, step, even = neighbours(form)
    b, half = above(a, step, form), step / 2
    fits = half > 0.0  # float64's subnormal midpoints are no sums of float64 numbers
    for sign in (1.0, -1.0):
        zero = np.zeros_like(a)
        np.testing.assert_array_equal(rounded(sign * a, zero, form), sign * a + 0.0)
        np.testing.assert_array_equal(rounded(sign * a, sign * half, form)[fits], (sign * np.where(even, a, b) + 0.0)[fits])
        for share in (0.5, 1.0 - 2.0**-52):
            below = half * share
            ok = fits & (below < half)
            np.testing.assert_array_equal(rounded(sign * a, sign * below, form)[ok], (sign * a + 0.0)[ok])
        for share in (1.0 + 2.0**-52, 1.5):
            beyond = half * share
            ok = fits & (beyond > half)
            np.testing.assert_array_equal(rounded(sign * a, sign * beyond, form)[ok], (sign * b + 0.0)[ok])


@pytest.mark.parametrize("name", NARROW)
def test_what_a_first_rounding_to_float64_would_hide_still_counts(name: str) -> None:
    """hi is the midpoint itself; lo, far below its last bit, alone says on which side the number lies."""
    form = ROUNDINGS[name]
    a, step, _ = neighbours(form)
    b, middle = above(a, step, form), a + step / 2
    for tiny in (2.0**-60, 2.0**-500):
        lo = np.maximum(middle * tiny, 2.0**-1074)
        for sign in (1.0, -1.0):
            np.testing.assert_array_equal(rounded(sign * middle, sign * lo, form), sign * b)
            np.testing.assert_array_equal(rounded(sign * middle, -sign * lo, form), sign * a + 0.0)


@EVERY
def test_fractions_round_as_the_enumeration_says(name: str) -> None:
    form = ROUNDINGS[name]
    a, step, even = neighbours(form)
    rng = np.random.default_rng([22, *name.encode()])
    for i in [*rng.integers(0, a.size, 1500).tolist(), 0, 1, 2, a.size - 2, a.size - 1]:
        low, gap = Fraction(a[i]), Fraction(step[i])
        high = float(low + gap) if low + gap <= Fraction(form.largest) else np.inf
        for sign in (1, -1):
            assert round_fraction(sign * low, form) == sign * a[i]
            assert round_fraction(sign * (low + gap / 2), form) == sign * (a[i] if even[i] else high)
            assert round_fraction(sign * (low + gap * Fraction(499, 1000)), form) == sign * a[i]
            assert round_fraction(sign * (low + gap / 2 * (1 + Fraction(1, 2**3000))), form) == sign * high
            assert round_fraction(sign * (low + gap / 2 * (1 - Fraction(1, 2**3000))), form) == sign * a[i]


@pytest.mark.parametrize("name", NARROW)
def test_numbers_of_float32_round_as_the_library_casts_them(name: str) -> None:
    """ml_dtypes and numpy cast float32 to narrower formats with one rounding."""
    form, rng = ROUNDINGS[name], np.random.default_rng([23, *name.encode()])
    x = rng.integers(0, 2**32, 4 * SAMPLES, dtype=np.uint64).astype(np.uint32).view(np.float32)
    with np.errstate(over="ignore"):
        near = rng.normal(size=SAMPLES) * np.array([1.0, form.largest / 2])[:, None]
        x = np.concatenate([x, near.ravel().astype(np.float32)])
    x = x[np.isfinite(x)]
    with np.errstate(over="ignore", invalid="ignore"):
        cast = x.astype(form.dtype)
    e = enclosure(x.astype(np.float64), np.zeros(x.shape), np.zeros(x.shape))
    np.testing.assert_array_equal(e.round(name).astype(np.float64), cast.astype(np.float64))
    np.testing.assert_array_equal(round_to_format(x.astype(np.float64), form), cast.astype(np.float64))


@EVERY
def test_a_radius_leaves_open_just_what_straddles_a_midpoint(name: str) -> None:
    form = ROUNDINGS[name]
    a, step, _ = neighbours(form)
    keep = (a >= form.normal) & (a < form.largest) & (step * 2.0**-60 > 0.0)
    a, step = a[keep], step[keep]
    zero, kind = np.zeros_like(a), np.zeros(a.shape, np.uint8)
    for share in (2.0**-40, 2.0**-60):  # the second is lost when it is added to lo
        values, undecided = round_parts(kind, a, step / 2, step * share, form)
        assert undecided.all()
    values, undecided = round_parts(kind, a, step / 4, step / 5, form)
    assert not undecided.any()
    np.testing.assert_array_equal(values, a)
    values, undecided = round_parts(kind, a, zero, np.full_like(a, np.inf), form)
    assert undecided.all()
    values, undecided = round_parts(np.full(a.shape, Kind.OVERFLOW, np.uint8), np.full_like(a, -np.inf), zero, zero, form)
    assert not undecided.any()
    assert (values == -np.inf).all()


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (2, 3)])
def test_any_shape_keeps_its_shape(shape: tuple[int, ...]) -> None:
    e = enclosure(np.ones(shape), np.zeros(shape), np.zeros(shape))
    assert e.round("float8_e4m3").shape == shape
    assert e[..., None].round().shape == (*shape, 1)


@EVERY
def test_a_negative_zero_becomes_positive(name: str) -> None:
    zero = np.full(3, -0.0)
    values, _ = round_parts(np.zeros(3, np.uint8), zero, zero, np.array([0.0, 0.0, 2.0**-1074]), ROUNDINGS[name])
    assert not np.signbit(values[:2]).any()


def test_narrow_formats_are_for_results_alone() -> None:
    e = enclosure(np.array([0.3, 500.0, 1e-9]), np.zeros(3), np.zeros(3))
    for name, largest in (("float8_e5m2", 500.0), ("float8_e4m3", np.inf), ("float8_e3m4", np.inf)):
        cast: Any = np.asarray(e, ROUNDINGS[name].dtype)
        assert cast.dtype == ROUNDINGS[name].dtype
        assert (float(cast[1]) == np.inf) == (largest == np.inf)
        with pytest.raises(TypeError, match=f"dtype '{name}' is not supported; use one of {', '.join(FORMATS)}$"):
            format_of(name)


@pytest.mark.parametrize("name", ["float8_e4m3fn", "float8_e5m2fnuz", "float8_e8m0fnu"])
def test_a_format_without_infinities_is_refused(name: str) -> None:
    e = enclosure(np.ones(1), np.zeros(1), np.zeros(1))
    with pytest.raises(TypeError, match=f"dtype '{name}' is not supported; use one of float64"):
        e.round(name)
    with pytest.raises(TypeError, match=f"dtype '{name}' is not supported; use one of float64"):
        np.asarray(e, getattr(ml_dtypes, name))
