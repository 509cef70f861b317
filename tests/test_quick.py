"""The quick phase: its functions keep their errors, its radii contain the truth, its roundings are the other kernels', bit for bit."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numba
import numpy as np
import pytest
from flint import arb
from numpy.typing import NDArray

import refimpl
from refimpl import approximate, quick
from refimpl.ball import precision
from refimpl.constants import EXP2_COARSE, EXP2_FINE
from refimpl.enclosure import FORMATS, ROUNDINGS, round_to_format
from refimpl.lanes import WIDTH, load, splat, store, viewed

Array = NDArray[Any]
NARROW = ("float32", "bfloat16", "float16")
U = 2.0**-53


@numba.njit(error_model="numpy")
def _functions(x: Any, y: Any) -> Any:
    out = np.empty((3, x.size))
    for i in range(0, x.size, WIDTH):
        store(out[0], i, approximate.exp(load(x, i), True))
        store(out[1], i, approximate.exp(load(x, i), False))
        store(out[2], i, approximate.log1p(load(y, i)))
    return out


@numba.njit(error_model="numpy")
def _copied(source: Any, wide: Any, target: Any) -> None:
    for i in range(0, source.size, WIDTH):
        store(wide, i, load(source, i))
        store(target, i, load(source, i))


@numba.njit(error_model="numpy")
def _gridded(x: Any, radius: float, grid: int, normal: float) -> Any:
    out = np.empty((2, x.size))
    for i in range(0, x.size, WIDTH):
        low, high = quick._nearest(load(x, i), splat(radius), grid, normal)
        store(out[0], i, low)
        store(out[1], i, high)
    return out


def worst_errors(x: Array, y: Array, wrong_by: float = 0.0) -> list[float]:
    """The largest errors of exp (fine, coarse) and log1p over what the module states, with the results `wrong_by` of themselves."""
    results = _functions(x, y) * (1.0 + wrong_by)
    worst = [0.0, 0.0, 0.0]
    with precision(120):
        for i, (d, r) in enumerate(zip(x.tolist(), y.tolist(), strict=True)):
            reach = (approximate.REDUCTION - 1.0) * abs(d)  # d is exact here: the rounding of its subtraction isn't made
            stated = (reach + approximate.FINE, reach + approximate.COARSE, approximate.LOG1P)
            true = (arb(d).exp(), arb(d).exp(), arb(r).log1p())
            for n in range(3):
                error = float(((arb(results[n, i]) - true[n]) / true[n]).abs_upper()) / U
                worst[n] = max(worst[n], error / stated[n])
    return worst


def arguments() -> tuple[Array, Array]:
    rng = np.random.default_rng(50)
    steps = (rng.integers(-990, 990, 1600) + rng.choice([0.0, 0.5, -0.5], 1600)) * np.log(2.0)  # where the reduction changes
    x = np.clip(
        np.concatenate([rng.uniform(-690, 690, 1600), rng.normal(size=1600), steps * (1 + rng.integers(-2, 3, 1600) * 2 * U)]), -689, 689
    )
    near = 2.0 ** rng.integers(-60, 40, 1600) * rng.choice([1.0, 1.5, np.sqrt(2.0)], 1600) * (1 + rng.integers(-3, 4, 1600) * 2 * U)
    y = np.concatenate([2.0 ** rng.uniform(-999, 899, 1600), 2.0 ** rng.uniform(-60, 10, 1600), near])
    return x, y


def test_exp_and_log1p_keep_their_errors() -> None:
    worst = worst_errors(*arguments())
    assert max(worst) <= 1.0
    assert worst[1] > 0.5, "the coarse polynomial's error is nearly all of its constant"


def test_the_measure_sees_a_larger_error() -> None:
    wrong = worst_errors(*arguments(), wrong_by=2 * approximate.LOG1P * U)
    assert wrong[0] > 1.0
    assert wrong[2] > 1.0
    assert worst_errors(*arguments(), wrong_by=2 * approximate.COARSE * U)[1] > 1.0


@pytest.mark.parametrize(("polynomial", "stated"), [(EXP2_COARSE, 242.0), (EXP2_FINE, 0.1)])
def test_the_polynomials_lie_as_near_as_derived(polynomial: list[float], stated: float) -> None:
    """At 8192 points; the rounding of the coefficients is a term of its own."""
    with precision(200):
        rounding = arb(U) * sum(abs(arb(c)) * arb(0.5) ** n for n, c in enumerate(polynomial))
        for i in range(-4096, 4096):
            x, value = arb(i + 0.5) / 8192, arb(0)
            for c in reversed(polynomial):
                value = value * x + arb(c)
            true = (x * arb.const_log2()).exp()
            assert abs(value - true) < arb(stated * U) * true + rounding


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_loads_and_stores_of_half_formats_are_exact(dtype: Any) -> None:
    bits = np.arange(2**16, dtype=np.uint16)
    halves, target, wide = bits.view(dtype), np.zeros(2**16, dtype), np.zeros(2**16)
    _copied(viewed(halves), wide, viewed(target))
    with np.errstate(invalid="ignore"):
        expected = halves.astype(np.float64)
    number = ~np.isnan(expected)
    assert np.array_equal(wide, expected, equal_nan=True)
    assert np.array_equal(target.view(np.uint16)[number], bits[number])


@pytest.mark.parametrize("name", [name for name in ROUNDINGS if name != "float64"])
def test_the_grid_rounds_like_the_format(name: str) -> None:
    target, rng = ROUNDINGS[name], np.random.default_rng(51)
    scale = 2.0 ** rng.uniform(target.emin - target.precision - 3, target.emax - 2, 8000)
    x = scale * rng.choice([-1.0, 1.0], 8000)
    ties = round_to_format(x, target) + target.ulp(x) * rng.choice([0.5, -0.5], 8000)
    x = np.where(rng.random(8000) < 0.5, ties, x)
    low, high = _gridded(x, 0.0, quick.grid_of(target.precision), target.normal)
    expected = round_to_format(x, target) + 0.0
    assert np.array_equal(low, expected)
    assert np.array_equal(high, expected)
    assert not np.signbit(low[low == 0.0]).any()


def rows(rng: np.random.Generator, count: int, classes: int, dtype: str, scale: float, *, special: bool) -> tuple[Array, Array]:
    """Logits and targets (-1 here and there); with `special` also masked classes, offsets and rows without a softmax."""
    x = rng.standard_normal((count, classes), dtype=np.float32) * np.float32(scale)
    target = rng.integers(0, classes, count)
    target[rng.random(count) < 0.1] = -1
    if special:
        x += rng.choice([0.0, 0.0, 1000.0], (count, 1)).astype(np.float32)
        x[rng.random(x.shape) < rng.choice([0.0, 0.3, 0.9], (count, 1))] = -np.inf
        bad = rng.random(count) < 0.05
        x[bad, rng.integers(classes, size=bad.sum())] = rng.choice([np.nan, np.inf])
    return x.astype(FORMATS[dtype].dtype), target


def options(rng: np.random.Generator) -> dict[str, Any]:
    return {
        "ignore_index": -1,
        "label_smoothing": float(rng.choice([0.0, 0.1, 0.1, 0.5, 1.0, 2.0**-950])),
        "smoothing_mass": str(rng.choice(["V", "V-1"])),
        "target_entropy": str(rng.choice(["kept", "dropped"])),
    }


def worst_share(rng: np.random.Generator) -> float:
    """The largest error of a row's number over its radius."""
    worst = 0.0
    for classes in (2, 3, 7, quick.SHORT, quick.SHORT + 1, 63, 64, 65, 500, 4233):
        for scale in (0.01, 1.0, 10.0, 80.0):
            x, target = rows(rng, 64, classes, "float32", scale, special=False)
            smoothing = float(rng.choice([0.0, 0.1, 0.9]))
            value, radius, kept = np.empty(64), np.empty(64), (target >= 0).astype(np.uint8)
            off, errors = smoothing / classes, (quick.rest_error(classes, False), quick.additions(classes))
            quick.loss_tiles(0, 4, 16, x, np.maximum(target, 0), kept, off, 0.0, value, radius, np.empty((4, 4)), *errors)
            known = (kept != 0) & np.isfinite(radius)
            assert known.sum() > 40 or scale == 80.0
            e = refimpl.softmax_cross_entropy(x, target, ignore_index=-1, label_smoothing=smoothing, reduction="none")
            error = np.abs((e.hi - value) + e.lo) + e.radius
            worst = max(worst, float(np.max(error[known] / radius[known], initial=0.0)))
            assert (value[kept == 0] == 0.0).all()
            assert (radius[kept == 0] == 0.0).all()
    return worst


