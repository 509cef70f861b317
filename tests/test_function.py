"""A user's function as a backend: what it is given, what may come back, and what is said of one that doesn't fit."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conformance.adapter import Unsupported, Unusable
from conformance.bound import Promise
from conformance.finding import Answer
from conformance.function import Contract, adapt, load
from conformance.link import Refusal, Request
from conformance.promises import PromiseError
from conformance.worker import reply
from refimpl.operation import InvalidInput

X = np.array([[0.0, 1.0]], np.float32)
TARGET = np.array([1])
GRADIENT = np.array([[2.0, 3.0]], np.float32)


def ask(
    function: Callable[..., Any], operation: str = "softmax_cross_entropy", parameters: Any = (), weight: Any = None, tensors: str = "numpy"
) -> Answer | Refusal:
    adapter = adapt(function, "ours", Contract.of(operation, tensors=tensors))
    inputs = {"log_softmax": {"logits": X}, "softmax_cross_entropy": {"logits": X, "target": TARGET}}[operation]
    inputs = inputs if weight is None else {**inputs, "weight": weight}
    cotangent = X if operation == "log_softmax" else np.array(2.0, np.float32)
    return reply(adapter, Request(operation, "eager", inputs, dict(parameters), cotangent))


def answer(*arguments: Any, **keywords: Any) -> Answer:
    found = ask(*arguments, **keywords)
    assert isinstance(found, Answer)
    return found


def refusal(*arguments: Any, **keywords: Any) -> str:
    found = ask(*arguments, **keywords)
    assert isinstance(found, Refusal)
    return found.reason


class Noted:
    """Keeps the keywords of its calls."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def loss(
        self, logits: Any, target: Any, weight: Any = None, *, reduction: Any, ignore_index: Any = -100, label_smoothing: Any = 0.0
    ) -> Any:
        self.calls.append({**locals(), "self": None})
        return np.float32(1.5)


def test_it_gets_inputs_by_name_and_the_parameters_of_the_case() -> None:
    noted = Noted()
    found = answer(noted.loss, parameters={"label_smoothing": 0.5})
    assert found.output is not None
    assert found.output.dtype == np.float32
    assert found.output.shape == ()
    assert found.error is None
    assert found.gradients == {}
    first = noted.calls[0]
    assert np.array_equal(first["logits"], X)
    assert np.array_equal(first["target"], TARGET)
    assert first["weight"] is None
    assert first["label_smoothing"] == 0.5
    assert first["ignore_index"] == -100  # its own default: the case has none
    assert first["reduction"] == "mean"  # the operation's: it has none of its own


def test_what_it_does_not_take_is_unsupported_and_named() -> None:
    def loss(logits: Any, target: Any) -> Any:
        return logits.sum()

    assert refusal(loss, parameters={"label_smoothing": 0.5}) == "it takes no label_smoothing"
    assert refusal(loss, parameters={"ignore_index": 1}, weight=X[0]) == "it takes no weight and no ignore_index"
    assert answer(loss, parameters={"label_smoothing": 0.0, "reduction": "mean"}).output == 1.0  # what it does without being told


def test_what_takes_everything_is_given_everything() -> None:
    seen: dict[str, Any] = {}

    def loss(**everything: Any) -> Any:
        seen.update(everything)
        return X.sum()

    answer(loss, parameters={"reduction": "sum", "ignore_index": 1}, weight=X[0])
    assert seen.keys() == {"logits", "target", "weight", "reduction", "ignore_index"}


@pytest.mark.parametrize(
    ("error", "reason"),
    [(NotImplementedError("not on Sundays"), "not on Sundays"), (NotImplementedError(), "ours raises NotImplementedError")],
)
def test_it_may_say_what_it_lacks(error: Exception, reason: str) -> None:
    def loss(logits: Any, target: Any) -> Any:
        raise error

    assert refusal(loss) == reason


def test_it_may_say_so_in_our_words() -> None:
    def loss(logits: Any, target: Any) -> Any:
        raise Unsupported("no rows")

    assert refusal(loss) == "no rows"


def test_what_it_raises_is_its_answer() -> None:
    def loss(logits: Any, target: Any) -> Any:
        raise ValueError("bad day")

    def leaves(logits: Any, target: Any) -> Any:
        sys.exit(3)

    assert answer(loss).error == "ValueError: bad day"
    assert answer(leaves).error == "RuntimeError: ours left by SystemExit(3)"


def test_with_cotangent_it_returns_its_gradients() -> None:
    def log_softmax(logits: Any, cotangent: Any) -> Any:
        assert np.array_equal(cotangent, X)
        return logits, {"logits": GRADIENT}

    found = answer(log_softmax, "log_softmax")
    assert np.array_equal(found.gradients["logits"], GRADIENT)


