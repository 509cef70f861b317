"""The vectors of the tiny operation as files, and how to forge them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from conformance import storage
from conformance.case import Case, Recipe
from conformance.cases import counter, edges, random
from conformance.cases.build import case_of
from conformance.storage.pages import page
from conformance.storage.tensors import narrowed
from conformance.storage.text import line
from refimpl.enclosure import Enclosure
from tests import squares

Change = Callable[[dict[str, Any]], Any]


def small() -> Iterator[Case]:
    yield from edges.cases(squares.OPERATION)
    yield from (case for case in random.cases(squares.OPERATION) if "-V33-" in case.id or "-V1000-" in case.id)
    call = {
        "logits": Recipe("repeat", 0, (5000, 1), "float16", values=(0.5, -0.0)),
        "target": Recipe("repeat", 0, (5000,), "int64", values=(0.0,)),
    }
    sealed = {name: counter.sealed(recipe) for name, recipe in call.items()}
    yield case_of(squares.OPERATION, "regression/many", "float16", sealed, clauses=("SQR-1",), source="a/b#1", flags=("many-rows",))


def flat(value: Any) -> Any:
    """A value with every array and enclosure as bytes, to compare bit for bit; radii as files hold them."""
    if isinstance(value, np.ndarray):
        return value.dtype.name, value.shape, value.tobytes()
    if isinstance(value, Enclosure):
        return tuple(flat(part) for part in (value.kind, value.hi, value.lo, narrowed(value.radius)))
    if isinstance(value, Mapping):
        return {key: flat(one) for key, one in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return tuple(flat(one) for one in value)
    if hasattr(value, "__dataclass_fields__"):
        return {name: flat(getattr(value, name)) for name in value.__dataclass_fields__}
    return value


def files_of(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file() and path.stat().st_size)


def reseal(folder: Path) -> None:
    """Seals whatever is there, as a forger would."""
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    present = {name: (folder / name).read_bytes() for name in names if name != storage.MANIFEST}
    (folder / "manifest.json").write_bytes(storage.manifest(present))


def first(index: dict[str, Any]) -> dict[str, Any]:
    """The vector "shared-float64" of the index of edges."""
    vector: dict[str, Any] = index["sets"][0]["vectors"][0]
    assert vector["id"] == "squares/edges/shared-float64"
    return vector


def answer(index: dict[str, Any]) -> dict[str, Any]:
    output: dict[str, Any] = first(index)["expectations"][0]["output"]
    return output


def forge(folder: Path, group: str, change: Change) -> None:
    """Changes an index and seals it, in its canonical bytes, as a forger would who knows the format."""
    path = folder / "squares" / f"{group}.json"
    index = json.loads(path.read_text())
    change(index)
    lines = [(line(one["parameters"]), [line(vector) for vector in one["vectors"]]) for one in index["sets"]]
    path.write_bytes(page({field: value for field, value in index.items() if field != "sets"}, lines))
    reseal(folder)
