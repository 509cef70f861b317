"""What the store tells: the runs of a backend in the order in which they began, and which backends there are."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from conformance.deviations import FAILING
from conformance.finding import Verdict
from conformance.grade import Cell
from conformance.record import Selection
from conformance.store import reading

Spot = tuple[str, str, str, str]  # mode, operation, dtype, direction


@dataclass(frozen=True)
class Entry:
    """One run of a backend, of the tensors that were asked about.

    `counts` are by verdict, `expected` those of the failures that a known deviation excuses; `stale` expectations of the whole run no
    longer hold. `cells` have no worst finding. A run that isn't `whole` has counts of what came before it was cut short; what was
    expected of it isn't known, and nothing is graded.
    """

    run: int
    began: str
    whole: bool
    digest: str
    selection: Selection
    version: str
    modes: tuple[str, ...]
    counts: Mapping[Verdict, int]
    expected: int
    stale: int
    cells: Mapping[Spot, Cell]

    @property
    def passed(self) -> int:
        """Tensors that passed."""
        return self.counts.get(Verdict.PASS, 0)

    @property
    def failed(self) -> int:
        """Tensors that failed, in any way."""
        return sum(self.counts.get(verdict, 0) for verdict in FAILING)


@dataclass(frozen=True)
class Listed:
    """A backend that the store knows: its versions in the order in which they came, its runs, and those of them that aren't whole."""

    name: str
    versions: tuple[str, ...]
    runs: int
    cut: int
    first: str
    last: str


# The results, and the grades, of a backend in a run that were asked about.
ASKED = "backend = :backend AND operation = COALESCE(:operation, operation) AND dtype = COALESCE(:dtype, dtype)"
RESULTS = f"results JOIN cases ON cases.id = asked WHERE {ASKED}"


def listed(folder: Path) -> list[Listed]:
    """The backends in a store, in alphabetical order; raises `StoreError`."""
    query = "SELECT backends.name, version, began, whole FROM backends JOIN runs ON runs.id = run ORDER BY backends.name, began, run"
    found: dict[str, list[sqlite3.Row]] = {}
    with reading(folder) as database:
        for row in database.execute(query):
            found.setdefault(row["name"], []).append(row)
    return [
        Listed(
            name=name,
            versions=tuple(dict.fromkeys(row["version"] for row in rows)),
            runs=len(rows),
            cut=sum(not row["whole"] for row in rows),
            first=rows[0]["began"],
            last=rows[-1]["began"],
        )
        for name, rows in found.items()
    ]


def history(folder: Path, backend: str, operation: str | None = None, dtype: str | None = None) -> list[Entry]:
    """The runs of a backend, oldest first; those without a result of the `operation` and the `dtype` that are named are left out.

    Raises `StoreError`.
    """
    query = """
        SELECT backends.id, run, version, stale, began, whole, vectors, tier, operation, dtype, cases, shard, shards
        FROM backends JOIN runs ON runs.id = run WHERE backends.name = ? ORDER BY began, run
    """
    with reading(folder) as database:
        entries = [
            _entry(database, row, {"backend": row["id"], "operation": operation, "dtype": dtype})
            for row in database.execute(query, (backend,)).fetchall()
        ]
    return [entry for entry in entries if entry.counts or (operation, dtype) == (None, None)]


def _entry(database: sqlite3.Connection, row: sqlite3.Row, asked: Mapping[str, int | str | None]) -> Entry:
    counts = database.execute(f"SELECT verdict, COUNT(*), COUNT(known) FROM {RESULTS} GROUP BY verdict", asked).fetchall()
    modes = database.execute(f"SELECT mode FROM {RESULTS} GROUP BY mode ORDER BY MIN(number)", asked)
    return Entry(
        run=row["run"],
        began=row["began"],
        whole=bool(row["whole"]),
        digest=row["vectors"],
        selection=Selection(row["tier"], row["operation"], row["dtype"], tuple(row["cases"].split()), row["shard"], row["shards"]),
        version=row["version"],
        modes=tuple(mode for (mode,) in modes),
        counts={Verdict(verdict): count for verdict, count, _ in counts},
        expected=sum(known for _, _, known in counts),
        stale=row["stale"] or 0,
        cells=_cells(database, asked),
    )


def _cells(database: sqlite3.Connection, asked: Mapping[str, int | str | None]) -> dict[Spot, Cell]:
    broken: dict[Spot, list[str]] = {}
    clauses = """
        SELECT DISTINCT mode, operation, dtype, direction, clause
        FROM broken JOIN results USING (backend, number, direction, output) JOIN cases ON cases.id = asked
    """
    for mode, operation, dtype, direction, clause in database.execute(f"{clauses} WHERE {ASKED} ORDER BY clause", asked):
        broken.setdefault((mode, operation, dtype, direction), []).append(clause)
    found = {}
    for row in database.execute(f"SELECT * FROM grades WHERE {ASKED}", asked):
        spot = row["mode"], row["operation"], row["dtype"], row["direction"]
        found[spot] = Cell(row["grade"], row["answered"], row["measured"], None, tuple(broken.get(spot, ())), bool(row["composed"]))
    return found
