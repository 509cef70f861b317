"""Where the shards of a campaign run: processes of this machine, a Dask cluster, or MPI. Each is an executor of `concurrent.futures`.

Nothing here schedules anything. Each way says how its executor is opened and ended, how many shards keep it busy, and which of its errors
say that a shard's worker died, or that all of it is out of reach.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
import warnings
from collections.abc import Mapping
from concurrent.futures import CancelledError, Executor, ProcessPoolExecutor
from multiprocessing.process import BaseProcess
from multiprocessing.queues import SimpleQueue
from typing import Any, Protocol

from conformance.complaint import UNABLE, Complaint
from conformance.links.child import THREADS

EACH = 2  # shards in flight for each worker: the one that it does, and the next
CONNECTING = 10.0  # seconds for a scheduler to answer
JOINING = 60.0  # seconds for the first worker to be there
ENDING = 2.0  # seconds for the processes of a pool to be gone once one is
COUNTING = 5.0  # seconds for which a count of the workers serves


class Unreachable(Complaint):
    """There are no workers where they were said to be; the message says where, why, and the remedy."""

    status = UNABLE


class Workers(Protocol):
    """A way to have shards done.

    `killed` are the errors of a shard whose worker died again and again, `lost` those of one that went down with the connection, `foreign`
    those of a task that a part of them can't read, as lossref isn't there.
    """

    @property
    def name(self) -> str:
        """What they are, in words."""

    @property
    def killed(self) -> tuple[type[BaseException], ...]:
        """See above."""

    @property
    def lost(self) -> tuple[type[BaseException], ...]:
        """See above."""

    @property
    def foreign(self) -> tuple[type[BaseException], ...]:
        """See above."""

    def open(self) -> Executor:
        """An executor with at least one worker; raises `Unreachable`. The one before was closed."""

    def most(self) -> int:
        """How many shards are to be in flight."""

    def gone(self) -> bool:
        """Whether the executor will finish nothing more, though no shard says so."""

    def ends(self) -> str:
        """How worker processes ended, as far as it is known: "ended by SIGSEGV"."""

    def close(self) -> None:
        """End it now; what is in flight is dropped."""


class Pool:
    """`jobs` processes of this machine, each on one processor. They end with this process, however it ends."""

    killed: tuple[type[BaseException], ...] = ()
    lost: tuple[type[BaseException], ...] = (CancelledError,)
    foreign: tuple[type[BaseException], ...] = ()

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs
        self._executor: ProcessPoolExecutor | None = None
        self._strangers: set[BaseProcess] = set()
        self._processes: set[BaseProcess] = set()
        self._environment: Mapping[str, str] = {}

    @property
    def name(self) -> str:
        """What they are, in words."""
        return f"{self._jobs} process{'es' if self._jobs > 1 else ''} of this machine"

    def open(self) -> Executor:
        """Make a pool, whose processes start when they are needed."""
        context = multiprocessing.get_context("spawn")
        self._strangers, self._processes = set(multiprocessing.active_children()), set()
        slots = context.SimpleQueue()
        for slot in range(self._jobs):
            slots.put(slot)
        self._environment = {name: value for name, value in dict.fromkeys(THREADS, "1").items() if name not in os.environ}
        os.environ.update(self._environment)  # libraries read it as they are loaded
        self._executor = ProcessPoolExecutor(self._jobs, context, begin, (slots,))
        return self._executor

    def most(self) -> int:
        """How many shards are to be in flight."""
        return EACH * self._jobs

    def gone(self) -> bool:
        """Never without a shard that says so."""
        self._processes |= set(multiprocessing.active_children()) - self._strangers
        return False

    def ends(self) -> str:
        """By which signals or with which status they ended. The pool ends the others with SIGTERM once one is gone."""
        until = time.monotonic() + ENDING
        while any(process.exitcode is None for process in self._processes) and time.monotonic() < until:
            time.sleep(0.01)
        codes = sorted({process.exitcode or 0 for process in self._processes} - {0, -signal.SIGTERM})
        words = [f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}" for code in codes]
        return f"its process {' or '.join(words)}" if words else "its process ended"

    def close(self) -> None:
        """End the processes."""
        for name in self._environment:
            os.environ.pop(name, None)
        if self._executor is not None:
            for process in set(multiprocessing.active_children()) - self._strangers:
                process.kill()
            self._executor.shutdown(cancel_futures=True)
            self._executor = None


def begin(slots: SimpleQueue[int]) -> None:
    """Prepare a process of a pool: its processors, its end, and that nothing it prints reaches the screen; what it complains of does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to all, and only the driver is to act
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if hasattr(os, "sched_setaffinity"):
        processors = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {processors[slots.get() % len(processors)]})
    threading.Thread(target=_follow, daemon=True).start()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    warnings.simplefilter("ignore")


