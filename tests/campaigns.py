"""Campaigns whose shards cost nothing, with what may happen to a worker; and a Dask cluster of processes on this machine."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from conformance.campaign.drive import Driver, shards
from conformance.campaign.executors import Workers
from conformance.campaign.journal import Header, Journal
from conformance.campaign.space import BLOCK, Campaign
from conformance.campaign.tally import MODULUS, Count, Outcome, Place, Tally, Worst
from conformance.campaign.work import Ask

ROOT = Path(__file__).parents[1]
CAMPAIGN = Campaign("numpy", "entropy/terms", "float32", "eager")
SHARD = 4 * BLOCK
SHARDS = 12
WORKERS = 2  # of a cluster
PATIENCE = 300.0  # seconds for what has to come, on a machine that has much else to do: a test that waits longer fails


def ask(campaign: Campaign, start: int, stop: int) -> Tally:
    """A tally that nothing was asked for, with all that a tally has."""
    blocks = [hashlib.sha256(f"{campaign.space} {block}".encode()).digest() for block in range(start // BLOCK, stop // BLOCK)]
    digest = sum(int.from_bytes(block, "big") for block in blocks) % MODULUS
    points = stop - start
    value, first = max((block[0] / 256, -n) for n, block in enumerate(blocks))
    worst = Worst(value, Place(start - BLOCK * first, 0))
    return Tally(points, points, {Outcome.WITHIN: Count(points, Place(start, 0))}, 0, worst, None, digest)


def gated(folder: Path, first: int, campaign: Campaign, start: int, stop: int) -> Tally:
    """Answer what comes before a point; else leave a file that says which process is at which shard, and wait for the gate."""
    if start >= first:
        part = folder / f"{start}.{os.getpid()}"
        part.write_text(str(os.getpid()))
        part.rename(folder / f"{start}.at")
        until((folder / "gate").exists)
    return ask(campaign, start, stop)


def dying(at: int, times: int, folder: Path, campaign: Campaign, start: int, stop: int) -> Tally:
    """End the process, so many times, of whoever is asked the shard that begins at a point."""
    deaths = len(list(folder.glob("death-*")))
    if start == at and deaths < times:
        (folder / f"death-{deaths}").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return ask(campaign, start, stop)


def raising(campaign: Campaign, start: int, stop: int) -> Tally:
    """A defect of ours."""
    raise ZeroDivisionError(f"at {start}")


def until(condition: Callable[[], object]) -> None:
    """Wait for it, at most `PATIENCE`."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"{condition} isn't so after {PATIENCE:.0f} s"
        time.sleep(0.01)


def header(**changed: Any) -> Header:
    """That of a campaign of these."""
    fields: dict[str, Any] = {"campaign": CAMPAIGN.to_dict(), "versions": {"lossref": "1"}, "block": BLOCK, "shard": SHARD}
    return Header(**(fields | changed))


def undisturbed(count: int = SHARDS) -> Tally:
    """The tally of the first shards, in one go and in this process."""
    return ask(CAMPAIGN, 0, count * SHARD)


def drive(asked: Ask, workers: Workers, path: Path | None, count: int = SHARDS, **how: Any) -> Journal:
    """Have the first shards done; the journal, which is closed."""
    with Driver(asked, CAMPAIGN, workers) as driver, Journal(path, header(versions=driver.versions)) as journal:
        driver.run(shards(0, count * SHARD, SHARD, CAMPAIGN.size), journal, **how)
    return journal


class Dask:
    """A scheduler and its workers, each a process of its own. Use it as a context manager: all of them end with it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            self._port = one.getsockname()[1]
        self.scheduler: subprocess.Popen[bytes] | None = None
        self.workers: list[subprocess.Popen[bytes]] = []

    @property
    def address(self) -> str:
        """Of the scheduler."""
        return f"tcp://127.0.0.1:{self._port}"

    def __enter__(self) -> Dask:
        self.begin()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def begin(self) -> None:
        """Start what doesn't run: the scheduler, two workers."""
        if self.scheduler is None or self.scheduler.poll() is not None:
            self.scheduler = self._start("scheduler", "--host", "127.0.0.1", "--port", str(self._port), "--no-dashboard", "--no-show")
            until(self._listens)
        self.workers = [worker for worker in self.workers if worker.poll() is None]
        while len(self.workers) < WORKERS:
            own = ("--no-nanny", "--nthreads", "1", "--no-dashboard", "--host", "127.0.0.1", "--local-directory", str(self._folder))
            self.workers.append(self._start("worker", self.address, *own))

    def end(self) -> None:
        """End all of it at once."""
        for process in (self.scheduler, *self.workers):
            if process is not None:
                process.kill()
                process.wait()
        self.workers = []

    def _listens(self) -> bool:
        with socket.socket() as one:
            return one.connect_ex(("127.0.0.1", self._port)) == 0

    def _start(self, *arguments: str) -> subprocess.Popen[bytes]:
        log = (self._folder / f"{arguments[0]}-{len(list(self._folder.glob('*.log')))}.log").open("wb")
        with log:
            return subprocess.Popen([sys.executable, "-m", "dask", *arguments], cwd=ROOT, stdout=log, stderr=log)
