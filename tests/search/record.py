"""What a search has found, as a file that people and other programs can read: every float64 number in hex, `tests/worst.json`.

    {"blocks": {name: [record, ...]}, "operations": {label: [record, ...]}, "rounding": {operation: counts}}

A record holds an input, and how wrong the reference is on it: `share`, the true error over the radius (for a block, over the stated
error), and `units`, the error in units of 2^-106 of the terms' magnitude, 0 where underflow has a part in it. An operation's inputs have
rows along their first axis; with `classes` above their length, the rows repeat up to that many classes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from refimpl.operation import Number
from tests.inputs import cast
from tests.search.blocks import BLOCKS, BlockSpace, Operands
from tests.search.calls import Calls, CallSpace, Shared, spaces
from tests.search.climb import KINDS

WORST = Path(__file__).parents[1] / "worst.json"
KEPT = 2  # records of each kind for each target
DIGITS = 4

Record = dict[str, Any]
Target = BlockSpace | CallSpace


def targets() -> dict[str, dict[str, Target]]:
    """All that is searched, by the file's sections."""
    return {"blocks": {name: BlockSpace(block) for name, block in BLOCKS.items()}, "operations": dict(spaces())}


def measured(space: Target, member: Any) -> Record:
    """The record of a population of one slot, measured now."""
    scores = space.scores(member)
    numbers = {kind: float(f"{scores.of(kind)[0]:.{DIGITS}g}") for kind in KINDS}
    return numbers | (_operands(member) if isinstance(space, BlockSpace) else _arguments(space, member))


def member(space: Target, record: Record) -> Any:
    """The population that a record describes."""
    if isinstance(space, BlockSpace):
        return Operands(np.array([[float.fromhex(text) for text in record["operands"]]]))
    kinds, parameters = space.operation.parameters, {}
    for name, value in record["parameters"].items():
        parameters[name] = float.fromhex(value) if isinstance(kinds.get(name), Number) else value
    arrays = {name: _array(value) for name, value in record["inputs"].items()}
    shared = {name: arrays.pop(name) for name in ("weight", "cotangent") if name in arrays and _is_shared(name, arrays[name])}
    return Calls(arrays, Shared(record["dtype"], record["classes"], parameters, shared, space.joins(parameters)))


def worst(records: Iterable[Record]) -> list[Record]:
    """Of all records of a target those to keep: the KEPT largest of each kind, none twice."""
    found: list[Record] = []
    every = list(records)
    for kind in KINDS:
        for record in sorted(every, key=lambda record: -record[kind])[:KEPT]:
            if record[kind] > 0.0 and record not in found:
                found.append(record)
    return found


def largest(records: Iterable[Record], kind: str) -> Record | None:
    """The record with the largest value of that kind, None where all are 0."""
    found = max(records, key=lambda record: record[kind], default=None)
    return found if found is not None and found[kind] > 0.0 else None


def load(path: Path = WORST) -> dict[str, Any]:
    """The file's content; empty sections where there is none."""
    content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return {"blocks": {}, "operations": {}, "rounding": {}} | content


def save(content: Mapping[str, Any], path: Path = WORST) -> None:
    """Write the file, one record a line."""
    lines = []
    for section in ("blocks", "operations"):
        entries = []
        for name, records in sorted(content[section].items()):
            inner = ",\n".join(f"      {json.dumps(record)}" for record in records)
            entries.append(f"    {json.dumps(name)}: [\n{inner}\n    ]" if records else f"    {json.dumps(name)}: []")
        lines.append(f'  "{section}": {{\n' + ",\n".join(entries) + "\n  }")
    counts = ",\n".join(f"    {json.dumps(name)}: {json.dumps(count)}" for name, count in sorted(content["rounding"].items()))
    lines.append('  "rounding": {\n' + counts + "\n  }")
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def _operands(operands: Operands) -> Record:
    return {"operands": [value.hex() for value in operands.x[0].tolist()]}


def _arguments(space: CallSpace, calls: Calls) -> Record:
    shared, kinds = calls.shared, space.operation.parameters
    parameters = {name: float(value).hex() if isinstance(kinds.get(name), Number) else value for name, value in shared.parameters.items()}
    arrays = {name: _in_dtype(name, array, shared.dtype) for name, array in {**calls.rows, **shared.arrays}.items()}
    texts = {name: _text(array) for name, array in arrays.items()}
    return {"dtype": shared.dtype, "classes": shared.classes, "parameters": parameters, "inputs": texts}


def _in_dtype(name: str, array: Any, dtype: str) -> Any:
    """The numbers that the operation is given: those of an input rounded to its dtype."""
    return array if name == "cotangent" or array.dtype.kind == "i" else cast(array, dtype).astype(np.float64)


def _text(array: Any) -> Any:
    """Nested lists: integers as they are, float64 numbers in hex."""
    if isinstance(array, np.ndarray):
        array = array.tolist()
    if isinstance(array, list):
        return [_text(part) for part in array]
    return array if isinstance(array, int) else float(array).hex()


def _array(text: Any) -> Any:
    def number(part: Any) -> Any:
        if isinstance(part, list):
            return [number(inner) for inner in part]
        return part if isinstance(part, int) else float.fromhex(part)

    return np.array(number(text))


def _is_shared(name: str, array: Any) -> bool:
    return name == "weight" or array.ndim == 0
