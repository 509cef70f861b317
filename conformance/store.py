"""The store: an SQLite database in a folder, which keeps runs as they happen. `store.sql` is its schema, for those who ask in plain SQL.

A run is there from its start, its results in batches as they come, and at its end, in one transaction, what the whole shows. So one that
is killed has what came before, and isn't whole. Several processes may write at once: a transaction waits `PATIENCE` for the others'.
`docs/decisions/0009-history-in-sqlite.md` says why it is SQLite, with a rollback journal.
"""

from __future__ import annotations

import math
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import astuple
from importlib.resources import files
from pathlib import Path

from conformance.backend import Result
from conformance.complaint import Complaint
from conformance.finding import Verdict
from conformance.grade import ANSWERED, by_level, standings
from conformance.record import Record

FOLDER = Path(".lossref")  # where it is looked for if none is named
FILE = "lossref.sqlite3"
APPLICATION = 1819243379  # as in store.sql: the file is a store ...
SCHEMA = 1  # ... with that version of the tables
PATIENCE = 20.0  # seconds that a transaction waits for those of others, which take milliseconds
INTERVAL = 2.0  # seconds between two batches: each waits for the disk, some 50 ms where that is busy

# By the primary code of what SQLite says: what to do.
REMEDIES = {
    sqlite3.SQLITE_FULL: "free some space, or name a folder on another disk",
    sqlite3.SQLITE_READONLY: "name a folder that you may write to",
    sqlite3.SQLITE_CANTOPEN: "name a folder that you may write to",
    sqlite3.SQLITE_PERM: "name a folder that you may write to",
    sqlite3.SQLITE_BUSY: "see which process keeps it locked, and end that",
    sqlite3.SQLITE_IOERR: "see whether the disk is whole; on a network file system without locks, name a folder on a local disk",
    sqlite3.SQLITE_PROTOCOL: "on a network file system without locks, name a folder on a local disk",
    sqlite3.SQLITE_CORRUPT: "move it away; the program sqlite3 saves what can be saved with .recover",
    sqlite3.SQLITE_NOTADB: "move it away, or name another folder",
}
OTHERWISE = "move it away, or name another folder"


class StoreError(Complaint):
    """A store that can't be made, read or written; the message names its file, what is wrong, and the remedy."""


class Keeper:
    """Keeps one run in the store of a folder, which is made where there is none; raises `StoreError` where it can't be.

    After that nothing raises, as a run is worth more than its record: `failure` says what went wrong, and then no more is written.
    """

    def __init__(self, folder: Path) -> None:
        self.failure: StoreError | None = None
        self._file = made(folder)
        self._run = 0
        self._backends: dict[str, int] = {}
        self._batch: list[Result] = []
        self._due = 0.0

    def begin(self, record: Record) -> None:
        """Note a run that begins."""
        self._write(lambda database: self._begin(database, record))

    def follow(self, results: Iterable[Result]) -> Iterator[Result]:
        """The results as they come, each kept soon after it came."""
        self._due = time.monotonic() + INTERVAL
        for result in results:
            self._batch.append(result)
            if time.monotonic() >= self._due:
                self._write(self._flush)
                self._due = time.monotonic() + INTERVAL
            yield result

    def end(self, record: Record) -> None:
        """Note how the run ended, and what it shows if it is whole."""
        self._write(lambda database: self._end(database, record))

    def _write(self, action: Callable[[sqlite3.Connection], None]) -> None:
        if self.failure is not None:
            return
        try:
            with transaction(self._file) as database:
                action(database)
        except StoreError as error:
            self.failure = error

    def _begin(self, database: sqlite3.Connection, record: Record) -> None:
        chosen = record.selection
        self._run = _insert(
            database,
            "runs",
            began=record.began,
            whole=False,
            machine=record.machine,
            vectors=record.digest,
            tier=chosen.tier,
            operation=chosen.operation,
            dtype=chosen.dtype,
            cases=" ".join(chosen.cases),
            shard=chosen.index,
            shards=chosen.count,
        )
        for name, about in record.descriptions.items():
            self._backends[name] = _insert(
                database, "backends", run=self._run, name=name, version=about.version, device=about.device, dialect=about.dialect.name
            )
            for package, version in about.versions.items():
                _insert(database, "packages", backend=self._backends[name], name=package, version=version)

    def _flush(self, database: sqlite3.Connection) -> None:
        batch, self._batch = self._batch, []
        cases = {result.finding.case: (result.finding.operation, result.finding.dtype) for result in batch}
        database.executemany(
            "INSERT OR IGNORE INTO cases (name, operation, dtype) VALUES (?, ?, ?)", [(one, *of) for one, of in cases.items()]
        )
        database.executemany(
            "INSERT INTO results VALUES (?, ?, ?, ?, (SELECT id FROM cases WHERE name = ?), ?, ?, ?, ?, ?, ?, ?, ?, NULL)",
            [(*self._key(result), *_columns(result)) for result in batch],
        )
        broken = [result for result in batch if result.finding.verdict in ANSWERED and result.finding.verdict != Verdict.PASS]
        rows = [(*self._key(result), clause) for result in broken for clause in result.finding.clauses]
        database.executemany("INSERT INTO broken VALUES (?, ?, ?, ?, ?)", rows)

    def _end(self, database: sqlite3.Connection, record: Record) -> None:
        self._flush(database)
        database.execute("UPDATE runs SET seconds = ?, whole = ? WHERE id = ?", (record.seconds, record.whole, self._run))
        for name, comparison in record.comparisons.items():
            database.execute("UPDATE backends SET stale = ? WHERE id = ?", (len(comparison.problems), self._backends[name]))
            database.executemany(
                "UPDATE results SET known = ? WHERE backend = ? AND number = ? AND direction = ? AND output = ?",
                [(deviation.reason, *self._key(result)) for result, deviation in comparison.expected],
            )
            for level, standing in by_level(standings(record.of(name))).items():
                rows = [(self._backends[name], clause, level.value, one.value) for one, ids in standing.items() for clause in ids]
                database.executemany("INSERT INTO clauses VALUES (?, ?, ?, ?)", rows)
        if record.whole:
            places = ((astuple(place), cell) for place, cell in record.cells.items())
            database.executemany(
                "INSERT INTO grades VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (self._backends[name], mode, operation, dtype, direction, cell.grade, cell.answered, cell.measured, cell.composed)
                    for (name, mode, operation, dtype, direction), cell in places
                    if cell.answered
                ],
            )

    def _key(self, result: Result) -> tuple[int, int, str, str]:
        return self._backends[result.backend], result.number, result.finding.direction, result.finding.output