@pytest.mark.parametrize(
    ("given", "error"),
    [
        (None, "this is a NoneType"),
        (X, "this is a ndarray"),
        ((X, X), "this is a tuple"),
        ((X, {"x": X}), "there is a gradient by 'x'; the inputs are logits"),
        ((X, {"logits": None}), "the gradient by logits is a NoneType; return an array of numbers"),
        (("a", {}), "the output is a str; return an array of numbers"),
    ],
)
def test_what_is_no_output_with_gradients_is_said(given: Any, error: str) -> None:
    def log_softmax(logits: Any, cotangent: Any) -> Any:
        return given

    assert error in (answer(log_softmax, "log_softmax").error or "")


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        (
            lambda x, y: x,
            "ours doesn't take logits, target by name and needs x, y; a function for softmax_cross_entropy takes logits, target",
        ),
        (lambda logits, target, scale: 0, "ours needs scale;"),
        (lambda *arrays: 0, "ours doesn't take logits, target by name;"),
        (lambda logits, target, /: 0, "ours doesn't take logits, target by name and needs logits, target;"),
        (lambda logits: 0, "ours doesn't take target by name;"),
        (lambda logits, target, reduction="none": 0, "ours has reduction='none', and softmax_cross_entropy has reduction='mean' where"),
        (lambda logits, target, label_smoothing=0.1: 0, "ours has label_smoothing=0.1, and softmax_cross_entropy has label_smoothing=0.0"),
        (np.add, "ours doesn't"),
        (7, "ours is a int; name a function"),
    ],
)
def test_a_function_that_does_not_fit_is_refused_at_once(function: Any, sentence: str) -> None:
    with pytest.raises(Unusable, match=re.escape(sentence)):
        adapt(function, "ours", Contract.of("softmax_cross_entropy"))


def test_optional_names_are_optional() -> None:
    def loss(logits: Any, target: Any, scale: float = 1.0, *_: Any, **__: Any) -> Any:
        return 0.0

    assert set(adapt(loss, "ours", Contract.of("softmax_cross_entropy")).operations) == {"softmax_cross_entropy"}


def test_the_contract_says_which_dtypes() -> None:
    assert Contract.of("entropy").promises == {"float64": Promise("A", "float64"), "float32": Promise("A", "float32")}
    assert Contract.of("entropy", dtypes=("float16",)).promises == {"float16": Promise("A", "float32")}
    own = {"float16": Promise("N", "float32"), "float32": Promise("S", "float32")}
    assert Contract.of("entropy", own).promises == own
    assert Contract.of("entropy", own, ("float32",)).promises == {"float32": own["float32"]}


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        (("no_loss",), InvalidInput, "no_loss"),
        (("entropy", {}, ("int8",)), PromiseError, "'int8'"),
        (("entropy", {"float32": Promise("A", "float32")}, ("float64",)), Unusable, "float64 is asked for and not promised"),
        (("entropy", {}, (), "cupy"), Unusable, "tensors is 'cupy'; functions get those of numpy, torch, jax"),
    ],
)
def test_a_contract_that_cannot_be(arguments: tuple[Any, ...], error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=re.escape(sentence)):
        Contract.of(*arguments)


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "ours_for_a_test.py").write_text(
        "class Kernels:\n    @staticmethod\n    def entropy(p):\n        return (-p).sum(-1)\n\nentropy = Kernels.entropy\n"
    )
    monkeypatch.delitem(sys.modules, "ours_for_a_test", raising=False)
    return "ours_for_a_test"


def test_a_module_of_the_current_folder_is_found(module: str) -> None:
    for path in ("entropy", "Kernels.entropy"):
        adapter = load(f"{module}:{path}", Contract.of("entropy"))
        assert adapter.name == f"{module}:{path}"
        assert adapter.operations == {"entropy"}
        output, gradients = adapter.call("entropy", "eager", {"p": X}, {}, X[:, 0])
        assert output.tolist() == [-1.0]
        assert gradients == {}


@pytest.mark.parametrize(
    ("reference", "sentence"),
    [
        ("no_such_module_x:loss", "no module is named 'no_such_module_x'"),
        ("conformance.no_such_module:loss", "no module is named 'conformance.no_such_module'"),
        ("{}:entrpy", "ours_for_a_test has no 'entrpy'; did you mean entropy?"),
        ("{}:Kernels.loss", "ours_for_a_test has no 'Kernels.loss'"),
        ("{}:", "ours_for_a_test has no ''"),
    ],
)
def test_what_is_not_there_is_said(module: str, reference: str, sentence: str) -> None:
    with pytest.raises(Unusable, match=re.escape(sentence)):
        load(reference.format(module), Contract.of("entropy"))


def test_what_its_import_lacks_is_not_taken_for_the_module_itself(module: str) -> None:
    Path(f"{module}.py").write_text("import no_such_library\n")
    with pytest.raises(ModuleNotFoundError, match="no_such_library"):
        load(f"{module}:entropy", Contract.of("entropy"))


@pytest.mark.parametrize("tensors", ["torch", "jax"])
def test_a_library_differentiates_functions_of_its_tensors(tensors: str) -> None:
    pytest.importorskip(tensors)

    def log_softmax(logits: Any) -> Any:
        assert type(logits).__module__.partition(".")[0] in ("torch", "jax", "jaxlib")
        return 3.0 * logits

    found = answer(log_softmax, "log_softmax", tensors=tensors)
    assert found.error is None
    assert found.output is not None
    assert np.array_equal(found.output, 3.0 * X)
    assert np.array_equal(found.gradients["logits"], 3.0 * X)
    assert found.gradients["logits"].dtype == np.float32


def test_a_torch_function_without_derivatives_has_no_gradients() -> None:
    pytest.importorskip("torch")
    found = answer(lambda logits: logits.detach(), "log_softmax", tensors="torch")
    assert found.error is None
    assert found.gradients == {}


def test_gradients_come_from_one_side() -> None:
    pytest.importorskip("torch")
    with pytest.raises(Unusable, match="takes cotangent, and the gradients by torch's tensors are its own"):
        adapt(lambda logits, cotangent: logits, "ours", Contract.of("log_softmax", tensors="torch"))
