"""What all wrong kernels share: right arithmetic in numpy, in small replaceable steps, and the promise that it keeps.

Each operation has one right kernel, a function of its `Steps`, and a fault is the same kernel with one step replaced. The right
one, as `RIGHT`, passes every vector; so what a fault fails is due to its mistake. Half precision is computed in float32 and rounded
once; sums are trees of pairs (`total`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Literal

import numpy as np
from ml_dtypes import bfloat16
from numpy.typing import DTypeLike

from conformance.adapter import Adapter, Array
from conformance.bound import Promise, Summation
from conformance.faults import Fault
from conformance.kernel import kernel

TREE = Summation("pairwise")  # what `total` is, whatever lies how in memory; numpy's own sums are that only along contiguous rows
PROMISES = {
    "float64": Promise("A", compute="float64", summation=TREE),
    "float32": Promise("A", compute="float32", summation=TREE),
    "bfloat16": Promise("A", compute="float32", summation=TREE),
    "float16": Promise("A", compute="float32", summation=TREE),
}
DTYPES = tuple(PROMISES)
HALVES = ("bfloat16", "float16")
Answer = tuple[Array, dict[str, Array]]


def right(operation: str, function: Callable[..., Answer], steps: Any) -> Adapter:
    """The right kernel of an operation as a backend; the function takes its steps first."""
    return _backend(f"{operation}/right", operation, function, steps, DTYPES)


def faults_of(operation: str, function: Callable[..., Answer]) -> Callable[..., Fault]:
    """What makes the faults of an operation, each from the steps with one of them wrong."""

    def fault(
        name: str,
        clause: str,
        steps: Any,
        mistake: str,
        *,
        direction: Literal["forward", "backward"] = "forward",
        seen: str = "",
        dtypes: Collection[str] = DTYPES,
    ) -> Fault:
        return Fault(_backend(f"{operation}/{name}", operation, function, steps, dtypes), clause, direction, mistake, seen)

    return fault


def _backend(name: str, operation: str, function: Callable[..., Answer], steps: Any, dtypes: Collection[str]) -> Adapter:
    def call(**given: Any) -> Answer:
        with np.errstate(all="ignore"):
            return function(steps, **given)

    return kernel(name, operation, call, {dtype: PROMISES[dtype] for dtype in dtypes}, {})


def wide(x: Array) -> Array:
    """In the dtype of the computation: float64 as it is, all else as float32."""
    return x if x.dtype == np.float64 else x.astype(np.float32)


def proper(x: Array) -> Array:
    """Probabilities in the dtype of the computation: a negative one is none, and makes nan."""
    x = wide(x)
    return np.where(x < 0, np.nan, x).astype(x.dtype)


def total(x: Array) -> Array:
    """The sum along the last axis, pairwise, each half in turn added to the other."""
    if x.shape[-1] == 0:
        return np.zeros(x.shape[:-1], x.dtype)
    while (size := x.shape[-1]) > 1:
        half = (size + 1) // 2
        first = x[..., :half].copy()
        first[..., : size - half] += x[..., half:]
        x = first
    return np.asarray(x[..., 0])


def narrow_total(dtype: DTypeLike) -> Callable[[Array], Array]:
    """The sum along the last axis with a running sum in `dtype`: a mistake where the promise is float32."""

    def sum_in(x: Array) -> Array:
        if x.shape[-1] == 0:
            return np.zeros(x.shape[:-1], x.dtype)
        return np.asarray(np.add.accumulate(x.astype(dtype), axis=-1)[..., -1]).astype(x.dtype)

    return sum_in


def first_classes(count: int, add: Callable[[Array], Array] = total) -> Callable[[Array], Array]:
    """The sum of the first `count` classes: a kernel that has one thread for a class and no loop."""
    return lambda x: add(x[..., :count])


def whole_blocks(size: int, add: Callable[[Array], Array] = total) -> Callable[[Array], Array]:
    """The sum of the whole blocks of `size` classes, or of all where there is no whole one: the tail is lost."""
    return lambda x: add(x[..., : x.shape[-1] // size * size or x.shape[-1]])


def pull(slope: Array, g: Array) -> Array:
    """A derivative times the cotangent, where 0 gives 0."""
    return np.where(g == 0, 0, slope * g)


def first_row(g: Array) -> Array:
    """The cotangent of the first row for every row: a pointer that isn't moved."""
    return np.broadcast_to(g.reshape(-1)[:1].reshape((1,) * g.ndim), g.shape) if g.size else g


def like(value: Array, given: Array) -> Array:
    """Rounded once to the dtype of what was given."""
    return np.asarray(value).astype(given.dtype)


def in_dtype(dtype: DTypeLike) -> Callable[[Array], Array]:
    """A store to a narrower dtype and the load that follows."""
    return lambda x: x.astype(dtype).astype(x.dtype)


FLOAT16, BFLOAT16 = np.float16, bfloat16