def _insert(database: sqlite3.Connection, table: str, **values: str | float | None) -> int:
    """Insert a row; its number."""
    names, places = ", ".join(values), ", ".join("?" * len(values))
    row = database.execute(f"INSERT INTO {table} ({names}) VALUES ({places})", tuple(values.values())).lastrowid
    assert row is not None
    return row


def _columns(result: Result) -> tuple[str | float | None, ...]:
    """Those of a result, from its case on."""
    finding = result.finding
    return (
        finding.case,
        result.mode,
        finding.verdict.value,
        _number(finding.ratio),
        _number(finding.ulps),
        result.accuracy,
        None if finding.kept is None else "".join(finding.kept),
        None if math.isnan(result.seconds) else result.seconds,
        finding.note,
    )


def _number(x: float | None) -> float | str | None:
    """As it is kept: SQLite makes NULL of nan, which is another thing here; as a text it stands above all numbers."""
    return "nan" if x is not None and math.isnan(x) else x


def made(folder: Path) -> Path:
    """The file of the store in a folder that can be written to; both are made where they aren't there. Raises `StoreError`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{folder} can't be made ({error.strerror}); name a folder that you may write to") from error
    file = folder / FILE
    with _connected(file, "rwc") as database:
        if not _is_store(database, file):
            database.executescript(files("conformance").joinpath("store.sql").read_text(encoding="utf-8"))
    with transaction(file) as database:
        database.execute(f"PRAGMA user_version = {SCHEMA}")  # writes, and changes nothing
    return file


@contextmanager
def transaction(file: Path) -> Iterator[sqlite3.Connection]:
    """A connection in a transaction that writes, which is committed if nothing is raised; what SQLite raises is a `StoreError`."""
    with _connected(file, "rw") as database:
        database.execute("BEGIN IMMEDIATE")  # waits here, and not half-way, where waiting could not help
        yield database
        database.execute("COMMIT")


@contextmanager
def reading(folder: Path) -> Iterator[sqlite3.Connection]:
    """A connection that sees the store in a folder as it is now, whoever writes meanwhile; raises `StoreError`, without a store too."""
    file = folder / FILE
    if not file.exists():
        raise StoreError(f"{file} isn't there; name the folder with --store, or keep a run: lossref run BACKEND --store {folder}")
    with _connected(file, "rw") as database:  # a transaction whose process was killed is taken back, which writes
        if not _is_store(database, file):
            raise StoreError(f"{file} is empty; name another folder, or keep a run: lossref run BACKEND --store {folder}")
        database.row_factory = sqlite3.Row
        database.execute("BEGIN")
        yield database


@contextmanager
def _connected(file: Path, access: str) -> Iterator[sqlite3.Connection]:
    try:
        uri = f"{file.absolute().as_uri()}?mode={access}"
        with closing(sqlite3.connect(uri, timeout=PATIENCE, isolation_level=None, uri=True)) as database:
            database.execute("PRAGMA foreign_keys = ON")
            yield database
    except sqlite3.Error as error:
        remedy = REMEDIES.get(getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF, OTHERWISE)
        raise StoreError(f"{file} can't be used as a store ({error}); {remedy}") from error


def _is_store(database: sqlite3.Connection, file: Path) -> bool:
    """Whether it has our tables, of which it has none if it is new; raises `StoreError` where it has others, or newer ones."""
    database.execute("BEGIN")  # so that all three are of one moment: another process may be making it
    application, schema, tables = (
        database.execute(query).fetchone()[0]
        for query in ("PRAGMA application_id", "PRAGMA user_version", "SELECT COUNT(*) FROM sqlite_master")
    )
    database.execute("COMMIT")
    if (application, schema, tables) == (0, 0, 0):
        return False
    if application != APPLICATION:
        raise StoreError(f"{file} is a database of something else; name another folder")
    if schema != SCHEMA:
        raise StoreError(
            f"{file} has version {schema} of the tables, and this release of lossref reads {SCHEMA}; "
            "upgrade lossref, or name another folder"
        )
    return True
