"""A campaign on a real Dask cluster, each part of which is lost in the middle: it ends as an undisturbed one on this machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from conformance.campaign.asking import ask as ask_backend
from conformance.campaign.drive import Driver, WorkersError, shards
from conformance.campaign.executors import EACH, Cluster, Mpi, Unreachable
from conformance.campaign.journal import Journal
from conformance.campaign.space import BLOCK
from tests.campaigns import CAMPAIGN, PATIENCE, ROOT, SHARD, SHARDS, Dask, ask, drive, gated, header, undisturbed, until
from tests.needs import library, program

BEFORE = 4 * SHARD  # the points that are answered before something happens


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dask]:
    library("distributed")
    with Dask(tmp_path_factory.mktemp("dask")) as dask:
        yield dask


@pytest.fixture
def cluster(running: Dask, tmp_path: Path) -> Iterator[Dask]:
    """With what the test before may have ended; in the end nothing waits at the gate."""
    running.begin()
    yield running
    (tmp_path / "gate").touch()


def begun(cluster: Dask, folder: Path) -> Future[Journal]:
    """A campaign in a thread, two of whose shards wait at the gate, each in a process."""
    path = folder / "journal"
    thread = ThreadPoolExecutor(1)
    coming = thread.submit(drive, partial(gated, folder, BEFORE), Cluster(cluster.address), path)
    thread.shutdown(wait=False)
    until(lambda: coming.done() or (len(waiting(folder)) == 2 and path.read_bytes().count(b'"tally"') == 4))
    return coming


def waiting(folder: Path) -> dict[str, int]:
    """The shards at the gate, each with its process."""
    return {path.stem: int(path.read_text()) for path in folder.glob("*.at")}


def test_a_worker_is_killed(cluster: Dask, tmp_path: Path) -> None:
    coming = begun(cluster, tmp_path)
    victim = next(iter(waiting(tmp_path).values()))
    assert victim in [process.pid for process in cluster.workers]
    os.kill(victim, signal.SIGKILL)
    (tmp_path / "gate").touch()
    assert coming.result().tally == undisturbed()
    assert not coming.result().lost


def test_the_scheduler_is_lost_and_back(cluster: Dask, tmp_path: Path) -> None:
    coming = begun(cluster, tmp_path)
    cluster.end()
    (tmp_path / "gate").touch()
    cluster.begin()
    assert coming.result().tally == undisturbed()
    assert coming.result().within(0, CAMPAIGN.size) == SHARDS


def test_the_client_is_interrupted_and_goes_on(cluster: Dask, tmp_path: Path) -> None:
    client_program = f"""
from functools import partial
from pathlib import Path
from conformance.campaign.drive import Driver, WorkersError, shards
from conformance.campaign.executors import Cluster
from tests.campaigns import drive, gated
folder = Path({str(tmp_path)!r})
drive(partial(gated, folder, {BEFORE}), Cluster({cluster.address!r}), folder / "journal")
"""
    client = subprocess.Popen([sys.executable, "-c", client_program], cwd=ROOT, stderr=subprocess.PIPE)
    path = tmp_path / "journal"
    until(lambda: client.poll() is not None or (len(waiting(tmp_path)) == 2 and path.read_bytes().count(b'"tally"') == 4))
    client.send_signal(signal.SIGINT)
    _, said = client.communicate(timeout=PATIENCE)
    assert b"KeyboardInterrupt" in said, said.decode()
    assert path.read_bytes().endswith(b"}\n")
    (tmp_path / "gate").touch()
    journal = drive(ask, Cluster(cluster.address), path)
    assert journal.tally == undisturbed()


def test_the_processes_of_mpi(tmp_path: Path) -> None:
    library("mpi4py")
    bin = Path(sys.executable).parent  # where pip puts a library of MPI, if the system has none
    mpiexec = program("mpiexec", "a library of MPI", str(bin))
    command = [mpiexec, "-n", "2", sys.executable, "-m", "mpi4py.futures", "-m", "conformance.cli", "campaign", CAMPAIGN.backend]
    command += ["--space", CAMPAIGN.space, "--dtype", CAMPAIGN.dtype, "--shard", str(BLOCK), "--points", f"0:{2 * BLOCK}", "--mpi"]
    run = subprocess.run([*command, "--json", str(tmp_path / "report.json")], cwd=ROOT, capture_output=True, text=True, check=False)
    truth = ask_backend(CAMPAIGN, 0, 2 * BLOCK)
    assert run.returncode == (0 if truth.passed else 1), run.stderr
    assert json.loads((tmp_path / "report.json").read_text())["tally"] == truth.to_json()


def test_a_cluster_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    library("distributed")
    monkeypatch.setattr("conformance.campaign.executors.CONNECTING", 0.5)
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1:9 can't be reached .*dask scheduler.*another address"):
        drive(ask, Cluster("tcp://127.0.0.1:9"), None)


@pytest.mark.parametrize(
    ("error", "said"),
    [(TypeError("TLS expects a context\nhere"), "TLS expects a context"), (OSError(), "OSError"), (ValueError("\nno"), "no")],
)
def test_why_a_cluster_can_not_be_reached_is_said(error: Exception, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def client(*_: object, **__: object) -> None:
        raise error

    library("distributed")
    monkeypatch.setattr("distributed.Client", client)
    with pytest.raises(Unreachable, match=rf"HOST can't be reached \({said}\); start"):
        Cluster("tls://HOST").open()


def test_all_workers_of_a_cluster_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    class Client:
        status = "running"

        def __init__(self, *_: object, **__: object) -> None:
            self.there = 9

        def wait_for_workers(self, *_: object, **__: object) -> None:
            pass

        def scheduler_info(self, n_workers: int = 5) -> dict[str, object]:  # as in distributed 2026.1
            return {"id": "one", "workers": range(self.there if n_workers == -1 else n_workers)}

        def get_executor(self, **_: object) -> None:
            pass

    library("distributed")
    monkeypatch.setattr("distributed.Client", Client)
    workers = Cluster("tcp://HOST:8786")
    workers.open()
    assert workers.most() == 9 * EACH
    monkeypatch.setattr("conformance.campaign.executors.COUNTING", -1.0)
    workers._client.there = 11
    assert not workers.gone()
    assert workers.most() == 11 * EACH


def test_why_mpi_can_not_begin_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def pool() -> None:
        raise OSError("no slots")

    monkeypatch.setitem(sys.modules, "mpi4py", SimpleNamespace(futures=SimpleNamespace(MPIPoolExecutor=pool)))
    with pytest.raises(OSError, match="no slots"):
        drive(ask, Mpi(), None)


def test_workers_of_another_version_are_refused(cluster: Dask, tmp_path: Path) -> None:
    with Driver(ask, CAMPAIGN, Cluster(cluster.address)) as driver:
        driver.versions = {**driver.versions, "numpy": "1.0"}
        with Journal(None, header()) as journal, pytest.raises(WorkersError, match=r"process \d+ on .* has numpy .*, not 1\.0; install"):
            driver.run(shards(0, SHARD, SHARD, CAMPAIGN.size), journal)
