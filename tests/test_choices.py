"""The choices that change a value: against definitions written out in float64 and in fractions, and against each other."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import refimpl
from conformance.case import Case
from conformance.cases import cases
from conformance.expect import expect
from refimpl.choices import permitted
from refimpl.enclosure import Enclosure, Kind, interval_of
from refimpl.operation import NotPermitted, Operation, OutOfRange
from refimpl.operations import operation, operations

SCE, SAL, NLL, KLP = (operation(name) for name in ("softmax_cross_entropy", "smoothed_attention_loss", "nll_loss", "kl_div"))
X2 = [[1.0, 2.0, 3.0], [0.0, 0.0, 1.0]]
WEIGHT = [1.0, 2.0, 4.0]
CHOOSING = pytest.mark.parametrize("op", [op for op in operations().values() if op.choices], ids=lambda op: op.name)


def close(actual: Enclosure, expected: Any) -> None:
    """Equal as far as float64 formulas with some tens of roundings can tell, relative to the largest element."""
    expected = np.asarray(expected)
    assert actual.shape == expected.shape
    assert np.abs(actual.hi - expected).max(initial=0.0) <= 64 * 2.0**-53 * max(1.0, np.abs(expected).max(initial=0.0))


def holds(value: Enclosure, expected: Fraction | int, index: int = 0) -> None:
    """The element's enclosure holds the number."""
    low, high = interval_of(value, index)
    assert low <= expected <= high


def test_the_published_numbers_of_one_smoothed_row() -> None:
    """Logits 1, 2, 3, target 0, smoothing 0.1: PyTorch 2.3076060, fairseq 2.2576060, WeNet 1.8632081, as measured on them in float32."""
    row = {"logits": [[1.0, 2.0, 3.0]], "target": [0], "label_smoothing": 0.1}
    for choices, value in (
        ({}, 2.3076060),
        ({"smoothing_mass": "V-1"}, 2.2576060),
        ({"smoothing_mass": "V-1", "target_entropy": "kept"}, 1.8632081),
    ):
        assert abs(SCE.forward(**row, **choices).hi - value) < 4 * np.spacing(np.float32(value))


def test_the_published_numbers_of_a_weighted_mean() -> None:
    """Weights 1, 2, 4 and targets 0 and 2: 0.9227 by indices and 2.3067 by probabilities in PyTorch."""
    index, one_hot = {"logits": X2, "target": [0, 2], "weight": WEIGHT}, {"logits": X2, "target": np.eye(3)[[0, 2]], "weight": WEIGHT}
    by_weights, by_rows = 0.922677, 2.306692
    for call, value in (
        (index, by_weights),
        (index | {"denominator": "kept"}, by_rows),
        (one_hot, by_rows),
        (one_hot | {"distribution_denominator": "weights"}, by_weights),
    ):
        assert abs(SCE.forward(**call).hi - value) < 5e-7  # half of the last digit that was published


@pytest.mark.parametrize("entropy", ["dropped", "kept"])
@pytest.mark.parametrize("weight", [None, [1.5, 0.25, 0.0, 3.0, 1.0]])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.75, 1.0])
def test_smoothing_over_all_but_target_and_padding(smoothing: float, weight: list[float] | None, entropy: str) -> None:
    """By the definition: 1 - s on the target, nothing on the class of padding, s/(V-2) on the others; w_v t_v for t_v where weighted."""
    x, target, padding = [[0.5, -1.0, 2.0, 0.0, 1.0], [3.0, 0.25, -2.0, 1.0, 0.0], [0.0, 1.0, 2.0, 3.0, 4.0]], [4, 1, 2], 1
    choices = {"smoothing_mass": "V-2", "target_entropy": entropy}
    call = {"logits": x, "target": target, "weight": weight, "ignore_index": padding, "label_smoothing": smoothing, "reduction": "none"}
    losses, slopes = [], []
    for row, y in zip(x, target, strict=True):
        t = [1.0 - smoothing if v == y else 0.0 if v == padding else smoothing / 3 for v in range(5)]
        w = weight or [1.0] * 5
        total = sum(math.exp(v) for v in row)
        log_p = [v - math.log(total) for v in row]
        c = [a * b for a, b in zip(w, t, strict=True)]
        loss = -sum(a * b for a, b in zip(c, log_p, strict=True))
        loss += sum(a * math.log(b) for a, b in zip(c, t, strict=True) if b > 0) if entropy == "kept" else 0.0
        kept = y != padding
        losses.append(loss if kept else 0.0)
        slopes.append([(math.exp(lp) * sum(c) - a) * kept for a, lp in zip(c, log_p, strict=True)])
    g = np.array([1.5, -2.0, 0.5])
    close(SCE.forward(**call, **choices), losses)
    close(SCE.vjp(**call, **choices, cotangent=g)["logits"], g[:, None] * np.array(slopes))
    if weight is None:
        tokens = {"logits": [x], "target": [target], "padding_idx": padding, "smoothing": smoothing}
        close(SAL.forward(**tokens, **choices), sum(losses))
        close(SAL.vjp(**tokens, **choices, cotangent=1.0)["logits"], [slopes])


