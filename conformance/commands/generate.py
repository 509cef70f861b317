"""`lossref generate`: make the golden vectors, or compare them with what would be made."""

from __future__ import annotations

import argparse
from pathlib import Path

from conformance.commands.common import Commands, UsageError, say, writable_folder
from conformance.complaint import FINE


def add(commands: Commands) -> None:
    """The command and its arguments."""
    command = commands.add_parser("generate", help="make the golden vectors", description="Make the golden vectors, each proven twice.")
    command.set_defaults(command=generate)
    command.add_argument("--out", metavar="DIR", type=Path, help="the folder (default: that of the package)")
    command.add_argument("--operation", metavar="O", help="only this operation")
    command.add_argument("--check", action="store_true", help="write nothing; compare with what is there, byte for byte")
    command.add_argument("--afresh", action="store_true", help="forget what the ledger has of these ids: only before a first release")


def generate(given: argparse.Namespace) -> int:
    """Run the command; the exit status."""
    from conformance import vectors
    from refimpl.operations import operation as find

    if given.check:
        if given.operation is not None:
            raise UsageError("--check compares all operations at once; leave out --operation")
        if given.afresh:
            raise UsageError("--check writes nothing; leave out --afresh")
        say(f"the vectors are what this release generates, byte for byte: {vectors.check(given.out)}")
        return FINE
    name = None if given.operation is None else find(given.operation).name
    folder = given.out if given.out is not None else vectors.installed()
    writable_folder(folder)
    made = vectors.generate(name)
    digest = vectors.write(made, folder, afresh=given.afresh)
    say(f"{len(made)} vectors written to {folder}: {digest}")
    return FINE
