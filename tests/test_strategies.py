"""The Hypothesis strategies: whatever they draw is a call, it reaches the edges, and a failure shrinks to a small one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, find, given, settings

import refimpl
from conformance import strategies
from conformance.strategies import UnknownParameter
from refimpl import InvalidInput
from refimpl.enclosure import FORMATS
from refimpl.operation import Number, OneOf, Real, Switch
from refimpl.operations import operation, operations

Call = dict[str, Any]


@cache
def drawn(name: str) -> list[Call]:
    """Calls of the operation, with choices and without, always the same."""
    found: list[Call] = []

    @settings(max_examples=300 if operation(name).parameters else 150, phases=[Phase.generate], derandomize=True, database=None)
    @given(strategies.inputs(name) | strategies.inputs(name, choices=True))
    def note(call: Call) -> None:
        found.append(call)

    note()
    return found


@pytest.mark.parametrize("name", operations())
def test_every_call_is_taken(name: str) -> None:
    stated = operation(name)
    for call in drawn(name):
        assert set(call) <= {*stated.inputs, *stated.parameters, *(choice.name for choice in stated.choices)}
        assert set(stated.parameters) <= set(call)
        assert len({call[key].dtype for key in stated.inputs if key in call and call[key].dtype.kind != "i"}) == 1
        result = getattr(refimpl, name)(**call)
        getattr(refimpl, f"{name}_vjp")(cotangent=np.ones(result.shape), **call)


@pytest.mark.parametrize("name", operations())
def test_every_dtype_parameter_option_and_choice_is_reached(name: str) -> None:
    stated = operation(name)
    assert {str(next(iter(call.values())).dtype) for call in drawn(name)} == set(FORMATS)
    for key, kind in stated.parameters.items():
        values = {call[key] for call in drawn(name)}
        if isinstance(kind, Number):
            assert {kind.low, kind.high, kind.default} < values
        elif isinstance(kind, OneOf):
            assert values == set(kind.options)
        elif isinstance(kind, Switch):
            assert values == {False, True}
        else:
            assert {-100, -1, 0, kind.default} <= values
    for key, stands in stated.inputs.items():
        if isinstance(stands, Real) and stands.optional:
            assert {key in call for call in drawn(name)} == {False, True}
    for choice in stated.choices:
        values = {call.get(choice.name) for call in drawn(name)}
        assert len(values) >= 3, "none, the default and another"
        assert values <= {None, *choice.values}


def first(call: Call) -> np.ndarray:
    return np.asarray(next(iter(call.values()))).astype(np.float64)


def ties(call: Call) -> bool:
    rows = first(call)
    return rows.shape[-1] > 1 and bool((rows[..., 0] == rows[..., 1]).any())


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("log_softmax", ties),
        ("log_softmax", lambda call: bool(np.isneginf(first(call)).any())),
        ("log_softmax", lambda call: bool((np.ptp(first(call)[np.isfinite(first(call)).all(-1)], axis=-1) > 100.0).any())),
        ("log_softmax", lambda call: first(call).shape[-1] == 1),
        ("log_softmax", lambda call: first(call).size == 0),
        ("log_softmax", lambda call: first(call).ndim == 3),
        ("entropy", lambda call: bool((first(call) == 0.0).any())),
        ("entropy", lambda call: bool(((first(call) > 0.0) & (first(call) < FORMATS[str(call["p"].dtype)].normal)).any())),
        ("kl_divergence", lambda call: call["p"].size > 1 and np.array_equal(call["p"], call["q"])),
        ("kl_div", lambda call: call["p"].ndim == 3),
        ("nll_loss", lambda call: call["target"].size > 1 and bool((call["target"] == call["ignore_index"]).all())),
        ("nll_loss", lambda call: "weight" in call and call["weight"].size > 1 and not call["weight"].all()),
        ("softmax_cross_entropy", lambda call: call["target"].dtype.kind == "i" and "weight" in call and call["label_smoothing"] > 0.0),
        ("softmax_cross_entropy", lambda call: call["target"].dtype.kind != "i" and call["logits"].ndim == 3),
        ("smoothed_attention_loss", lambda call: call["padding_idx"] in call["target"] and call["padding_idx"] >= 0),
    ],
)
def test_the_edges_are_reached(name: str, what: Callable[[Call], bool]) -> None:
    assert any(map(what, drawn(name)))


def test_a_parameter_can_be_fixed_and_a_dtype_named() -> None:
    fixed = {"label_smoothing": 0.25, "ignore_index": 2, "reduction": "none"}

    @settings(max_examples=30)
    @given(strategies.inputs("softmax_cross_entropy", dtype="bfloat16", rows=2, classes=3, **fixed))
    def holds(call: Call) -> None:
        assert {key: call[key] for key in fixed} == fixed
        assert call["logits"].dtype == FORMATS["bfloat16"].dtype
        assert call["logits"].shape[0] <= 2
        assert call["logits"].shape[1] <= 3
        assert call["target"].dtype == np.int64
        refimpl.softmax_cross_entropy(**call)

    holds()


def test_a_switch_decides_what_an_input_holds() -> None:
    @settings(max_examples=30)
    @given(strategies.inputs("kl_div", log_target=True))
    def holds(call: Call) -> None:
        assert call["log_target"]
        assert not (call["p"] > 0.0).any()

    holds()


def test_a_failure_shrinks_to_small_whole_numbers() -> None:
    sought = settings(deadline=None, derandomize=True, database=None)
    differ = find(strategies.inputs("log_softmax"), lambda call: len(set(first(call).flat)) > 1, settings=sought)
    assert differ["logits"].tolist() in ([0.0, 1.0], [1.0, 0.0])
    smallest = find(strategies.inputs("softmax_cross_entropy"), lambda call: call["logits"].size > 0, settings=sought)
    assert smallest.pop("logits").tolist() == [[0.0]]
    assert smallest.pop("target").tolist() == [0]
    assert smallest == {name: kind.default for name, kind in operation("softmax_cross_entropy").parameters.items()} | {"reduction": "none"}


def test_what_does_not_exist_is_refused() -> None:
    with pytest.raises(InvalidInput, match="no operation is named 'nll'"):
        strategies.inputs("nll")
    with pytest.raises(TypeError, match="dtype 'float8' is not supported"):
        strategies.inputs("kl_div", dtype="float8")
    with pytest.raises(UnknownParameter, match="kl_div has no parameter 'smoothing'; its parameters are reduction, log_target"):
        strategies.inputs("kl_div", smoothing=0.1)


def test_without_hypothesis_it_says_what_to_install() -> None:
    program = "import sys\nsys.modules['hypothesis'] = None\nimport conformance.strategies"
    run = subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False)
    assert (
        "ModuleNotFoundError: conformance.strategies needs hypothesis, which isn't installed; pip install 'lossref[hypothesis]'"
        in run.stderr
    )