def test_leaving_out_the_class_of_padding_is_smoothing_over_the_others_if_its_logit_is_masked() -> None:
    """p_pad = 0 there, so the loss is that of the same row without the class, smoothed over its V - 2 others."""
    x = np.array([[0.5, -math.inf, 2.0, 0.0], [1.0, -math.inf, -3.0, 0.25]])
    for entropy, s in itertools.product(("dropped", "kept"), (0.0, 0.3, 1.0)):
        options = {"label_smoothing": s, "reduction": "none", "target_entropy": entropy}
        with_pad = SCE.forward(x, [0, 3], ignore_index=1, smoothing_mass="V-2", **options)
        without = SCE.forward(np.delete(x, 1, axis=1), [0, 2], smoothing_mass="V-1", **options)
        for i in range(2):
            (low, high), (other_low, other_high) = interval_of(with_pad, i), interval_of(without, i)
            assert low <= other_high
            assert other_low <= high


def test_a_masked_class_without_mass_does_no_harm_and_one_with_mass_does() -> None:
    x = [[0.0, -math.inf, 1.0]]
    options = {"label_smoothing": 0.25, "ignore_index": 1}
    assert SCE.forward(x, [0], smoothing_mass="V-2", **options).kind == Kind.FINITE
    assert SCE.forward(x, [0], smoothing_mass="V-1", **options).hi == math.inf


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"ignore_index": -1}, "ignore_index is -1; pass a class from 0 to 2"),
        ({"ignore_index": 3}, "ignore_index is 3; pass a class"),
        ({}, "ignore_index is None; pass a class"),
        ({"logits": [[1.0, 2.0]], "ignore_index": 1}, "there are 2 classes; pass 'V' or 'V-1'"),
        ({"logits": [[1.0]], "ignore_index": 0}, "there are 1 classes"),
        ({"target": [[0.5, 0.5, 0.0]]}, "goes with class indices; pass 'V'"),
    ],
)
def test_where_there_is_no_class_of_padding_its_mass_is_refused(arguments: dict[str, Any], words: str) -> None:
    call = {"logits": [[1.0, 2.0, 3.0]], "target": [0]} | arguments
    with pytest.raises(NotPermitted, match="smoothing_mass 'V-2'") as refusal:
        SCE.forward(**call, smoothing_mass="V-2")
    assert words in str(refusal.value)
    with pytest.raises(NotPermitted):
        SCE.exact([0], 128, **call, smoothing_mass="V-2")
    assert permitted(SCE, {**call, "smoothing_mass": "V-2", "denominator": "kept"}) == {
        **call,
        "smoothing_mass": "V",
        "denominator": "kept",
    }


def test_the_attention_loss_needs_a_class_of_padding_too() -> None:
    with pytest.raises(NotPermitted, match="padding_idx is -1; pass a class from 0 to 2 as padding_idx, or 'V' or 'V-1'"):
        refimpl.smoothed_attention_loss([[[1.0, 2.0, 3.0]]], [[0]], smoothing_mass="V-2")


# Losses that are dyadic numbers, so that a mean is known exactly: log-probabilities and weights of few bits.
LOG_P = np.array([[-1.0, -2.0, -0.5, -4.0], [-3.0, -0.25, -8.0, -1.5]])[:, :, None] - np.array([0.0, 1.0, 0.5])
TARGET = np.array([[0, 3, 1], [3, 2, 0]])
LOSSES = -np.take_along_axis(LOG_P, TARGET[:, None], 1)[:, 0]
W = np.array([0.5, 2.0, 4.0, 1.0])


