"""`lossref vectors`: check or list the golden vectors, prove that one is among them, write them in other formats."""

from __future__ import annotations

import argparse
from pathlib import Path

from conformance.commands.common import Commands, say, select, writable_folder
from conformance.complaint import FINE


def add(commands: Commands) -> None:
    """The command and its arguments."""
    command = commands.add_parser("vectors", help="check, list or export the golden vectors")
    actions = command.add_subparsers(required=True, metavar="ACTION")
    actions.add_parser("lint", help="check the seal, every file and every vector").set_defaults(command=lint)
    actions.add_parser("list", help="print the ids").set_defaults(command=listed)
    proof = actions.add_parser("prove", help="print the proof that a vector is part of the set with the digest")
    proof.set_defaults(command=prove)
    proof.add_argument("id", metavar="ID", help="its id (see `lossref vectors list`)")
    export = actions.add_parser("export", help="write vectors in another format", description="Write vectors in another format.")
    export.set_defaults(command=exported)
    export.add_argument("--format", choices=("npz", "json", "onnx"), required=True, help="onnx: tests for the runner of ONNX's backends")
    export.add_argument("--out", metavar="DIR", type=Path, required=True, help="the folder to write to")
    export.add_argument("--operation", metavar="O", help="only this operation")
    export.add_argument("--dtype", metavar="D", help="only this dtype")
    export.add_argument("--case", metavar="GLOB", action="append", help="only the cases with such an id (may be repeated)")


def lint(given: argparse.Namespace) -> int:
    """Run the action; the exit status."""
    from conformance import vectors

    say(f"the vectors are well formed and as they were sealed: {vectors.lint()}")
    return FINE


def listed(given: argparse.Namespace) -> int:
    """Run the action; the exit status."""
    from conformance import vectors

    for vector in vectors.read():
        say(vector.case.id)
    return FINE


def prove(given: argparse.Namespace) -> int:
    """Run the action; the exit status."""
    import json

    from conformance import vectors

    say(json.dumps(vectors.prove(given.id), indent=1))
    return FINE


def exported(given: argparse.Namespace) -> int:
    """Run the action; the exit status."""
    from conformance.export import export

    chosen, _ = select(given.operation, given.dtype, given.case, "full")
    writable_folder(given.out)
    written, left = export(given.format, chosen, given.out)
    say(f"{written} vectors written to {given.out}")
    for reason, count in sorted(left.items()):
        say(f"{count} left out: {reason}")
    return FINE
