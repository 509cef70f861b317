"""`lossref bits`: digests of the reference's bits."""

from __future__ import annotations

import argparse
import sys

from conformance.commands.common import Commands, UsageError, count, say, writable
from conformance.complaint import FINE, SHORT


def add(commands: Commands) -> None:
    """The command and its arguments."""
    command = commands.add_parser("bits", help="digests of the reference's bits", description="Hash a million results of every operation.")
    command.set_defaults(command=bits)
    what = command.add_mutually_exclusive_group()
    what.add_argument("--check", action="store_true", help="compare with the digests that come with the package")
    what.add_argument("--write", action="store_true", help="record the digests in the package, after a change that is meant to change them")
    command.add_argument("--short", action="store_true", help="some of the calls, with fewer rows; they have digests of their own")
    command.add_argument("--operation", metavar="O", help="only this operation")
    command.add_argument("--threads", metavar="N", type=count, help="processors to use (default: all that the process may)")


def bits(given: argparse.Namespace) -> int:
    """Run the command; the exit status."""
    from conformance import bits
    from refimpl.operations import operation as find
    from refimpl.operations import operations

    if given.threads is not None:
        bits.limit_threads(given.threads)
    if given.write:
        if given.short or given.operation is not None:
            raise UsageError("--write records everything; leave out --short and --operation")
        writable(bits.RECORD)
        say(f"the digests are recorded in {bits.RECORD}; total {bits.total(bits.write()['whole'])}")
        return FINE
    chosen = list(operations().values()) if given.operation is None else [find(given.operation)]
    recorded = bits.read()["short" if given.short else "whole"] if given.check else {}
    found = {}
    for one in chosen:
        found[one.name] = bits.digest(one, given.short)
        say(bits.describe(one.name, found[one.name]))
    if given.operation is None:
        say(f"{'total':<24} {bits.total(found)}")
    else:
        recorded = {name: one for name, one in recorded.items() if name in found}
    wrong = bits.differences(found, recorded) if given.check else []
    for line in wrong:
        sys.stderr.write(f"lossref: {line}\n")
    if given.check and not wrong:
        say(f"the bits are those of the record, on {bits.machine()}")
    return SHORT if wrong else FINE
