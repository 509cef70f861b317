"""The adapters on tiny values that were worked out by hand, in a process of its own for each library (they share none)."""

from __future__ import annotations

import ast
import math
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import needs
import numpy as np
import pytest

from conformance.adapter import Adapter, Description, Mode, backends, describe, differentiable
from conformance.dialects import DialectError
from conformance.judge import Answer
from conformance.link import Failure, Refusal, Reply, Request
from conformance.sources import Options, find

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

WITHOUT_GRADIENTS = ("scipy", "onnx", "onnxruntime")
# What a library refuses of these cases, or answers otherwise: `conformance/expected` says why.
DEVIATES = {
    "autograd": {"nll_loss", "softmax_cross_entropy-smooth", "softmax_cross_entropy-probabilities"},
    "keras": {"softmax_cross_entropy-probabilities"},
    "mlx": {name for name in CASES if name.startswith(("log_softmax", "kl_div", "nll_loss", "softmax_cross_entropy"))},
    "onnx": {"softmax_cross_entropy-smooth", "softmax_cross_entropy-probabilities"},
    "onnxruntime": {"softmax_cross_entropy-smooth", "softmax_cross_entropy-probabilities"},
    "paddle": {"softmax_cross_entropy-smooth"},
    "tensorflow": {"softmax_cross_entropy-smooth"},
}


class Library:
    """A backend in its worker process, asked directly."""

    def __init__(self, name: str, device: str | None = None) -> None:
        self._awake = threading.Event()
        self._link = find(name, Options(device=device)).open(self._awake.set)
        about = self._next()
        assert isinstance(about, Description)
        self.about = about

    def ask(self, operation: str, mode: str, inputs: Mapping[str, Any], parameters: Mapping[str, Any], cotangent: Any) -> Answer | Refusal:
        self._link.ask(Request(operation, mode, inputs, parameters, cotangent))
        reply = self._next()
        assert isinstance(reply, Answer | Refusal)
        return reply

    def stop(self) -> None:
        self._link.stop()

    def _next(self) -> Reply:
        while (reply := self._link.receive()) is None:
            self._awake.wait()
            self._awake.clear()
        return reply


@pytest.fixture(scope="module", params=backends())
def library(request: pytest.FixtureRequest) -> Iterator[Library]:
    needs.library(request.param)
    found = Library(request.param)
    yield found
    found.stop()


def modes(library: Library, case: str) -> list[str]:
    """The modes in which a case of that id is asked."""
    return [mode.name for mode in library.about.modes if mode.asks(case, "full")]


@pytest.mark.parametrize("name", CASES)
def test_values_worked_out_by_hand(library: Library, name: str) -> None:
    operation, inputs, parameters, cotangent, output, gradients = CASES[name]
    for mode in modes(library, f"{operation}/edges/by-hand-float64"):
        answer = library.ask(operation, mode, inputs, parameters, None if cotangent is None else np.asarray(cotangent))
        if operation not in library.about.operations:
            assert isinstance(answer, Refusal)
            continue
        if name in DEVIATES.get(library.about.name, ()):
            continue
        assert isinstance(answer, Answer)
        assert answer.error is None
        assert answer.output is not None
        assert answer.output.dtype == np.float64
        assert answer.output.shape == np.shape(output)
        assert answer.output == pytest.approx(np.asarray(output), rel=1e-14)
        assert not answer.modified
        assert not answer.repeat_differs
        if library.about.name in WITHOUT_GRADIENTS:
            assert not answer.gradients
            continue
        assert answer.gradients.keys() == gradients.keys() - set(library.about.constants)
        for key, gradient in answer.gradients.items():
            assert gradient == pytest.approx(np.asarray(gradients[key]), rel=1e-14)


def test_each_promised_dtype_comes_back(library: Library) -> None:
    for dtype in (key for key in library.about.promises if "/" not in key):
        logits = X.astype(dtype)
        mode = modes(library, f"log_softmax/edges/by-hand-{dtype}")[0]
        answer = library.ask("log_softmax", mode, {"logits": logits}, {}, np.ones((1, 2), dtype))
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
        "autograd": ("nll_loss", {"log_p": X, "target": np.array([0])}, {"ignore_index": 1}),
        "jax": ("softmax_cross_entropy", {"logits": X, "target": np.array([0])}, {"ignore_index": 1}),
        "torch": ("softmax_cross_entropy", {"logits": X, "target": X}, {"ignore_index": 1}),
        "numpy": ("softmax_cross_entropy", {"logits": X, "target": np.array([0]), "weight": P}, {}),
        "scipy": ("softmax_cross_entropy", {"logits": X, "target": np.array([0])}, {}),
        "tensorflow": ("softmax_cross_entropy", {"logits": X, "target": np.array([0])}, {"ignore_index": 1}),
        "keras": ("softmax_cross_entropy", {"logits": X, "target": np.array([0]), "weight": P}, {}),
        "mlx": ("softmax_cross_entropy", {"logits": X, "target": np.array([0])}, {"ignore_index": 1}),
        "paddle": ("softmax_cross_entropy", {"logits": X, "target": X}, {"ignore_index": 1}),
        "tinygrad": ("softmax_cross_entropy", {"logits": X, "target": np.array([0]), "weight": P}, {}),
        "onnx": ("softmax_cross_entropy", {"logits": X, "target": np.array([0])}, {"label_smoothing": 0.5}),
        "onnxruntime": ("softmax_cross_entropy", {"logits": X, "target": X}, {}),
    }
    operation, inputs, parameters = lacks[library.about.name]
    for mode in modes(library, f"{operation}/edges/by-hand-float64"):
        answer = library.ask(operation, mode, inputs, parameters, None)
        assert isinstance(answer, Refusal)
        assert answer.reason


