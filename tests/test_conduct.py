"""The judge on choices: a backend is held to the conduct that it promises and to the values that it chose."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from conformance.bound import Promise
from conformance.case import Vector
from conformance.conduct import CONDUCT, Conduct
from conformance.judge import Answer, Verdict, promised
from conformance.kernel import judged, kernel
from refimpl.enclosure import FORMATS
from tests.promises import X2, X3, answer, findings, vector


def bad_target() -> Vector:
    return vector("softmax_cross_entropy", logits=X3, target=[3])


RAISED = Answer(None, {}, "IndexError: target", (), repeat_differs=False, seconds=0.0)
NAN = Answer(np.full((), np.nan, np.float32), {"logits": np.full((1, 3), np.nan, np.float32)}, None, (), repeat_differs=False, seconds=0.0)
FINITE = replace(NAN, output=np.zeros((), np.float32), gradients={"logits": np.zeros((1, 3), np.float32)})


@pytest.mark.parametrize(
    ("refusal", "passing"),
    [("either", (RAISED, NAN)), ("error", (RAISED,)), ("nan", (NAN,))],
)
def test_a_bad_target_is_refused_as_was_promised(refusal: str, passing: tuple[Answer, ...]) -> None:
    for given in (RAISED, NAN, FINITE):
        found = findings(bad_target(), given, {"refusal": refusal})
        assert [f.verdict for f in found] == [Verdict.PASS if any(given is one for one in passing) else Verdict.FAIL] * 2
        assert all(f.clauses == ("SCE-1",) for f in found)


def unnamed(note: str) -> str:
    """A note without the dialects that define it so."""
    return re.sub(r" \(so define it [^)]*\)", "", note)


def test_a_refusal_of_the_other_kind_is_named() -> None:
    for given, promise, other, first in ((NAN, "error", "nan", "no exception was raised"), (RAISED, "nan", "error", "IndexError: target")):
        for found in findings(bad_target(), given, {"refusal": promise}):
            assert unnamed(found.note) == f"{first}; this is the answer under refusal {other}; the backend promised refusal {promise}"
    for found in findings(bad_target(), FINITE, {"refusal": "error"}):
        assert found.note == "no exception was raised"


@pytest.mark.parametrize("dtype", FORMATS)
def test_half_inputs_are_answered_in_the_dtype_that_was_promised(dtype: str) -> None:
    v = vector("softmax_cross_entropy", dtype, logits=X3, target=[0])
    half = FORMATS[dtype].precision < 24
    for half_output in ("either", "same", "float32"):
        for given in (dtype, "float32"):
            permitted = {"either": (dtype, "float32"), "same": (dtype,), "float32": ("float32",)}[half_output] if half else (dtype,)
            output, gradient = findings(v, answer(v, given), {"half_output": half_output})
            assert (output.verdict == Verdict.PASS) == (given in permitted)
            assert (gradient.verdict == Verdict.PASS) == (given in (dtype, *permitted))
            if half and output.verdict == Verdict.FAIL:
                other = "float32" if half_output == "same" else "same"
                assert "GEN-2" in output.clauses
                assert unnamed(output.note).endswith(
                    f"this is the answer under half_output {other}; the backend promised half_output {half_output}"
                )


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
def test_subnormal_results_may_be_flushed_where_that_is_promised(dtype: str) -> None:
    v = vector("kl_div", dtype, [1.0, 0.0], log_q=[-1.0, -2.0], p=[FORMATS[dtype].normal / 4, 0.5], reduction="none")
    kept = answer(v)
    flushed = replace(kept, gradients={name: np.where(np.abs(g) < FORMATS[dtype].normal, 0, g) for name, g in kept.gradients.items()})
    for given, dialect, verdict in (
        (kept, "kept", "pass"),
        (kept, "flushed", "pass"),
        (flushed, "flushed", "pass"),
        (flushed, "kept", "fail"),
    ):
        (found,) = (f for f in findings(v, given, {"subnormals": dialect}) if f.output == "log_q")
        assert found.verdict == verdict
    assert unnamed(found.note) == "this is the answer under subnormals flushed; the backend promised subnormals kept"


@pytest.mark.parametrize("dtype", FORMATS)
def test_the_answer_to_zeros_is_right_where_subnormal_inputs_may_count_as_0(dtype: str) -> None:
    """The derivative of an entropy is +inf at 0, and some hundreds at the smallest number; of float16 all numbers are kept."""
    v = vector("entropy", dtype, [1.0], p=[[FORMATS[dtype].tiny, 0.5]])
    zeros = answer(replace(v, case=replace(v.case, inputs={"p": np.array([[0.0, 0.5]], FORMATS[dtype].dtype)})))
    for subnormals, verdict in (("kept", Verdict.FAIL), ("flushed", Verdict.FAIL if dtype == "float16" else Verdict.PASS)):
        found = findings(v, zeros, {"subnormals": subnormals})[1]
        assert found.verdict == verdict
        assert bool(found.note) == (verdict == Verdict.FAIL and dtype != "float16")
    wrong = replace(zeros, gradients={"p": zeros.gradients["p"] * np.asarray(2, FORMATS[dtype].dtype)})
    assert findings(v, wrong, {"subnormals": "flushed"})[1].verdict == Verdict.FAIL


def test_who_promises_nothing_is_held_to_the_general_clauses() -> None:
    assert Conduct() == Conduct.of({}) == Conduct("either", "either", "kept")
    assert {choice.name for choice in CONDUCT} == {"refusal", "half_output", "subnormals"}
    assert Conduct.of({"refusal": "nan", "denominator": "rows"}) == Conduct(refusal="nan")
    with pytest.raises(ValueError, match="refusal is 'often'; promise one of 'either', 'error', 'nan'"):
        Conduct.of({"refusal": "often"})


def test_the_judge_names_the_choices_that_differ_and_no_others() -> None:
    v = vector("softmax_cross_entropy", logits=X2, target=[0, -1], ignore_index=-1, label_smoothing=0.3)
    assert {name for e in v.expectations for name in e.choices} == {"smoothing_mass", "target_entropy", "denominator"}
    for found in findings(v, answer(v, smoothing_mass="V-1"), {"denominator": "weights"}):
        assert unnamed(found.note) == "this is the answer under smoothing_mass V-1; the backend promised smoothing_mass V"
    found = findings(v, answer(v, smoothing_mass="V-1", denominator="rows"), {})[0]
    assert (
        unnamed(found.note)
        == "this is the answer under smoothing_mass V-1 and denominator rows; the backend promised smoothing_mass V and denominator weights"
    )


def test_where_a_choice_is_not_defined_nothing_is_asked() -> None:
    v = vector("softmax_cross_entropy", logits=X2, target=[0, 2], label_smoothing=0.3)
    assert promised(v, {"smoothing_mass": "V-2"}) is None
    for found in findings(v, answer(v), {"smoothing_mass": "V-2"}):
        assert (found.verdict, found.note, found.choice) == (Verdict.UNSUPPORTED, "the dialect's choices are not defined for this call", {})
    inside = vector("softmax_cross_entropy", logits=X2, target=[0, 2], label_smoothing=0.3, ignore_index=1)
    assert [f.verdict for f in findings(inside, answer(inside, smoothing_mass="V-2"), {"smoothing_mass": "V-2"})] == [Verdict.PASS] * 2


def textbook(mass: str, entropy: bool, denominator: str) -> Any:
    """Softmax cross-entropy against indices in float32 numpy, by the definitions of some choices."""

    def call(cotangent: Any, logits: Any, target: Any, weight: Any = None, **options: Any) -> Any:
        x, eps = np.moveaxis(logits, 1, -1), np.float32(options.get("label_smoothing", 0.0))
        ignored, classes, one = options.get("ignore_index"), x.shape[-1], np.float32(1)
        w = np.ones(classes, np.float32) if weight is None else weight
        kept = np.ones(target.shape, bool) if ignored is None else target != ignored
        own = np.arange(classes) == np.where(kept, target, 0)[..., None]
        shared = eps / np.float32(classes - {"V": 0, "V-1": 1, "V-2": 2}[mass])
        t = np.where(own, one - eps + (shared if mass == "V" else np.float32(0)), shared)
        t = np.where((np.arange(classes) == ignored) & (mass == "V-2"), np.float32(0), t)
        gap = x - x.max(-1, keepdims=True)
        log_p = gap - np.log(np.exp(gap).sum(-1, keepdims=True))
        c = w * t
        row = -np.where(c > 0, c * log_p, np.float32(0)).sum(-1)
        row += np.where(c > 0, c * np.log(np.where(t > 0, t, one)), np.float32(0)).sum(-1) if entropy else np.float32(0)
        row = np.where(kept, row, np.float32(0))
        own_weight = np.where(kept, w[np.where(kept, target, 0)], np.float32(0))
        count = {"weights": own_weight.sum(), "kept": kept.sum(), "rows": kept.size, "batch": len(kept)}[denominator]
        reduction = options.get("reduction", "mean")
        divisor = np.float32(count if reduction == "mean" else 1)
        slope = (np.exp(log_p) * c.sum(-1, keepdims=True) - c) * kept[..., None]
        g = np.asarray(cotangent)[..., None] if reduction == "none" else cotangent
        loss = row if reduction == "none" else row.sum() / divisor
        return np.asarray(loss), {"logits": np.moveaxis(np.asarray(g / divisor * slope, np.float32), -1, 1)}

    return call


@pytest.mark.parametrize("entropy", ["dropped", "kept"])
@pytest.mark.parametrize("mass", ["V", "V-1", "V-2"])
@pytest.mark.parametrize("denominator", ["weights", "kept", "rows", "batch"])
def test_a_textbook_kernel_keeps_the_bound_under_every_choice_of_a_mean(mass: str, entropy: str, denominator: str) -> None:
    dialect = {"smoothing_mass": mass, "target_entropy": entropy, "denominator": denominator}
    own = kernel(
        "x", "softmax_cross_entropy", textbook(mass, entropy == "kept", denominator), {"float32": Promise("A", "float32")}, dialect
    )
    rng, seen = np.random.default_rng([28, len(mass)]), 0
    for weighted, rows in ((False, (6,)), (True, (6,)), (True, (3, 2))):
        x, target = rng.normal(size=(rows[0], 5, *rows[1:])) * 4, rng.integers(0, 5, rows)
        target.flat[0] = 2
        weight = {"weight": [0.5, 2.0, 1.0, 0.25, 3.0]} if weighted else {}
        v = vector("softmax_cross_entropy", logits=x, target=target, label_smoothing=0.1, ignore_index=2, **weight)
        for _, _, found in judged(own, [v]):
            assert [f.verdict for f in found] == [Verdict.PASS] * 2, found
            seen += len(found)
    assert seen == 6
