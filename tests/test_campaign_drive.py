"""A campaign on processes of this machine: what becomes of its shards whatever becomes of the workers, the budget, and the command."""

from __future__ import annotations

import io
import json
import multiprocessing
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from conformance.campaign.asking import ask as ask_backend
from conformance.campaign.drive import MOST, Driver, WorkersError, shards
from conformance.campaign.executors import Pool, Unreachable
from conformance.campaign.journal import Journal, Shard
from conformance.campaign.space import BLOCK, Campaign
from conformance.campaign.tally import Count, Place, Tally
from conformance.cli import main
from conformance.report.campaign import Covered, document, percentage, summary
from conformance.report.terminal import console
from tests.campaigns import CAMPAIGN, PATIENCE, ROOT, SHARD, SHARDS, ask, drive, dying, header, raising, undisturbed, until

WIDTH = 4


class Threads:
    """Workers that are a thread of this process; the next `away` times that they are opened, they are out of reach."""

    name = "a thread"
    killed: tuple[type[BaseException], ...] = (KeyError,)
    lost: tuple[type[BaseException], ...] = (CancelledError, ConnectionError)
    foreign: tuple[type[BaseException], ...] = (ImportError,)

    def __init__(self, make: Callable[[], ThreadPoolExecutor] = lambda: ThreadPoolExecutor(1)) -> None:
        self.make = make
        self.away = 0
        self.opened = 0

    def open(self) -> Executor:
        if self.opened and self.away:
            self.away -= 1
            raise Unreachable("they are away")
        self.opened += 1
        self.executor = self.make()
        return self.executor

    def most(self) -> int:
        return WIDTH

    def gone(self) -> bool:
        return False

    def ends(self) -> str:
        return "its thread ended"

    def close(self) -> None:
        self.executor.shutdown()


class Plan:
    """Answers, but for what is raised at some shards so many times; `asked` counts them."""

    def __init__(self, raised: BaseException | None = None, at: tuple[int, ...] = (), times: int = 1) -> None:
        self.raised, self.at, self.times = raised, at, times
        self.asked: Counter[int] = Counter()

    def __call__(self, campaign: Campaign, start: int, stop: int) -> Tally:
        self.asked[start] += 1
        if start in self.at and self.asked[start] <= self.times and self.raised is not None:
            raise self.raised
        return ask(campaign, start, stop)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("conformance.campaign.drive.PAUSE", 0.0)


def test_shards_cover_the_points_that_are_asked_and_no_point_twice() -> None:
    assert list(shards(0, 10, 4, 10)) == [(0, 4), (4, 8), (8, 10)]
    assert list(shards(5, 6, 4, 10)) == [(4, 8)]
    assert next(iter(shards(0, 2**63, 4, 2**63))) == (0, 4), "no list of them is made"


class Counting(ThreadPoolExecutor):
    """Counts what is in flight, and keeps the most."""

    def __init__(self) -> None:
        super().__init__(1)
        self.flying = self.most = 0

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future[Any]:
        self.flying += 1
        self.most = max(self.most, self.flying)
        future = super().submit(function, *arguments, **named)
        future.add_done_callback(self._landed)
        return future

    def _landed(self, _: object) -> None:
        self.flying -= 1


def test_few_shards_are_in_flight() -> None:
    workers = Threads(Counting)
    assert drive(Plan(), workers, None).tally == undisturbed()
    assert isinstance(workers.executor, Counting)
    assert 1 < workers.executor.most <= WIDTH


def test_what_is_finished_is_not_asked_again(tmp_path: Path) -> None:
    drive(Plan(), Threads(), tmp_path / "journal", count=5)
    plan = Plan()
    journal = drive(plan, Threads(), tmp_path / "journal")
    assert journal.tally == undisturbed()
    assert sorted(plan.asked) == [SHARD * n for n in range(5, SHARDS)]


def test_once_the_budget_is_over_nothing_is_begun() -> None:
    plan = Plan()
    assert drive(plan, Threads(), None, seconds=0.0).tally.points == 0
    assert not plan.asked


@pytest.mark.parametrize(("wait", "count"), [("FIRST", 0), ("GRACE", 1)])
def test_what_hangs_is_dropped_after_the_grace(wait: str, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"conformance.campaign.drive.{wait}", 0.0)
    monkeypatch.setattr("conformance.campaign.drive.LOOK", 0.01)
    free = threading.Event()

    def hanging(campaign: Campaign, start: int, stop: int) -> Tally:
        if start >= count * SHARD:
            free.wait(PATIENCE)
        return ask(campaign, start, stop)

    class Freed(Threads):
        def close(self) -> None:
            free.set()
            self.executor.shutdown(cancel_futures=True)

    with Driver(hanging, CAMPAIGN, Freed()) as driver, Journal(None, header(versions=driver.versions)) as journal:
        driver.run(shards(0, SHARDS * SHARD, SHARD, CAMPAIGN.size), journal, 0.2)
        assert journal.tally == (undisturbed(count) if count else Tally())
        assert driver.dropped == tuple(Shard(SHARD * n, SHARD * (n + 1)) for n in range(count, count + WIDTH))
        assert free.is_set(), "the workers that hang are ended"
        assert driver.confirmed(0).case == "entropy/campaign/terms-0-float32"