def _follow() -> None:
    """End with the process that started this one."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


class Cluster:
    """The workers of a Dask cluster, by the address of its scheduler. Raises `Unreachable` where `distributed` isn't installed."""

    foreign: tuple[type[BaseException], ...] = (ImportError, RuntimeError)  # as a worker and as the scheduler say it

    def __init__(self, address: str) -> None:
        try:
            import distributed
        except ModuleNotFoundError as error:
            raise Unreachable(f"--cluster needs {error.name}, which isn't installed; pip install 'lossref[distributed]'") from error
        self._distributed = distributed
        self._address = address
        self._client: Any = None
        self._scheduler, self._count, self._counted = "", 0, 0.0
        self.killed: tuple[type[BaseException], ...] = (distributed.KilledWorker,)
        self.lost: tuple[type[BaseException], ...] = (CancelledError, distributed.client.ClosedClientError)

    @property
    def name(self) -> str:
        """What they are, in words."""
        return f"the Dask cluster at {self._address}"

    def open(self) -> Executor:
        """Connect to the scheduler, and wait for a worker."""
        try:
            self._client = self._distributed.Client(self._address, timeout=CONNECTING, set_as_default=False)
            self._client.wait_for_workers(1, timeout=JOINING)
        except (OSError, ValueError, TypeError) as error:  # a TypeError for an address of tls without the certificates for it
            self.close()
            raise Unreachable(
                f"{self.name} can't be reached ({first_line(error)}); start `dask scheduler` and `dask worker {self._address}`, "
                "or name another address"
            ) from error
        found = self._client.scheduler_info(n_workers=-1)
        self._scheduler, self._count, self._counted = found["id"], len(found["workers"]), time.monotonic()
        executor: Executor = self._client.get_executor(pure=False)  # a shard that is asked again is another task
        return executor

    def most(self) -> int:
        """How many shards are to be in flight. Workers may come and go."""
        return EACH * max(1, self._count)

    def gone(self) -> bool:
        """Whether the connection is lost, or is one to another scheduler, which knows nothing of our shards."""
        if self._client.status != "running":
            return True
        if time.monotonic() > self._counted + COUNTING:
            try:
                found = self._client.scheduler_info(n_workers=-1)
            except OSError:
                return True
            self._count, self._counted = len(found["workers"]), time.monotonic()
            return bool(found["id"] != self._scheduler)
        return False

    def ends(self) -> str:
        """That several of them died at it."""
        return "its workers died, one after another"

    def close(self) -> None:
        """Leave the cluster, which drops what this client asked of it."""
        if self._client is not None:
            self._client.close(timeout=CONNECTING)
            self._client = None


class Mpi:
    """The processes that `mpiexec -n N python -m mpi4py.futures -m conformance.cli campaign ...` started, save the one that asks.

    A process that dies takes all others with it, as is MPI's way. Raises `Unreachable` where `mpi4py` or its library isn't installed.
    """

    killed: tuple[type[BaseException], ...] = ()
    lost: tuple[type[BaseException], ...] = (CancelledError,)
    foreign: tuple[type[BaseException], ...] = ()

    def __init__(self) -> None:
        self._executor: Any = None
        try:
            from mpi4py import futures
        except ImportError as error:
            raise Unreachable(f"--mpi can't be used ({error}); pip install 'lossref[mpi]', and a library of MPI") from error
        self._pool: Any = futures.MPIPoolExecutor

    @property
    def name(self) -> str:
        """What they are, in words."""
        return "MPI"

    def open(self) -> Executor:
        """The processes that are there."""
        self._executor = self._pool()
        executor: Executor = self._executor
        return executor

    def most(self) -> int:
        """How many shards are to be in flight."""
        return EACH * self._executor.num_workers

    def gone(self) -> bool:
        """Never: this process would be, too."""
        return False

    def ends(self) -> str:
        """Nothing is known of it."""
        return "its process ended"

    def close(self) -> None:
        """Let go of the processes; what they are doing, they finish."""
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)
            self._executor = None


def first_line(error: BaseException) -> str:
    """What an error says, in a line; what it is, where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
