"""Runs to be kept, of results that cost nothing; as a program, one that keeps them in a store of which others have hold too."""

from __future__ import annotations

import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from scripted import DESCRIPTION

from conformance import store
from conformance.backend import Result
from conformance.finding import Finding, Verdict
from conformance.record import Record, Selection
from conformance.store import FILE, Keeper


def passes(count: int, backend: str, kept: str = "AB") -> Iterator[Result]:
    """That many results of one backend, which kept the bounds of those classes."""
    for number in range(count):
        case = f"log_softmax/edges/case-{number}-float64"
        finding = Finding(case, "log_softmax", "forward", "output", "float64", Verdict.PASS, 0.5, 1.0, {}, None, (), (), kept=tuple(kept))
        yield Result(backend, "eager", "A", composed=False, seconds=1e-6, finding=finding, number=number)


def begun(backend: str, version: str = "1.0") -> Record:
    """The record of a run that begins now."""
    return Record.begun("20c541645bdd5d6b", Selection("smoke"), {backend: replace(DESCRIPTION, name=backend, versions={backend: version})})


def keep(folder: Path, backend: str, count: int, slowly: float = 0.0) -> Keeper:
    """Keep a run of that many results, each in a transaction of its own; none is expected to fail."""
    keeper = Keeper(folder)
    record = begun(backend)
    keeper.begin(record)
    results = []
    for result in keeper.follow(passes(count, backend)):
        results.append(result)
        time.sleep(slowly)
    keeper.end(replace(record.ended(results), whole=True))
    return keeper


def asked(folder: Path, query: str) -> list[tuple[object, ...]]:
    """What plain SQL finds in a store."""
    with closing(sqlite3.connect(folder / FILE)) as database:
        return database.execute(query).fetchall()


def main() -> None:
    """Arguments: folder, backend, runs, results of each, seconds between them. It says that it is ready, and begins when all may go."""
    folder, backend, runs, count, slowly = sys.argv[1:]
    store.INTERVAL = 0.0
    (Path(folder) / f"{backend}.ready").touch()
    while not (Path(folder) / "go").exists():
        time.sleep(0.001)
    for _ in range(int(runs)):
        keeper = keep(Path(folder), backend, int(count), float(slowly))
        if keeper.failure is not None:
            sys.exit(str(keeper.failure))


if __name__ == "__main__":
    main()
