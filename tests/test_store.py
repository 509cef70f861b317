"""The store: what is kept of a run, whoever else writes, whatever happens to it, and what it tells of a backend's history."""

from __future__ import annotations

import math
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import keeping
import pytest
from keeping import asked

from conformance import store
from conformance.backend import Result
from conformance.cli import main
from conformance.finding import Verdict
from conformance.grade import standings
from conformance.history import history, listed
from conformance.record import Record
from conformance.report import jsonlines, terminal
from conformance.store import APPLICATION, FILE, SCHEMA, Keeper, StoreError

ROOT = Path(__file__).parents[1]
SQL = ROOT / "conformance/store.sql"
Writer = Callable[..., subprocess.Popen[str]]


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each result is a batch."""
    monkeypatch.setattr(store, "INTERVAL", 0.0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "new" / "store"


@pytest.mark.usefixtures("few")
def test_what_a_run_shows_is_kept(folder: Path, tmp_path: Path) -> None:
    expected = tmp_path / "numpy.toml"
    expected.write_text('[[deviation]]\ncases = ["*/large-*"]\nclause = "LSM-1"\nreason = "exp overflows"\ndirection = "forward"\n')
    file = tmp_path / "run.jsonl"
    assert main(["run", "numpy", "--in-process", "--expect", str(expected), "--store", str(folder), "--json", str(file)]) == 1
    record = jsonlines.read(file)
    (entry,) = history(folder, "numpy")
    assert (entry.began, entry.digest, entry.selection, entry.whole) == (record.began, record.digest, record.selection, True)
    assert entry.version == record.descriptions["numpy"].version
    assert entry.counts == {Verdict.PASS: 4, Verdict.FAIL: 2}
    assert (entry.passed, entry.failed, entry.expected, entry.stale) == (4, 2, 1, 0)
    shown = {(place.mode, place.operation, place.dtype, place.direction): replace(cell, worst=None) for place, cell in record.cells.items()}
    assert entry.cells == shown
    assert any(cell.broken for cell in shown.values())
    assert dict(asked(folder, "SELECT clause, standing FROM clauses")) == {id: str(one) for id, one in standings(record.results).items()}
    assert dict(asked(folder, "SELECT name, version FROM packages")) == record.descriptions["numpy"].versions
    rows = asked(folder, "SELECT name, direction, output, verdict, ratio, known FROM results JOIN cases ON id = asked")
    found = [result.finding for result in record.results]
    known = {(one.finding.case, one.finding.direction): why.reason for one, why in record.comparisons["numpy"].expected}
    assert len(rows) == len(found) == 6
    for finding in found:
        ratio = pytest.approx(finding.ratio, rel=1e-5)  # six digits are in the file
        reason = known.get((finding.case, finding.direction))
        assert (finding.case, finding.direction, finding.output, finding.verdict, ratio, reason) in rows


@pytest.fixture
def writer(folder: Path) -> Iterator[Writer]:
    """Starts processes that keep runs: backend, runs, results of each, seconds between them."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, str(ROOT / "tests/keeping.py"), str(folder), *map(str, arguments)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        started.append(subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True))
        return started[-1]

    Keeper(folder)  # so that it is there
    yield start
    for process in started:
        with process:
            process.kill()


def test_processes_write_and_read_at_once_and_nothing_is_lost(folder: Path, writer: Writer) -> None:
    runs, count = 6, 6
    processes = [writer(name, runs, count, 0) for name in "ab"]
    while not all((folder / f"{name}.ready").exists() for name in "ab"):
        assert all(process.poll() is None for process in processes)
        time.sleep(0.01)
    (folder / "go").touch()
    while any(process.poll() is None for process in processes):
        listed(folder)
        time.sleep(0.05)
    assert [process.communicate()[1] for process in processes] == ["", ""]
    for name in "ab":
        assert [(entry.whole, entry.passed) for entry in history(folder, name)] == [(True, count)] * runs


def test_several_may_make_it_at_once(folder: Path) -> None:
    for number in range(8):
        place = folder / str(number)
        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(store.made, [place] * 8)) == {place / FILE}
        assert listed(place) == []


