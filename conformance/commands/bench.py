"""`lossref bench`: time the reference beside what one would run instead."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from conformance.commands.common import Commands, count, say, writable
from conformance.complaint import FINE, UNABLE


def add(commands: Commands) -> None:
    """The command and its arguments."""
    about = "Time the smoothed attention loss of the reference and of what one would run instead, in turns, and print ratios."
    command = commands.add_parser("bench", help="time the reference beside what one would run instead", description=about)
    command.set_defaults(command=bench)
    command.add_argument("--shape", metavar="BxTxV", action="append", help="sequences, tokens and classes, or rows and classes (repeat)")
    command.add_argument("--dtype", metavar="D", action="append", help="of the logits (may be repeated; default float32)")
    command.add_argument("--peer", metavar="P", action="append", help="only this one beside the reference (may be repeated)")
    command.add_argument(
        "--direction", choices=("forward", "gradient", "both"), default="both", help="gradient: with the loss (default both)"
    )
    command.add_argument("--rounds", metavar="N", type=count, help="turns that each takes (default: fewer for large shapes)")
    command.add_argument("--threads", metavar="N", type=count, help="threads of each (default: one for each processor)")
    command.add_argument("--json", metavar="F", type=Path, help="write the results as a JSON document")
    instead = command.add_mutually_exclusive_group()
    instead.add_argument("--linear", action="store_true", help="instead: the reference's cost an element, from 10^4 to 10^9 of them")
    instead.add_argument("--memory", action="store_true", help="instead: peak memory beyond inputs and outputs, each in a fresh process")
    instead.add_argument("--startup", action="store_true", help="instead: what a first call costs in a fresh process, by operation")


def bench(given: argparse.Namespace) -> int:
    """Run the command; the exit status."""
    from conformance.bench.command import Asked, run

    if given.startup:
        from conformance.bench.startup import report
        from refimpl.operations import operations

        for line in report(list(operations()), given.rounds or 5):
            say(line)
        return FINE
    asked = Asked.of(given.shape, given.dtype, given.peer, given.direction, given.rounds, given.threads)
    if given.json is not None:
        writable(given.json)
    return FINE if run(asked, sys.stdout, given.json, linearly=given.linear, peaks=given.memory) else UNABLE
