"""A case from plain numbers: the inputs and parameters of a call, told apart and brought to a dtype."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from conformance.case import Array, Case, Recipe, VectorError, exactly, output_shape, seed_of
from conformance.cases import counter
from refimpl.operation import Index, IndexOrReal, InvalidInput, Operation

STORED = 1024  # arrays of more elements are kept as recipes, where they have one


def case_of(
    operation: Operation,
    name: str,
    dtype: str,
    call: Mapping[str, Any],
    *,
    clauses: tuple[str, ...],
    flags: tuple[str, ...] = (),
    source: str = "",
) -> Case:
    """The case `<operation>/<name>-<dtype>` of a call.

    A value of `call` may be a number, nested lists, an array, or a `Recipe`. The cotangent is drawn by counter, with a seed that
    all dtypes share, unless the call gives one. Raises `VectorError` where the call isn't one of the operation's.
    """
    id = f"{operation.name}/{name}-{dtype}"
    inputs: dict[str, Array] = {}
    parameters: dict[str, Any] = {}
    recipes: dict[str, Recipe] = {}
    for key, value in call.items():
        if isinstance(value, Recipe):
            inputs[key] = counter.make(value)
            if inputs[key].size > STORED:
                recipes[key] = value
        elif key in operation.inputs:
            inputs[key] = _array(operation, key, value, dtype, f"{id}, {key}")
        elif key in operation.parameters:
            parameters[key] = value
        elif key != "cotangent":
            raise VectorError(f"{id}: {operation.name} has no input or parameter {key!r}; correct the call")
    try:
        shape = output_shape(operation, {**inputs, **parameters})
    except (InvalidInput, TypeError) as error:
        raise VectorError(f"{id}: {operation.name} refuses this call: {error}") from error
    if "cotangent" in call:
        cotangent = exactly(call["cotangent"], dtype, f"{id}, cotangent")
    else:
        recipe = Recipe("cotangent", seed_of(f"{operation.name}/{name}/cotangent"), shape, dtype)
        cotangent = counter.make(recipe)
        if cotangent.size > STORED:
            recipes["cotangent"] = counter.sealed(recipe)
    return Case(id, operation.name, dtype, inputs, parameters, cotangent, clauses, flags, source, recipes)


def _array(operation: Operation, name: str, value: Any, dtype: str, what: str) -> Array:
    kind = operation.inputs[name]
    array = np.asarray(value)
    empty_indices = isinstance(kind, IndexOrReal) and array.size == 0 and array.ndim == len(kind.axes.replace("*", "").split())
    if isinstance(kind, Index) or empty_indices or (isinstance(kind, IndexOrReal) and array.dtype.kind in "iu"):
        if array.size and array.dtype.kind not in "iu":
            raise VectorError(f"{what}: class indices are whole numbers, not {array.dtype}; correct the call")
        return array.astype(np.int64)
    return exactly(array, dtype, what)
