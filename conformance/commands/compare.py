"""`lossref compare`: what got better, worse, appeared or vanished between two runs."""

from __future__ import annotations

import argparse
from pathlib import Path

from conformance.commands.common import Commands, say
from conformance.complaint import FINE, SHORT


def add(commands: Commands) -> None:
    """The command and its arguments."""
    command = commands.add_parser(
        "compare",
        help="what changed between two runs",
        description="Say what got better, worse, appeared or vanished between two runs of the same vectors. Status 1 on a regression: a "
        "pass that became a failure, a tensor that is answered no more, a grade that fell, a clause newly broken; 2 where runs can't be "
        "compared.",
    )
    command.set_defaults(command=compare)
    command.add_argument("old", metavar="OLD", type=Path, help="results of the earlier run, as `lossref run --json` wrote them")
    command.add_argument("new", metavar="NEW", type=Path, help="results of the later one")


def compare(given: argparse.Namespace) -> int:
    """Run the command; the exit status."""
    from conformance.changes import compare as changes_between
    from conformance.report.changes import lines
    from conformance.report.jsonlines import read

    changes = changes_between(read(given.old), read(given.new))
    for line in lines(changes):
        say(line)
    return SHORT if changes.regressed else FINE
