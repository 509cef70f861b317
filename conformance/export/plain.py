"""A vector as a JSON file that needs no other, `<operation>/<group>/<name>.json`: what a recipe makes is written out.

Numbers are decimals that give the same binary64 when they are read, and "nan", "inf" and "-inf"; arrays are flat, in C order, beside their
shape. The parts of what is expected are those of `vectors/README.md`, none left out: hi, lo, radius, kind, where, total, terms.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from conformance.case import Array, Expected, Vector
from refimpl.enclosure import Kind


def write(vector: Vector, folder: Path) -> str:
    """Writes the vector's file; nothing is ever left out."""
    case = vector.case
    path = folder / f"{case.id}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {**case.inputs, **({} if case.cotangent is None else {"cotangent": case.cotangent})}
    body = about(vector)
    body["arrays"] = {name: {"dtype": a.dtype.name, "shape": list(a.shape), "values": _numbers(a)} for name, a in arrays.items()}
    for entry, expectation in zip(body["expectations"], vector.expectations, strict=True):
        entry["output"] = _expected(expectation.output)
        entry["gradients"] = {name: _expected(expected) for name, expected in expectation.gradients.items()}
    path.write_text(json.dumps(body, sort_keys=True, indent=1, allow_nan=False) + "\n", encoding="ascii")
    return ""


def about(vector: Vector) -> dict[str, Any]:
    """All that there is to say of a vector beside its arrays."""
    case = vector.case
    return {
        "clauses": list(case.clauses),
        "dtype": case.dtype,
        "expectations": [{"choices": dict(one.choices), "kind": one.kind} for one in vector.expectations],
        "flags": list(case.flags),
        "id": case.id,
        "layouts": dict(case.layouts),
        "operation": case.operation,
        "parameters": dict(case.parameters),
        "since": case.since,
        "source": case.source,
        "supersedes": case.supersedes,
        "tier": case.tier,
    }


def _expected(expected: Expected) -> dict[str, Any]:
    values, total = expected.values, expected.total
    return {
        "shape": list(expected.shape),
        "where": None if expected.where is None else expected.where.tolist(),
        "kind": [Kind(kind).label for kind in values.kind.ravel().tolist()],
        "hi": _numbers(values.hi),
        "lo": _numbers(values.lo),
        "radius": _numbers(values.radius),
        "total": None if total is None else dict(zip(("hi", "lo", "radius"), map(float, (total.hi, total.lo, total.radius)), strict=True)),
        "terms": None if expected.terms is None else [_numbers(row) for row in expected.terms],
    }


def _numbers(array: Array) -> list[Any]:
    values = array.ravel().tolist() if array.dtype.kind in "iu" else array.ravel().astype(np.float64).tolist()
    return [value if math.isfinite(value) else str(value) for value in values]
