"""`lossref report`: the reports on results that a run has left."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from conformance.commands import outputs
from conformance.commands.common import Commands
from conformance.complaint import FINE, SHORT


def add(commands: Commands) -> None:
    """The command and its arguments."""
    command = commands.add_parser(
        "report",
        help="reports on the results of a run",
        description="Make reports of the results that `lossref run --json` wrote; without an option, print the summary again. "
        "The exit status is that of the run.",
    )
    command.set_defaults(command=report)
    command.add_argument("results", metavar="RESULTS", type=Path, help="a file that `lossref run --json` or `lossref merge` wrote")
    command.add_argument("--by-dtype", action="store_true", help="print the summary, with a table of grades for each dtype")
    outputs.add(command)


def report(given: argparse.Namespace) -> int:
    """Run the command; the exit status."""
    from conformance.changes import refuse_others
    from conformance.report import jsonlines, terminal

    record = jsonlines.read(given.results)
    earlier = outputs.check(given)
    if earlier is not None:
        refuse_others(earlier, record)
    if given.by_dtype or not outputs.asked(given):
        terminal.summary(terminal.console(sys.stdout), record, kept=given.results, apart=given.by_dtype)
    outputs.write(given, record, earlier)
    return FINE if record.holds else SHORT
