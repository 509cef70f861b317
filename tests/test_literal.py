"""Arrays as Python expressions: what stands there is the array, bit for bit, and short."""

from __future__ import annotations

import ast
import operator
from math import inf, nan
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from conformance.case import Array, rounded
from conformance.literal import expression

DTYPES = [np.float64, np.float32, np.float16, ml_dtypes.bfloat16]
OPERATORS: dict[type[ast.AST], Any] = {ast.Add: operator.add, ast.Mult: operator.mul}


def value(node: ast.AST) -> Any:
    """What an expression is, of the few kinds that there are."""
    match node:
        case ast.Expression():
            return value(node.body)
        case ast.Constant():
            return node.value
        case ast.UnaryOp(op=ast.USub()):
            return -value(node.operand)
        case ast.List() | ast.Tuple():
            return [value(one) for one in node.elts]
        case ast.Name():
            return {"inf": inf, "nan": nan, "np": np, "zlib": __import__("zlib"), "base64": __import__("base64")}[node.id]
        case ast.Attribute():
            return getattr(value(node.value), node.attr)
        case ast.BinOp():
            return OPERATORS[type(node.op)](value(node.left), value(node.right))
        case ast.Call():
            return value(node.func)(*(value(one) for one in node.args))
    raise TypeError(ast.dump(node))


def again(array: Array) -> Array:
    """The array from its expression, as a library with a dtype makes it."""
    made = np.asarray(value(ast.parse(expression(array), mode="eval")))
    return made.astype(np.int64) if array.dtype.kind in "iu" else rounded(made.astype(np.float64), array.dtype.name)


def same(a: Array, b: Array) -> bool:
    with np.errstate(invalid="ignore"):  # a nan of bfloat16
        wide = [one.astype(np.float64) for one in (a, b)]
    equal = (wide[0] == wide[1]) & (np.signbit(wide[0]) == np.signbit(wide[1])) | (np.isnan(wide[0]) & np.isnan(wide[1]))
    return a.shape == b.shape and bool(equal.all())


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: np.dtype(dtype).name)
def test_numbers_are_what_they_were(dtype: type) -> None:
    tiny = float(ml_dtypes.finfo(dtype).smallest_subnormal)
    strange = np.array([0.0, -0.0, inf, -inf, nan, 0.1, -1 / 3, tiny, 3 * tiny, float(ml_dtypes.finfo(dtype).max), 1e-3, 1000.0], dtype)
    assert same(again(strange), strange)
    bits = np.random.default_rng(0).integers(0, 2**15, 4000).astype(np.uint16)
    with np.errstate(invalid="ignore", over="ignore"):
        halves = bits.view(np.float16 if dtype == np.float16 else ml_dtypes.bfloat16).astype(dtype)
    for row in halves.reshape(-1, 40):
        assert same(again(row), row)


def test_few_digits_where_few_are_enough() -> None:
    assert expression(np.array([[0.1, -2.0]], np.float32)) == "[[0.1, -2.0]]"
    assert expression(np.array(-2.0, ml_dtypes.bfloat16)) == "-2.0"
    assert expression(np.array([1, -100])) == "[1, -100]"


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (np.zeros((70000, 2), np.float16), "np.zeros((70000, 2))"),
        (np.full(100, -0.0), "np.full(100, -0.0)"),
        (np.full(50, 7), "np.full(50, 7)"),
        (np.tile(np.array([0.0, 2.0, -inf], np.float32), (300, 1)), "np.tile([0.0, 2.0, -inf], (300, 1))"),
        (np.repeat([0.0, nan, 1.0], [30, 1, 69]), "np.repeat([0.0, nan, 1.0], [30, 1, 69])"),
        (np.arange(64, dtype=np.float32).reshape(8, 8), "np.arange(64)*1.0 + 0.0"),
        (np.resize([1, 2, 3], 100), "np.resize([1, 2, 3], 100)"),
        (np.zeros((0, 3)), "np.zeros((0, 3))"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_large_array_is_what_it_is_made_of(array: Array, text: str) -> None:
    assert text in expression(array)
    assert same(again(array), array)


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: np.dtype(dtype).name)
def test_what_has_no_structure_is_packed(dtype: type) -> None:
    drawn = np.random.default_rng(1).normal(size=(3, 50)).astype(dtype)
    assert same(again(drawn), drawn)