def test_a_run_that_is_killed_is_not_whole_and_the_store_can_be_used(folder: Path, writer: Writer) -> None:
    process = writer("killed", 1, 10**6, 0.05)
    (folder / "go").touch()
    while not asked(folder, "SELECT * FROM results"):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.kill()
    process.wait()
    (entry,) = history(folder, "killed")
    assert (entry.whole, entry.cells) == (False, {})
    assert entry.passed >= 1, "what came before is there"
    assert asked(folder, "PRAGMA integrity_check") == [("ok",)]
    assert asked(folder, "SELECT seconds FROM runs") == [(None,)]
    keeping.keep(folder, "killed", 1)
    assert [(entry.run, entry.whole) for entry in history(folder, "killed")] == [(1, False), (2, True)]


KILLED_WRITING = """
import os, signal, sys
from pathlib import Path
from conformance.store import transaction
with transaction(Path(sys.argv[1])) as database:
    database.execute("PRAGMA cache_size = 1")  # so that pages are written before the end
    database.executemany("INSERT INTO cases (name, operation, dtype) VALUES (?, '', '')", [(f"{n:0900}",) for n in range(2000)])
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_transaction_that_is_killed_is_taken_back_by_whoever_comes_next(folder: Path) -> None:
    keeping.keep(folder, "fast", 2)
    small = (folder / FILE).stat().st_size
    killed = subprocess.run([sys.executable, "-c", KILLED_WRITING, str(folder / FILE)], cwd=ROOT, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert (folder / FILE).stat().st_size > small, "half of it was written"
    assert [entry.passed for entry in history(folder, "fast")] == [2]
    assert (folder / FILE).stat().st_size == small


@pytest.mark.usefixtures("few")
def test_an_interrupted_run_keeps_what_came(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "INTERVAL", 1e9)  # nothing but the end writes

    def interrupted(results: Iterable[Result], *_: object) -> Iterator[Result]:
        for number, result in enumerate(results):
            if number == 3:
                raise KeyboardInterrupt
            yield result

    monkeypatch.setattr(terminal, "follow", interrupted)
    assert main(["run", "numpy", "--in-process", "--store", str(folder)]) == 130
    (entry,) = history(folder, "numpy")
    assert (entry.whole, entry.passed + entry.failed, entry.cells) == (False, 4, {})
    assert asked(folder, "SELECT seconds IS NOT NULL, stale FROM runs JOIN backends ON run = runs.id") == [(1, None)]


def garbage(file: Path) -> None:
    file.write_bytes(b"no database at all" * 1000)


def holes(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[100:] = bytes(len(data) - 100)  # its head is left
    file.write_bytes(data)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: 4096 + 10])


def newer(file: Path) -> None:
    changed(file, f"PRAGMA user_version = {SCHEMA + 1}")


def others(file: Path) -> None:
    file.unlink()
    changed(file, "CREATE TABLE runs (distance)")


def changed(file: Path, statement: str) -> None:
    with closing(sqlite3.connect(file)) as database:
        database.execute(statement)
        database.commit()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (garbage, "is not a database.*; move it away, or name another folder"),
        (holes, "malformed.*; move it away; the program sqlite3 saves"),
        (cut, "malformed.*; move it away; the program sqlite3 saves"),
        (newer, "has version 2 of the tables, and this release of lossref reads 1; upgrade lossref"),
        (others, "is a database of something else; name another folder"),
    ],
)
@pytest.mark.usefixtures("few")
def test_a_file_that_is_no_store_is_refused_before_anything_runs(
    folder: Path, spoil: Callable[[Path], None], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    keeping.keep(folder, "numpy", 2)
    spoil(folder / FILE)
    before = (folder / FILE).read_bytes()
    assert main(["history", "numpy", "--store", str(folder)]) == 2
    read = capsys.readouterr()
    assert main(["run", "numpy", "--in-process", "--store", str(folder)]) == 2
    written = capsys.readouterr()
    for told in (read, written):
        assert told.out == ""
        assert str(folder / FILE) in told.err
        assert re.search(message, told.err)
    assert (folder / FILE).read_bytes() == before


@pytest.mark.usefixtures("few")
def test_a_folder_that_cannot_be_one_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert main(["run", "numpy", "--in-process", "--store", str(tmp_path / "file")]) == 2
    assert "can't be made (File exists); name a folder that you may write to" in capsys.readouterr().err
    (tmp_path / "folder" / FILE).mkdir(parents=True)
    assert main(["run", "numpy", "--in-process", "--store", str(tmp_path / "folder")]) == 2
    assert "unable to open database file); name a folder that you may write to" in capsys.readouterr().err
    assert main(["history", "--store", str(tmp_path / "nowhere")]) == 2
    assert f"isn't there; name the folder with --store, or keep a run: lossref run BACKEND --store {tmp_path}" in capsys.readouterr().err
    assert not (tmp_path / "nowhere").exists()


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From its call on the disk has no room for another page."""
    connect = sqlite3.connect

    def fill() -> None:
        def connected(*given: Any, **named: Any) -> sqlite3.Connection:
            database = connect(*given, **named)
            database.execute("PRAGMA max_page_count = 1")  # SQLite makes it the pages that there are
            return database

        monkeypatch.setattr(sqlite3, "connect", connected)

    return fill


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize(("case", "status"), [("*/plain-*", 3), ("*", 1)])
def test_a_store_that_fails_costs_no_verdict(
    folder: Path,
    tmp_path: Path,
    case: str,
    status: int,
    full: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    begin = Keeper.begin

    def begins(keeper: Keeper, record: Record) -> None:
        begin(keeper, replace(record, machine="m" * 2**16))  # so that no page is left half empty
        full()

    monkeypatch.setattr(Keeper, "begin", begins)
    file = tmp_path / "run.jsonl"
    assert main(["run", "numpy", "--in-process", "--case", case, "--store", str(folder), "--json", str(file)]) == status
    out, err = capsys.readouterr()
    assert "4 passed, 0 failed as expected" in out
    assert re.fullmatch(r"lossref: this run isn't kept whole: .* \(database or disk is full\); free some space, or .*\n", err)
    assert jsonlines.read(file).whole
    monkeypatch.undo()
    (entry,) = history(folder, "numpy")
    assert not entry.whole


def test_a_store_that_stays_locked_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keeper = Keeper(folder)
    monkeypatch.setattr(store, "PATIENCE", 0.05)
    with closing(sqlite3.connect(folder / FILE)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreError, match=r"database is locked\); see which process keeps it locked, and end that"):
            Keeper(folder)
        keeper.begin(keeping.begun("fast"))
        assert "database is locked" in str(keeper.failure)
    assert list(keeper.follow(keeping.passes(2, "fast"))), "the results come all the same"
    keeper.end(keeping.begun("fast"))
    assert listed(folder) == [], "after a failure nothing is written"


def test_a_ratio_that_is_no_number_is_kept_as_one_above_all(folder: Path) -> None:
    keeper = Keeper(folder)
    keeper.begin(keeping.begun("fast"))
    ratios = (math.nan, math.inf, None, 2.0)
    one = next(keeping.passes(1, "fast"))
    results = [replace(one, number=number, finding=replace(one.finding, ratio=ratio)) for number, ratio in enumerate(ratios)]
    keeper.end(keeping.begun("fast").ended(keeper.follow(results)))
    assert keeper.failure is None
    assert asked(folder, "SELECT ratio FROM results ORDER BY number") == [("nan",), (math.inf,), (None,), (2.0,)]
    assert asked(folder, "SELECT MAX(ratio) FROM results") == [("nan",)]


def test_a_run_is_forgotten_as_the_schema_says(folder: Path) -> None:
    for _ in range(2):
        keeping.keep(folder, "fast", 2)
    forget = re.search(r"To forget run 7: (.*)", SQL.read_text())
    assert forget
    with closing(sqlite3.connect(folder / FILE, isolation_level=None)) as database:
        database.executescript(forget[1].replace("7", "1"))
    assert [entry.run for entry in history(folder, "fast")] == [2]
    keeper = Keeper(folder)
    keeper.begin(keeping.begun("fast"))
    with closing(sqlite3.connect(folder / FILE, isolation_level=None)) as database:
        database.executescript(forget[1].replace("7", "3"))
    results = list(keeper.follow(keeping.passes(1, "fast")))
    assert "FOREIGN KEY constraint failed" in str(keeper.failure), "nothing is left behind of one that goes on"
    assert len(results) == 1
    tables = asked(folder, "SELECT name FROM sqlite_master WHERE type = 'table'")
    assert {name for (name,) in tables} == {"runs", "backends", "packages", "cases", "results", "broken", "grades", "clauses"}
    left = "SELECT backend FROM results UNION SELECT backend FROM grades UNION SELECT backend FROM packages"
    assert asked(folder, left) == [(2,)]


def test_the_schema_says_what_the_code_does() -> None:
    stated = dict(re.findall(r"PRAGMA (\w+) = (\d+);", SQL.read_text()))
    assert stated == {"application_id": str(APPLICATION), "user_version": str(SCHEMA)}
    assert APPLICATION.to_bytes(4, "big") == b"loss"