def test_the_first_shard_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("conformance.campaign.drive.GRACE", 0.0)
    monkeypatch.setattr("conformance.campaign.drive.LOOK", 0.01)

    def slow(campaign: Campaign, start: int, stop: int) -> Tally:
        time.sleep(0.2)
        return ask(campaign, start, stop)

    with Driver(slow, CAMPAIGN, Threads()) as driver, Journal(None, header(versions=driver.versions)) as journal:
        driver.run(shards(0, SHARDS * SHARD, SHARD, CAMPAIGN.size), journal, 0.05)
    assert (journal.tally, driver.dropped) == (undisturbed(WIDTH), ())


def test_what_is_dropped_or_raised_is_said_and_falls_short() -> None:
    with Journal(None, header()) as journal:
        dropped = (Shard(SHARD, 2 * SHARD), Shard(2 * SHARD, 3 * SHARD))
        covered = Covered(CAMPAIGN, journal, {}, 0, 0.0, "a thread", dropped)
        assert covered.failed
        assert not replace(covered, dropped=()).failed
        assert f"dropped     2 of the shards that were begun, the first from point {SHARD} to {2 * SHARD - 1}\n" in said(covered)
        assert json.loads(document(covered))["dropped"] == [{"start": shard.start, "stop": shard.stop} for shard in dropped]
        journal.tally = replace(ask(CAMPAIGN, 0, SHARD), retried=Count(3, Place(BLOCK, 0)))
        assert replace(covered, dropped=()).failed
        assert f"3 calls of several points, none of which raises alone; the first from point {BLOCK}:\n" in said(covered)
        assert f"--points {BLOCK}:{2 * BLOCK}\n" in said(covered)


def said(covered: Covered) -> str:
    """Its summary."""
    with (out := console(io.StringIO())).capture() as capture:
        summary(out, covered, {})
    return capture.get()


@pytest.mark.usefixtures("patient")
def test_workers_that_are_away_are_waited_for() -> None:
    workers, plan = Threads(), Plan(ConnectionError(), (0, 7 * SHARD))
    workers.away = 3
    journal = drive(plan, workers, None)
    assert (journal.tally, journal.lost, workers.away) == (undisturbed(), {}, 0)
    assert workers.opened > 1


def test_workers_that_stay_away_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("conformance.campaign.drive.PAUSE", 0.0)
    monkeypatch.setattr("conformance.campaign.drive.PATIENCE", 0.0)
    workers = Threads()
    workers.away = 10**9
    with pytest.raises(Unreachable):
        drive(Plan(CancelledError(), (SHARD,)), workers, None)


@pytest.mark.parametrize(("error", "times"), [(BrokenExecutor(), 3), (KeyError(), 2)], ids=["pool", "cluster"])
def test_a_shard_that_kills_its_workers_is_lost_and_no_other(error: BaseException, times: int) -> None:
    for deaths in range(1, times + 1):
        plan = Plan(error, (3 * SHARD,), deaths)
        journal = drive(plan, Threads(), None)
        lost = {} if deaths < times else {Shard(3 * SHARD, 4 * SHARD): "its thread ended"}
        assert journal.lost == lost
        assert plan.asked[3 * SHARD] == min(times, deaths + 1)
        assert journal.within(0, CAMPAIGN.size) == SHARDS - len(lost)


def test_a_backend_that_kills_all_workers_is_given_up() -> None:
    plan = Plan(BrokenExecutor(), tuple(range(0, SHARDS * SHARD, SHARD)), 99)
    with pytest.raises(WorkersError, match=f"{MOST} shards in a row had no answer; of the last, .*its thread ended; ask the backend with"):
        drive(plan, Threads(), None)


def test_a_pool_ends_as_it_should_with_a_worker_killed_in_the_middle(tmp_path: Path) -> None:
    before = set(multiprocessing.active_children())
    journal = drive(partial(dying, 2 * SHARD, 1, tmp_path), Pool(2), tmp_path / "journal")
    assert (journal.tally, journal.lost) == (undisturbed(), {})
    assert set(multiprocessing.active_children()) <= before


def test_a_shard_that_kills_every_process_is_recorded_and_asked_again_another_time(tmp_path: Path) -> None:
    journal = drive(partial(dying, 2 * SHARD, 99, tmp_path), Pool(1), tmp_path / "journal", count=3)
    assert journal.lost == {Shard(2 * SHARD, 3 * SHARD): "its process ended by SIGKILL"}
    assert len(list(tmp_path.glob("death-*"))) == 3
    assert journal.tally == undisturbed(2)
    again = drive(ask, Threads(), tmp_path / "journal", count=3)
    assert (again.tally, again.lost) == (undisturbed(3), {})


