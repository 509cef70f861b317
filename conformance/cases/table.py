"""Entries of the tables of cases: a call, the dtypes in which it says something, the clauses that it is evidence for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conformance.case import Case, Recipe, VectorError, rounded, seed_of
from conformance.cases import counter
from conformance.cases.build import case_of
from refimpl.enclosure import FORMATS
from refimpl.operation import GENERAL, Operation

Call = Mapping[str, Any]

ALL = tuple(FORMATS)
WIDE = ("float64", "float32")
SINGLE = ("float32",)
HALF = ("bfloat16", "float16")
NOT_BFLOAT16 = ("float64", "float32", "float16")


@dataclass(frozen=True)
class Entry:
    """A row of a table of cases.

    `about` names clauses of the operation, by id or by edge label, or general ones by id. `call` is the call, or makes it for a dtype.
    `source` is "repository#number", or several, separated by ", "; empty where no report is known.
    """

    name: str
    about: tuple[str, ...]
    call: Call | Callable[[str], Call]
    dtypes: tuple[str, ...] = ALL
    source: str = ""
    flags: tuple[str, ...] = ()
    layouts: Mapping[str, str] = field(default_factory=dict)
    tier: str = "core"


def cases(operation: Operation, group: str, entries: Iterable[Entry]) -> Iterator[Case]:
    """`<operation>/<group>/<entry>-<dtype>`."""
    for entry in entries:
        for dtype in entry.dtypes:
            yield _case(operation, f"{group}/{entry.name}", entry, dtype)


def _case(operation: Operation, name: str, entry: Entry, dtype: str) -> Case:
    call: dict[str, Any] = {}
    for key, value in (entry.call(dtype) if callable(entry.call) else entry.call).items():
        if isinstance(value, Recipe):
            seed = seed_of(f"{operation.name}/{name}/{key}")
            value = counter.sealed(replace(value, seed=seed, dtype=value.dtype or dtype))
        call[key] = value
    clauses = tuple(_clause(operation, entry, label) for label in entry.about)
    flags = (*entry.flags, "layout") if entry.layouts else entry.flags
    case = case_of(operation, name, dtype, call, clauses=clauses, flags=flags, source=entry.source)
    return replace(case, layouts=entry.layouts, tier=entry.tier)


def _clause(operation: Operation, entry: Entry, label: str) -> str:
    """The id of a clause, given by its id or its edge label."""
    for clause in (*operation.clauses, *GENERAL):
        if label in (clause.id, clause.edge):
            return clause.id
    raise VectorError(f"{operation.name}, entry {entry.name}: no clause has the id or edge label {label!r}; name one that exists")


def narrowed(values: Any, dtype: str) -> NDArray[np.float64]:
    """Numbers rounded to a dtype; what lies beyond its range becomes its largest number."""
    limit = FORMATS[dtype].largest
    wide = np.asarray(values, np.float64)
    return rounded(np.where(np.isinf(wide), wide, np.clip(wide, -limit, limit)), dtype).astype(np.float64)


def beside(value: float, steps: int, dtype: str) -> float:
    """The number `steps` places above (or below) `value`, which the dtype holds, among the numbers of the dtype."""
    array = rounded(np.asarray([value]), dtype)
    bits = array.view(f"i{array.dtype.itemsize}")
    bits += steps if value > 0 else -steps
    return float(array.astype(np.float64)[0])


def repeat(shape: tuple[int, ...], *values: float) -> Recipe:
    """Numbers over and over, in the case's dtype."""
    return Recipe("repeat", 0, shape, "", values=tuple(map(float, values)))


def same(shape: tuple[int, ...], *index: int) -> Recipe:
    """One class index everywhere, or several over and over."""
    return Recipe("repeat", 0, shape, "int64", values=tuple(map(float, index)))


def step(shape: tuple[int, ...], count: int, before: float, *after: float) -> Recipe:
    """`count` times one number, then others over and over."""
    return Recipe("step", 0, shape, "", below=count, values=(before, *after))


def draws(shape: tuple[int, ...], holds: str = "logits", axis: int = -1) -> Recipe:
    """Numbers by counter: logits, or what `conformance.cases.counter` knows besides."""
    return Recipe(holds, 0, shape, "", axis=axis)