def test_the_radii_contain_the_loss() -> None:
    assert worst_share(np.random.default_rng(52)) <= 1.0


def test_a_radius_without_the_error_of_the_exponentials_is_too_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quick, "rest_error", lambda classes, fine: 0.0)
    assert worst_share(np.random.default_rng(52)) > 1.0


def same(a: Array, b: Array) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


@pytest.mark.parametrize("dtype", NARROW)
def test_both_phases_give_the_bits_of_the_enclosures(dtype: str) -> None:
    rng, decided = np.random.default_rng([53, *dtype.encode()]), 0
    for n in range(60):
        classes = int(rng.choice([1, 2, 3, 5, 31, 48, 49, 64, 65, 100, 257, 1000]))
        x, target = rows(rng, int(rng.integers(0, 40)), classes, dtype, float(rng.choice([0.01, 1.0, 3.0, 10.0])), special=n % 2 == 1)
        call = {"logits": x, "target": target, "reduction": str(rng.choice(["none", "sum", "mean"])), **options(rng)}
        to = dtype if n % 3 else str(rng.choice(list(ROUNDINGS)))
        loss = refimpl.softmax_cross_entropy(**call)
        g = rng.standard_normal(loss.shape) * 2.0 ** rng.integers(-30, 10)
        expected = loss.round(to)
        gradient = refimpl.softmax_cross_entropy_vjp(**call, cotangent=g)["logits"].round(to)
        both = refimpl.rounded_with_gradient("softmax_cross_entropy", dtype=to, cotangent=g, **call)
        assert same(refimpl.rounded("softmax_cross_entropy", dtype=to, **call), expected), (call, to)
        assert same(both[0], expected), (call, to)
        assert same(both[1]["logits"], gradient), (call, to, g)
        decided += x.shape[0]
    assert decided > 500


