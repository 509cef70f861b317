"""The identities that tie the operations together: as balls of the exact forms, and as enclosures that must overlap."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from flint import arb

from refimpl import ball
from refimpl.ball import Ball, precision
from refimpl.enclosure import Enclosure, Kind, interval_of
from refimpl.operation import Operation, Real
from refimpl.operations import operation, operations
from tests import inputs

BITS = 1500
VACUOUS = 2.0**-900  # an agreement of balls wider than this, relative to 1 + the value, would prove nothing

WITH_LOGITS = pytest.mark.parametrize("op", [op for op in operations().values() if "logits" in op.inputs], ids=lambda op: op.name)
WITH_CLASSES = pytest.mark.parametrize(
    "op", [op for op in operations().values() if "V" in next(iter(op.inputs.values())).axes.split()], ids=lambda op: op.name
)
REDUCED = pytest.mark.parametrize("op", [op for op in operations().values() if "reduction" in op.parameters], ids=lambda op: op.name)


def agree(first: Sequence[Ball], second: Sequence[Ball]) -> None:
    """Two lists of balls hold the same numbers, infinities and nans, as far as BITS bits can tell."""
    with precision(BITS):
        for a, b in zip(first, second, strict=True):
            if isinstance(a, float) or isinstance(b, float):
                np.testing.assert_array_equal(a, b)
                continue
            difference = a - b
            assert difference.contains(0), (a, b)
            assert difference.rad() <= VACUOUS * (1 + a.abs_upper()), "the balls are too wide to tell"


def overlap(a: Enclosure, b: Enclosure) -> None:
    """Every two elements are of one kind and, where finite, have a number in common."""
    np.testing.assert_array_equal(a.kind, b.kind)
    for index in np.flatnonzero((a.kind == Kind.FINITE) & np.isfinite(a.radius) & np.isfinite(b.radius)):
        (low, high), (other_low, other_high) = interval_of(a, int(index)), interval_of(b, int(index))
        assert low <= other_high, index
        assert other_low <= high, index


def sum_of(parts: Enclosure) -> tuple[Fraction, Fraction]:
    """The ends of the sum of finite elements."""
    ends = [interval_of(parts, index) for index in range(parts.size)]
    return sum((low for low, _ in ends), Fraction(0)), sum((high for _, high in ends), Fraction(0))


def exact(op: Operation, call: dict[str, Any]) -> list[Ball]:
    return op.exact(range(op.forward(**call).size), BITS, **call)


def exact_vjp(op: Operation, name: str, call: dict[str, Any]) -> list[Ball]:
    return op.exact_vjp(name, range(np.size(call[name])), BITS, **call)


def distributions(seed: int) -> tuple[Any, Any]:
    rng = np.random.default_rng([16, seed])
    shape = (40, int(rng.integers(1, 9)))
    return inputs.distribution(rng, *shape), inputs.distribution(rng, *shape)


@pytest.mark.parametrize("seed", range(4))
def test_cross_entropy_is_entropy_plus_divergence(seed: int) -> None:
    p, q = distributions(seed)
    ce, h, kl = operation("cross_entropy"), operation("entropy"), operation("kl_divergence")
    with precision(BITS):
        total = [ball.total(pair) for pair in zip(exact(h, {"p": p}), exact(kl, {"p": p, "q": q}), strict=True)]
    agree(exact(ce, {"p": p, "q": q}), total)
    sums = zip(*(op.forward(**call).kind for op, call in ((h, {"p": p}), (kl, {"p": p, "q": q}))), strict=True)
    first, second, whole = h.forward(p=p), kl.forward(p=p, q=q), ce.forward(p=p, q=q)
    for index, kinds in enumerate(sums):
        if kinds == (Kind.FINITE, Kind.FINITE):
            (a, b), (c, d), (low, high) = (interval_of(e, index) for e in (first, second, whole))
            assert low <= b + d
            assert a + c <= high


@pytest.mark.parametrize("seed", range(4))
def test_cross_entropy_with_itself_is_entropy_and_the_divergence_exactly_0(seed: int) -> None:
    p, _ = distributions(seed)
    agree(exact(operation("cross_entropy"), {"p": p, "q": p}), exact(operation("entropy"), {"p": p}))
    overlap(operation("cross_entropy").forward(p=p, q=p), operation("entropy").forward(p=p))
    divergence = operation("kl_divergence").forward(p=p, q=p)
    assert not divergence.hi.any()
    assert not divergence.lo.any()


@pytest.mark.parametrize("seed", range(4))
def test_the_pointwise_loss_sums_to_a_linear_term_less_the_entropy(seed: int) -> None:
    p, _ = distributions(seed)
    log_q = inputs.logits(np.random.default_rng(seed), *p.shape, ordinary=True)
    call = {"log_q": log_q, "p": p, "reduction": "sum"}
    linear = sum(Fraction(float(a)) * Fraction(float(b)) for a, b in zip(p.flat, log_q.flat, strict=True))
    with precision(BITS):
        entropy = ball.total(exact(operation("entropy"), {"p": p}))
        agree(exact(operation("kl_div"), call), [-entropy - arb(linear.numerator) / linear.denominator])
    rows = operation("kl_div").forward(log_q=log_q, p=p, reduction="none")
    (low, high), (a, b) = sum_of(rows), interval_of(operation("kl_div").forward(**call), 0)
    assert a <= high
    assert low <= b


@pytest.mark.parametrize("V", [2, 3, 5, 7, 33])
def test_the_smoothed_attention_loss_is_a_smoothed_cross_entropy_less_the_entropy_of_its_target(V: int) -> None:
    """With s = k (V-1)/2^m both s and s V/(V-1), and the target itself, are exact numbers."""
    rng = np.random.default_rng([17, V])
    sal, sce, entropy = operation("smoothed_attention_loss"), operation("softmax_cross_entropy"), operation("entropy")
    for _ in range(12):
        x = inputs.logits(rng, 1, V)
        target = rng.integers(0, V, 1)
        k = int(rng.integers(0, 2**20 // V))
        s, eps = k * (V - 1) / 2**20, k * V / 2**20
        mass = np.full((1, V), k / 2**20)
        mass[0, target] = 1.0 - s
        token = {"logits": x[None], "target": target[None], "smoothing": s}
        row = {"logits": x, "target": target, "label_smoothing": eps, "reduction": "none"}
        with precision(BITS):
            minus_entropy = -exact(entropy, {"p": mass})[0]
            agree(exact(sal, token), [ball.total([exact(sce, row)[0], minus_entropy])])
        overlap(sal.forward(**token), sce.forward(**row, smoothing_mass="V", target_entropy="kept")[0])
        gradients = exact_vjp(sal, "logits", token | {"cotangent": 0.75}), exact_vjp(sce, "logits", row | {"cotangent": [0.75]})
        agree(*gradients)
        overlap(sal.vjp(**token, cotangent=0.75)["logits"][0], sce.vjp(**row, cotangent=[0.75])["logits"])


@WITH_LOGITS
def test_a_common_shift_of_the_logits_changes_no_bit(op: Operation) -> None:
    """Logits that are multiples of 2^-8 can be shifted exactly; the gaps stay the same numbers."""
    rng = np.random.default_rng([18, *op.name.encode()])
    for shift in (1.0, -1024.0, 2.0**40, -(2.0**43) + 0.25):
        call = inputs.call(rng, op, 6, 7)
        call["logits"] = rng.integers(-(2**10), 2**10, call["logits"].shape) * 2.0**-8
        moved = call | {"logits": call["logits"] + shift}
        g = {"cotangent": inputs.cotangent(rng, op.forward(**call).shape)}
        same_bits(op.forward(**call), op.forward(**moved))
        same_bits(op.vjp(**call, **g)["logits"], op.vjp(**moved, **g)["logits"])
        agree(exact(op, call), exact(op, moved))
        agree(exact_vjp(op, "logits", call | g), exact_vjp(op, "logits", moved | g))


def same_bits(a: Enclosure, b: Enclosure) -> None:
    for part, other in ((a.kind, b.kind), (a.hi, b.hi), (a.lo, b.lo), (a.radius, b.radius)):
        assert part.tobytes() == other.tobytes()


@WITH_CLASSES
def test_a_permutation_of_the_classes_permutes_the_answer(op: Operation) -> None:
    rng = np.random.default_rng([19, *op.name.encode()])
    fixed = {name: -100 for name in ("ignore_index", "padding_idx") if name in op.parameters}
    for classes in (1, 2, 5, 12, 40):
        call = inputs.call(rng, op, 5, classes, **fixed)
        order = rng.permutation(classes)
        moved, axes = dict(call), {name: axis_of(op, name, call[name]) for name in call if name in op.inputs}
        for name, axis in axes.items():
            if axis is not None:
                moved[name] = np.take(call[name], order, axis)
            else:
                place = np.argsort(order)
                moved[name] = np.where(call[name] >= 0, place[np.maximum(call[name], 0)], call[name])
        e, other = op.forward(**call), op.forward(**moved)
        kept_axis = e.shape and e.shape == np.shape(call[next(iter(op.inputs))])  # an output with a class axis of its own
        g = inputs.cotangent(rng, e.shape)
        gs = {"cotangent": g}, {"cotangent": np.take(g, order, -1) if kept_axis else g}
        overlap(permuted(e, order, -1) if kept_axis else e, other)
        before, after = np.reshape(np.array(exact(op, call), object), e.shape), np.reshape(np.array(exact(op, moved), object), e.shape)
        agree((np.take(before, order, -1) if kept_axis else before).reshape(-1).tolist(), after.reshape(-1).tolist())
        for name, gradient in op.vjp(**call, **gs[0]).items():
            overlap(permuted(gradient, order, axes[name]), op.vjp(**moved, **gs[1])[name])


def permuted(e: Enclosure, order: Any, axis: int) -> Enclosure:
    """The elements of an enclosure with one axis reordered."""
    return Enclosure(*(np.take(part, order, axis) for part in (e.kind, e.hi, e.lo, e.radius)))


def axis_of(op: Operation, name: str, value: Any) -> int | None:
    """Where the class axis of an input is, None for class indices."""
    kind = op.inputs[name]
    if np.asarray(value).dtype.kind in "iu":
        return None
    axes = (kind.axes if isinstance(kind, Real) else kind.real_axes).split()
    return axes.index("V") if axes[0] == "N" or axes == ["V"] else -1


@WITH_LOGITS
def test_every_row_of_dlogits_sums_to_0(op: Operation) -> None:
    rng = np.random.default_rng([20, *op.name.encode()])
    for classes in (1, 2, 3, 9, 600):
        call = inputs.call(rng, op, 4, classes)
        call["cotangent"] = inputs.cotangent(rng, op.forward(**call).shape)
        axis = axis_of(op, "logits", call["logits"])
        gradient = op.vjp(**call)["logits"]
        balls = np.empty(gradient.size, object)
        balls[:] = exact_vjp(op, "logits", call)
        positions = np.moveaxis(np.arange(gradient.size).reshape(gradient.shape), axis, -1).reshape(-1, classes)
        for row in positions:
            if any(isinstance(part, float) for part in balls[row]):
                assert (gradient.kind.flat[row] == Kind.NAN).all()
                continue
            with precision(BITS):
                assert ball.total(balls[row]).contains(0)
            ends = [interval_of(gradient, int(index)) for index in row if np.isfinite(gradient.radius.flat[index])]
            if len(ends) == classes:
                assert sum(low for low, _ in ends) <= 0 <= sum(high for _, high in ends)


def test_softmax_cross_entropy_is_minus_log_softmax_at_the_target() -> None:
    rng = np.random.default_rng(21)
    sce, log_softmax = operation("softmax_cross_entropy"), operation("log_softmax")
    for classes in (1, 2, 5, 30):
        x, target, g = inputs.logits(rng, 20, classes), rng.integers(0, classes, 20), inputs.cotangent(rng, (20,))
        row = {"logits": x, "target": target, "reduction": "none"}
        places = [i * classes + int(y) for i, y in enumerate(target)]
        with precision(BITS):
            agree(exact(sce, row), [-lp for lp in log_softmax.exact(places, BITS, logits=x)])
        picked = log_softmax.forward(logits=x)[np.arange(20), target]
        swapped = picked.kind.copy()
        swapped[picked.kind == Kind.NEGATIVE_INFINITY] = Kind.POSITIVE_INFINITY
        overlap(sce.forward(**row), Enclosure(swapped, -picked.hi, -picked.lo, picked.radius))
        one_hot = np.zeros((20, classes))
        one_hot[np.arange(20), target] = -g
        agree(exact_vjp(sce, "logits", row | {"cotangent": g}), exact_vjp(log_softmax, "logits", {"logits": x, "cotangent": one_hot + 0.0}))


def test_nll_loss_of_log_probabilities_that_are_exact_is_softmax_cross_entropy() -> None:
    """Softmaxes whose logarithms are numbers: one class left, so ln p = 0 there and -inf elsewhere."""
    x = np.array([[3.5, -math.inf, -math.inf], [-math.inf, -math.inf, -1.0]])
    log_p = np.where(np.isfinite(x), 0.0, -math.inf)
    for target in ([0, 2], [1, 2], [0, 0]):
        for reduction in ("none", "sum", "mean"):
            more = {"target": target, "reduction": reduction, "weight": [1.0, 2.0, 0.25]}
            a, b = operation("nll_loss").forward(log_p=log_p, **more), operation("softmax_cross_entropy").forward(logits=x, **more)
            np.testing.assert_array_equal(a.round(), b.round())
            overlap(a, b)


def test_the_entropy_of_a_softmax_is_the_sum_over_log_softmax_and_k_ln_2_for_2_to_the_k_equal_classes() -> None:
    rng = np.random.default_rng(22)
    op, log_softmax = operation("entropy_with_logits"), operation("log_softmax")
    x = inputs.logits(rng, 30, 6)
    log_p = np.empty(x.size, object)
    log_p[:] = exact(log_softmax, {"logits": x})
    with precision(BITS):
        sums = [
            math.nan if any(isinstance(lp, float) and lp != lp for lp in row) else ball.total(ball.times(-ball.exp(lp), lp) for lp in row)
            for row in log_p.reshape(x.shape)
        ]
        agree(exact(op, {"logits": x}), sums)
        for k in range(6):
            flat = np.full((1, 40), -math.inf)
            flat[0, rng.choice(40, 2**k, replace=False)] = 1e5
            agree(exact(op, {"logits": flat}), [k * arb(2).log()])
            assert op.forward(logits=flat).contains(0, k * arb(2).log())


@REDUCED
def test_a_sum_is_that_of_the_rows_and_a_mean_divides_it(op: Operation) -> None:
    rng = np.random.default_rng([23, *op.name.encode()])
    for _ in range(8):
        call = inputs.call(rng, op, 6, 5, reduction="none")
        rows, total = op.forward(**call), op.forward(**call | {"reduction": "sum"})
        balls = exact(op, call)
        with precision(BITS):
            agree(exact(op, call | {"reduction": "sum"}), [ball.total(balls)])
        if (rows.kind == Kind.FINITE).all() and np.isfinite(rows.radius).all() and np.isfinite(total.radius):
            (low, high), (a, b) = sum_of(rows), interval_of(total, 0)
            assert a <= high
            assert low <= b
        g = float(rng.normal())
        for name, gradient in op.vjp(**call | {"reduction": "sum"}, cotangent=g).items():
            overlap(gradient, op.vjp(**call, cotangent=np.full(rows.shape, g))[name])


@REDUCED
def test_further_dimensions_are_rows_like_any_other(op: Operation) -> None:
    """(N, V, 2, 3) in one call has the bits of the rows laid out as (N*2*3, V)."""
    rng = np.random.default_rng([24, *op.name.encode()])
    seen = 0
    while seen < 4:
        call = inputs.call(rng, op, 12, 4, reduction="none")
        arrays = {name: call[name] for name in op.inputs if name in call and name != "weight"}
        first = next(iter(arrays.values()))
        if first.ndim < 4:
            continue
        seen += 1
        axis = 1 if "V" in next(iter(op.inputs.values())).axes.split() else -1
        flat = {
            name: np.moveaxis(value, axis, -1).reshape(-1, first.shape[axis]) if value.ndim == first.ndim else value.reshape(-1)
            for name, value in arrays.items()
        }
        e, other = op.forward(**call), op.forward(**call | flat)
        same_bits(e, other)
        g = inputs.cotangent(rng, e.shape)
        for name, gradient in op.vjp(**call, cotangent=g).items():
            parts = (np.moveaxis(part, axis, -1) for part in (gradient.kind, gradient.hi, gradient.lo, gradient.radius))
            same_bits(Enclosure(*parts), op.vjp(**call | flat, cotangent=g.reshape(other.shape))[name])


def test_what_changes_nothing_changes_no_bit() -> None:
    """Smoothing 0, weights of 1, and ignored rows beside not being there at all."""
    rng = np.random.default_rng(25)
    sce = operation("softmax_cross_entropy")
    x, target = inputs.logits(rng, 20, 5), rng.integers(0, 5, 20)
    plain = sce.forward(logits=x, target=target, reduction="none")
    same_bits(plain, sce.forward(logits=x, target=target, reduction="none", label_smoothing=0.0, smoothing_mass="V-1"))
    overlap(plain, sce.forward(logits=x, target=target, reduction="none", weight=np.ones(5)))
    overlap(plain, sce.forward(logits=x, target=np.eye(5)[target], reduction="none"))
    keep = rng.random(20) < 0.6
    for reduction in ("sum", "mean"):
        ignored = sce.forward(logits=x, target=np.where(keep, target, -7), ignore_index=-7, reduction=reduction)
        overlap(ignored, sce.forward(logits=x[keep], target=target[keep], reduction=reduction))
