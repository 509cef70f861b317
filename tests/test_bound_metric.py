"""The metric on every pair of special values, and the bound: what it lets pass, what it doesn't, what follows from a promise."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance import metric
from conformance.bound import CLASSES, Promise, Summation, arithmetic, with_rounding
from conformance.metric import compared, distance, keeps, spacing_at
from refimpl.enclosure import FORMATS, Enclosure, Format, Kind

INF, NAN = math.inf, math.nan
ANSWERS = ("nan", "+inf", "-inf", "+0", "-0", "subnormal", "largest subnormal", "normal", "1", "largest")
formats = st.sampled_from(list(FORMATS.values()))
every_format = pytest.mark.parametrize("f", FORMATS.values(), ids=FORMATS)


def one(hi: float, lo: float = 0.0, radius: float = 0.0, kind: Kind = Kind.FINITE) -> Enclosure:
    return Enclosure(np.array([kind], np.uint8), np.array([hi]), np.array([lo]), np.array([radius]))


def measure(actual: float, expected: Enclosure, bound: float, f: Format) -> tuple[float, float]:
    ratio, ulps = distance(np.array([actual], np.float64).astype(f.dtype), expected, np.array([bound]), f)
    return ratio.item(), ulps.item()


def answers(f: Format) -> dict[str, float]:
    return dict(zip(ANSWERS, (NAN, INF, -INF, 0.0, -0.0, f.tiny, f.normal - f.tiny, f.normal, 1.0, f.largest), strict=True))


def as_float(x: Fraction | float) -> float:
    try:
        return float(x)
    except OverflowError:
        return INF


def table(f: Format) -> dict[str, tuple[Enclosure, list[Fraction | float]]]:
    """What is expected, and the error of each of ANSWERS in ulps at the expected value, which here is the bound too.

    Written from the rules: `s` the smallest subnormal, `n` the smallest normal, `top` the largest number, `u` the ulp at 1,
    `v` the ulp of the top binade, `end` the number for which an infinity stands.
    """
    s, n, top = Fraction(f.tiny), Fraction(f.normal), Fraction(f.largest)
    u, v, end = Fraction(2) ** (1 - f.precision), Fraction(2) ** (f.emax + 1 - f.precision), Fraction(2) ** (f.emax + 1)
    least = Fraction(2) ** 1024 - Fraction(2) ** 970
    rows: dict[str, tuple[Enclosure, list[Fraction | float]]] = {
        # expected                            nan  +inf -inf  +0 -0  s  n-s  n  1  largest
        "zero": (one(0.0), [INF, INF, INF, 0, 0, 1, n / s - 1, n / s, 1 / s, top / s]),
        "1": (one(1.0), [INF, INF, INF, 1 / u, 1 / u, (1 - s) / u, (1 - n + s) / u, (1 - n) / u, 0, (top - 1) / u]),
        "-1": (one(-1.0), [INF, INF, INF, 1 / u, 1 / u, (1 + s) / u, (1 + n - s) / u, (1 + n) / u, 2 / u, (top + 1) / u]),
        "subnormal": (one(f.tiny), [INF, INF, INF, 1, 1, 0, n / s - 2, n / s - 1, 1 / s - 1, top / s - 1]),
        "normal": (one(f.normal), [INF, INF, INF, n / s, n / s, n / s - 1, 1, 0, (1 - n) / s, (top - n) / s]),
        # An infinity is one ulp past the largest number, and here one ulp is allowed.
        "largest": (one(f.largest), [INF, 1, INF, top / v, top / v, (top - s) / v, (top - n + s) / v, (top - n) / v, (top - 1) / v, 0]),
        "-largest": (
            one(-f.largest),
            [INF, INF, 1, top / v, top / v, (top + s) / v, (top + n - s) / v, (top + n) / v, (top + 1) / v, 2 * top / v],
        ),
        "+inf": (one(INF, kind=Kind.POSITIVE_INFINITY), [INF, 0, *[INF] * 8]),
        "-inf": (one(-INF, kind=Kind.NEGATIVE_INFINITY), [INF, INF, 0, *[INF] * 7]),
        "nan": (one(NAN, kind=Kind.NAN), [0, *[INF] * 9]),
        "undefined": (one(NAN, kind=Kind.UNDEFINED), [0] * 10),
        "overflow": (
            one(INF, kind=Kind.OVERFLOW),
            [INF, 0, INF, *[(least - x) / v for x in (Fraction(0), Fraction(0), s, n - s, n, Fraction(1), top)]],
        ),
        "-overflow": (
            one(-INF, kind=Kind.OVERFLOW),
            [INF, INF, 0, *[(least + x) / v for x in (Fraction(0), Fraction(0), s, n - s, n, Fraction(1), top)]],
        ),
    }
    if f.name == "float64":  # a real number below the subnormals has hi = 0 and a radius
        rows["below"] = (one(0.0, radius=f.tiny), [INF, INF, INF, 0, 0, 0, n / s - 2, n / s - 1, 1 / s - 1, top / s - 1])
    else:
        e = Fraction(1, 8)
        below = [INF, INF, INF, e, e, 1 - e, n / s - 1 - e, n / s - e, 1 / s - e, top / s - e]
        rows["below"] = (one(f.tiny / 8), below)
        far = Fraction(3, 2) * end
        beyond = [INF, 0, INF, far / v, far / v, (far - s) / v, (far - n + s) / v, (far - n) / v, (far - 1) / v, (far - top) / v]
        rows["beyond"] = (one(3 * 2.0**f.emax), beyond)
    return rows


@every_format
@pytest.mark.parametrize("answer", ANSWERS)
def test_every_pair_of_special_values_has_its_error(f: Format, answer: str) -> None:
    position = ANSWERS.index(answer)
    for name, (expected, errors) in table(f).items():
        bound = f.tiny if expected.hi.item() == 0.0 else f.ulp(expected.hi).item()
        found = measure(answers(f)[answer], expected, bound, f)
        stated = as_float(errors[position])
        assert found == pytest.approx((stated, stated), rel=1e-15), f"{answer} for {name}"
        assert (found[0] <= 1.0) == (errors[position] <= 1), f"{answer} for {name}"


def joined(parts: list[Enclosure]) -> Enclosure:
    return Enclosure(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("kind", "hi", "lo", "radius")))


def agree(actual: Any, expected: Enclosure, bounds: Any, f: Format) -> None:
    """What is compared at once is what is compared apart, to the last bit."""
    for promised in range(len(bounds)):
        ratio, ulps, kept = compared(actual, expected, bounds, promised, f)
        for found, apart in zip((ratio, ulps), distance(actual, expected, bounds[promised], f), strict=True):
            assert found.tobytes() == apart.tobytes()
        assert str(kept) == str(keeps(actual, expected, bounds, f))


@every_format
def test_ratios_and_kept_bounds_are_the_same_compared_at_once_and_apart(f: Format) -> None:
    expected = [enclosure for enclosure, _ in table(f).values()] + [one(1.0, lo=-(2.0**-60), radius=0.125), one(0.0, radius=INF)]
    actual = np.array(list(answers(f).values())).astype(f.dtype)
    for number in (0.0, f.tiny, f.unit, 1.0, 1.0 - f.tiny, math.nextafter(1.0, 2.0), f.largest, INF, NAN):
        bounds = np.array([[number], [1.5], [f.unit]])
        for enclosure in expected:
            agree(actual, joined([enclosure] * actual.size), bounds.repeat(actual.size, axis=1), f)
            for answer in actual:
                agree(np.array([answer]), enclosure, bounds, f)


@given(st.data())
def test_they_are_the_same_for_numbers_near_a_bound(data: st.DataObject) -> None:
    f, truth = data.draw(truths())
    factors = np.array(data.draw(st.lists(st.floats(0.25, 4.0), min_size=2, max_size=5)))
    with np.errstate(over="ignore"):
        actual = np.asarray(truth.hi + data.draw(st.integers(-4, 4)) * f.ulp(truth.hi)).astype(f.dtype)
    exact = np.abs(actual.astype(np.float64) - truth.hi)  # a factor of 1 lies at the bound
    with np.errstate(over="ignore", invalid="ignore"):
        agree(actual, truth, np.concatenate([factors, [1.0, 1.0 + 2.0**-52, 1.0 - 2.0**-53]])[:, None] * exact, f)


def test_where_numbers_answer_numbers_nothing_is_compared_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metric, "distance", None)
    f, truth = FORMATS["float32"], joined([one(1.0), one(-2.0, lo=1e-20), one(0.0, radius=1e-30)])
    ratio, _, kept = compared(np.array([1.5, -2.0, 0.0], np.float32), truth, np.array([[1.0] * 3, [0.25] * 3]), 0, f)
    assert ratio.tolist() == [0.5, 1e-20, 0.0]
    assert kept is not None
    assert kept.tolist() == [True, False]


@every_format
def test_the_spacing_is_that_of_the_format_at_every_magnitude(f: Format) -> None:
    sizes = np.ldexp(np.array([1.0, 1.5, 2.0 - 2.0**-52]), np.arange(-1074, 1024)[:, None])
    sizes = np.concatenate([sizes.reshape(-1), [0.0, INF, NAN]])
    assert spacing_at(sizes, f).tobytes() == f.ulp(sizes).tobytes()
    assert spacing_at(-sizes, f).tobytes() == f.ulp(sizes).tobytes()


@every_format
def test_a_bound_that_is_not_finite_leaves_the_kinds(f: Format) -> None:
    for bound in (NAN, INF):
        assert measure(f.largest, one(1.0), bound, f)[0] == 0.0
        assert measure(INF, one(1.0), bound, f)[0] == INF
        assert measure(NAN, one(1.0), bound, f)[0] == INF
        assert measure(1.0, one(INF, kind=Kind.POSITIVE_INFINITY), bound, f)[0] == INF
        assert measure(INF, one(INF, kind=Kind.OVERFLOW), bound, f)[0] == 0.0
        assert measure(1.0, one(INF, kind=Kind.OVERFLOW), bound, f)[0] > 1.0


@every_format
def test_our_own_uncertainty_accuses_nobody(f: Format) -> None:
    wide = one(1.0, radius=0.25)
    assert measure(1.25, wide, f.unit, f) == (0.0, 0.0)
    assert measure(1.5, wide, 0.5, f)[0] == 0.5
    assert measure(f.largest, one(0.0, radius=INF), f.unit, f) == (0.0, 0.0)
    assert measure(INF, one(0.0, radius=INF), f.unit, f) == (0.0, 0.0)
    assert measure(NAN, one(0.0, radius=INF), f.unit, f) == (INF, INF)


def test_a_float16_truth_of_70000_is_an_infinity_or_within_reach() -> None:
    f, truth = FORMATS["float16"], one(70000.0)
    tight, loose = (with_rounding(np.array([e]), truth, f, flush=False).item() for e in (0.0, 4600.0))
    assert measure(INF, truth, tight, f)[0] == 0.0
    assert measure(65504.0, truth, tight, f)[0] > 1.0
    assert measure(65504.0, truth, loose, f)[0] <= 1.0
    assert measure(-INF, truth, loose, f)[0] == INF


def test_an_infinity_passes_only_where_the_truth_and_its_error_reach_what_rounds_to_it() -> None:
    f = FORMATS["float16"]  # from 65520 on
    for truth, error, passes in ((65519.0, 0.0, False), (65519.0, 0.5, False), (65519.0, 1.0, True), (65520.0, 0.0, True)):
        bound = with_rounding(np.array([error]), one(truth), f, flush=False).item()
        assert (measure(INF, one(truth), bound, f)[0] <= 1.0) is passes


def test_the_extremes_of_float64_are_compared_without_overflow() -> None:
    f = FORMATS["float64"]
    ratio, _ = measure(f.largest, one(-f.largest), f.largest, f)
    assert ratio == 2.0
    assert measure(1.0, one(1.0, lo=2.0**-54), 2.0**-54, f)[0] == 1.0
    assert measure(1.0, one(1.0, lo=math.nextafter(2.0**-54, 1.0)), 2.0**-54, f)[0] > 1.0


@st.composite
def truths(draw: st.DrawFn) -> tuple[Format, Enclosure]:
    """A format and a finite truth in, near and beyond its range, with a tail below float64."""
    f = draw(formats)
    exponent = draw(st.integers(max(f.emin - f.precision - 3, -1060), min(f.emax + 2, 1022)))
    hi = math.ldexp(draw(st.floats(1.0, 2.0, exclude_max=True)), exponent) * draw(st.sampled_from((-1.0, 1.0)))
    lo = hi * 2.0**-54 * draw(st.floats(-1.0, 1.0))
    return f, one(hi, lo, abs(hi) * draw(st.sampled_from((0.0, 2.0**-90))))


errors = st.one_of(st.just(0.0), st.floats(2.0**-60, 2.0**4))
promises = st.builds(
    Promise,
    st.sampled_from(CLASSES),
    st.sampled_from(list(FORMATS)),
    st.sampled_from((None, *FORMATS)),
    st.sampled_from((Summation(), Summation("lanes", 4), Summation("pairwise", 8, 128), Summation("online", 1, 32))),
    st.booleans(),
)


def relative(expected: Enclosure, error: float) -> np.ndarray[Any, np.dtype[np.float64]]:
    """An absolute error that is a multiple of the truth."""
    return np.minimum(np.abs(expected.hi), FORMATS["float64"].largest / 64) * error


@given(truths(), errors, st.booleans())
def test_the_correctly_rounded_answer_always_passes(pair: tuple[Format, Enclosure], error: float, flush: bool) -> None:
    f, expected = pair
    try:
        rounded = expected.round(f.name)
    except ArithmeticError:  # its own radius straddles a midpoint
        return
    bound = with_rounding(relative(expected, error), expected, f, flush)
    assert distance(rounded, expected, bound, f)[0].item() <= 1.0


@given(truths(), errors, st.integers(-(2**30), 2**30), st.integers(0, 2**30), st.booleans())
def test_a_farther_answer_never_has_a_smaller_ratio(
    pair: tuple[Format, Enclosure], error: float, steps: int, more: int, flush: bool
) -> None:
    f, expected = pair
    bound = with_rounding(relative(expected, error), expected, f, flush).item()
    start = float(np.clip(expected.hi.item(), -f.largest, f.largest))
    with np.errstate(over="ignore"):
        near = float(np.asarray(start + steps * float(f.ulp(expected.hi).item())).astype(f.dtype))
        away = math.copysign(1.0, near - expected.hi.item())
        far = float(np.asarray(near + away * more * float(f.ulp(np.asarray(near)).item())).astype(f.dtype))
    assert measure(near, expected, bound, f)[0] <= measure(far, expected, bound, f)[0]
    assert measure(near, expected, bound, f)[1] <= measure(far, expected, bound, f)[1]


@given(truths(), errors, st.integers(-100, 100))
def test_the_sign_makes_no_difference(pair: tuple[Format, Enclosure], error: float, steps: int) -> None:
    f, expected = pair
    mirrored = Enclosure(expected.kind, -expected.hi, -expected.lo, expected.radius)
    bound = with_rounding(relative(expected, error), expected, f, flush=False)
    assert bound == with_rounding(relative(mirrored, error), mirrored, f, flush=False)
    with np.errstate(over="ignore"):
        actual = float(np.asarray(expected.hi.item() + steps * float(f.ulp(expected.hi).item())).astype(f.dtype))
    assert measure(actual, expected, bound.item(), f) == measure(-actual, mirrored, bound.item(), f)


@given(truths(), errors)
def test_the_last_number_inside_the_bound_passes_and_the_next_fails(pair: tuple[Format, Enclosure], error: float) -> None:
    f, expected = pair
    if abs(expected.hi.item()) > f.largest / 64:
        return
    bound = with_rounding(relative(expected, error), expected, f, flush=False).item()
    end = Fraction(expected.hi.item()) + Fraction(expected.lo.item()) + Fraction(expected.radius.item()) + Fraction(bound)
    inside = np.asarray(as_float(end)).astype(f.dtype)
    toward = np.asarray(-INF).astype(f.dtype)
    while Fraction(float(inside)) > end:
        inside = np.nextafter(inside, toward)
    outside = np.nextafter(inside, -toward)
    assert measure(float(inside), expected, bound, f)[0] <= 1.0
    assert math.isinf(float(outside)) or measure(float(outside), expected, bound, f)[0] > 1.0


@every_format
def test_flushing_to_zero_excuses_only_what_is_subnormal(f: Format) -> None:
    no_error = np.array([0.0])
    subnormal, small = one(f.normal / 2), one(f.normal * 2)
    assert measure(0.0, subnormal, with_rounding(no_error, subnormal, f, flush=True).item(), f)[0] <= 1.0
    assert measure(0.0, subnormal, with_rounding(no_error, subnormal, f, flush=False).item(), f)[0] > 1.0
    assert measure(0.0, small, with_rounding(no_error, small, f, flush=True).item(), f)[0] > 1.0
    assert with_rounding(no_error, small, f, flush=True) == with_rounding(no_error, small, f, flush=False)
    doubtful = np.array([f.normal * 1.5])  # the computed value may be subnormal
    assert with_rounding(doubtful, small, f, flush=True) > with_rounding(doubtful, small, f, flush=False)


@every_format
def test_the_rounding_is_that_of_what_was_computed_not_of_the_truth(f: Format) -> None:
    assert with_rounding(np.array([2.0]), one(1.5), f, flush=False).item() == pytest.approx(2.0 + 2 * f.unit, rel=2.0**-50)


@every_format
def test_just_below_a_power_of_two_the_ulps_are_those_below_it(f: Format) -> None:
    assert measure(1.0 - f.unit, one(1.0, lo=-(2.0**-70)), f.unit, f)[1] == pytest.approx(1.0, rel=1e-4)
    assert measure(1.0 - f.unit, one(1.0, lo=2.0**-70), f.unit, f)[1] == pytest.approx(0.5, rel=1e-4)


def test_the_arithmetic_follows_from_the_promise() -> None:
    half = {name: f.unit for name, f in FORMATS.items()}
    plain = arithmetic(Promise("A", "float32", "bfloat16", Summation("lanes", 8)), "bfloat16", 1000, 17)
    assert (plain.unit, plain.store) == (half["float32"], half["bfloat16"])
    assert (plain.classes, plain.rows) == (127 * half["float32"], 5 * half["float32"])
    assert plain.tiny == FORMATS["bfloat16"].tiny
    assert not plain.subtracts_lse
    assert arithmetic(Promise("A", "float32", store="float64"), "float32").store == 0.0
    assert arithmetic(Promise("B", "float32"), "float32").subtracts_lse
    assert arithmetic(Promise("S", "float32"), "float32").keeps_rest
    assert arithmetic(Promise("N", "float32"), "float16", 100).classes == 99 * half["float16"]
    assert arithmetic(Promise("N", "float32"), "float16", 100, 100).rows == 99 * half["float32"]
    assert arithmetic(Promise("A", "float16"), "float16", 1, 100).rows == 99 * half["float32"]
    assert arithmetic(Promise("N", "float32"), "float64", 100).classes == 99 * half["float32"]
    assert arithmetic(Promise("A", "float32", flush=True), "float32").tiny == FORMATS["float32"].normal


def test_a_void_promise_is_judged_as_if_it_accumulated_in_float32() -> None:
    narrow, unit = Promise("N", "float32"), {name: f.unit for name, f in FORMATS.items()}
    assert arithmetic(narrow, "float16", 512).classes == 511 * unit["float16"]
    assert arithmetic(narrow, "float16", 513).classes == 512 * unit["float32"]
    assert arithmetic(Promise("N", "float32", summation=Summation("lanes", 32)), "float16", 513).classes == 21 * unit["float16"]
    assert arithmetic(Promise("A", "float16"), "float16", 70001).classes == 70000 * unit["float32"]
    assert arithmetic(Promise("A", "float32"), "float32", 2**22 + 1).classes == 2**22 * unit["float64"]
    assert arithmetic(Promise("A", "float32"), "float32", 1, 2**22 + 1).rows == 2**22 * unit["float64"]


@given(promises, st.sampled_from(list(FORMATS)), st.integers(1, 2**24), st.integers(1, 2**24))
def test_no_promise_excuses_a_quarter_of_a_sum(promise: Promise, dtype: str, classes: int, rows: int) -> None:
    found = arithmetic(promise, dtype, classes, rows)
    assert max(found.classes, found.rows) < 0.25
    assert (found.numbers() >= 0.0).all()
    assert np.isfinite(found.numbers()).all()


def test_a_promise_says_what_is_wrong_with_it() -> None:
    with pytest.raises(ValueError, match="use one of R, S, A, B, N"):
        Promise("Z", "float32")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="int8"):
        Promise("A", "int8")
    with pytest.raises(ValueError, match="between"):
        Promise("A", "float32", gap=5.0)
