"""An operation of an adapter, with the parameters of a call filled in."""

from __future__ import annotations

import pytest

from conformance.specialise import Module, NoSource

SOURCE = '''
"""An adapter."""
from typing import Any
import library as lib
from library.special import entr, unused
from conformance.adapter import Unsupported

EPSILON: float = 1e-7


def loss(x: lib.Tensor, target: lib.Tensor, weight=None, *, ignore_index: int | None = None, reduction: str = "mean", **options: Any):
    """What it is."""
    _check(weight, reduction)
    if weight is not None and reduction == "batch":
        raise Unsupported("no weights")
    options |= _ignoring(ignore_index)
    soft = target.is_floating_point()
    if soft and ignore_index is not None:
        raise Unsupported("both")
    if x.size > 3:
        x = lib.flat(x)
    rows: Any = lib.soft(x, target) if soft else lib.hard(x, target, weight, **options)
    return {"none": lambda: rows, "sum": rows.sum, "mean": lambda: rows.mean()}[reduction]()


def _check(weight, reduction) -> None:
    if reduction not in ("none", "sum", "mean"):
        raise Unsupported(reduction)


def _ignoring(ignore_index: int | None) -> dict[str, int]:
    """Its default."""
    return {} if ignore_index is None else {"ignore_index": ignore_index}


def clipped(x: lib.Tensor) -> lib.Tensor:
    return _clip(entr(x))


def _clip(x: lib.Tensor) -> lib.Tensor:
    """Longer than one expression."""
    low: float = EPSILON
    if x.low < low:
        raise Unsupported("low")
    return x


OPERATIONS = {"loss": loss, "clipped": clipped, "lambda": lambda x: x}
'''
INDEX, REAL = {"target.is_floating_point()": False}, {"target.is_floating_point()": True}
MODULE = Module(SOURCE)


def body(operation: str, inputs: tuple[str, ...], parameters: dict[str, object], facts: dict[str, object]) -> str:
    return MODULE.call(operation, inputs, parameters, facts).definition("f")


def test_what_the_parameters_decide_is_decided() -> None:
    text = body("loss", ("x", "target"), {"reduction": "none"}, {**INDEX, "x.size": 2})
    assert text == "def f(x, target):\n    return lib.hard(x, target, None)"


def test_parameters_that_are_passed_on_are_filled_in() -> None:
    text = body("loss", ("x", "target", "weight"), {"ignore_index": -1, "smoothing": 0.1, "reduction": "sum"}, {**INDEX, "x.size": 2})
    assert text == (
        "def f(x, target, weight):\n    rows = lib.hard(x, target, weight, smoothing=0.1, ignore_index=-1)\n    return rows.sum()"
    )


def test_what_the_inputs_decide_stays_where_it_is_not_known() -> None:
    text = body("loss", ("x", "target"), {}, REAL)
    assert "if x.size > 3:\n        x = lib.flat(x)" in text
    assert "rows = lib.soft(x, target)" in text
    assert text.endswith("return rows.mean()")


def test_a_refusal_that_may_come_is_an_exception_of_python() -> None:
    text = body("loss", ("x", "target"), {"ignore_index": 0}, {"x.size": 2})
    assert "soft = target.is_floating_point()\n    if soft:\n        raise NotImplementedError('both')" in text


def test_a_script_begins_with_what_it_needs_and_no_more() -> None:
    function = MODULE.call("clipped", ("x",), {}, {})
    assert function.expression == "_clip(entr(x))"
    needed = MODULE.needed(function.expression)
    assert needed[0] == "from library.special import entr"
    assert needed[1] == "EPSILON = 1e-07"
    assert needed[2].startswith("def _clip(x):\n    low = EPSILON")
    assert "raise NotImplementedError('low')" in needed[2]
    assert len(needed) == 3


@pytest.mark.parametrize("operation", ["lambda", "nowhere"])
def test_an_operation_that_is_no_function_is_refused(operation: str) -> None:
    with pytest.raises(NoSource, match=rf"OPERATIONS\['{operation}'\] is no function of the file"):
        MODULE.call(operation, (), {}, {})
