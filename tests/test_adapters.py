"""The adapters on tiny values that were worked out by hand, in a process of its own for each library (they share none)."""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from conformance.adapter import backends, differentiable
from conformance.judge import Answer
from conformance.runner import Run, modules
from conformance.worker import Refusal, Request

ROOT = Path(__file__).parents[1]
LN2, LN3, LN4 = math.log(2), math.log(3), math.log(4)
X = np.array([[0.0, LN3]])  # softmax: 1/4, 3/4
P, Q = np.array([0.25, 0.75]), np.array([0.5, 0.5])
H = 0.25 * LN4 + 0.75 * (LN4 - LN3)  # the entropy of P

# operation, inputs, parameters, cotangent, output, gradients
CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any], Any, Any, dict[str, Any]]] = {
    "entropy": ("entropy", {"p": P}, {}, 2.0, H, {"p": [2 * (LN4 - 1), 2 * (LN4 - LN3 - 1)]}),
    "entropy_with_logits": (
        "entropy_with_logits",
        {"logits": X},
        {},
        [2.0],
        [H],
        {"logits": [[0.5 * (LN4 - H), 1.5 * (LN4 - LN3 - H)]]},
    ),
    "log_softmax": ("log_softmax", {"logits": X}, {}, [[1.0, 2.0]], [[-LN4, LN3 - LN4]], {"logits": [[0.25, -0.25]]}),
    "cross_entropy": ("cross_entropy", {"p": P, "q": Q}, {}, 2.0, LN2, {"p": [2 * LN2] * 2, "q": [-1.0, -3.0]}),
    "kl_divergence": (
        "kl_divergence",
        {"p": P, "q": Q},
        {},
        2.0,
        LN2 - H,
        {"p": [2 * (1 - LN2), 2 * (LN3 - LN2 + 1)], "q": [-1.0, -3.0]},
    ),
    "kl_div-sum": (
        "kl_div",
        {"log_q": np.log(Q), "p": P},
        {"reduction": "sum"},
        2.0,
        LN2 - H,
        {"log_q": [-0.5, -1.5], "p": [2 * (1 - LN2), 2 * (LN3 - LN2 + 1)]},
    ),
    "kl_div-log-target": (
        "kl_div",
        {"log_q": np.log(Q), "p": np.log(P)},
        {"reduction": "mean", "log_target": True},
        2.0,
        (LN2 - H) / 2,
        {"log_q": [-0.25, -0.75], "p": [0.25 * (1 - LN2), 0.75 * (LN3 - LN2 + 1)]},
    ),
    "kl_div-batchmean": ("kl_div", {"log_q": np.log([Q, Q]), "p": np.array([P, P])}, {"reduction": "batchmean"}, None, LN2 - H, {}),
    "nll_loss": (
        "nll_loss",
        {"log_p": np.array([[-1.0, -2.0], [-3.0, -4.0]]), "target": np.array([1, 0])},
        {"ignore_index": 0},
        3.0,
        2.0,
        {"log_p": [[0.0, -3.0], [0.0, 0.0]]},
    ),
    "softmax_cross_entropy-index": (
        "softmax_cross_entropy",
        {"logits": X, "target": np.array([0])},
        {"reduction": "sum"},
        2.0,
        LN4,
        {"logits": [[-1.5, 1.5]]},
    ),
    "softmax_cross_entropy-smooth": (
        "softmax_cross_entropy",
        {"logits": X, "target": np.array([0])},
        {"label_smoothing": 0.5, "reduction": "none"},
        [2.0],
        [LN4 - 0.25 * LN3],
        {"logits": [[-1.0, 1.0]]},
    ),
    "softmax_cross_entropy-probabilities": (
        "softmax_cross_entropy",
        {"logits": X, "target": np.array([[0.75, 0.25]])},
        {"reduction": "mean"},
        2.0,
        LN4 - 0.25 * LN3,
        {"logits": [[-1.0, 1.0]]},
    ),
    "softmax_cross_entropy-dimensions": (
        "softmax_cross_entropy",
        {"logits": np.array([[[0.0, LN3], [LN3, 0.0]]]), "target": np.array([[0, 0]])},
        {"reduction": "none"},
        None,
        [[LN4, LN4 - LN3]],
        {},
    ),
    "smoothed_attention_loss": (
        "smoothed_attention_loss",
        {"logits": X[None], "target": np.array([[0]])},
        {"smoothing": 0.25},
        2.0,
        0.75 * LN3 + 0.25 * -LN3,
        {"logits": [[[-1.0, 1.0]]]},
    ),
}


