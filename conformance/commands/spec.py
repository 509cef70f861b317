"""`lossref spec`: the specification, whole or by clause."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from conformance.commands.common import Commands, UsageError, say
from conformance.complaint import FINE

if TYPE_CHECKING:
    from conformance.spec import Section

NAMED = 3  # vectors that are named as evidence


def add(commands: Commands) -> None:
    """The command and its arguments."""
    command = commands.add_parser("spec", help="the specification: its clauses, one of them, or a chapter")
    command.set_defaults(command=spec)
    wanted = (
        "a clause (SCE-4), or a chapter by its name or prefix (softmax_cross_entropy, gradients, GRD); without one, all clauses in a list"
    )
    command.add_argument("wanted", nargs="?", metavar="CLAUSE", help=wanted)


def spec(given: argparse.Namespace) -> int:
    """Run the command; the exit status."""
    from conformance import spec
    from conformance.report import chapter

    found = spec.sections()
    if given.wanted is None:
        say(chapter.listing(found.values()))
        return FINE
    if given.wanted.upper() in found:
        one = found[given.wanted.upper()]
        say(chapter.whole(one))
        say("\n" + "\n".join(_standing(one)))
        return FINE
    names = {one.prefix: one.chapter for one in found.values()}
    name = names.get(given.wanted.upper(), given.wanted)
    path = next((path for path in spec.chapters() if path.stem == name), None)
    if path is None:
        known = ", ".join(dict.fromkeys(one.prefix for one in found.values()))
        raise UsageError(f"no clause or chapter is named {given.wanted!r}; the clauses begin with {known}")
    say(chapter.plain(path.read_text(encoding="utf-8")))
    return FINE


def _standing(section: Section) -> list[str]:
    """Where a clause stands: its chapter, its label in the operation's file, and the vectors that are its evidence."""
    from conformance import vectors
    from refimpl.operations import operations

    lines = [f"Chapter: docs/spec/{section.chapter}.md"]
    stated = operations().get(section.chapter)
    edges = {clause.id: clause.edge for clause in stated.clauses} if stated is not None else {}
    if edges.get(section.id):
        lines.append(f"Edge: {edges[section.id]} in refimpl/operations/{section.chapter}.py")
    if "No vectors" not in section.parts:
        of = section.chapter if stated is not None and not section.applied_by else None
        ids = [vector.case.id for vector in vectors.read(operation=of) if section.shown_by(vector.case.clauses)]
        first = list({id.rpartition("-")[0]: id for id in reversed(ids)}.values())[::-1]  # of each name, whatever its dtypes
        lines += [f"Vectors: {len(ids)}" + (", among them" if len(ids) > NAMED else ""), *(f"    {id}" for id in first[:NAMED])]
    return lines