@pytest.mark.parametrize("weight", [None, W])
@pytest.mark.parametrize("ignored", [None, 0, 3, 2])
def test_what_a_mean_over_indices_divides_by(ignored: int | None, weight: np.ndarray[Any, Any] | None) -> None:
    kept = ignored != TARGET
    w = np.where(kept, (np.ones(4) if weight is None else weight)[TARGET], 0.0)
    total = sum(map(Fraction, (LOSSES * w).ravel().tolist()))
    counts = {"weights": sum(map(Fraction, w.ravel().tolist())), "kept": int(kept.sum()), "rows": TARGET.size, "batch": len(TARGET)}
    for rule, divisor in counts.items():
        call = {"log_p": LOG_P, "target": TARGET, "weight": weight, "ignore_index": ignored, "denominator": rule}
        holds(NLL.forward(**call), total / divisor)
        gradient = NLL.vjp(**call, cotangent=1.0)["log_p"]
        for n, d in np.ndindex(*TARGET.shape):
            place = int(np.ravel_multi_index((n, TARGET[n, d], d), LOG_P.shape))
            holds(gradient, -Fraction(float(w[n, d])) / divisor, place)
        row = SCE.forward(LOG_P, TARGET, weight, ignore_index=ignored, reduction="none")
        close(SCE.forward(LOG_P, TARGET, weight, ignore_index=ignored, denominator=rule), row.hi.sum() / float(divisor))


@pytest.mark.parametrize("op", [NLL, SCE], ids=lambda op: op.name)
def test_a_mean_that_counts_ignored_rows_is_0_where_all_are_ignored(op: Operation) -> None:
    name = next(iter(op.inputs))
    for all_ignored in ("nan", "zero"):
        call = {name: X2, "target": [-1, -1], "ignore_index": -1, "all_ignored": all_ignored}
        for rule in ("rows", "batch"):
            assert op.forward(**call, denominator=rule).round("float32") == 0.0
        for rule in ("weights", "kept"):
            np.testing.assert_array_equal(op.forward(**call, denominator=rule).hi, {"nan": math.nan, "zero": 0.0}[all_ignored])
        for rule in ("weights", "kept", "rows", "batch"):
            assert not op.vjp(**call, denominator=rule, cotangent=1.0)[name].hi.any()


@pytest.mark.parametrize("op", [NLL, SCE], ids=lambda op: op.name)
def test_an_empty_batch_and_weights_of_zero(op: Operation) -> None:
    name = next(iter(op.inputs))
    for rule, (all_ignored, value) in itertools.product(("weights", "kept", "rows", "batch"), (("nan", math.nan), ("zero", 0.0))):
        empty = {name: np.zeros((0, 3)), "target": np.zeros(0, np.int64), "all_ignored": all_ignored, "denominator": rule}
        np.testing.assert_array_equal(op.forward(**empty).hi, value)
        weightless = {name: [[-1.0, -2.0]], "target": [1], "weight": [1.0, 0.0], "all_ignored": all_ignored, "denominator": rule}
        np.testing.assert_array_equal(op.forward(**weightless).hi, math.nan if rule == "weights" else 0.0)  # a row is kept: 0/0


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("seed", range(3))
def test_one_hot_distributions_by_weights_are_indices(seed: int, smoothing: float) -> None:
    rng = np.random.default_rng([26, seed])
    x, target, weight = rng.normal(size=(4, 5, 3)) * 3.0, rng.integers(0, 5, (4, 3)), rng.integers(0, 5, 5) / 4.0
    one_hot = np.moveaxis(np.eye(5)[target], -1, 1)
    index = SCE.forward(x, target, weight, label_smoothing=smoothing)
    given = SCE.forward(x, one_hot, weight, label_smoothing=smoothing, distribution_denominator="weights")
    (low, high), (other_low, other_high) = interval_of(index, 0), interval_of(given, 0)
    assert low <= other_high
    assert other_low <= high


def test_distributions_by_weights_divide_by_their_weighted_sum_exactly() -> None:
    rng = np.random.default_rng(27)
    x, t, w = rng.normal(size=(3, 4)), rng.random((3, 4)), rng.random(4)
    divisor = sum(Fraction(a) * Fraction(b) for row in t.tolist() for a, b in zip(row, w.tolist(), strict=True))
    call = {"logits": x, "target": t, "weight": w}
    low, high = interval_of(SCE.forward(**call, distribution_denominator="weights"), 0)
    a, b = interval_of(SCE.forward(**call, reduction="sum"), 0)
    assert low <= b / divisor
    assert a / divisor <= high
    assert high - low < Fraction(1, 2**90)
    without = {"logits": x, "target": t}
    close(SCE.forward(**without, distribution_denominator="weights"), SCE.forward(**without, reduction="sum").hi / t.sum())


