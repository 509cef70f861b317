"""`lossref faults`: run the deliberately wrong kernels, and see which vectors catch which."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from conformance.commands.common import Commands, UsageError, count, say, writable
from conformance.complaint import FINE, SHORT

if TYPE_CHECKING:
    from conformance.faults.matrix import Matrix, Row


def add(commands: Commands) -> None:
    """The command and its arguments."""
    command = commands.add_parser(
        "faults",
        help="run deliberately wrong kernels: does a vector catch each?",
        description="Run every fault, a kernel with one mistake, and every right kernel on the vectors of a tier. Status 1 where a fault "
        "is not caught, two are caught alike, the loss of a fault in the gradient is wrong, or a right kernel is accused.",
    )
    command.set_defaults(command=faults)
    command.add_argument("--operation", metavar="O", help="only the kernels of this operation")
    command.add_argument("--fault", metavar="GLOB", action="append", help="only the faults that match (may be repeated), no right kernels")
    command.add_argument("--faults-only", action="store_true", help="judge no right kernels, which take most of the time")
    command.add_argument("--tier", metavar="T", default="core", help="the vectors to use: smoke, core or full (default core)")
    command.add_argument("--json", metavar="F", type=Path, help="write the matrix")
    command.add_argument("--jobs", metavar="N", type=count, help="processes (default: one for each core)")
    command.add_argument("--write", action="store_true", help="in a checkout: fill docs/faults.md, docs/faults.json and the README's table")


def faults(given: argparse.Namespace) -> int:
    """Run the command; the exit status."""
    import json
    import os
    from fnmatch import fnmatchcase

    from conformance import faults as package
    from conformance.case import TIERS
    from conformance.faults.matrix import matrix, right_kernels
    from conformance.faults.scores import OURS, record, write_page
    from refimpl.operations import operation as find

    if given.tier not in TIERS:
        raise UsageError(f"no tier is named {given.tier!r}; the tiers are {', '.join(TIERS)}")
    if given.write and (given.operation is not None or given.fault or given.tier != "core"):
        raise UsageError("--write publishes the whole matrix of the core tier; leave out --operation, --fault and --tier")
    name = None if given.operation is None else find(given.operation).name
    found = [fault for fault in package.faults() if name in (None, fault.operation)]
    for glob in given.fault or ():
        if not any(fnmatchcase(fault.name, glob) for fault in found):
            raise UsageError(f"no fault is named {glob!r}; `lossref faults` without it lists them all")
    if given.fault:
        found = [fault for fault in found if any(fnmatchcase(fault.name, glob) for glob in given.fault)]
    right = (
        () if given.fault or given.faults_only else [adapter for adapter in right_kernels() if name is None or name in adapter.operations]
    )
    if given.json is not None:
        writable(given.json)
    made = matrix(found, right, given.tier, given.jobs or os.cpu_count() or 1)
    for line in (*map(_line, made.rows), *_summary(made, given.tier)):
        say(line)
    if given.json is not None:
        given.json.write_text(json.dumps(_as_json(made, given.tier), indent=1) + "\n", encoding="utf-8")
    if given.write:
        root = Path(__file__).parents[2]
        write_page(root, made)
        record(root, {OURS: {row.fault.name: bool(row.caught) for row in made.rows}}, len(made.rows))
    return FINE if made.holds else SHORT


def _line(row: Row) -> str:
    """A fault: how many of the vectors that it was asked catch it, in which groups, by which clauses; the smallest of them."""
    fault, seen = row.fault, row.seen
    clause = fault.clause if row.named or not row.caught else f"{fault.clause} NOT NAMED"
    groups = " ".join(f"{group} {number}" for group, number in seen.groups.items())
    clauses = " ".join(f"{id} {number}" for id, number in sorted(seen.broken.items(), key=lambda item: -item[1])[:4])
    caught = f"{len(row.caught)}/{seen.asked}" if row.caught else "NOT CAUGHT"
    return f"{fault.name:<58} {fault.direction:<8} {clause:<7} {caught:>9}  {row.smallest.partition('/')[2]}  [{groups}; {clauses}]"


def _summary(made: Matrix, tier: str) -> list[str]:
    """What is wrong with the matrix, and its score."""
    lines = [f"NOT CAUGHT   {name}" for name in made.missed]
    lines += [f"ALIKE        {' = '.join(names)}: caught by the same vectors" for names in made.alike]
    lines += [f"ASTRAY       {row.fault.name}: its loss is wrong too, on {row.astray[0]}" for row in made.astray]
    lines += [f"ACCUSED      {seen.name}, which is right, by {', '.join(seen.failed)}" for seen in made.accused]
    caught = len(made.rows) - len(made.missed)
    lines.append(f"{caught} of {len(made.rows)} faults caught by the vectors of tier {tier}")
    lines.append(f"{len(made.accused)} of {len(made.right)} right kernels accused")
    return lines


def _as_json(made: Matrix, tier: str) -> dict[str, object]:
    """The matrix in full."""
    from conformance.vectors import digest

    rows = [
        {
            "name": row.fault.name,
            "operation": row.fault.operation,
            "dtypes": list(row.fault.adapter.promises),
            "direction": row.fault.direction,
            "clause": row.fault.clause,
            "named": row.named,
            "mistake": row.fault.mistake,
            "seen": row.fault.seen,
            "asked": row.seen.asked,
            "caught": list(row.caught),
            "clauses": dict(row.seen.broken),
            "groups": dict(row.seen.groups),
        }
        for row in made.rows
    ]
    right = [{"name": seen.name, "asked": seen.asked, "accused": list(seen.failed)} for seen in made.right]
    return {"tier": tier, "vectors": digest(), "faults": rows, "right": right}
