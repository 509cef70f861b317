"""The journal of a campaign: what it keeps, what it refuses, and what it makes of a file that is not whole."""

from __future__ import annotations

import json
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from conformance.campaign.journal import Journal, JournalError, Shard
from tests.campaigns import CAMPAIGN, ROOT, SHARD, ask, header, undisturbed

FIRST, SECOND = Shard(0, SHARD), Shard(SHARD, 2 * SHARD)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal with a shard that is finished, and one that is lost."""
    path = tmp_path / "there" / "journal"
    with Journal(path, header()) as journal:
        journal.finish(FIRST, ask(CAMPAIGN, *FIRST), 1.5)
        journal.lose(SECOND, "ended by SIGSEGV")
    return path


def test_what_was_noted_is_there(path: Path) -> None:
    with Journal(path, header()) as journal:
        assert journal.tally == ask(CAMPAIGN, *FIRST)
        assert (journal.has(FIRST), journal.has(SECOND)) == (True, False)
        assert (journal.within(*FIRST), journal.within(*SECOND)) == (1, 0)
        assert (journal.cpu, journal.lost) == (1.5, {SECOND: "ended by SIGSEGV"})


def test_what_was_lost_is_found_again(path: Path) -> None:
    for _ in range(2):  # as it is noted, and as it is read
        with Journal(path, header()) as journal:
            if not journal.has(SECOND):
                journal.finish(SECOND, ask(CAMPAIGN, *SECOND), 0.5)
            assert (journal.lost, journal.tally, journal.cpu) == ({}, undisturbed(2), 2.0)


def test_without_a_path_it_is_kept_for_the_time_being() -> None:
    with Journal(None, header()) as journal:
        journal.finish(FIRST, ask(CAMPAIGN, *FIRST), 1.5)
        assert journal.tally == ask(CAMPAIGN, *FIRST)


@pytest.mark.parametrize("cut", [1, 5, 100])
def test_a_line_that_is_half_written_is_dropped(path: Path, cut: int) -> None:
    whole = path.read_bytes()
    with Journal(path, header()) as journal:
        journal.finish(SECOND, ask(CAMPAIGN, *SECOND), 0.5)
    path.write_bytes(path.read_bytes()[:-cut])
    with Journal(path, header()) as journal:
        assert not journal.has(SECOND)
        assert path.read_bytes() == whole
        journal.finish(SECOND, ask(CAMPAIGN, *SECOND), 0.5)
    with Journal(path, header()) as journal:
        assert journal.tally == undisturbed(2)


def test_a_header_that_is_half_written_is_written_again(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:50])
    with Journal(path, header()) as journal:
        assert journal.tally.points == 0
    assert json.loads(path.read_text())["campaign"]["backend"] == "numpy"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"campaign": {**CAMPAIGN.to_dict(), "mode": "jit"}}, 'its campaign.mode is "eager", here it is "jit"; ask for what it was begun'),
        ({"versions": {"lossref": "2"}}, 'its versions.lossref is "1", here it is "2"; install what it was begun with'),
        ({"versions": {"lossref": "1", "numpy": "3"}}, 'its versions.numpy is not there, here it is "3"; install what it was begun with'),
        ({"shard": 2 * SHARD}, f"its shard is {SHARD}, here it is {2 * SHARD}; ask for what it was begun with, or name another file"),
    ],
)
def test_a_journal_of_something_else_is_refused(path: Path, changed: dict[str, object], message: str) -> None:
    before = path.read_bytes()
    with pytest.raises(JournalError, match=re.escape(f"{path}: {message}")):
        Journal(path, header(**changed))
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 4 is no JSON"),
        ("[]", "line 4 is no object"),
        ('{"start": 1, "stop": 2, "cpu": 0, "tally": {}}', "line 4 is no shard of this campaign (from 1 to 2)"),
        (f'{{"start": 0, "stop": {SHARD}, "cpu": 0}}', "line 4 is no shard of this campaign ('tally')"),
    ],
)
def test_a_line_that_is_wrong_is_named(path: Path, line: str, message: str) -> None:
    with path.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(JournalError, match=re.escape(message)):
        Journal(path, header())


def test_a_file_of_another_kind_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text('{"format": "lossref-results/1"}\n')
    with pytest.raises(JournalError, match="no journal of a campaign"):
        Journal(path, header())
    assert path.read_text() == '{"format": "lossref-results/1"}\n'


def test_a_shard_that_comes_twice_counts_once(path: Path) -> None:
    before = path.read_bytes()
    with Journal(path, header()) as journal:
        journal.finish(FIRST, ask(CAMPAIGN, *FIRST), 3.0)
        assert (journal.tally, journal.cpu) == (ask(CAMPAIGN, *FIRST), 1.5)
    assert path.read_bytes() == before
    path.write_bytes(before + before.splitlines(keepends=True)[1])
    with Journal(path, header()) as journal:
        assert journal.tally == ask(CAMPAIGN, *FIRST)


def test_a_shard_that_comes_out_otherwise_is_an_error(path: Path) -> None:
    message = f"the points from 0 to {SHARD} came twice, with different tallies: the backend doesn't answer the same way again"
    with Journal(path, header()) as journal, pytest.raises(JournalError, match=message):
        journal.finish(FIRST, ask(CAMPAIGN, *SECOND), 1.5)
    entry = json.loads(path.read_bytes().splitlines()[1])
    entry["tally"]["digest"] = "0" * 64
    with path.open("a") as file:
        file.write(json.dumps(entry) + "\n")
    with pytest.raises(JournalError, match=message):
        Journal(path, header())


def test_one_process_writes_at_a_time(path: Path) -> None:
    message = f"{path} is being written by another process; wait for it to end, or name another file"
    with Journal(path, header()), pytest.raises(JournalError, match=re.escape(message)):
        Journal(path, header())
    program = "from pathlib import Path; from tests.campaigns import *; import sys, time\n"
    program += "with Journal(Path(sys.argv[1]), header()): print(flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", program, str(path)], cwd=ROOT, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"\n"
        with pytest.raises(JournalError, match=re.escape(message)):
            Journal(path, header())
        other.kill()
    with Journal(path, header()) as journal:  # a lock ends with who has it
        assert journal.has(FIRST)


def test_a_journal_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(JournalError, match=r"can't be written .*name a file in a folder"):
        Journal(tmp_path / "file" / "journal", header())


def test_a_full_disk_is_said_and_leaves_what_was_there(path: Path) -> None:
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Journal(path, header()) as journal:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 50, limits[1]))
        try:
            for _ in range(2):  # a part of the line, and nothing of it
                with pytest.raises(JournalError, match=r"can't be written .*make room for it, and give the command again"):
                    journal.finish(SECOND, ask(CAMPAIGN, *SECOND), 0.5)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert len(path.read_bytes()) == len(before) + 50
    with Journal(path, header()) as journal:
        assert path.read_bytes() == before
        assert journal.tally == ask(CAMPAIGN, *FIRST)
