"""What the page says of a case: its inputs, and the two sizes that errors are drawn against."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from conformance.bound import class_axis
from conformance.case import Array, Case
from conformance.texts import element_text, nested_text
from refimpl.operations import operation

WHOLE = 24  # numbers of an input that are all shown
BEGINNING = 4  # numbers of a longer one
LOGARITHMIC = ("logits", "log_q", "log_p")  # inputs that have a scale: what probabilities are the exponentials of


def facts(case: Case) -> dict[str, Any]:
    """A case as the page has it; the reasons of its clauses stand elsewhere."""
    arrays: Mapping[str, Array] = case.inputs if case.cotangent is None else {**case.inputs, "cotangent": case.cotangent}
    classes, scale = sizes(case)
    return {
        "id": case.id,
        "operation": case.operation,
        "dtype": case.dtype,
        "tier": case.tier,
        "inputs": [[name, f"{array.dtype.name}{list(array.shape)}", spelled(array)] for name, array in arrays.items()],
        "parameters": [[name, repr(value)] for name, value in case.parameters.items()],
        "layouts": [[name, layout] for name, layout in case.layouts.items()],
        "flags": list(case.flags),
        "source": case.source,
        "classes": classes,
        "scale": scale,
    }


def spelled(array: Array) -> str:
    """The numbers of an array, of a long one the first few."""
    if array.size > WHOLE:
        return " ".join(element_text(x) for x in array.reshape(-1)[:BEGINNING]) + " …"
    return nested_text(array)


def sizes(case: Case) -> tuple[int | None, float | None]:
    """The number of classes V; and the largest magnitude among the finite logits or log-probabilities. None where there is no such."""
    name, array = next(iter(case.inputs.items()))
    axis = class_axis(operation(case.operation).inputs[name], array)
    classes = None if axis is None or not array.size else array.shape[axis]
    if name not in LOGARITHMIC or not array.size:
        return classes, None
    magnitudes = np.abs(array[np.isfinite(array)]).astype(np.float64)
    return classes, float(f"{magnitudes.max():.3g}") if magnitudes.size else None
