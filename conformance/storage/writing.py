"""Vectors to the two files of an operation and group: an index that people can read, and the tensors of what is large."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conformance.case import FLAGS, Array, Case, Expectation, Expected, Recipe, Vector, VectorError
from conformance.storage.pages import page
from conformance.storage.schema import checked
from conformance.storage.tensors import halved, name_of, narrowed, raised, write
from conformance.storage.text import line, number, texts
from refimpl.enclosure import Enclosure, Kind

FORMAT = 1
INLINE = 16  # arrays of more elements are tensors
KINDS = tuple(Kind(value).label for value in range(len(Kind)))

Tensors = dict[str, Array]


def encode(operation: str, group: str, vectors: Iterable[Vector]) -> dict[str, bytes]:
    """The files of one operation and group, by name; raises `VectorError` for what the format can't hold."""
    members, tensors = list(vectors), Tensors()
    sets: dict[str, dict[str, Any]] = {}
    for vector in members:
        parameters = dict(vector.case.parameters)
        entry = _vector(vector, tensors)
        sets.setdefault(line(parameters), {"parameters": parameters, "vectors": []})["vectors"].append(entry)
    name = f"{operation}/{group}"
    head = {"format": FORMAT, "group": group, "notes": _notes(members), "operation": operation}
    checked("index", f"{name}.json", {**head, "sets": list(sets.values())})
    index = page(head, ((parameters, [line(entry) for entry in found["vectors"]]) for parameters, found in sets.items()))
    return {f"{name}.json": index, f"{name}.safetensors": write(tensors)}


def _notes(vectors: Sequence[Vector]) -> dict[str, str]:
    flags = {flag: vector.case.id for vector in vectors for flag in vector.case.flags}
    for flag, id in flags.items():
        if flag not in FLAGS:
            raise VectorError(f"{id}: nothing says what the flag {flag!r} means; add a sentence to FLAGS in conformance/case.py")
    return {flag: FLAGS[flag] for flag in flags}


def _vector(vector: Vector, tensors: Tensors) -> dict[str, Any]:
    return case_entry(vector.case, tensors) | {"expectations": expectation_entries(vector, tensors)}


def expectation_entries(vector: Vector, tensors: Tensors) -> list[dict[str, Any]]:
    """What a vector's `expectations` are in JSON; what is large is added to the tensors."""
    return [_expectation(vector.case.id, expectation, tensors) for expectation in vector.expectations]


def case_entry(case: Case, tensors: Tensors) -> dict[str, Any]:
    """What a vector is in JSON but for its expectations; what is large is added to the tensors."""
    return {
        "arrays": _arrays(case, tensors),
        "clauses": list(case.clauses),
        "dtype": case.dtype,
        "id": case.id,
        "since": case.since,
        "tier": case.tier,
    } | {
        field: value
        for field, value in {
            "flags": list(case.flags),
            "layouts": dict(case.layouts),
            "source": case.source,
            "supersedes": case.supersedes,
        }.items()
        if value
    }


def _arrays(case: Case, tensors: Tensors) -> dict[str, Any]:
    arrays = {**case.inputs, **({} if case.cotangent is None else {"cotangent": case.cotangent})}
    return {name: _array(f"{case.id}, {name}", array, case.recipes.get(name), tensors) for name, array in arrays.items()}


def _array(what: str, array: Array, recipe: Recipe | None, tensors: Tensors) -> dict[str, Any]:
    entry: dict[str, Any] = {"dtype": array.dtype.name, "shape": list(array.shape)}
    if recipe is not None:
        return {**entry, "recipe": _recipe(recipe)}
    whole = array.dtype == np.int64
    values = array.ravel().tolist() if whole else texts(array.ravel().astype(np.float64).tolist())
    if array.size > INLINE:
        return {**entry, "values": _tensor(array, tensors)}
    back = np.array(values if whole else [number(text) for text in values], np.float64 if not whole else np.int64).astype(array.dtype)
    if back.tobytes() != array.tobytes():
        raise VectorError(f"{what}: its bytes can't be kept as numbers (a nan that isn't the canonical one?); choose another number")
    return {**entry, "values": values}