@pytest.fixture(scope="module")
def torch_library() -> Iterator[Library]:
    pytest.importorskip("torch")
    found = Library("torch", "cpu")
    yield found
    found.stop()


@pytest.mark.parametrize(
    ("operation", "inputs", "dtype"),
    [
        ("softmax_cross_entropy", {"logits": X, "target": np.array([0])}, "float32"),
        ("nll_loss", {"log_p": X, "target": np.array([0])}, "float32"),
        ("kl_div", {"log_q": X, "p": X}, "float32"),
        ("log_softmax", {"logits": X}, "bfloat16"),  # not among what the documentation lists for a CPU
    ],
)
def test_autocast_answers_losses_in_float32(torch_library: Library, operation: str, inputs: dict[str, Any], dtype: str) -> None:
    half = {name: value if name == "target" else value.astype(ml_dtypes.bfloat16) for name, value in inputs.items()}
    cotangent = np.ones((1, 2) if operation == "log_softmax" else (), ml_dtypes.bfloat16)
    answer = torch_library.ask(operation, "autocast", half, {}, cotangent)
    assert isinstance(answer, Answer)
    assert answer.output is not None
    assert answer.output.dtype == dtype
    assert {gradient.dtype.name for gradient in answer.gradients.values()} == {"bfloat16"}
    asked = "autocast" in modes(torch_library, f"{operation}/edges/by-hand-bfloat16")
    assert asked == (dtype == "float32")
    if asked:
        assert torch_library.about.choices(operation, "autocast")["half_output"] == "float32"
        assert torch_library.about.choices(operation, "eager")["half_output"] == "same"


def test_compiled_code_is_asked_and_keeps_its_values(torch_library: Library) -> None:
    assert "compile" in modes(torch_library, "entropy/regression/certain-float32")
    p = P.astype(np.float32)
    answer = torch_library.ask("entropy", "compile", {"p": p}, {}, np.asarray(2.0, np.float32))
    assert isinstance(answer, Answer)
    assert answer.error is None
    assert answer.output == pytest.approx(H, rel=2.0**-20)
    assert answer.gradients["p"] == pytest.approx(np.array([2 * (LN4 - 1), 2 * (LN4 - LN3 - 1)]), rel=2.0**-20)


def test_a_device_that_is_not_there_is_named() -> None:
    pytest.importorskip("torch")
    awake = threading.Event()
    link = find("torch", Options(device="abacus")).open(awake.set)
    while (reply := link.receive()) is None:
        awake.wait()
        awake.clear()
    link.kill()
    assert isinstance(reply, Failure)
    assert "torch has no device 'abacus' here; it has cpu" in reply.reason


def test_without_x64_jax_has_neither_float64_nor_int64() -> None:
    pytest.importorskip("jax")
    library = Library("jax")
    assert modes(library, "log_softmax/ladder/by-hand-float64") == ["jit-x64"]
    assert modes(library, "log_softmax/ladder/by-hand-float32") == ["jit"]
    for mode, name in (("jit", "float32"), ("eager", "float32"), ("jit-x64", "float64")):
        answer = library.ask("log_softmax", mode, {"logits": X}, {}, None)
        assert isinstance(answer, Answer)
        assert answer.output is not None
        assert answer.output.dtype == name
    library.stop()


def test_flax_has_the_functions_of_jax() -> None:
    needs.library("flax")
    code = "import flax.linen, flax.nnx, jax.nn\n" + "\n".join(
        f"assert {module}.{name} is jax.nn.{name}"
        for module in ("flax.linen", "flax.nnx")
        for name in ("log_softmax", "softmax", "one_hot")
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=120)


def test_a_mode_states_choices_that_exist() -> None:
    adapter = Adapter("x", (), {}, lambda *_: (X, {}), dict, modes=(Mode("odd", choices={"half_output": "float8"}),))
    with pytest.raises(DialectError, match=r"the adapter x, mode odd: half_output .* is 'float8'; write one of"):
        describe(adapter)


def test_only_real_inputs_have_gradients() -> None:
    half = np.zeros(2, ml_dtypes.bfloat16)
    assert differentiable({"logits": half, "target": half, "weight": half}) == ("logits",)
    assert differentiable({"log_q": half, "p": half, "target": np.zeros(2, np.int64)}) == ("log_q", "p")


@pytest.mark.parametrize("name", ["autograd", "torch", "jax", "scipy", "tensorflow"])
def test_a_composed_operation_has_at_most_three_lines(name: str) -> None:
    tree = ast.parse((ROOT / f"conformance/adapters/{name}.py").read_text(encoding="utf-8"))
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    (declaration,) = (node for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg == "composed")
    composed = [node.value for node in ast.walk(declaration.value) if isinstance(node, ast.Constant)]
    for operation in composed:
        statements = [node for node in functions[str(operation)].body if not isinstance(node, ast.Expr)]
        assert len(statements) <= 3
