"""Vectors from the two files of an operation and group. Whatever the files hold, they are read as they say or refused by name."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conformance.case import Array, Case, Expectation, Expected, Recipe, Unread, Vector
from conformance.storage import tensors
from conformance.storage.lazy import Inputs, made
from conformance.storage.pages import page
from conformance.storage.schema import checked
from conformance.storage.text import line, number, parse, wrong
from conformance.storage.writing import INLINE, KINDS
from refimpl.enclosure import FORMATS, Enclosure, Kind

MADE = 2**20  # elements of the largest array that a recipe may make
ELEMENTS = 2**40  # of a tensor, most of which isn't kept

DTYPES = {"int64": np.dtype(np.int64)} | {name: found.dtype for name, found in FORMATS.items()}


def decode(operation: str, group: str, index: bytes, data: bytes, whole: bool = True) -> list[Vector]:
    """The vectors of one operation and group from its two files; raises `VectorError` for anything that is not as described.

    Unless it is to be read as a `whole`, what its seal vouches for, the schema and the canonical bytes, isn't looked at again, and the
    expectations of a vector are read, and refused, when they are first used.
    """
    name = f"{operation}/{group}.json"
    found = parse(name, index)
    if whole:
        _check_form(name, checked("index", name, found), index)
    for field, value in {"group": group, "operation": operation}.items():
        if found[field] != value:
            raise wrong(name, field, f"it is {found[field]!r}, not {value!r}")
    reader = _Reader(name, f"{operation}/{group}.safetensors", data)
    vectors = [
        reader.vector(entry, one["parameters"], f"sets[{outer}].vectors[{inner}]")
        for outer, one in enumerate(found["sets"])
        for inner, entry in enumerate(one["vectors"])
    ]
    reader.finish(found["notes"], vectors)
    if whole:
        reader.finish_tensors(vectors)
    return vectors


def _check_form(name: str, found: Mapping[str, Any], index: bytes) -> None:
    """Raise `VectorError` unless these are the canonical bytes of what they hold, each set of parameters once."""
    lines = [(line(one["parameters"]), [line(entry) for entry in one["vectors"]]) for one in found["sets"]]
    if page({field: value for field, value in found.items() if field != "sets"}, lines) != index:
        raise wrong(name, "", "its bytes aren't the canonical ones of what it holds")
    if len({parameters for parameters, _ in lines}) != len(lines):
        raise wrong(name, "sets", "two have the same parameters")


def decode_alone(name: str, document: Mapping[str, Any], data: bytes) -> Vector:
    """The vector in a file of its own: `operation`, `parameters`, `case` and `expectations` of a document, each as in an index.

    The document is of the right form, `data` the safetensors file. Raises `VectorError`, naming the file `name` and the field.
    """
    reader = _Reader(name, f"{name}, tensors", data)
    operation, entry, given = document["operation"], document["case"], document["expectations"]
    if not entry["id"].startswith(f"{operation}/") or not entry["id"].endswith(f"-{entry['dtype']}"):
        raise wrong(name, "case.id", f"{entry['id']!r} isn't one of this operation and dtype")
    case = reader.case(operation, entry, document["parameters"], "case")
    vector = Vector(case, [reader.expectation(one, f"expectations[{position}]") for position, one in enumerate(given)])
    reader.finish_tensors([vector])
    return vector


class _Reader:
    """Reads the vectors of one index."""

    def __init__(self, name: str, file: str, data: bytes) -> None:
        self.name, self.file = name, file
        self.tensors = tensors.read(file, data)
        self.used: set[str] = set()

    def finish(self, notes: Mapping[str, str], vectors: Sequence[Vector]) -> None:
        """What can be told of all vectors together: nothing is left over, or there twice."""
        flags = {flag for vector in vectors for flag in vector.case.flags}
        if notes.keys() != flags:
            raise wrong(self.name, "notes", f"{min(notes.keys() ^ flags)!r} is explained without a vector that has it, or the reverse")
        ids = [vector.case.id for vector in vectors]
        if len(set(ids)) != len(ids):
            raise wrong(self.name, "sets", f"the id {max(ids, key=ids.count)} is there twice")

    def finish_tensors(self, vectors: Sequence[Vector]) -> None:
        """Read what is read when it is used, after which no tensor may be left over."""
        for vector in vectors:
            vector.expectations[:]
        unused = self.tensors.keys() - self.used
        if unused:
            raise wrong(self.file, f"tensor {min(unused)}", "it belongs to no vector")

    def vector(self, entry: dict[str, Any], parameters: dict[str, Any], path: str) -> Vector:
        prefix = self.name.removesuffix(".json") + "/"
        if not entry["id"].startswith(prefix) or not entry["id"].endswith(f"-{entry['dtype']}"):
            raise wrong(self.name, f"{path}.id", f"{entry['id']!r} isn't one of this file and dtype")
        expectations = entry["expectations"]

        def expectation(position: int) -> Expectation:
            return self.expectation(expectations[position], f"{path}.expectations[{position}]")

        case = self.case(self.name.partition("/")[0], entry, parameters, path)
        return Vector(case, Unread([one["choices"] for one in expectations], expectation))

    def case(self, operation: str, entry: dict[str, Any], parameters: dict[str, Any], path: str) -> Case:
        dtype = entry["dtype"]
        for field in ("flags", "layouts", "source", "supersedes"):
            if field in entry and not entry[field]:
                raise wrong(self.name, f"{path}.{field}", "it is empty, and would be left out")
        arrays = {name: self.array(one, dtype, f"{path}.arrays.{name}") for name, one in entry["arrays"].items()}
        recipes = {name: array for name, array in arrays.items() if isinstance(array, Recipe)}
        cotangent = arrays.pop("cotangent", None)
        if isinstance(cotangent, Recipe):
            cotangent = made(cotangent, self.name, f"{path}.arrays.cotangent.recipe")
        case = Case(
            id=entry["id"],
            operation=operation,
            dtype=dtype,
            inputs=Inputs(arrays, self.name, f"{path}.arrays"),
            parameters=parameters,
            cotangent=cotangent,
            clauses=tuple(entry["clauses"]),
            flags=tuple(entry.get("flags", ())),
            source=entry.get("source", ""),
            recipes=recipes,
            layouts=entry.get("layouts", {}),
            tier=entry["tier"],
            since=entry["since"],
            supersedes=entry.get("supersedes", ""),
        )
        if not case.layouts.keys() <= arrays.keys() | ({"cotangent"} if cotangent is not None else set()):
            raise wrong(self.name, f"{path}.layouts", "it names an array that isn't there")
        return case

    def array(self, entry: dict[str, Any], dtype: str, path: str) -> Array | Recipe:
        if entry["dtype"] not in (dtype, "int64"):
            raise wrong(self.name, f"{path}.dtype", f"{entry['dtype']} is neither int64 nor the vector's")
        shape = self.shape(entry, path)
        if "recipe" in entry:
            return self.recipe(entry["recipe"], entry["dtype"], shape, f"{path}.recipe")
        return self.numbers(entry["values"], DTYPES[entry["dtype"]], shape, f"{path}.values")

    def recipe(self, entry: dict[str, Any], dtype: str, shape: tuple[int, ...], path: str) -> Recipe:
        given = entry.get("values", [])
        values = tuple(map(float, self.inline(given, DTYPES[dtype], f"{path}.values")))
        for field, default in {"axis": -1, "ignored": 0}.items():
            if entry.get(field) == default:
                raise wrong(self.name, f"{path}.{field}", "it is the default, and would be left out")
        if math.prod(shape) > MADE:
            raise wrong(self.name, path, f"it makes {math.prod(shape)} elements, and no recipe makes more than {MADE}")
        return Recipe(**{**entry, "values": values}, shape=shape, dtype=dtype)

    def expectation(self, entry: dict[str, Any], path: str) -> Expectation:
        refused = entry["kind"] == "error"
        read = self.refused if refused else self.expected
        output = read(entry["output"], f"{path}.output")
        gradients = {name: read(one, f"{path}.gradients.{name}") for name, one in entry["gradients"].items()}
        return Expectation(entry["choices"], entry["kind"], output, gradients)

    def refused(self, entry: dict[str, Any], path: str) -> Expected:
        if not entry.keys() <= {"shape", "where"}:
            raise wrong(self.name, path, "an error has a shape, perhaps a where, and nothing else")
        shape = self.shape(entry, path)
        where = self.where(entry["where"], math.prod(shape), f"{path}.where") if "where" in entry else None
        kept = shape if where is None else where.shape
        nan = np.broadcast_to(np.nan, kept)  # of whatever shape, one element in memory
        return Expected(shape, where, Enclosure(np.broadcast_to(np.uint8(Kind.NAN), kept), nan, *2 * (np.broadcast_to(0.0, kept),)))

    def expected(self, entry: dict[str, Any], path: str) -> Expected:
        shape = self.shape(entry, path)
        if "hi" not in entry:
            raise wrong(self.name, path, "a value has no hi")
        where = self.where(entry["where"], math.prod(shape), f"{path}.where") if "where" in entry else None
        kept = shape if where is None else where.shape
        total = self.total(entry["total"], f"{path}.total") if "total" in entry else None
        return Expected(shape, where, self.values(entry, kept, path), total, self.terms(entry, math.prod(kept), path))

    def where(self, given: list[int] | str, size: int, path: str) -> NDArray[np.int64]:
        if isinstance(given, list):
            where = self.inline(given, DTYPES["int64"], path)
        else:
            found = self.tensor(given, ("U32", "I64"), path)
            where = found.astype(np.int64)
            if (found.dtype == np.uint32) != bool(where.size and where[-1] < 2**32):
                raise wrong(self.name, path, "its indices have another width than they need")
        if where.size and (where[0] < 0 or where[-1] >= size or (np.diff(where) <= 0).any()):
            raise wrong(self.name, path, "its indices don't ascend within the tensor")
        return where

    def values(self, entry: dict[str, Any], shape: tuple[int, ...], path: str) -> Enclosure:
        hi = self.numbers(entry["hi"], DTYPES["float64"], shape, f"{path}.hi")
        lo = self.numbers(entry["lo"], DTYPES["float64"], shape, f"{path}.lo") if "lo" in entry else np.zeros(shape)
        size = math.prod(shape)
        radius = self.raised(entry["radius"], size, f"{path}.radius").reshape(shape) if "radius" in entry else np.zeros(shape)
        kind = self.kinds(entry["kind"], size, f"{path}.kind").reshape(shape) if "kind" in entry else np.zeros(shape, np.uint8)
        if ("lo" in entry and not lo.view(np.uint64).any()) or ("radius" in entry and not radius.any()):
            raise wrong(self.name, path, "a part that is zero throughout would be left out")
        if not (_allowed(kind, hi, lo, radius) if "kind" in entry else np.isfinite(hi).all()) or not np.isfinite(lo).all():
            raise wrong(self.name, path, "hi, lo and radius aren't what its kinds allow")
        return Enclosure(kind, hi, lo, radius)

    def kinds(self, given: list[str] | str, size: int, path: str) -> NDArray[np.uint8]:
        if isinstance(given, list):
            kinds = np.array([KINDS.index(kind) for kind in given], np.uint8)
        else:
            kinds = self.tensor(given, ("U8",), path)
            if kinds.size and kinds.max() >= len(KINDS):
                raise wrong(self.name, path, f"{kinds.max()} names no kind")
        self.sized(kinds, size, path)
        if not kinds.any():
            raise wrong(self.name, path, "all are finite, and would be left out")
        return kinds

    def total(self, entry: dict[str, str], path: str) -> Enclosure:
        hi, lo, radius = (self.inline([entry[part]], DTYPES["float64"], f"{path}.{part}").reshape(()) for part in ("hi", "lo", "radius"))
        if not (np.isfinite(hi) and np.isfinite(lo) and tensors.is_narrow(radius)):
            raise wrong(self.name, path, "it isn't finite, or its radius not as it is written")
        return Enclosure(np.zeros((), np.uint8), hi, lo, radius)

    def terms(self, entry: dict[str, Any], size: int, path: str) -> NDArray[np.float64] | None:
        if "terms" not in entry:
            return None
        columns = np.zeros((len(entry["terms"]), size), np.uint16)
        for position, given in enumerate(entry["terms"]):
            if given is not None:
                columns[position] = self.column(given, size, f"{path}.terms[{position}]")
        terms = np.ascontiguousarray(tensors.widened(columns).T)
        if not (terms >= 0.0).all():
            raise wrong(self.name, f"{path}.terms", "it holds nan")
        return terms

    def column(self, given: str, size: int, path: str) -> NDArray[np.uint16]:
        halves = self.tensor(given, ("U16",), path) if "." in given else np.frombuffer(bytes.fromhex(given), ">u2")
        self.sized(halves, size, path)
        if not halves.any():
            raise wrong(self.name, path, "a column of zeros would be null")
        return halves

    def raised(self, given: list[str] | str, size: int, path: str) -> NDArray[np.float64]:
        """Numbers that aren't negative and that were rounded up to six bits when they were written."""
        if isinstance(given, list):
            values = self.inline(given, DTYPES["float64"], path)
        else:
            found = self.tensor(given, ("U16", "F64"), path)
            values = tensors.widened(found) if found.dtype == np.uint16 else found
            if found.dtype == np.float64 and tensors.halved(values) is not None:
                raise wrong(self.name, path, "16 bits would do")
        self.sized(values, size, path)
        if not tensors.is_narrow(values):
            raise wrong(self.name, path, "it holds a number that is negative, infinite or nan, or has more than six significant bits")
        return values

    def numbers(self, given: list[Any] | str, dtype: np.dtype[Any], shape: tuple[int, ...], path: str) -> Array:
        found = self.inline(given, dtype, path) if isinstance(given, list) else self.tensor(given, (tensors.CODES[dtype],), path)
        self.sized(found, math.prod(shape), path)
        return found.reshape(shape)

    def inline(self, given: Sequence[Any], dtype: np.dtype[Any], path: str) -> Array:
        whole = dtype == np.int64
        if any(isinstance(one, str) == whole for one in given):
            raise wrong(self.name, path, f"its numbers aren't written as those of {dtype.name}")
        try:
            exact = np.array(given if whole else [number(one) for one in given], np.int64 if whole else np.float64)
        except (ValueError, OverflowError) as error:
            raise wrong(self.name, path, str(error)) from error
        found = exact
        if dtype != exact.dtype:
            with np.errstate(over="ignore", under="ignore"):
                found = exact.astype(dtype)
            if found.astype(np.float64).tobytes() != exact.tobytes():
                raise wrong(self.name, path, f"{dtype.name} can't hold one of its numbers")
        found.flags.writeable = False
        return found

    def tensor(self, name: str, codes: Sequence[str], path: str) -> Array:
        if name.partition(".")[0] not in codes:
            raise wrong(self.name, path, f"{name} isn't of dtype {' or '.join(codes)}")
        if name not in self.tensors:
            raise wrong(self.name, path, f"{self.file} has no tensor {name}")
        self.used.add(name)
        found = self.tensors[name]
        if found.size <= INLINE:
            raise wrong(self.name, path, f"{name} has {found.size} elements, which would stand here")
        return found

    def sized(self, found: Array, size: int, path: str) -> None:
        if found.size != size:
            raise wrong(self.name, path, f"it has {found.size} elements, not {size}")

    def shape(self, entry: dict[str, Any], path: str) -> tuple[int, ...]:
        shape = tuple(entry["shape"])
        if math.prod(size for size in shape if size) > ELEMENTS:
            raise wrong(self.name, f"{path}.shape", f"a tensor has no more than {ELEMENTS} elements")
        return shape


def _allowed(kind: NDArray[np.uint8], hi: Array, lo: Array, radius: Array) -> bool:
    """Whether each element's hi is of its kind, and lo and radius are zero where it isn't finite."""
    finite = kind == Kind.FINITE
    others = np.select(
        [kind == Kind.POSITIVE_INFINITY, kind == Kind.NEGATIVE_INFINITY, kind == Kind.OVERFLOW],
        [hi == np.inf, hi == -np.inf, np.isinf(hi)],
        np.isnan(hi),
    )
    return bool(np.where(finite, np.isfinite(hi), others).all() and not lo[~finite].any() and not radius[~finite].any())