@pytest.mark.parametrize(("weight", "probability"), [(2.0**-500, 2.0**-500), (2.0**500, 2.0**500)])
def test_products_that_are_not_exact_are_refused(weight: float, probability: float) -> None:
    call = {"logits": [[1.0, 2.0]], "target": [[probability, 0.0]], "weight": [weight, 1.0], "distribution_denominator": "weights"}
    with pytest.raises(NotPermitted, match="one is too small or too large; scale the weights, or pass 'rows'"):
        SCE.forward(**call)
    assert permitted(SCE, call)["distribution_denominator"] == "rows"


def test_a_mean_over_rows_is_the_mean_of_the_divergences() -> None:
    log_q, p = np.array([[[-1.0, -0.5], [-2.0, -0.125]], [[-0.25, -3.0], [-1.5, -1.0]], [[-1.0, -1.0], [-0.5, -4.0]]]), np.ones((3, 2, 2))
    rows = [Fraction(-float(row.sum())) for row in log_q.reshape(-1, 2)]  # p = 1 has ln p = 0, so each term is -log_q
    holds(KLP.forward(log_q, p, mean_over="rows"), sum(rows) / 6)
    holds(KLP.forward(log_q, p), sum(rows) / 12)
    for slope in KLP.vjp(log_q, p, mean_over="rows", cotangent=3.0)["log_q"]:
        assert (slope.hi == -0.5).all()
    holds(KLP.forward([-1.0, -2.0], [1.0, 1.0], mean_over="rows"), 3)
    holds(KLP.forward(np.zeros((3, 0)), np.zeros((3, 0)), mean_over="rows"), 0)
    assert KLP.forward(np.zeros((0, 3)), np.zeros((0, 3)), mean_over="rows").kind == Kind.NAN
    with pytest.raises(NotPermitted, match="mean_over 'rows' needs an axis of classes"):
        KLP.forward(-1.0, 0.5, mean_over="rows")


def small(case: Case) -> bool:
    return sum(array.size for array in case.inputs.values()) <= 600


@CHOOSING
def test_what_a_call_means_decides_its_answer(op: Operation) -> None:
    """Every combination of every choice is evaluated, and those of one meaning agree: leaving all but one out loses nothing."""
    merged = 0
    for case in filter(small, cases(op)):
        if case.dtype != "float64" or case.group == "random":
            continue
        seen: dict[Any, dict[str, Enclosure]] = {}
        for values in itertools.product(*(choice.values for choice in op.choices)):
            call = case.call | dict(zip((choice.name for choice in op.choices), values, strict=True))
            assert op.meaning is not None
            try:
                means = op.meaning(**call)
            except (NotPermitted, OutOfRange) as error:
                with pytest.raises(type(error)):
                    op.forward(**call)
                continue
            answer = {"": op.forward(**call), **op.vjp(**call, cotangent=case.cotangent)}
            merged += means in seen
            for name, value in seen.setdefault(means, answer).items():
                same(case, value, answer[name])
    assert merged


def same(case: Case, a: Enclosure, b: Enclosure) -> None:
    """The enclosures agree in kind and have numbers in common."""
    np.testing.assert_array_equal(a.kind, b.kind, err_msg=case.id)
    for i in np.flatnonzero((a.kind == Kind.FINITE) & np.isfinite(a.radius)):
        (low, high), (other_low, other_high) = interval_of(a, int(i)), interval_of(b, int(i))
        assert low <= other_high, case.id
        assert other_low <= high, case.id


@CHOOSING
def test_a_vector_has_an_answer_for_every_permitted_combination(op: Operation) -> None:
    for case in itertools.islice((case for case in cases(op) if small(case) and case.dtype == "float32"), 0, None, 3):
        vector = expect(case)
        for values in itertools.product(*(choice.values for choice in op.choices)):
            chosen = dict(zip((choice.name for choice in op.choices), values, strict=True))
            found = [e for e in vector.expectations if e.choices.items() <= chosen.items()]
            try:
                expected = op.forward(**case.call, **chosen)
            except NotPermitted:
                assert not found or "smoothing_mass" not in found[0].choices
                continue
            except OutOfRange:
                assert [e.kind for e in found] == ["error"]
                continue
            assert len(found) == 1, (case.id, chosen)
            if found[0].output.where is None:
                same(case, found[0].output.values, expected)
