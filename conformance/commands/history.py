"""`lossref history`: what became of a backend from run to run, of those that `lossref run --store` kept."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from conformance.commands.common import Commands, UsageError, known_dtype, say
from conformance.complaint import FINE


def add(commands: Commands) -> None:
    """The command and its arguments."""
    command = commands.add_parser(
        "history",
        help="grades by version over time",
        description="Show the kept runs of a backend (`lossref run --store`) and its grades in each; without a backend, which there are.",
    )
    command.set_defaults(command=show)
    command.add_argument("backend", nargs="?", metavar="BACKEND", help="as it was named to `lossref run`")
    command.add_argument("--operation", metavar="O", help="only this operation, and its grade in each dtype")
    command.add_argument("--dtype", metavar="D", help="only this dtype")
    command.add_argument("--store", metavar="DIR", type=Path, help="where the runs are kept (default: .lossref)")


def show(given: argparse.Namespace) -> int:
    """Run the command; the exit status."""
    from conformance.history import history, listed
    from conformance.report import history as report
    from conformance.report.terminal import console
    from conformance.store import FOLDER
    from refimpl.operations import operation as find

    folder = FOLDER if given.store is None else given.store
    out = console(sys.stdout)
    found = listed(folder)
    if given.backend is None:
        if given.operation is not None or given.dtype is not None:
            raise UsageError("--operation and --dtype are about a backend's history; name the backend")
        out.print(report.backends(found))
        return FINE
    if given.backend not in (one.name for one in found):
        names = ", ".join(one.name for one in found) or "none"
        raise UsageError(f"no run of {given.backend!r} is kept in {folder}; those that are: {names}")
    operation = None if given.operation is None else find(given.operation).name
    dtype = None if given.dtype is None else known_dtype(given.dtype)
    entries = history(folder, given.backend, operation, dtype)
    if not entries:
        raise UsageError(f"no run of {given.backend} in {folder} asked that; leave out --operation or --dtype")
    out.print(report.runs(entries))
    for table in report.grades(entries, operation, dtype):
        out.print()
        out.print(table)
    if any(entry.cells for entry in entries):
        say("\n" + report.key(operation, dtype, entries))
    return FINE
