"""Drives a campaign: its shards, a few at a time, to an executor, and what comes of them to the journal.

Shards are independent, so it doesn't matter who does which, in which order, or twice. Whatever becomes of a worker, a shard ends in the
journal, as finished or as lost:

- With the connection to the workers go the shards in flight. They are asked again once it is back, for which the driver waits `PATIENCE`.
- Of a pool one process of which died, nobody knows whose shard did it. Those in flight are asked again; one in flight `TRIES - 1` times
  is then asked alone. If its process dies then too, it is lost, and the rest goes on, unless `MOST` are lost in a row.
- What a worker raises isn't caught: a backend's own errors are answers, and counted in the tally, so it is a defect of ours.
"""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import BrokenExecutor, Future, wait
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any, TypeVar

from conformance.campaign.executors import Unreachable, Workers, first_line
from conformance.campaign.journal import Journal, Shard
from conformance.campaign.space import Campaign
from conformance.campaign.work import Ask, Done, confirm, present, work
from conformance.complaint import UNABLE, Complaint
from conformance.finding import Finding

LOOK = 0.5  # seconds after which the workers are looked at, though no shard is finished
TRIES = 3  # processes that may die at a shard
MOST = 10  # shards that may be lost in a row
PATIENCE = 600.0  # seconds that workers which were there may be out of reach
PAUSE = 1.0  # seconds between two attempts to reach them
GRACE = 60.0  # seconds after the end of the budget for what is in flight, or three times what a shard took where that is more
FIRST = 600.0  # the same where no shard is finished, so that nobody knows how long one takes


T = TypeVar("T")


class WorkersError(Complaint):
    """The workers can't do a campaign; the message says why, and the remedy."""

    status = UNABLE


