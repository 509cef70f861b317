"""Candidates: a vector in a file of its own, with the failure that it was found by, until `lossref vectors add` takes it.

The file is JSON; `candidate.json` is its schema. `case` and `expectations` are as in an index of the golden vectors (`vectors/README.md`),
and what is a tensor there stands in `tensors`, as a safetensors file in base64. A candidate that was taken is kept without its
expectations under `conformance/cases/found`: the generator reads the case, and proves it as every other.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from conformance.case import Array, Case, Recipe, Vector, VectorError, output_shape
from conformance.cases import counter
from conformance.cases.build import STORED
from conformance.complaint import Complaint
from conformance.schema import Check, Mismatch, compiled
from conformance.storage import ledger, schema, tensors, text, writing
from conformance.storage.reading import decode_alone
from refimpl.operation import InvalidInput
from refimpl.operations import operation

FORMAT = 1
GROUP = "regression"  # defects that real libraries had or have, as every vector that was found by a failure
FOUND = Path(__file__).parent / "cases" / "found"
PERIOD = 16  # numbers that a large array may repeat to be kept as a recipe
PLAIN = r"[\w.]{1,40}-[\w.]{1,20}"  # a backend and a mode that may stand in a file's name
SHORT = 60  # characters that stand there of others
LEFT_OUT = " ... "
REMEDY = "write it anew with `lossref search`, or take it as it was written"


class CandidateError(Complaint):
    """A candidate that can't be used; the message names the file, the field and the remedy."""


@dataclass(frozen=True)
class Origin:
    """The failure that a candidate was found by: whose, in which mode, the verdict, and its message. A file keeps them `fitted`."""

    backend: str
    version: str
    mode: str
    verdict: str
    message: str


@dataclass(frozen=True)
class Candidate:
    """A vector and where it comes from. One that was taken has no expectations."""

    vector: Vector
    origin: Origin


def named(case: Case, name: str = "") -> Case:
    """The case as a candidate: `<operation>/regression/<name>-<dtype>`, by default named by what it asks.

    Of its arrays those that are large and repeat a few numbers are kept as recipes; a layout in memory is flagged.
    """
    arrays = {**case.inputs, **({} if case.cotangent is None else {"cotangent": case.cotangent})}
    recipes = {key: recipe for key, array in arrays.items() if (recipe := _repeated(array)) is not None}
    id = f"{case.operation}/{GROUP}/{name or f'found-{ledger.meaning(case)[:8]}'}-{case.dtype}"
    flags = tuple(dict.fromkeys((*case.flags, *(["layout"] if case.layouts else []))))
    return replace(case, id=id, flags=flags, recipes={**recipes, **case.recipes})


def _repeated(array: Array) -> Recipe | None:
    """The recipe of a large array that repeats up to `PERIOD` numbers."""
    flat = array.reshape(-1)
    if flat.size <= STORED:
        return None
    for period in range(1, PERIOD + 1):
        if np.array_equal(flat[period:].view(np.uint8), flat[:-period].view(np.uint8)):
            values = tuple(map(float, flat[:period].astype(np.float64)))
            recipe = counter.sealed(Recipe("repeat", 0, array.shape, array.dtype.name, values=values))
            return recipe if counter.make(recipe).tobytes() == array.tobytes() else None
    return None


def file_name(case: Case, backend: str, mode: str) -> str:
    """That of the candidate which a backend gave in a mode: of the same case another backend or mode gives another one."""
    whose = f"{backend}-{mode}"
    if re.fullmatch(PLAIN, whose, re.ASCII) is None:
        safe = re.sub(r"[^\w.]+", "-", whose, flags=re.ASCII)[:SHORT]
        whose = f"{safe}-{hashlib.sha256(repr((backend, mode)).encode()).hexdigest()[:8]}"
    return f"{case.id.replace('/', '-')}-{whose}.json"


def fitted(field: str, text: str) -> str:
    """The text of that field of an `Origin` as a file holds it: of one that is too long the middle is left out."""
    most = _own()["properties"]["origin"]["properties"][field].get("maxLength", len(text))
    half = (most - len(LEFT_OUT)) // 2
    return text if len(text) <= most else text[:half] + LEFT_OUT + text[-half:]


def write(path: Path, vector: Vector, origin: Origin) -> None:
    """Write the file of a candidate; raises `VectorError` for what the format can't hold."""
    kept: dict[str, Array] = {}
    document = {**_head(vector.case, origin, kept), "expectations": writing.expectation_entries(vector, kept)}
    _save(path, document, kept)


def keep(case: Case, origin: Origin) -> Path:
    """Write the file of a case that is taken, where the generator reads it, and return its path."""
    kept: dict[str, Array] = {}
    path = FOUND / case.operation / f"{case.id.rpartition('/')[2]}.json"
    _save(path, _head(case, origin, kept), kept)
    return path


