"""A campaign's tally is the judge's finding of every row, whatever screen stands before it and whatever rows stand beside each other."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from typing import Any

import numpy as np
import pytest
from campaign_backends import PROMISES, accurate, asking_of, backend
from needs import library

from conformance.campaign import asking
from conformance.campaign.asking import Asked
from conformance.campaign.judging import Inputs, Limits, Rule, by_half_ulps, judged
from conformance.campaign.pairs import FAR, by_pairs
from conformance.campaign.space import Campaign
from conformance.campaign.tally import ZERO, Tally, merged
from conformance.case import Expectation, Expected, Vector
from conformance.faults import faults
from conformance.finding import Answer, Verdict
from conformance.judge import judge
from conformance.kernel import kernel
from refimpl.enclosure import FORMATS
from refimpl.operations import operation

Array = np.ndarray[Any, Any]


def some_points(asked: Asked, count: int) -> list[int]:
    """Points of numbers around 1 that are drawn, of any patterns, and of special ones."""
    campaign, rng = asked.campaign, np.random.default_rng(7)
    dtype, varied = FORMATS[campaign.dtype].dtype, len(campaign.of.varied)
    bits = 8 * dtype.itemsize
    infinity = int(np.array(np.inf, dtype).view(f"u{dtype.itemsize}"))
    special = [0, 1, 2, infinity // 2, infinity - 1, infinity, infinity + 1]
    special += [pattern | 1 << (bits - 1) for pattern in special]
    drawn = [(rng.normal(size=varied) * scale).astype(dtype).view(f"u{dtype.itemsize}").tolist() for scale in (1, 9) for _ in range(count)]
    drawn += [rng.choice(special, varied).tolist() for _ in range(count)]
    points = {reduce(lambda point, digit: point << bits | digit, digits, int(rng.integers(0, 1 + campaign.of.targets))) for digits in drawn}
    return sorted({*points, *map(int, rng.integers(0, campaign.size, count))})


@np.errstate(all="ignore")
def rows_at(asked: Asked, points: list[int]) -> tuple[dict[str, Array], Array]:
    """The inputs of scattered points and the answer to all of them, as its elements (rows, columns)."""
    found = [asked.campaign.inputs(point, point + 1) for point in points]
    inputs = {name: np.concatenate([one[name] for one in found]) for name in found[0]}
    of, cotangent = asked.campaign.of, asked.campaign.cotangent(inputs)
    output, gradients = asked.adapter.call(of.operation, asked.campaign.mode, inputs, of.parameters, cotangent)
    tensors = [gradients[name] for name in asked.rule.gradients] or [output]
    return inputs, np.concatenate([tensor.reshape(len(points), -1) for tensor in tensors], axis=1)


@np.errstate(all="ignore")
def by_the_judge(asked: Asked, point: int, actual: Array) -> tuple[bool, float]:
    """Whether the judge passes a row's answer, and its largest ratio."""
    case, stated, names = asked.campaign.case(point), operation(asked.campaign.of.operation), asked.rule.gradients
    output = stated.forward(**case.call)
    gradients = stated.vjp(cotangent=case.cotangent, **case.call) if names else {}
    expected = {name: Expected(gradient.shape, None, gradient) for name, gradient in gradients.items() if name in names}
    vector = Vector(case, (Expectation({}, "value", Expected(output.shape, None, output), expected),))
    parts = np.split(actual, max(len(names), 1))
    own = {name: part.reshape(1, -1) for name, part in zip(names, parts, strict=False)}
    answer = Answer(np.zeros(output.shape, actual.dtype) if names else actual.reshape(output.shape), own, None, (), False, 0.0)
    promise = asked.description.promise(case.operation, case.dtype, asked.campaign.mode)
    assert promise is not None
    found = judge(vector, answer, promise, asked.description.dialect.of(case.operation))
    found = [one for one in found if one.direction == asked.campaign.direction]
    return all(one.verdict == Verdict.PASS for one in found), max(one.badness for one in found)


def nothing_known(rule: Rule, inputs: Inputs, actual: Array) -> Limits:
    """A screen that leaves everything to the judge."""
    known = by_half_ulps(rule, inputs, actual)
    infinite = np.full(actual.shape, np.inf)
    return replace(known, ratio=infinite, ulps=infinite)


