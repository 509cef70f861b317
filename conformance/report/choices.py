"""The tables of docs/spec/choices.md: every choice with its values, who takes them, and how many vectors tell them apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from conformance.case import Case, Expectation, Expected, Vector
from conformance.conduct import HALF_OUTPUT, REFUSAL, SUBNORMALS
from conformance.dialects import Dialect, choices, dialects
from refimpl.choices import CHOICES
from refimpl.enclosure import FORMATS
from refimpl.operation import Choice
from refimpl.operations import operations


def tables(vectors: Sequence[Vector]) -> dict[str, str]:
    """The text of each table by its name: one a choice, and that of the dialects."""
    found = {choice.name: _of_value(choice, vectors) for choice in CHOICES}
    for choice, speaks in ((REFUSAL, _refuses), (HALF_OUTPUT, _is_half), (SUBNORMALS, _is_subnormal)):
        found[choice.name] = _of_conduct(choice, [vector.case for vector in vectors if speaks(vector)])
    return found | {"dialects": _dialects(dialects()), "sources": _sources(dialects())}


def _of_value(choice: Choice, vectors: Sequence[Vector]) -> str:
    """A choice that changes a value: each with the vectors whose answer under it isn't that under the first value."""
    first = next(iter(choice.values))
    rows = []
    for value, definition in choice.values.items():
        apart = [vector.case for vector in vectors if value != first and _differs(vector, choice.name, first, value)]
        rows.append((f"`{value}`", definition, _takers(choice.name, value), "" if value == first else _counted(apart)))
    defaults = {name: one.default for name, operation in operations().items() for one in operation.choices if one.name == choice.name}
    others = [f"`{default}` in `{name}`" for name, default in defaults.items() if default != first]
    note = f"Of {', '.join(f'`{name}`' for name in defaults)}. The default is `{first}`" + (f", {', '.join(others)}." if others else ".")
    return f"{note}\n\n{_table(('value', 'definition', 'dialects', f'vectors that tell it from `{first}`'), rows)}"


def _of_conduct(choice: Choice, cases: Sequence[Case]) -> str:
    rows = [(f"`{value}`", definition, _takers(choice.name, value)) for value, definition in choice.values.items()]
    note = f"Of every operation. The default is `{choice.default}`. Vectors in which it shows: {_counted(cases)}."
    return f"{note}\n\n{_table(('value', 'definition', 'dialects'), rows)}"


def _differs(vector: Vector, choice: str, first: str, value: str) -> bool:
    """Whether two answers differ that agree in every other choice."""
    by_rest: dict[tuple[tuple[str, str], ...], dict[str, Expectation]] = {}
    for expectation in vector.expectations:
        rest = tuple(sorted(pair for pair in expectation.choices.items() if pair[0] != choice))
        by_rest.setdefault(rest, {})[expectation.choices.get(choice, "")] = expectation
    return any(first in there and value in there and _bytes(there[first]) != _bytes(there[value]) for there in by_rest.values())


def _bytes(expectation: Expectation) -> list[bytes]:
    tensors = [expectation.output, *expectation.gradients.values()]
    return [part.tobytes() for tensor in tensors for part in (tensor.values.kind, tensor.values.hi, tensor.values.lo)]


def _refuses(vector: Vector) -> bool:
    return any(expectation.kind == "error" for expectation in vector.expectations)


def _is_half(vector: Vector) -> bool:
    return FORMATS[vector.case.dtype].precision < FORMATS["float32"].precision


def _is_subnormal(vector: Vector) -> bool:
    """Whether an input, or an expected number, is subnormal in the case's dtype."""
    smallest = FORMATS[vector.case.dtype].normal
    given = [array for name, array in vector.case.inputs.items() if array.dtype.kind != "i" and name not in vector.case.recipes]
    expected: list[Expected] = [t for e in vector.expectations for t in (e.output, *e.gradients.values())]
    arrays = [*(array.astype(np.float64) for array in given), *(tensor.values.hi for tensor in expected)]
    return any(bool(((np.abs(array) > 0.0) & (np.abs(array) < smallest)).any()) for array in arrays)


def _takers(choice: str, value: str) -> str:
    """The dialects that take a value, with the operations where it is for those alone."""
    found = []
    for name, dialect in dialects().items():
        if dialect.choices.get(choice) == value:
            found.append(name)
        found += [f"{name} (`{operation}`)" for operation, values in dialect.operations.items() if values.get(choice) == value]
    return ", ".join(found) or "none"


def _counted(cases: Sequence[Case]) -> str:
    """How many cases, and the first of them."""
    return f"{len(cases)}, such as `{cases[0].id}`" if cases else "none"


def _dialects(known: Mapping[str, Dialect]) -> str:
    names = list(choices())
    rows = [(d.name, *(f"`{d.choices[name]}`" if name in d.choices else "–" for name in names)) for d in known.values()]
    return _table(("dialect", *(f"`{name}`" for name in names)), rows)


def _sources(known: Mapping[str, Dialect]) -> str:
    return "\n".join(f"- **{d.name}**: {d.summary} {' '.join(f'<{source}>' for source in d.source)}" for d in known.values())


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
