"""`lossref spec`: the clauses of the specification."""

from __future__ import annotations

import argparse

from conformance.commands.common import FINE, Commands, UsageError, say


def add(commands: Commands) -> None:
    """The command and its arguments."""
    command = commands.add_parser("spec", help="the clauses of the specification")
    command.set_defaults(command=spec)
    command.add_argument("clause", nargs="?", metavar="CLAUSE", help="a clause, its prefix, or an operation")


def spec(given: argparse.Namespace) -> int:
    """Run the command; the exit status."""
    from conformance.spec import sections

    wanted, found = given.clause, list(sections().values())
    chosen = [one for one in found if wanted in (None, one.chapter, one.id, one.id.rpartition("-")[0])]
    if not chosen:
        known = ", ".join(dict.fromkeys(one.id.rpartition("-")[0] for one in found))
        raise UsageError(f"no clause or chapter is named {wanted!r}; the clauses begin with {known}")
    for one in chosen:
        say(f"{one.id}  {one.level}\n    {one.statement}")
    return FINE