def agrees(asked: Asked, count: int, many: int = 300) -> Tally:
    """The tally of some rows together, which is that of each of them alone, which is what the judge finds of it.

    That of many rows doesn't depend on the screen.
    """
    inputs, actual = rows_at(asked, some_points(asked, many))
    screens = (asked.screen, by_half_ulps, nothing_known)
    tallies = [judged(asked.rule, screen, inputs, actual, 0, ZERO) for screen in screens]
    assert tallies[0] == tallies[1] == tallies[2]
    row_by_row(asked, some_points(asked, count))
    return tallies[0]


def row_by_row(asked: Asked, points: list[int]) -> None:
    """Hold the tally of some points against those of each alone, and these against the judge."""
    inputs, actual = rows_at(asked, points)
    whole = judged(asked.rule, asked.screen, inputs, actual, 0, ZERO)
    alone = []
    for row, point in enumerate(points):
        some = {name: value[row : row + 1] for name, value in inputs.items()}
        alone.append(judged(asked.rule, asked.screen, some, actual[row : row + 1], row, ZERO))
        passed, ratio = by_the_judge(asked, point, actual[row])
        assert alone[-1].passed == passed, point
        if ratio < np.inf:
            assert alone[-1].ratio is None or alone[-1].ratio.value == pytest.approx(ratio, rel=2.0**-40), point
            assert alone[-1].ratio is not None or ratio == 0.0, point
    assert whole == reduce(merged, alone)


CASES = [
    ("log_softmax/pairs", "float16", "forward"),
    ("log_softmax/pairs", "bfloat16", "forward"),
    ("log_softmax/one", "float32", "forward"),
    ("log_softmax/pairs", "float16", "backward"),
    ("softmax_cross_entropy/pairs", "float16", "forward"),
    ("softmax_cross_entropy/pairs", "bfloat16", "backward"),
    ("softmax_cross_entropy/smoothed-pairs", "float16", "forward"),
    ("entropy/one", "float16", "forward"),
    ("entropy/pairs", "bfloat16", "backward"),
    ("kl_divergence/terms", "float16", "forward"),
    ("kl_divergence/terms", "bfloat16", "backward"),
    ("kl_div/terms", "float16", "forward"),
    ("entropy_with_logits/pairs", "float16", "forward"),
]


@pytest.mark.parametrize(("space", "dtype", "direction"), CASES)
def test_a_tally_of_torch_is_the_judges(space: str, dtype: str, direction: str) -> None:
    library("torch")
    agrees(asking.prepared(Campaign("torch", space, dtype, direction=direction)), 8)


@pytest.mark.parametrize("space", ["log_softmax/one", "entropy/one", "kl_divergence/p"])
def test_a_tally_of_the_textbook_is_the_judges(space: str) -> None:
    tally = agrees(asking.prepared(Campaign("numpy", space, "float32")), 8)
    assert not tally.passed


