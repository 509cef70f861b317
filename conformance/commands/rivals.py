"""`lossref rivals`: what other test suites see of the faults."""

from __future__ import annotations

import argparse
from pathlib import Path

from conformance.commands.common import Commands, UsageError, say, writable
from conformance.complaint import FINE, UNABLE


def add(commands: Commands) -> None:
    """The command and its arguments."""
    command = commands.add_parser(
        "rivals",
        help="what other test suites see of the faults",
        description="Ask other test suites about the faults: with their own tests, or with their tolerances on the cases and the exact "
        "answers of our core tier. Status 3 where one that is known isn't installed (the extras torch, jax and rivals have them all).",
    )
    command.set_defaults(command=rivals)
    command.add_argument("--operation", metavar="O", help="only the faults of this operation")
    command.add_argument("--json", metavar="F", type=Path, help="write which faults each suite catches")
    command.add_argument("--write", action="store_true", help="in a checkout: fill docs/faults.json and the README's table")


def rivals(given: argparse.Namespace) -> int:
    """Run the command; the exit status."""
    import json

    from conformance.faults import faults
    from conformance.faults.matrix import of_tier
    from conformance.faults.scores import record
    from conformance.rivals import Suite, libraries, scores, suites, table, usable
    from refimpl.operations import operation as find

    if given.write and given.operation is not None:
        raise UsageError("--write publishes the scores on all faults; leave out --operation")
    name = None if given.operation is None else find(given.operation).name
    if given.json is not None:
        writable(given.json)
    chosen = [fault for fault in faults() if name in (None, *fault.adapter.operations)]
    asked: list[Suite] = []
    missing = []
    for library in libraries():
        try:
            asked += suites(library)
        except ModuleNotFoundError as error:
            missing.append(f"{library}: no module named {error.name}; install it to have its suites asked")
    missing += [f"{suite.name}: no module named {suite.needs}; install it to have this suite asked" for suite in asked if not usable(suite)]
    asked = [suite for suite in asked if usable(suite)]
    found = scores(chosen, of_tier({fault.operation for fault in chosen}, "core"), asked)
    for row in table(found, len(chosen)):
        say(f"{row['suite']:<48} {row['caught']:>4} of {row['asked']:>3} asked, of {row['all']} in all")
    for line in missing:
        say(line)
    if given.json is not None:
        given.json.write_text(json.dumps({"faults": len(chosen), "suites": found}, indent=1) + "\n", encoding="utf-8")
    if given.write and not missing:
        record(Path(__file__).parents[2], found, len(chosen))
    return UNABLE if missing else FINE
