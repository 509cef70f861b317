"""`lossref ask`: write requests to a folder, for a device that can't hold a process."""

from __future__ import annotations

import argparse
from pathlib import Path

from conformance.commands.common import Commands, say, select, writable_folder
from conformance.complaint import FINE


def add(commands: Commands) -> None:
    """The command and its arguments."""
    command = commands.add_parser(
        "ask",
        help="write requests to a folder, for a device that can't hold a process",
        description="Write what a program would be asked to DIR/requests.jsonl. The device writes DIR/answers.jsonl, and "
        "`lossref run dir:DIR` judges it. docs/protocol.md describes both files.",
    )
    command.set_defaults(command=ask)
    command.add_argument("folder", metavar="DIR", type=Path, help="the folder to write to")
    command.add_argument("--operation", metavar="O", help="only this operation")
    command.add_argument("--dtype", metavar="D", help="only this dtype")
    command.add_argument("--case", metavar="GLOB", action="append", help="only the cases that match (may be repeated)")
    command.add_argument("--tier", choices=("smoke", "core", "full"), help="how many cases (default: core; full with --case)")


def ask(given: argparse.Namespace) -> int:
    """Run the command; the exit status."""
    from conformance.links.folder import write

    chosen, _ = select(given.operation, given.dtype, given.case, given.tier or ("core" if given.case is None else "full"))
    writable_folder(given.folder)
    say(f"{write(given.folder, chosen)} requests written to {given.folder}, two for each call; the answers go to answers.jsonl there")
    return FINE