@pytest.mark.parametrize("accuracy", ["A", "B", "S"])
@pytest.mark.parametrize(
    ("space", "dtype"),
    [
        ("log_softmax/pairs", "float16"),
        ("log_softmax/pairs", "bfloat16"),
        ("log_softmax/one", "float32"),
        ("softmax_cross_entropy/pairs", "float16"),
    ],
)
@np.errstate(all="ignore")
def test_limits_of_pairs_are_just_above_the_ratios(space: str, dtype: str, accuracy: Any) -> None:
    """And so for answers that are right, off by a few ulps, in the other binade, anything at all."""

    def function(logits: Array, target: Array | None = None, **_: Any) -> Array:
        output = -accurate(logits) if target is not None else accurate(logits)
        return output if target is None else np.take_along_axis(output, target[:, None], axis=1)[:, 0]

    adapter = backend(function, space.partition("/")[0])
    promises = {name: replace(promise, accuracy=accuracy) for name, promise in adapter.promises.items()}
    asked = asking_of(replace(adapter, promises=promises), space, dtype)
    assert asked.screen is by_pairs
    inputs, right = rows_at(asked, some_points(asked, 1000))
    gap = np.abs(np.subtract(*inputs["logits"].astype(np.float64).T))
    left_out = (gap > FAR) & (gap < 746.0)  # exponentials that the bound has and the limit doesn't
    rng, bits = np.random.default_rng(8), np.dtype(f"i{right.dtype.itemsize}")
    off = right.view(bits) + rng.choice([-300, -7, -1, 0, 0, 1, 2, 7, 300], right.shape).astype(bits)
    for actual in (right, off.view(right.dtype), rng.permutation(right)):
        limits, exact = by_pairs(asked.rule, inputs, actual), asked.rule.exactly(inputs, actual)
        for limit, value in zip((limits.ratio, limits.ulps), exact, strict=True):
            assert (limit >= value).all()
            near = (value > 1e-3) & (limit < np.inf)
            assert np.count_nonzero(near) > right.size // 10
            loose = near & (limit > value * (1.0 + 1e-4)) & ~(left_out if right.ndim == 1 else left_out[:, None])
            assert np.count_nonzero(loose) < 6, "truths at a power of two, where the spacing may be either"
            assert np.count_nonzero((limit == np.inf) & (value < np.inf)) < 25


FAULTS = [one for one in faults() if one.operation in ("log_softmax", "softmax_cross_entropy") and one.direction == "forward"]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_tally_of_a_fault_is_the_judges(fault: Any) -> None:
    for dtype in ("float32", "float16", "bfloat16"):
        if dtype in fault.adapter.promises:
            space = f"{fault.operation}/{'one' if (fault.operation, dtype) == ('log_softmax', 'float32') else 'pairs'}"
            if dtype != "float32" or space == "log_softmax/one":
                agrees(asking_of(fault.adapter, space, dtype), 2)


@pytest.mark.parametrize("subnormals", ["kept", "flushed"])
def test_subnormal_numbers_may_count_as_zero_where_that_is_promised(subnormals: str) -> None:
    smallest = FORMATS["bfloat16"].normal

    def flushing(instead: float) -> Asked:
        @np.errstate(all="ignore")
        def function(p: Array) -> Array:
            x = p[:, 0].astype(np.float64)
            x = np.where(np.abs(x) < smallest, 0.0, x)
            return np.asarray(np.where(x == 0.0, instead, -x * np.log(np.where(x == 0.0, 1.0, x))).astype(p.dtype))

        return asking_of(backend(function, "entropy", {"subnormals": subnormals}), "entropy/terms", "bfloat16")

    asked = flushing(0.0)
    agrees(asked, 30)
    assert asking.tallied(asked, 0, asked.campaign.size).passed == (subnormals == "flushed")
    for instead in (-smallest / 2, -8 * smallest):  # right as an answer to zeros, and wrong as either
        row_by_row(flushing(instead), list(range(96, 132)))


def test_subnormal_numbers_count_as_zero_in_all_of_a_tensor_or_in_none_of_it() -> None:
    def derived(p: Array, cotangent: Array | None) -> tuple[Array, dict[str, Array]]:
        gradient = np.array([[89.5, np.inf], [np.inf, np.inf], [89.5, 89.5], [np.inf, 89.5]], p.dtype)
        return np.zeros(len(p), p.dtype), {"p": gradient[: len(p)]}

    adapter = kernel("planted", "entropy", derived, PROMISES, {"subnormals": "flushed"})
    asked = asking_of(adapter, "entropy/pairs", "bfloat16", direction="backward")
    point = 5 << 16 | 9  # two subnormal numbers, whose logarithms round to the same
    inputs = {name: np.repeat(value, 4, axis=0) for name, value in asked.campaign.inputs(point, point + 1).items()}
    _, gradients = asked.adapter.call("entropy", "eager", inputs, {}, asked.campaign.cotangent(inputs))
    for row, actual in enumerate(gradients["p"]):
        some = {name: value[row : row + 1] for name, value in inputs.items()}
        tally = judged(asked.rule, asked.screen, some, actual[None], point, ZERO)
        passed, _ = by_the_judge(asked, point, actual)
        assert tally.passed == passed == (actual[0] == actual[1]), actual