class Library:
    """A backend in its worker process, asked directly."""

    def __init__(self, run: Run, name: str) -> None:
        self.about = run.descriptions[name]
        self._connection = run._sessions[0].connection

    def ask(self, operation: str, mode: str, inputs: Mapping[str, Any], parameters: Mapping[str, Any], cotangent: Any) -> Answer | Refusal:
        self._connection.send(Request(operation, mode, inputs, parameters, cotangent))
        reply: Answer | Refusal = self._connection.recv()
        return reply


@pytest.fixture(scope="module", params=backends())
def library(request: pytest.FixtureRequest) -> Iterator[Library]:
    pytest.importorskip(request.param)
    with Run(modules([request.param]), []) as run:
        yield Library(run, request.param)


@pytest.mark.parametrize("name", CASES)
def test_values_worked_out_by_hand(library: Library, name: str) -> None:
    operation, inputs, parameters, cotangent, output, gradients = CASES[name]
    for mode in library.about.modes:
        answer = library.ask(operation, mode, inputs, parameters, None if cotangent is None else np.asarray(cotangent))
        if operation not in library.about.operations:
            assert isinstance(answer, Refusal)
            continue
        assert isinstance(answer, Answer)
        assert answer.error is None
        assert answer.output is not None
        assert answer.output.dtype == np.float64
        assert answer.output.shape == np.shape(output)
        assert answer.output == pytest.approx(np.asarray(output), rel=1e-14)
        assert not answer.modified
        assert not answer.repeat_differs
        if library.about.name == "scipy":
            assert not answer.gradients
            continue
        assert answer.gradients.keys() == gradients.keys()
        for key, gradient in gradients.items():
            assert answer.gradients[key] == pytest.approx(np.asarray(gradient), rel=1e-14)


def test_each_promised_dtype_comes_back(library: Library) -> None:
    for dtype in library.about.promises:
        logits = X.astype(dtype)
        answer = library.ask("log_softmax", "eager", {"logits": logits}, {}, np.ones((1, 2), dtype) if dtype != "scipy" else None)
        assert isinstance(answer, Answer)
        assert answer.output is not None
        assert answer.output.dtype == logits.dtype
        assert all(gradient.dtype == logits.dtype for gradient in answer.gradients.values())
        assert answer.output.astype(np.float64) == pytest.approx(np.array([[-LN4, LN3 - LN4]]), rel=2.0**-6)


def test_versions_are_of_what_is_called(library: Library) -> None:
    assert library.about.versions
    assert next(iter(library.about.versions)) == library.about.name


def test_what_a_library_lacks_is_refused(library: Library) -> None:
    lacks = {
        "jax": ("softmax_cross_entropy", {"logits": X, "target": np.array([0])}, {"ignore_index": 1}),
        "torch": ("softmax_cross_entropy", {"logits": X, "target": X}, {"ignore_index": 1}),
        "numpy": ("softmax_cross_entropy", {"logits": X, "target": np.array([0]), "weight": P}, {}),
        "scipy": ("softmax_cross_entropy", {"logits": X, "target": np.array([0])}, {}),
    }
    for mode in library.about.modes:
        answer = library.ask(lacks[library.about.name][0], mode, *lacks[library.about.name][1:], None)
        assert isinstance(answer, Refusal)
        assert answer.reason


def test_only_real_inputs_have_gradients() -> None:
    half = np.zeros(2, ml_dtypes.bfloat16)
    assert differentiable({"logits": half, "target": half, "weight": half}) == ("logits",)
    assert differentiable({"log_q": half, "p": half, "target": np.zeros(2, np.int64)}) == ("log_q", "p")


@pytest.mark.parametrize("name", ["torch", "jax", "scipy"])
def test_a_composed_operation_has_at_most_three_lines(name: str) -> None:
    tree = ast.parse((ROOT / f"conformance/adapters/{name}.py").read_text(encoding="utf-8"))
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    (declaration,) = (node for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg == "composed")
    composed = [node.value for node in ast.walk(declaration.value) if isinstance(node, ast.Constant)]
    for operation in composed:
        statements = [node for node in functions[str(operation)].body if not isinstance(node, ast.Expr)]
        assert len(statements) <= 3
