"""What a session was asked for: backends, vectors, and what is expected of them; it keeps the backends' processes until it is closed."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path

import pytest

from conformance import deviations, dialects
from conformance.case import TIERS
from conformance.commands.common import known_dtype, select
from conformance.complaint import Complaint
from conformance.deviations import Expectations
from conformance.dialects import Dialect
from conformance.link import Source
from conformance.runner import Run
from conformance.sources import NONE, Options, find, refuse_idle
from conformance.spec import sections
from conformance.vectors import Vector
from refimpl.enclosure import FORMATS
from refimpl.operation import InvalidInput
from refimpl.operations import operation, operations

_REGISTERED = pytest.StashKey[bool]()


@dataclass(frozen=True)
class Plan:
    """The backends of a session, how they are judged, and the ids of the tests that were named (without any, all are meant)."""

    sources: tuple[Source, ...]
    options: Options
    tier: str
    dialect: Dialect | None
    known: Mapping[str, Expectations | None]
    ids: tuple[str, ...]
    notes: list[str] = field(default_factory=list)  # on each backend that was started, for the header
    _open: ExitStack = field(default_factory=ExitStack)

    @cached_property
    def vectors(self) -> list[Vector]:
        """The vectors to ask, in their order; read once, as that takes seconds. Raises `Complaint`."""
        chosen, ids = select(self.options.operation, self.options.dtype, None, self.tier)
        for expectations in filter(None, self.known.values()):
            deviations.refuse_unknown(expectations, ids, self.options.operation)
        return chosen

    def start(self, source: Source) -> Run:
        """Start a backend, which then waits for questions until the plan is closed. Raises `Complaint`."""
        run = self._open.enter_context(Run([source], self.vectors, dialect=self.dialect, tier=self.tier, waits=True))
        versions = run.descriptions[source.name].versions
        self.notes.append(", ".join([f"lossref: {source.name}", *(f"{name} {version}" for name, version in versions.items())]))
        self.notes.extend(deviations.compare((), self.known[source.name], versions).notes)
        return run

    def close(self) -> None:
        """End the backends' processes."""
        self._open.close()

    def needs(self, node: str) -> bool:
        """Whether the node of that id holds, or may hold, a test that is wanted."""
        return not self.ids or any(holds(node, id) or holds(id, node) for id in self.ids)

    def wants(self, test: str) -> bool:
        """Whether the test of that id was asked for."""
        return not self.ids or any(holds(id, test) for id in self.ids)

    def refuse_unknown(self, tests: Iterable[str]) -> None:
        """Raise `pytest.UsageError` for an id that was asked for and names none of the tests."""
        there = list(tests)
        for id in self.ids:
            if not any(holds(id, test) for test in there):
                raise pytest.UsageError(f"no test of a vector is named {id}; --collect-only lists their ids")


def plan(options: argparse.Namespace, ids: Sequence[str]) -> Plan:
    """What the options of pytest ask for; raises `pytest.UsageError`, with what to write, for what doesn't exist."""
    backends = list(dict.fromkeys(options.lossref))
    if options.lossref_expect is not None and len(backends) > 1:
        raise pytest.UsageError(f"--lossref-expect is about one backend, and {len(backends)} are named; test each on its own")
    asked = Options(
        options.lossref_dialect,
        options.lossref_operation,
        options.lossref_dtype,
        tuple(options.lossref_promise),
        options.lossref_tensors or NONE.tensors,
    )
    with usage():
        refuse_idle(backends, asked)
        if asked.dtype is not None:
            known_dtype(asked.dtype)
        if asked.operation is not None:
            operation(asked.operation)
        own = None if options.lossref_expect is None else deviations.read(Path(options.lossref_expect))
        return Plan(
            sources=tuple(find(name, asked) for name in backends),
            options=asked,
            tier=options.lossref_tier or "core",
            dialect=None if asked.dialect is None else dialects.named(asked.dialect),
            known={name: own or deviations.packaged(name) for name in backends},
            ids=tuple(ids),
        )


@contextmanager
def usage() -> Iterator[None]:
    """Errors that speak to a user are pytest's own for wrong usage."""
    try:
        yield
    except (Complaint, InvalidInput) as error:
        raise pytest.UsageError(str(error)) from error


def holds(id: str, other: str) -> bool:
    """Whether an id names the other too, as pytest takes ids: the same, the same without the mode, or that of a node above."""
    return other == id or other.startswith((f"{id}[", f"{id}::"))


def marks(vector: Vector, **of_test: str) -> Iterator[pytest.MarkDecorator]:
    """The marks of a vector's test: `lossref` with keywords, once for each clause; and the names of its operation, dtype, tier and clauses.

    The tier is the smallest that holds the vector; the clauses are those that it is evidence for and that not every vector is.
    """
    case, clauses = vector.case, _clauses(vector.case.clauses)
    for clause in clauses:
        yield pytest.mark.lossref(operation=case.operation, dtype=case.dtype, tier=case.tier, clause=clause, **of_test)
    for name in (case.operation, case.dtype, case.tier, *clauses):
        yield getattr(pytest.mark, name)


@cache
def _clauses(named: tuple[str, ...]) -> tuple[str, ...]:
    """The clauses that a vector is evidence for which names those."""
    return tuple(id for id, one in sections().items() if one.shown_by(named) and not one.of_every_vector)


def register(config: pytest.Config) -> None:
    """Register the simple names, once."""
    if not config.stash.setdefault(_REGISTERED, False):
        config.stash[_REGISTERED] = True
        for line in _lines():
            config.addinivalue_line("markers", line)


def _lines() -> Iterator[str]:
    yield from (f"{name}: vectors of the operation ({one.summary})" for name, one in operations().items())
    yield from (f"{name}: vectors of the dtype" for name in FORMATS)
    yield from (f"{name}: vectors that the tier is the smallest to hold" for name in TIERS)
    yield from (f"{name}: vectors that are evidence for the clause" for name, one in sections().items() if not one.of_every_vector)
