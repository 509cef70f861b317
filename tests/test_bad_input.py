"""Bad input to refimpl: one exception that names the thing, its value, and the remedy."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import refimpl
from refimpl import InvalidInput, OutOfRange
from refimpl.operation import IndexOrReal, Number, OneOf, Operation, Real, Switch, Whole
from refimpl.operations import operation, operations
from tests import inputs

ALL = pytest.mark.parametrize("op", operations().values(), ids=operations())
REMEDY = re.compile(r"\b(pass|convert|use|leave|name|or)\b")
NAN, INF = float("nan"), float("inf")


def good(op: Operation) -> dict[str, Any]:
    """A call that every operation takes: V = 4, index targets, weights where there may be some."""
    rng = np.random.default_rng(29)
    call = dict(op.defaults())
    sizes = {"N": (3,), "*": (2,), "V": (4,), "...": (3,), "any": (3, 2), "B": (3,), "T": (2,)}
    for name, kind in op.inputs.items():
        shape = tuple(size for axis in kind.axes.split() for size in sizes[axis])
        call[name] = rng.uniform(0.1, 0.9, shape) if isinstance(kind, Real) else rng.integers(0, 4, shape)
    return call


def reject(op: Operation, call: dict[str, Any], error: type[Exception], *says: str) -> None:
    """Output, gradient and exact form all refuse the call, and say the same."""
    pattern = ".*".join(re.escape(text) for text in says)
    g = np.ones(op.forward(**good(op)).shape)
    for function in (lambda: op.forward(**call), lambda: op.vjp(cotangent=g, **call), lambda: op.exact([0], 100, **call)):
        with pytest.raises(error, match=pattern) as caught:
            function()
        assert REMEDY.search(str(caught.value)), str(caught.value)
        assert "\n" not in str(caught.value)


@ALL
def test_a_good_call_is_taken(op: Operation) -> None:
    call = good(op)
    e = op.forward(**call)
    assert op.vjp(cotangent=np.ones(e.shape), **call).keys() == set(op.differentiable)


@ALL
def test_an_array_of_another_dtype_is_refused(op: Operation) -> None:
    for name, kind in op.inputs.items():
        value = good(op)[name]
        wrong = ["complex128", "object", "bool"] + (["int64", "longdouble"] if isinstance(kind, Real) else [])
        if not isinstance(kind, Real | IndexOrReal):
            wrong += ["float32"]
        for dtype in wrong:
            reject(op, good(op) | {name: value.astype(dtype)}, TypeError, name, str(np.dtype(dtype)))


@ALL
def test_what_is_no_array_of_numbers_is_refused(op: Operation) -> None:
    for name, kind in op.inputs.items():
        for value in ("probabilities", [[1.0], [1.0, 2.0]], {"a": 1.0}):
            reject(op, good(op) | {name: value}, TypeError, name, "pass an array of" if isinstance(kind, Real) else "")


@ALL
def test_an_array_of_another_shape_is_refused(op: Operation) -> None:
    names = list(op.inputs)
    for name in names:
        value = good(op)[name]
        if len(names) > 1:
            longer = np.concatenate([value, value[:1]])
            reject(op, good(op) | {name: longer}, InvalidInput, "shape")  # one of the two that no longer agree is named
            reject(op, good(op) | {name: value[None]}, InvalidInput, "shape")
        elif "V" in op.inputs[name].axes:
            reject(op, good(op) | {name: np.float64(1.0)}, InvalidInput, name, "shape ()")


@ALL
def test_nothing_broadcasts(op: Operation) -> None:
    names = [name for name, kind in op.inputs.items() if isinstance(kind, Real) and kind.differentiable]
    for name in names[1:]:
        value = good(op)[name]
        reject(op, good(op) | {name: value[:1]}, InvalidInput, "shape", str(value[:1].shape))


@ALL
def test_no_class_at_all_is_refused(op: Operation) -> None:
    axes = next(iter(op.inputs.values())).axes.split()
    if "V" not in axes:
        return
    call = good(op)
    for name, kind in op.inputs.items():
        if isinstance(kind, Real):
            axis = 0 if kind.axes == "V" else 1 if kind.axes.startswith("N") else -1
            call[name] = np.take(call[name], [], axis)
    first = next(iter(op.inputs))
    reject(op, call, InvalidInput, first, "at least one class")


def bad_values(kind: Any) -> Iterator[Any]:
    if isinstance(kind, Number):
        yield from (kind.low - 2.0**-1074, np.nextafter(kind.high, 9.0), NAN, INF, -INF, "0.1", None, True, [0.1])
    elif isinstance(kind, Whole):
        yield from (1.5, "1", True, [1]) + (() if kind.default is None else (None,))
    elif isinstance(kind, OneOf):
        yield from ("average", None, 0, "Mean", "")
    else:
        assert isinstance(kind, Switch)
        yield from (1, 0, "true", None)


@ALL
def test_a_parameter_that_is_not_allowed_is_refused(op: Operation) -> None:
    for name, kind in op.parameters.items():
        for value in bad_values(kind):
            reject(op, good(op) | {name: value}, InvalidInput, f"{name} is {value!r}; pass")


@ALL
def test_an_unknown_choice_is_refused(op: Operation) -> None:
    for choice in op.choices:
        for value in ("other", None, 0, ["nan"]):
            reject(op, good(op) | {choice.name: value}, InvalidInput, f"{choice.name} is {value!r}; pass one of", *map(repr, choice.values))


@ALL
def test_an_unknown_argument_is_refused(op: Operation) -> None:
    with pytest.raises(TypeError, match="temperature"):
        op.forward(temperature=1.0, **good(op))
    with pytest.raises(TypeError, match="temperature"):
        op.vjp(temperature=1.0, cotangent=1.0, **good(op))


@ALL
def test_a_target_that_names_no_class_is_refused(op: Operation) -> None:
    if "target" not in op.inputs:
        return
    ignoring = "padding_idx" if "padding_idx" in op.parameters else "ignore_index"
    for value in (4, -2, 2**40, -(2**63), 2**63 - 1):
        for ignored in (-7, 9) + (() if op.parameters[ignoring].default is not None else (None,)):
            call = good(op) | {ignoring: ignored}
            call["target"] = call["target"].copy()
            call["target"][1, 1] = value
            reject(op, call, OutOfRange, f"target[1, 1] is {value}", "pass a class from 0 to 3", ignoring)


@ALL
def test_a_target_of_unsigned_integers_beyond_int64_is_refused(op: Operation) -> None:
    if "target" not in op.inputs:
        return
    call = good(op)
    call["target"] = call["target"].astype(np.uint64)
    assert (op.forward(**call).hi == op.forward(**good(op)).hi).all()
    for value in (2**64 - 1, 2**63, 2**64 - 100):  # would wrap around to -1, -2^63, -100
        call["target"][0, 0] = value
        for ignored in (-1, -100):
            ignoring = "padding_idx" if "padding_idx" in op.parameters else "ignore_index"
            reject(op, call | {ignoring: ignored}, OutOfRange, "target", str(value))


@ALL
def test_a_bad_weight_is_refused(op: Operation) -> None:
    if "weight" not in op.inputs:
        return
    for value in (-1.0, -(2.0**-1074), NAN, INF, -INF):
        weight = np.ones(4)
        weight[2] = value
        reject(op, good(op) | {"weight": weight}, InvalidInput, f"weight[2] is {value}", "not negative")
    reject(op, good(op) | {"weight": np.ones(3)}, InvalidInput, "weight has shape (3,)", "(4,)")


def test_bad_probability_targets_are_refused() -> None:
    op = operation("softmax_cross_entropy")
    call = good(op)
    for value in (-(2.0**-1074), NAN, INF):
        t = np.full(call["logits"].shape, 0.25)
        t[1, 2, 0] = value
        reject(op, call | {"target": t}, InvalidInput, "target", "negative or non-finite", "pass finite numbers")
    t = np.full(call["logits"].shape, 0.25)
    reject(op, call | {"target": t, "ignore_index": -100}, InvalidInput, "ignore_index", "leave it out")
    reject(op, call | {"target": t[:, :2]}, InvalidInput, "target has shape (3, 2, 2)", "(3, 4, 2)")


@ALL
def test_a_bad_cotangent_is_refused(op: Operation) -> None:
    call = good(op)
    shape = op.forward(**call).shape
    bad: list[tuple[Any, type[Exception], str]] = [
        (np.ones((*shape, 2)), InvalidInput, str((*shape, 2))),
        (np.full(shape, NAN), InvalidInput, "nan or an infinity"),
        (np.full(shape, INF), InvalidInput, "nan or an infinity"),
        (np.ones(shape, np.int64), TypeError, "int64"),
        (np.ones(shape, np.complex128), TypeError, "complex128"),
    ]
    if shape:
        bad.append((np.ones(()), InvalidInput, "shape ()"))
    for g, error, says in bad:
        with pytest.raises(error, match=f"cotangent.*{re.escape(says)}") as caught:
            op.vjp(cotangent=g, **call)
        assert REMEDY.search(str(caught.value))
        with pytest.raises(error, match=f"cotangent.*{re.escape(says)}"):
            op.exact_vjp(op.differentiable[0], [0], 100, cotangent=g, **call)


@ALL
def test_a_cotangent_is_asked_for(op: Operation) -> None:
    with pytest.raises(TypeError, match="cotangent"):
        op.vjp(**good(op))


def test_an_unknown_operation_is_refused() -> None:
    for name in ("softmax", "", "Entropy", "softmax_crossentropy"):
        with pytest.raises(InvalidInput, match=f"no operation is named '{name}'; the operations are .*softmax_cross_entropy"):
            operation(name)


def test_every_operation_is_a_public_function() -> None:
    for name, op in operations().items():
        assert getattr(refimpl, name) is op.forward
        assert getattr(refimpl, f"{name}_vjp") is op.vjp
        assert {name, f"{name}_vjp"} <= set(refimpl.__all__)


def test_the_exceptions_are_those_that_callers_expect() -> None:
    assert issubclass(OutOfRange, InvalidInput)
    assert issubclass(InvalidInput, ValueError)


@ALL
def test_plain_lists_and_numbers_are_taken_as_float64(op: Operation) -> None:
    call = good(op)
    lists = {name: call[name].tolist() for name in op.inputs}
    e, other = op.forward(**call), op.forward(**call | lists)
    assert (e.hi == other.hi).all()
    assert (e.lo == other.lo).all()


@ALL
def test_empty_batches_are_taken(op: Operation) -> None:
    rng = np.random.default_rng(30)
    for _ in range(8):
        call = inputs.call(rng, op, 0, 4)
        e = op.forward(**call)
        for name, gradient in op.vjp(cotangent=inputs.cotangent(rng, e.shape), **call).items():
            assert gradient.shape == call[name].shape
            assert gradient.size == 0
