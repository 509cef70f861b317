"""Vectors as files: what `vectors/README.md` describes, read strictly and written in canonical bytes.

One JSON index and one safetensors file for each operation and group, and a manifest that seals every file of the folder.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Iterable, Mapping
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401  (safetensors knows bfloat16 only once this is imported)
import numpy as np
import safetensors
import safetensors.numpy

from conformance.case import GROUPS, Array, Case, Expectation, Expected, Recipe, Vector, VectorError
from conformance.cases import counter
from refimpl.enclosure import FORMATS, Enclosure, Kind

FORMAT = 1
MANIFEST = "manifest.json"
REMEDY = "run `lossref generate` to make the vectors anew, or reinstall lossref"
DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "U8": "uint8"}
NUMPY = {name: np.dtype(np.int64 if name == "int64" else np.uint8) for name in ("int64", "uint8")} | {
    name: found.dtype for name, found in FORMATS.items()
}

Folder = Path | Traversable


# Writing


def encode(operation: str, group: str, vectors: Iterable[Vector]) -> dict[str, bytes]:
    """The files of one operation and group, by name."""
    tensors: dict[str, Array] = {}
    lines = [_line(_write_vector(vector, tensors)) for vector in vectors]
    head = _line({"format": FORMAT, "group": group, "operation": operation})
    index = head[:-1] + ',"vectors":[\n' + ",\n".join(lines) + "\n]}\n"
    contiguous = {name: np.ascontiguousarray(array).reshape(array.shape) for name, array in tensors.items()}
    return {f"{operation}/{group}.json": index.encode(), f"{operation}/{group}.safetensors": safetensors.numpy.save(contiguous)}


def manifest(files: Mapping[str, bytes]) -> bytes:
    """The manifest of a folder with these files, in its canonical bytes."""
    body = {
        "files": {name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in files.items()},
        "format": FORMAT,
    }
    return (json.dumps({**body, "digest": _digest(body)}, sort_keys=True, indent=1) + "\n").encode()


def _digest(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(_line(body).encode()).hexdigest()


def _line(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _write_vector(vector: Vector, tensors: dict[str, Array]) -> dict[str, Any]:
    case = vector.case
    short = case.id.split("/", 2)[2]
    arrays = {**case.inputs, **({} if case.cotangent is None else {"cotangent": case.cotangent})}
    entry: dict[str, Any] = {
        "clauses": list(case.clauses),
        "dtype": case.dtype,
        "flags": list(case.flags),
        "id": case.id,
        "parameters": dict(case.parameters),
        "source": case.source,
        "arrays": {name: _write_array(f"{short}/{name}", array, case.recipes.get(name), tensors) for name, array in arrays.items()},
        "expectations": [],
    }
    for number, expectation in enumerate(vector.expectations):
        names = {"output": expectation.output} | {f"gradient.{name}": e for name, e in expectation.gradients.items()}
        entry["expectations"].append(
            {
                "choices": dict(expectation.choices),
                "kind": expectation.kind,
                "tensors": {name: _write_expected(f"{short}/{number}/{name}", e, tensors) for name, e in names.items()},
            }
        )
    return entry


def _write_array(prefix: str, array: Array, recipe: Recipe | None, tensors: dict[str, Array]) -> dict[str, Any]:
    entry: dict[str, Any] = {"dtype": array.dtype.name, "shape": list(array.shape)}
    if recipe is None:
        tensors[prefix] = array
        return entry
    settings = {"axis": recipe.axis, "below": recipe.below, "ignored": recipe.ignored, "values": [repr(value) for value in recipe.values]}
    how = {"generator": recipe.generator, "holds": recipe.holds, "seed": recipe.seed, "sha256": recipe.sha256}
    return {**entry, "recipe": {**how, **settings}}


def _write_expected(prefix: str, expected: Expected, tensors: dict[str, Array]) -> dict[str, Any]:
    _write_enclosure(prefix, expected.values, tensors)
    if expected.where is not None:
        tensors[f"{prefix}/where"] = expected.where
    if expected.total is not None:
        _write_enclosure(f"{prefix}/total", expected.total, tensors)
    kept = None if expected.where is None else len(expected.where)
    return {"shape": list(expected.shape), "where": kept, "total": expected.total is not None}


def _write_enclosure(prefix: str, e: Enclosure, tensors: dict[str, Array]) -> None:
    tensors |= {f"{prefix}/kind": e.kind, f"{prefix}/hi": e.hi, f"{prefix}/lo": e.lo, f"{prefix}/radius": e.radius}


# Reading


def verified(folder: Folder, names: Collection[str] | None = None) -> dict[str, bytes]:
    """The bytes of every sealed file (or of those named), checked against the manifest; raises `VectorError`."""
    listed = read_manifest(folder)
    files: dict[str, bytes] = {}
    for name, entry in listed["files"].items():
        if names is not None and name not in names:
            continue
        data = _bytes(folder, name)
        if len(data) != entry["bytes"] or hashlib.sha256(data).hexdigest() != entry["sha256"]:
            raise VectorError(f"{name}: its {len(data)} bytes aren't those that the manifest seals (sha256 differs); {REMEDY}")
        files[name] = data
    return files


def read_manifest(folder: Folder) -> dict[str, Any]:
    """The manifest, its own digest and canonical bytes checked; raises `VectorError`."""
    data = _bytes(folder, MANIFEST)
    found = _closed(_json(MANIFEST, data), MANIFEST, "", {"digest": str, "files": dict, "format": int})
    if found["format"] != FORMAT:
        raise VectorError(
            f"{MANIFEST}: format {found['format']} isn't {FORMAT}, the one that this release reads; install a matching lossref"
        )
    body = {"files": found["files"], "format": found["format"]}
    if found["digest"] != _digest(body) or (json.dumps(found, sort_keys=True, indent=1) + "\n").encode() != data:
        raise VectorError(f"{MANIFEST}: its bytes aren't those that its digest seals; {REMEDY}")
    for name, entry in found["files"].items():
        _closed(entry, MANIFEST, f"files.{name}", {"bytes": int, "sha256": str})
        if name.startswith("/") or "\\" in name or ":" in name or any(part in ("", ".", "..") for part in name.split("/")):
            raise VectorError(f"{MANIFEST}: files.{name} leads out of the folder; {REMEDY}")
    return found


def decode(operation: str, group: str, index: bytes, data: bytes) -> list[Vector]:
    """The vectors of one operation and group from its two files; raises `VectorError` for anything that is not as described."""
    name = f"{operation}/{group}.json"
    head = _closed(_json(name, index), name, "", {"format": int, "group": str, "operation": str, "vectors": list})
    wanted: dict[str, Any] = {"format": FORMAT, "group": group, "operation": operation}
    for field, value in wanted.items():
        if head[field] != value:
            raise VectorError(f"{name}: {field} is {head[field]!r}, not {value!r}; {REMEDY}")
    reader = _Reader(name, f"{operation}/{group}.safetensors", _tensors(f"{operation}/{group}.safetensors", data))
    vectors = [reader.vector(entry, f"vectors[{number}]") for number, entry in enumerate(head["vectors"])]
    if reader.tensors:
        raise VectorError(f"{reader.data}: tensor {min(reader.tensors)!r} belongs to no vector; {REMEDY}")
    return vectors


def _bytes(folder: Folder, name: str) -> bytes:
    path = folder
    for part in name.split("/"):
        path = path / part
    try:
        return path.read_bytes()
    except OSError as error:
        raise VectorError(f"{name}: can't be read from {folder} ({type(error).__name__}); {REMEDY}") from error


def _json(name: str, data: bytes) -> Any:
    def no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a field is given twice")
        return found

    def no_constants(text: str) -> Any:
        raise ValueError(f"{text} is no JSON")

    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=no_duplicates, parse_constant=no_constants)
    except (ValueError, RecursionError) as error:
        raise VectorError(f"{name}: no valid JSON ({error}); {REMEDY}") from error


def _closed(value: Any, name: str, path: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """`value` as an object with exactly these fields of these types."""
    where = f"field {path}" if path else "the file"
    if not isinstance(value, dict):
        raise VectorError(f"{name}: {where} is no object; {REMEDY}")
    for field in value:
        if field not in fields:
            raise VectorError(f"{name}: {where} has an unknown field {field!r}; {REMEDY}")
    for field, kind in fields.items():
        if field not in value:
            raise VectorError(f"{name}: {where} has no field {field!r}; {REMEDY}")
        if not isinstance(value[field], kind) or (kind is int and isinstance(value[field], bool)):
            raise VectorError(f"{name}: field {path + '.' if path else ''}{field} has the wrong type; {REMEDY}")
    return value


def _tensors(name: str, data: bytes) -> dict[str, Array]:
    try:
        parsed = safetensors.deserialize(data)
    except safetensors.SafetensorError as error:
        raise VectorError(f"{name}: no valid safetensors file ({error}); {REMEDY}") from error
    tensors: dict[str, Array] = {}
    for key, entry in parsed:
        if entry["dtype"] not in DTYPES or key in tensors:
            raise VectorError(f"{name}: tensor {key!r} of dtype {entry['dtype']} isn't part of the format; {REMEDY}")
        tensors[key] = np.frombuffer(bytes(entry["data"]), NUMPY[DTYPES[entry["dtype"]]]).reshape(entry["shape"])
    return tensors


class _Reader:
    """Reads the vectors of one index; takes each tensor out of `tensors` as it is used."""

    def __init__(self, name: str, data: str, tensors: dict[str, Array]) -> None:
        self.name, self.data, self.tensors = name, data, tensors

    def vector(self, entry: Any, path: str) -> Vector:
        texts = {"dtype": str, "id": str, "source": str, "clauses": list, "flags": list}
        found = _closed(entry, self.name, path, {**texts, "parameters": dict, "arrays": dict, "expectations": list})
        prefix = self.name.removesuffix(".json") + "/"
        short = found["id"].removeprefix(prefix)
        if not found["id"].startswith(prefix) or not short or found["dtype"] not in FORMATS:
            raise self.wrong(path, f"id {found['id']!r} or dtype {found['dtype']!r} is not one of this file's")
        for field in ("clauses", "flags"):
            if not all(isinstance(text, str) for text in found[field]):
                raise self.wrong(f"{path}.{field}", "it holds something that is no text")
        for field, value in found["parameters"].items():
            if not isinstance(value, (bool, int, float, str, type(None))):
                raise self.wrong(f"{path}.parameters.{field}", "it is neither a number, a text, true, false nor null")
        recipes: dict[str, Recipe] = {}
        arrays = {k: self.array(f"{short}/{k}", v, f"{path}.arrays.{k}", recipes, k) for k, v in found["arrays"].items()}
        for field, array in arrays.items():
            if array.dtype.name not in (found["dtype"], "int64"):
                raise self.wrong(f"{path}.arrays.{field}", f"its dtype {array.dtype.name} is neither int64 nor the vector's")
        cotangent = arrays.pop("cotangent", None)
        expectations = tuple(
            self.expectation(f"{short}/{number}", one, f"{path}.expectations[{number}]") for number, one in enumerate(found["expectations"])
        )
        if not expectations:
            raise self.wrong(f"{path}.expectations", "it is empty")
        operation = self.name.split("/")[0]
        given = (found["parameters"], cotangent, tuple(found["clauses"]), tuple(found["flags"]), found["source"], recipes)
        return Vector(Case(found["id"], operation, found["dtype"], arrays, *given), expectations)

    def array(self, key: str, entry: Any, path: str, recipes: dict[str, Recipe], name: str) -> Array:
        fields: dict[str, Any] = {"dtype": str, "shape": list}
        recipe = isinstance(entry, dict) and "recipe" in entry
        found = _closed(entry, self.name, path, {**fields, "recipe": dict} if recipe else fields)
        shape = self.shape(found["shape"], path)
        if not recipe:
            return self.take(key, found["dtype"], shape)
        how = {"generator": str, "holds": str, "seed": int, "sha256": str, "axis": int, "below": int, "ignored": int, "values": list}
        given = _closed(found["recipe"], self.name, f"{path}.recipe", how)
        if found["dtype"] not in NUMPY or math.prod(shape) > 2**22 or not 0 <= given["seed"] < 2**48:
            raise self.wrong(path, "its dtype, shape or seed isn't one that a recipe may have")
        try:
            values = tuple(float(text) for text in given["values"])
            recipes[name] = Recipe(**{**given, "values": values}, shape=shape, dtype=found["dtype"])
            return counter.make(recipes[name])
        except (VectorError, TypeError, ValueError, IndexError, ZeroDivisionError, OverflowError) as error:
            raise self.wrong(f"{path}.recipe", str(error)) from error

    def expectation(self, prefix: str, entry: Any, path: str) -> Expectation:
        found = _closed(entry, self.name, path, {"choices": dict, "kind": str, "tensors": dict})
        if found["kind"] not in ("value", "error") or not all(isinstance(value, str) for value in found["choices"].values()):
            raise self.wrong(path, "its kind is neither value nor error, or a choice is no text")
        tensors = {name: self.expected(f"{prefix}/{name}", one, f"{path}.tensors.{name}") for name, one in found["tensors"].items()}
        if "output" not in tensors or not all(name == "output" or name.startswith("gradient.") for name in tensors):
            raise self.wrong(f"{path}.tensors", "it holds something other than output and gradients, or no output")
        output = tensors.pop("output")
        return Expectation(found["choices"], found["kind"], output, {name.removeprefix("gradient."): e for name, e in tensors.items()})

    def expected(self, key: str, entry: Any, path: str) -> Expected:
        found = _closed(entry, self.name, path, {"shape": list, "where": (int, type(None)), "total": bool})
        shape = self.shape(found["shape"], path)
        kept = found["where"]
        where = None if kept is None else self.take(f"{key}/where", "int64", (kept,))
        if where is not None and where.size and (where[0] < 0 or where[-1] >= math.prod(shape) or (np.diff(where) <= 0).any()):
            raise self.wrong(f"{path}.where", "its indices don't ascend within the tensor")
        values = self.enclosure(key, shape if kept is None else (kept,))
        return Expected(shape, where, values, self.enclosure(f"{key}/total", ()) if found["total"] else None)

    def enclosure(self, key: str, shape: tuple[int, ...]) -> Enclosure:
        kind = self.take(f"{key}/kind", "uint8", shape)
        if kind.size and kind.max() > max(Kind):
            raise VectorError(f"{self.data}: tensor {key}/kind holds {kind.max()}, which names no kind; {REMEDY}")
        hi, lo, radius = (self.take(f"{key}/{part}", "float64", shape) for part in ("hi", "lo", "radius"))
        return Enclosure(kind, hi, lo, radius)

    def take(self, key: str, dtype: str, shape: tuple[int, ...]) -> Array:
        tensor = self.tensors.pop(key, None)
        if tensor is None:
            raise VectorError(f"{self.data}: tensor {key!r} is missing; {REMEDY}")
        if tensor.dtype.name != dtype or tensor.shape != shape:
            raise VectorError(f"{self.data}: tensor {key!r} is {tensor.dtype.name}{tensor.shape}, not {dtype}{shape}; {REMEDY}")
        return tensor

    def shape(self, value: list[Any], path: str) -> tuple[int, ...]:
        if not all(isinstance(size, int) and not isinstance(size, bool) and 0 <= size < 2**40 for size in value):
            raise self.wrong(f"{path}.shape", "it isn't a list of sizes")
        return tuple(value)

    def wrong(self, path: str, why: str) -> VectorError:
        return VectorError(f"{self.name}: field {path}: {why}; {REMEDY}")


def names(files: Iterable[str]) -> list[tuple[str, str]]:
    """The (operation, group) pairs of the files, in order."""
    found = {tuple(name.removesuffix(".json").split("/")) for name in files if name.count("/") == 1 and name.endswith(".json")}
    return sorted((pair[0], pair[1]) for pair in found if pair[1] in GROUPS)