def test_ten_million_rows_round_like_their_enclosures() -> None:
    rng = np.random.default_rng(54)
    for classes, scale, dtype in ((2, 3.0, "float32"), (3, 1.0, "bfloat16"), (4, 0.1, "float32"), (5, 3.0, "float16"), (7, 8.0, "float32")):
        for _ in range(2):
            x, target = rows(rng, 1_000_000, classes, dtype, scale, special=False)
            call = {"logits": x, "target": target, "reduction": "none", **options(rng)}
            assert same(refimpl.rounded("softmax_cross_entropy", dtype=dtype, **call), refimpl.softmax_cross_entropy(**call).round(dtype))


def test_gradients_of_many_rows_round_like_their_enclosures() -> None:
    rng = np.random.default_rng(55)
    for classes, count in ((5, 100_000), (60, 10_000), (3000, 200)):
        x, target = rows(rng, count, classes, "float32", 3.0, special=False)
        call = {"logits": x, "target": target, "reduction": "none", "ignore_index": -1, "label_smoothing": 0.1}
        g = rng.standard_normal(count)
        _, gradients = refimpl.rounded_with_gradient("softmax_cross_entropy", cotangent=g, **call)
        assert same(gradients["logits"], refimpl.softmax_cross_entropy_vjp(**call, cotangent=g)["logits"].round("float32"))


def test_operations_without_a_quick_phase_are_rounded_too() -> None:
    p, q, g = np.array([[0.25, 0.75]], np.float32), np.array([[0.5, 0.5]], np.float32), np.array([1.5])
    loss, gradients = refimpl.rounded_with_gradient("kl_divergence", cotangent=g, p=p, q=q)
    assert same(loss, refimpl.kl_divergence(p, q).round("float32"))
    assert same(refimpl.rounded("kl_divergence", p=p, q=q, dtype="bfloat16"), refimpl.kl_divergence(p, q).round("bfloat16"))
    for name, e in refimpl.kl_divergence_vjp(p, q, cotangent=g).items():
        assert same(gradients[name], e.round("float32"))


def test_a_gradient_by_way_of_a_subnormal_factor_is_left_to_the_other_kernels() -> None:
    call = {"logits": np.array([[-307.4, 307.4]], np.float32), "target": np.array([0]), "reduction": "none"}
    for g in 2.0 ** -np.arange(140.0, 160.0) * (1 - 2.0**-40):
        _, gradients = refimpl.rounded_with_gradient("softmax_cross_entropy", cotangent=[g], **call)
        assert same(gradients["logits"], refimpl.softmax_cross_entropy_vjp(**call, cotangent=[g])["logits"].round("float32")), g


def test_ends_on_either_side_of_a_power_of_two_differ() -> None:
    low, high = _gridded(np.ones(WIDTH), 0.4 * 2.0**-23, quick.grid_of(24), 2.0**-126)
    assert (low < 1.0).all()
    assert (low != high).all()


def test_an_unknown_dtype_or_operation_or_parameter_is_named() -> None:
    logits = np.array([[1.0, 2.0]], np.float32)
    with pytest.raises(TypeError, match="label_smooting"):
        refimpl.rounded("softmax_cross_entropy", logits=logits, target=[0], label_smooting=0.5)
    with pytest.raises(TypeError, match="label_smooting"):
        refimpl.rounded_with_gradient("softmax_cross_entropy", cotangent=1.0, logits=logits, target=[0], label_smooting=0.5)
    with pytest.raises(TypeError, match="float8_e4m3fn"):
        refimpl.rounded("kl_divergence", p=[1.0], q=[1.0], dtype="float8_e4m3fn")
    with pytest.raises(refimpl.InvalidInput, match="kl_divergense"):
        refimpl.rounded("kl_divergense", p=[1.0], q=[1.0])
