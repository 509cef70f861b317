"""`lossref campaign`: ask a backend every input of a small set, here or on a cluster."""

from __future__ import annotations

import argparse
import math
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from conformance.commands.common import Commands, UsageError, count, minutes, say, writable
from conformance.complaint import FINE, SHORT

if TYPE_CHECKING:
    from conformance.campaign.drive import Driver
    from conformance.campaign.executors import Workers
    from conformance.campaign.tally import Tally
    from conformance.finding import Finding


def add(commands: Commands) -> None:
    """The command and its arguments."""
    about = "Ask a backend every input of a small set, and find its largest error over all of them. With a journal, it goes on."
    command = commands.add_parser("campaign", help="ask a backend every input of a small set, here or on a cluster", description=about)
    command.set_defaults(command=campaign)
    command.add_argument("backend", nargs="?", metavar="BACKEND", help="torch, jax, ... or package.module:function")
    command.add_argument("--list", action="store_true", help="list the spaces, and leave")
    command.add_argument("--space", metavar="S", help="which set of inputs (see --list)")
    command.add_argument("--dtype", metavar="D", default="float16", help="of the inputs (default float16)")
    command.add_argument("--mode", metavar="M", default="", help="a mode of the backend (default: its first)")
    command.add_argument(
        "--direction", choices=("forward", "backward"), default="forward", help="backward: the gradients (default forward)"
    )
    command.add_argument(
        "--fixed", metavar="PLACE=X", type=_fixed, action="append", default=[], help="an operand that doesn't vary, like q[0]=0.5 (repeat)"
    )
    command.add_argument("--points", metavar="A:B", type=_points, help="only the shards that hold points A to before B (default: all)")
    command.add_argument("--shard", metavar="N", type=count, default=1 << 22, help="points of a shard, a multiple of 65536 (default 2^22)")
    command.add_argument("--journal", metavar="F", type=Path, help="keep what is finished in this file, and go on from it")
    command.add_argument("--budget", metavar="MIN", type=minutes, default=math.inf, help="begin no shard after so many minutes")
    where = command.add_mutually_exclusive_group()
    where.add_argument("--jobs", metavar="N", type=count, help="processes of this machine (default: one for each processor)")
    where.add_argument("--cluster", metavar="ADDR", help="the workers of a Dask cluster, by its scheduler's address: tcp://HOST:8786")
    where.add_argument("--mpi", action="store_true", help="the processes that mpiexec started: see docs/campaigns.md")
    command.add_argument("--device", metavar="D", help="a device of the backend's library (default: cpu)")
    command.add_argument("--dialect", metavar="D", help="judge by this dialect (see `lossref dialects`)")
    command.add_argument("--promise", metavar="P", action="append", default=[], help="what a function promises, as in `lossref run`")
    command.add_argument("--tensors", metavar="T", default="numpy", help="what a function gets: numpy (default), torch or jax")
    command.add_argument("--json", metavar="F", type=Path, help="write what was found as a JSON document")


def campaign(given: argparse.Namespace) -> int:
    """Run the command; the exit status."""
    from conformance.campaign.asking import ask
    from conformance.campaign.drive import Driver, shards
    from conformance.campaign.journal import Header, Journal
    from conformance.campaign.space import BLOCK, Campaign
    from conformance.report import campaign as report
    from conformance.report.terminal import console
    from conformance.sources import Options, refuse_idle

    if given.list:
        for line in report.spaces():
            say(line)
        return FINE
    if given.backend is None or given.space is None:
        raise UsageError("name a backend, and with --space what it is asked; `lossref campaign --list` lists the spaces")
    if given.shard % BLOCK:
        raise UsageError(f"--shard is {given.shard}; write a multiple of {BLOCK}")
    refuse_idle([given.backend], Options(promises=tuple(given.promise), tensors=given.tensors))
    asked = Campaign(
        given.backend,
        given.space,
        given.dtype,
        given.mode,
        tuple(given.fixed),
        given.direction,
        given.device,
        given.dialect,
        tuple(given.promise),
        given.tensors,
    )
    first, last = given.points or (0, asked.size)
    if last > asked.size:
        raise UsageError(f"--points ends at {last}, and {given.space} of {given.dtype} has {asked.size} points")
    first -= first % given.shard
    if given.json is not None:
        if given.journal is not None and given.json.resolve() == given.journal.resolve():
            raise UsageError(f"--json and --journal both are {given.json}; name another file for one of them")
        writable(given.json)
    out = console(sys.stdout)
    found: dict[tuple[str, int], Finding] = {}
    workers = _workers(given)
    with Driver(ask, asked, workers) as driver:
        header = Header(driver.campaign.to_dict(), driver.versions, BLOCK, given.shard)
        with Journal(given.journal, header) as journal:
            before, began = journal.tally.points, time.monotonic()
            try:
                left = last - first - given.shard * journal.within(first, last)
                with report.progress(out, asked.space, journal, max(0, left)) as bar:
                    driver.run(shards(first, last, given.shard, asked.size), journal, given.budget, lambda: report.move(bar, journal))
                found = _confirmed(driver, journal.tally)
            finally:  # an interrupt, too, leaves a summary
                points, took = journal.tally.points - before, time.monotonic() - began
                covered = report.Covered(driver.campaign, journal, driver.versions, points, took, workers.name, driver.dropped)
                if given.json is not None:
                    report.write(given.json, covered)
                report.summary(out, covered, found)
    return SHORT if covered.failed else FINE


def _workers(given: argparse.Namespace) -> Workers:
    from conformance.campaign.executors import Cluster, Mpi, Pool
    from refimpl import jit

    if given.cluster is not None:
        return Cluster(given.cluster)
    return Mpi() if given.mpi else Pool(given.jobs or jit.threads())


def _confirmed(driver: Driver, tally: Tally) -> dict[tuple[str, int], Finding]:
    """What the judge finds of the points that stand out, each under why it does."""
    from conformance.campaign.tally import FAILURES
    from conformance.report.campaign import SENTENCES

    points = {f"the first {SENTENCES[outcome]}": tally.outcomes[outcome].first.point for outcome in FAILURES & tally.outcomes.keys()}
    points |= {f"the largest {name}": worst.place.point for name, worst in (("error in ulps", tally.ulps), ("ratio", tally.ratio)) if worst}
    together = {point: " and ".join(name for name in points if points[name] == point) for point in sorted({*points.values()})}
    return {(names, point): driver.confirmed(point) for point, names in together.items()}


def _fixed(text: str) -> tuple[str, float]:
    place, _, value = text.partition("=")
    try:
        return place, float.fromhex(value) if "0x" in value else float(value)
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(f"{text!r} is no operand; write PLACE=X, like q[0]=0.5") from None


def _points(text: str) -> tuple[int, int]:
    first, colon, last = text.partition(":")
    if not (colon and first.isdecimal() and last.isdecimal() and int(first) < int(last)):
        raise argparse.ArgumentTypeError(f"{text!r} is no range of points; write A:B, like 0:65536")
    return int(first), int(last)
