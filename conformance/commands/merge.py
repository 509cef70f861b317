"""`lossref merge`: join the shards of a run, and prove that they are the whole and disjoint."""

from __future__ import annotations

import argparse
from pathlib import Path

from conformance.commands.common import Commands, UsageError, say, select
from conformance.complaint import FINE, SHORT


def add(commands: Commands) -> None:
    """The command and its arguments."""
    command = commands.add_parser(
        "merge",
        help="join the shards of a run",
        description="Join what `lossref run --shard I/N --json F` wrote, prove that the shards are disjoint and the whole, and write the "
        "results of the whole run. The exit status is that of the whole run; 2 where they aren't its shards.",
    )
    command.set_defaults(command=merge)
    command.add_argument("shards", metavar="F", type=Path, nargs="+", help="results of one shard each, in any order")
    command.add_argument("--json", metavar="OUT", type=Path, required=True, help="write the results of the whole as JSON lines")
    command.add_argument("--expect", metavar="F", type=Path, help="known deviations, instead of those that come with the package")


def merge(given: argparse.Namespace) -> int:
    """Run the command; the exit status."""
    from conformance import deviations, vectors
    from conformance.merge import merge as joined
    from conformance.report import jsonlines
    from conformance.report.highlights import counts

    named = [path.resolve() for path in given.shards]
    if len(set(named)) < len(named) or given.json.resolve() in named:
        raise UsageError("one file can't be two shards, or a shard and their whole; name each once, and another for --json")
    shards = {str(path): jsonlines.read(path) for path in given.shards}
    first = next(iter(shards.values()))
    digest = vectors.digest()
    if first.digest != digest:
        raise UsageError(
            f"{given.shards[0]} is of the vectors {first.digest}, and those installed here are {digest}; merge where it was run"
        )
    if given.expect is not None and len(first.backends) > 1:
        raise UsageError(f"--expect is about one backend, and the shards are of {len(first.backends)}; leave it out")
    asked = first.selection
    chosen, ids = select(asked.operation, asked.dtype, asked.cases, asked.tier)
    known = {name: deviations.packaged(name) if given.expect is None else deviations.read(given.expect) for name in first.backends}
    record = joined(shards, chosen, ids, known)
    jsonlines.write(given.json, record)
    say(f"the {len(shards)} shards are disjoint and the whole ({record.selection.text}): {len(record.results)} results in {given.json}")
    say(counts(record))
    return FINE if record.holds else SHORT