def _recipe(recipe: Recipe) -> dict[str, Any]:
    whole = recipe.dtype == "int64"
    entry = {"generator": recipe.generator, "holds": recipe.holds, "seed": recipe.seed, "sha256": recipe.sha256}
    settings = {"axis": recipe.axis, "below": recipe.below, "ignored": recipe.ignored}
    defaults = {"axis": -1, "below": 0, "ignored": 0}
    entry |= {field: value for field, value in settings.items() if value != defaults[field]}
    if recipe.values:
        entry["values"] = [int(value) for value in recipe.values] if whole else texts(recipe.values)
    return entry


def _expectation(id: str, expectation: Expectation, tensors: Tensors) -> dict[str, Any]:
    def one(name: str, expected: Expected) -> dict[str, Any]:
        if expectation.kind == "error":
            return {"shape": list(expected.shape), **_where(expected, tensors)}
        return _expected(f"{id}, {name}", expected, tensors)

    return {
        "choices": dict(expectation.choices),
        "gradients": {name: one(f"gradient of {name}", expected) for name, expected in expectation.gradients.items()},
        "kind": expectation.kind,
        "output": one("output", expectation.output),
    }


def _where(expected: Expected, tensors: Tensors) -> dict[str, Any]:
    where = expected.where
    if where is None:
        return {}
    narrow = where.astype(np.uint32) if where.size and where[-1] < 2**32 else where
    return {"where": where.tolist() if where.size <= INLINE else _tensor(narrow, tensors)}


def _expected(what: str, expected: Expected, tensors: Tensors) -> dict[str, Any]:
    values = expected.values
    radius = _narrowed(f"{what}, radius", values.radius)
    entry: dict[str, Any] = {"shape": list(expected.shape), "hi": _floats(values.hi, tensors)}
    if values.kind.any():
        small = values.size <= INLINE
        entry["kind"] = [KINDS[kind] for kind in values.kind.ravel().tolist()] if small else _tensor(values.kind, tensors)
    if not _blank(values.lo):
        entry["lo"] = _floats(values.lo, tensors)
    if radius.any():
        entry["radius"] = _halves(radius, tensors)
    entry |= _where(expected, tensors)
    if expected.total is not None:
        entry["total"] = _total(what, expected.total)
    if expected.terms is not None:
        if not (expected.terms >= 0.0).all():
            raise VectorError(f"{what}, terms: it holds a number that is negative or nan; correct the bound")
        entry["terms"] = [_column(column, tensors) for column in raised(expected.terms).T]
    return entry


def _column(halves: NDArray[np.uint16], tensors: Tensors) -> str | None:
    """One term of every element: four hexadecimal digits each, or a tensor; None where all are zero."""
    if not halves.any():
        return None
    return "".join(f"{half:04x}" for half in halves.tolist()) if halves.size <= INLINE else _tensor(halves, tensors)


def _total(what: str, total: Enclosure) -> dict[str, str]:
    if total.kind != Kind.FINITE:
        raise VectorError(f"{what}: a sum that isn't finite can't be kept; leave it out")
    radius = _narrowed(f"{what}, radius of the sum", total.radius)
    parts = {"hi": total.hi, "lo": total.lo, "radius": radius}
    return {name: texts([float(part)])[0] for name, part in parts.items()}


def _narrowed(what: str, values: NDArray[np.float64]) -> NDArray[np.float64]:
    if not (values >= 0.0).all() or not np.isfinite(values).all():
        raise VectorError(f"{what}: it holds a number that is negative, nan or infinite; correct the kernel")
    return narrowed(values)


def _blank(values: Array) -> bool:
    """Whether all are +0."""
    return not np.ascontiguousarray(values).view(np.uint64).any()


def _floats(values: NDArray[np.float64], tensors: Tensors) -> list[str] | str:
    return texts(values.ravel().tolist()) if values.size <= INLINE else _tensor(values, tensors)


def _halves(values: NDArray[np.float64], tensors: Tensors) -> list[str] | str:
    if values.size <= INLINE:
        return texts(values.ravel().tolist())
    halves = halved(values)
    return _tensor(values if halves is None else halves, tensors)


def _tensor(array: Array, tensors: Tensors) -> str:
    flat = np.ascontiguousarray(array).reshape(-1)
    name = name_of(flat)
    tensors[name] = flat
    return name