def _head(case: Case, origin: Origin, kept: dict[str, Array]) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "operation": case.operation,
        "origin": {field: fitted(field, text) for field, text in vars(origin).items()},
        "parameters": dict(case.parameters),
        "case": writing.case_entry(case, kept),
    }


def _save(path: Path, document: dict[str, Any], kept: Mapping[str, Array]) -> None:
    if kept:
        document["tensors"] = base64.b64encode(tensors.write(kept)).decode()
    path.parent.mkdir(parents=True, exist_ok=True)
    fields = (f"{text.line(name)}:{text.line(value)}" for name, value in document.items())
    path.write_text("{" + ",\n".join(fields) + "}\n", encoding="ascii")


def read(path: Path) -> Candidate:
    """The candidate in a file; raises `CandidateError`, naming file, field and remedy, for anything that isn't as described."""
    found = _read(path)
    if not found.vector.expectations:
        raise CandidateError(f"{path}: field expectations: there are none; {REMEDY}")
    return found


def taken(operation: str) -> list[Case]:
    """The cases of an operation that were found by a search and taken, by name; raises `CandidateError`."""
    found = []
    for path in sorted((FOUND / operation).glob("*.json"), key=lambda path: path.stem):
        case = _read(path).vector.case
        if case.id != f"{operation}/{GROUP}/{path.stem}":
            raise CandidateError(f"{path}: field case.id: it is {case.id!r}, not that of the file's name; name the file so")
        found.append(case)
    return found


def _read(path: Path) -> Candidate:
    try:
        document = text.parse(str(path), path.read_bytes())
        _check()(document)
        data = base64.b64decode(document["tensors"], validate=True) if "tensors" in document else tensors.write({})
        vector = decode_alone(str(path), {"expectations": [], **document}, data)
        _refuse_another_call(str(path), vector)
    except OSError as error:
        raise CandidateError(f"{path} can't be read ({error.strerror}); name the file of a candidate") from error
    except Mismatch as error:
        raise CandidateError(f"{path}: {f'field {error.path}: ' if error.path else ''}{error}; {REMEDY}") from None
    except binascii.Error as error:
        raise CandidateError(f"{path}: field tensors: it is no base64 ({error}); {REMEDY}") from error
    except VectorError as error:
        raise CandidateError(str(error).replace(text.REMEDY, REMEDY)) from error
    return Candidate(vector, Origin(**document["origin"]))


def _refuse_another_call(name: str, vector: Vector) -> None:
    """Raise `VectorError` where the case is no call of its operation, or what is expected isn't of its tensors and choices."""
    case = vector.case
    try:
        stated = operation(case.operation)
        unknown = [key for key in case.call if key not in stated.inputs and key not in stated.parameters]
        if unknown:
            raise text.wrong(name, "case", f"{case.operation} has no input or parameter {unknown[0]!r}")
        shape = output_shape(stated, case.call)
    except (InvalidInput, TypeError) as error:
        raise text.wrong(name, "case", str(error)) from error
    if case.cotangent is not None and case.cotangent.shape != shape:
        raise text.wrong(name, "case.arrays.cotangent", f"its shape is {list(case.cotangent.shape)}, and that of the output {list(shape)}")
    choices = {choice.name: choice.values for choice in stated.choices}
    differentiated = () if case.cotangent is None else tuple(key for key in stated.differentiable if key in case.inputs)
    for position, expectation in enumerate(vector.expectations):
        path = f"expectations[{position}]"
        for key, value in expectation.choices.items():
            if value not in choices.get(key, ()):
                raise text.wrong(name, f"{path}.choices.{key}", f"{case.operation} has no such choice as {value!r}")
        if set(expectation.gradients) != set(differentiated):
            raise text.wrong(name, f"{path}.gradients", f"they are of {sorted(expectation.gradients)}, not {sorted(differentiated)}")
        expected = {"output": (expectation.output.shape, shape)}
        expected |= {f"gradients.{key}": (one.shape, case.inputs[key].shape) for key, one in expectation.gradients.items()}
        for key, (given, true) in expected.items():
            if given != true:
                raise text.wrong(name, f"{path}.{key}.shape", f"it is {list(given)}, and the call's {list(true)}")


@cache
def _check() -> Check:
    """That of `candidate.json`, whose other definitions are those of an index."""
    index = schema.definition("index")
    known = index["$defs"]
    case = {**known["vector"], "required": [name for name in known["vector"]["required"] if name != "expectations"]}
    case["properties"] = {name: value for name, value in case["properties"].items() if name != "expectations"}
    parameters = index["properties"]["sets"]["items"]["properties"]["parameters"]
    return compiled(_own(), {**known, "case": case, "parameters": parameters})


@cache
def _own() -> dict[str, Any]:
    """`candidate.json`."""
    own: dict[str, Any] = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
    return own
