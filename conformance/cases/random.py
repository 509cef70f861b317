"""Seeded random cases: every variation of an operation, over a ladder of class counts, in every dtype.

The draws of an input depend on its variation and V, not on the dtype: a case is the same numbers, rounded to its dtype.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from conformance.case import Case, Recipe, VectorError, seed_of
from conformance.cases import counter
from conformance.cases.build import case_of
from refimpl.enclosure import FORMATS
from refimpl.operation import Input, Operation, Real, Variation, Whole

# Classes and rows: a pair, a few, one more than a SIMD register holds, a few blocks, and a vocabulary.
LADDER = ((2, 4), (5, 4), (33, 4), (1000, 2), (50000, 2))
LARGEST = 100_000  # elements; beyond, the step of the ladder is left out
VOCABULARY = ("float32", "float16")  # the dtypes of the last step


def cases(operation: Operation) -> Iterator[Case]:
    """`<operation>/random/<variation>-V<classes>-<dtype>`."""
    for variation in operation.variations:
        for classes, rows in LADDER:
            if classes * rows * math.prod(variation.extra) > LARGEST:
                continue
            for dtype in VOCABULARY if (classes, rows) == LADDER[-1] else FORMATS:
                yield _case(operation, variation, classes, rows, dtype)


def _case(operation: Operation, variation: Variation, classes: int, rows: int, dtype: str) -> Case:
    name = f"random/{variation.name}-V{classes}"
    call: dict[str, Any] = dict(variation.parameters)
    for key, holds in variation.holds.items():
        kind = operation.inputs[key]
        axes = axes_of(kind, holds)
        whole = holds in ("index", "some_ignored")
        recipe = Recipe(
            holds,
            seed_of(f"{operation.name}/{name}/{key}"),
            shape_of(axes, rows, classes, variation.extra),
            "int64" if whole else dtype,
            axis=axes.split().index("V") if axes.startswith("N") and not whole and "V" in axes.split() else -1,
            below=classes if whole else 0,
            ignored=_ignored(operation, variation) if holds == "some_ignored" else 0,
        )
        call[key] = counter.sealed(recipe)
    return case_of(operation, name, dtype, call, clauses=variation.clauses)


def axes_of(kind: Input, holds: str) -> str:
    """The axes of an input that holds that."""
    if isinstance(kind, Real) or holds in ("index", "some_ignored"):
        return kind.axes
    return getattr(kind, "real_axes", kind.axes)


def shape_of(axes: str, rows: int, classes: int, extra: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that `axes` stand for."""
    sizes = {"N": (rows,), "V": (classes,), "B": (2,), "T": (rows // 2,), "...": (rows,), "*": extra, "any": (rows, classes)}
    return tuple(size for axis in axes.split() for size in sizes[axis])


def _ignored(operation: Operation, variation: Variation) -> int:
    for name in ("ignore_index", "padding_idx"):
        kind = operation.parameters.get(name)
        value = variation.parameters.get(name, kind.default if isinstance(kind, Whole) else None)
        if value is not None:
            return int(value)
    raise VectorError(f"{operation.name}, variation {variation.name}: some_ignored needs an ignore_index or padding_idx; give one")
