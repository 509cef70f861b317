"""`lossref vectors`: check or list the golden vectors."""

from __future__ import annotations

import argparse

from conformance.commands.common import FINE, Commands, say


def add(commands: Commands) -> None:
    """The command and its arguments."""
    command = commands.add_parser("vectors", help="check or list the golden vectors")
    command.set_defaults(command=vectors)
    command.add_argument("action", choices=("lint", "list"), help="lint: verify the seal and every vector; list: their ids")


def vectors(given: argparse.Namespace) -> int:
    """Run the command; the exit status."""
    from conformance import vectors

    found = vectors.read()
    if given.action == "list":
        for vector in found:
            say(vector.case.id)
    else:
        say(f"{len(found)} vectors are well formed and as they were sealed: {vectors.digest()}")
    return FINE