def test_an_error_of_ours_is_not_taken_for_an_answer() -> None:
    with pytest.raises(ZeroDivisionError, match="at 0"):
        drive(raising, Threads(), None)


def test_workers_without_lossref_are_told_what_to_install() -> None:
    class Elsewhere(ThreadPoolExecutor):
        def submit(self, function: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future[Any]:
            future: Future[Any] = Future()
            error = ImportError("can't be read\nhere")
            error.__cause__ = ImportError("no conformance")
            future.set_exception(error)
            return future

    with pytest.raises(
        WorkersError, match=r"a thread can't take .* \(can't be read from no conformance\); install lossref and the backend,"
    ):
        drive(Plan(), Threads(Elsewhere), None)


def test_what_a_process_of_a_pool_prints_is_not_seen(capfd: pytest.CaptureFixture[str]) -> None:
    pool = Pool(1)
    pool.open().submit(print, "printed by a library", flush=True).result()
    pool.close()
    assert capfd.readouterr() == ("", "")


def test_no_process_outlives_a_client_that_is_killed(tmp_path: Path) -> None:
    program = f"""
from functools import partial
from pathlib import Path
from conformance.campaign.executors import Pool
from tests.campaigns import drive, gated
if __name__ == "__main__":
    drive(partial(gated, Path({str(tmp_path)!r}), 0), Pool(1), None)
"""
    client = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT)
    until(lambda: client.poll() is not None or list(tmp_path.glob("*.at")))
    workers = psutil.Process(client.pid).children(recursive=True)
    assert workers
    client.kill()
    client.wait()
    until(lambda: not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in workers))


ASKED = ("campaign", "numpy", "--space", CAMPAIGN.space, "--dtype", CAMPAIGN.dtype, "--shard", str(BLOCK), "--jobs", "1")


def test_the_command_is_interrupted_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, report = tmp_path / "journal", tmp_path / "report.json"
    command = [sys.executable, "-m", "conformance.cli", *ASKED, "--journal", str(path)]
    client = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until(lambda: client.poll() is not None or (path.exists() and path.read_bytes().count(b'"tally"') >= 1))
    client.send_signal(signal.SIGINT)
    said, complained = client.communicate(timeout=PATIENCE)
    assert client.returncode == 130, complained
    assert complained.endswith("lossref: interrupted\n")
    lines = path.read_text().splitlines()
    assert f"covered       {BLOCK * (len(lines) - 1):,} of 4,294,967,296 points" in said
    status = main([*ASKED, "--journal", str(path), "--points", f"0:{2 * BLOCK}", "--json", str(report)])
    found = json.loads(report.read_text())
    truth = ask_backend(CAMPAIGN, 0, found["covered"])
    assert found["tally"] == truth.to_json()
    assert status == (0 if truth.passed else 1)
    said = capsys.readouterr().out
    assert f"digest        {truth.digest:064x} (of what is covered)" in said
    assert re.search(r"largest error [0-9.]+ ulps, at p \[\S+ \(0x[0-9a-f]{8}\)\]", said)
    assert "as the judge finds it with what both witnesses prove:\n" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "name a backend, and with --space what it is asked; `lossref campaign --list` lists the spaces"),
        (("numpy", "--space", "entropy/none"), "no space is named 'entropy/none'"),
        (("numpy", "--space", "entropy/one", "--shard", "1000"), "--shard is 1000; write a multiple of 65536"),
        (("numpy", "--space", "entropy/one", "--tensors", "torch"), "--promise and --tensors are about functions"),
        (("numpy", "--space", "entropy/one", "--json", "a/../one", "--journal", "one"), "--json and --journal both are a/../one"),
        (("numpy", "--space", "entropy/one", "--points", "0:65537"), "--points ends at 65537, and entropy/one of float16 has 65536 points"),
    ],
)
def test_what_cannot_be_meant_is_refused(arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["campaign", *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("operand", ["p[1]=0x1p99999", "p[1]=half", "p[1]"])
def test_what_is_no_operand_is_refused(operand: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["campaign", "numpy", "--space", "entropy/one", "--fixed", operand])
    assert f"{operand!r} is no operand; write PLACE=X, like q[0]=0.5" in capsys.readouterr().err


def test_a_backend_that_is_not_there_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["campaign", "no.such:function", "--space", "entropy/one", "--jobs", "1"]) != 0
    assert "no.such:function" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("part", "text"),
    [(0, "0%"), (1, "2.328e-08%"), (2**31, "50%"), (2**32 - 2**16, "99.998%"), (2**32 - 1, "99.99999998%"), (2**32, "100%")],
)
def test_a_part_is_never_all_or_nothing(part: int, text: str) -> None:
    assert percentage(part, 2**32) == text


def test_the_spaces_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["campaign", "--list"]) == 0
    assert "log_softmax/pairs" in capsys.readouterr().out