def shards(start: int, stop: int, size: int, points: int) -> Iterator[Shard]:
    """The shards of `size` of a campaign with so many `points` that hold those from `start` to before `stop`."""
    return (Shard(begin, min(begin + size, points)) for begin in range(start // size * size, stop, size))


class Driver:
    """Has the shards of a campaign done by workers, which it opens and ends. Use it as a context manager.

    However it ends, the journal has what was finished, and no process of a pool is left behind. Raises `Unreachable` and `WorkersError`.
    """

    def __init__(self, ask: Ask, campaign: Campaign, workers: Workers) -> None:
        self._campaign = campaign
        self._work = partial(work, ask, campaign)
        self._workers = workers
        self._downs: tuple[type[BaseException], ...] = (BrokenExecutor, *workers.lost)
        self._flying: dict[Future[Done], tuple[Shard, float]] = {}
        self._landed: SimpleQueue[Future[Done]] = SimpleQueue()
        self._again: deque[Shard] = deque()
        self._suspects: deque[Shard] = deque()
        self._deaths: Counter[Shard] = Counter()
        self._alone: Shard | None = None
        self._down = False  # the executor takes no more
        self._in_a_row = 0
        self._longest = 0.0

    def __enter__(self) -> Driver:
        """Open the workers, and ask one for the campaign with its mode named, and for its versions."""
        try:
            self._executor = self._workers.open()
            self.campaign, self.versions = self._call(present, self._campaign)
        except self._workers.foreign as error:
            self._workers.close()
            said = " from ".join(first_line(one) for one in (error, error.__cause__) if one is not None)
            raise WorkersError(
                f"{self._workers.name} can't take the campaign ({said}); install lossref and the backend, in the versions that are here,"
                " for the scheduler and for every worker"
            ) from error
        except BaseException:
            self._workers.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._workers.close()

    def run(self, coming: Iterable[Shard], journal: Journal, seconds: float = math.inf, watch: Callable[[], None] = lambda: None) -> None:
        """Do what the journal doesn't have; after so many seconds begin no more, and drop what isn't finished within the grace (`dropped`).

        `watch` is called whenever something is finished, and now and then.
        """
        self._journal = journal
        fresh = (shard for shard in coming if not journal.has(shard))
        until = time.monotonic() + seconds
        while self._feed(fresh, until) or self._flying:
            if time.monotonic() > until + (max(GRACE, 3 * self._longest) if self._longest else FIRST):
                self._workers.close()  # some may hang, and would answer nothing else
                self._down = True
                return
            lively = not self._down and not self._workers.gone()
            if lively:
                taken = [self._take(future) for future in self._finished()]
                lively = all(taken)
            if not lively:
                self._renew(until, watch)
            watch()

    @property
    def dropped(self) -> tuple[Shard, ...]:
        """The shards that were begun and are neither finished nor lost."""
        return tuple(sorted([*(shard for shard, _ in self._flying.values()), *self._again, *self._suspects]))

    def confirmed(self, point: int) -> Finding:
        """What the judge finds of the backend's answer to a point."""
        return self._call(confirm, self.campaign, point)

    def _call(self, function: Callable[..., T], *arguments: Any) -> T:
        """What a worker returns of a function, when nothing is in flight."""
        for _ in range(TRIES):
            if self._down:
                self._renew(math.inf, lambda: None)
            asked = self._executor.submit(function, *arguments)
            self._workers.gone()
            try:
                return asked.result()
            except self._downs:
                self._down = True
        backend = self._campaign.backend
        raise WorkersError(f"{backend} can't be asked: {self._workers.ends()}; see what `lossref run {backend}` says")

    def _feed(self, fresh: Iterator[Shard], until: float) -> bool:
        """Put shards in flight; whether there are more, or some that are to be asked again as the workers are out of reach."""
        fed = False
        while time.monotonic() < until and (shard := self._next(fresh)) is not None:
            try:
                future = self._executor.submit(self._work, *shard)
            except self._downs as error:
                self._put_back(shard)
                self._down = not self._flying or not isinstance(error, BrokenExecutor)  # else those in flight say so
                return True
            self._flying[future] = shard, time.monotonic()
            future.add_done_callback(self._landed.put)
            fed = True
        return fed

    def _next(self, fresh: Iterator[Shard]) -> Shard | None:
        """The shard that is to be put in flight now, if any is. One that is asked alone waits until nothing else is in flight."""
        if self._alone is not None or (self._suspects and self._flying):
            return None
        if self._suspects:
            self._alone = self._suspects.popleft()
            return self._alone
        if len(self._flying) >= self._workers.most():
            return None
        return self._again.popleft() if self._again else next(fresh, None)

    def _finished(self) -> list[Future[Done]]:
        """What is finished of what is in flight, once something is, or after a while."""
        done = []
        with suppress(Empty):
            done.append(self._landed.get(timeout=LOOK))
            while True:
                done.append(self._landed.get_nowait())
        done = [future for future in done if future in self._flying]  # the others were in flight before the executor was opened anew
        if any(map(_broke, done)):
            done, _ = map(list, wait(self._flying))  # with one of them all are
        return done

    def _take(self, future: Future[Done]) -> bool:
        """Note what came of a shard; whether the executor can go on."""
        shard, began = self._flying.pop(future)
        try:
            done = future.result()
        except self._workers.killed:
            self._deaths[shard] = max(TRIES - 2, self._deaths[shard])
            self._suspect(shard)
            return True
        except BrokenExecutor:
            self._suspect(shard)
            return False
        except self._workers.lost:
            self._put_back(shard)
            return False
        if done.versions != self.versions:
            raise WorkersError(_differ(done, self.versions))
        self._journal.finish(shard, done.tally, done.cpu)
        self._longest = max(self._longest, time.monotonic() - began)
        self._in_a_row = 0
        if self._alone == shard:
            self._alone = None
        return True

    def _suspect(self, shard: Shard) -> None:
        """A worker died while this shard was in flight."""
        self._deaths[shard] += 1
        if self._alone != shard:
            (self._again if self._deaths[shard] < TRIES - 1 else self._suspects).append(shard)
            return
        self._alone = None
        how = self._workers.ends()
        self._journal.lose(shard, how)
        self._in_a_row += 1
        if self._in_a_row == MOST:
            raise WorkersError(
                f"{MOST} shards in a row had no answer; of the last, from {shard.start} to {shard.stop}, {how}; "
                "ask the backend with `lossref run` to see what it does"
            )

    def _put_back(self, shard: Shard) -> None:
        """It is to be asked again, through no fault of its own."""
        if self._alone == shard:
            self._alone = None
            self._suspects.appendleft(shard)
        else:
            self._again.append(shard)

    def _renew(self, until: float, watch: Callable[[], None]) -> None:
        """Open the executor anew, with nothing in flight; not once the budget is over."""
        self._workers.close()
        self._down = True
        for shard, _ in self._flying.values():
            self._put_back(shard)
        self._flying.clear()
        patience = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            try:
                self._executor = self._workers.open()
                self._down = False
                return
            except Unreachable:
                if time.monotonic() > patience:
                    raise
                watch()
                time.sleep(PAUSE)


def _broke(future: Future[Done]) -> bool:
    return not future.cancelled() and isinstance(future.exception(), BrokenExecutor)


def _differ(done: Done, expected: Mapping[str, str]) -> str:
    differing = [name for name in sorted({*done.versions, *expected}) if done.versions.get(name) != expected.get(name)]
    words = ", ".join(f"{name} {done.versions.get(name, 'missing')}, not {expected.get(name, 'missing')}" for name in differing)
    return f"{done.place} has {words}; install the same on all workers, and give the command again"
