"""`lossref vectors`: check or list the golden vectors, prove that one is among them, write them in other formats, add what was found."""

from __future__ import annotations

import argparse
from pathlib import Path

from conformance.commands.common import Commands, UsageError, say, select, writable_folder
from conformance.complaint import FINE


def add(commands: Commands) -> None:
    """The command and its arguments."""
    command = commands.add_parser("vectors", help="check, list, export or add to the golden vectors")
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
    addition = actions.add_parser(
        "add",
        help="take candidates into the golden vectors",
        description="Take candidates, which `lossref search` writes, into the golden vectors: each is proven again, and refused where a "
        "vector asks the same. Its case is kept under conformance/cases/found, from which `lossref generate` makes it anew.",
    )
    addition.set_defaults(command=added)
    addition.add_argument("files", metavar="FILE", type=Path, nargs="+", help="a candidate")
    addition.add_argument("--name", metavar="N", help="what it is to be called: <operation>/regression/N-<dtype>")
    addition.add_argument(
        "--clause", metavar="ID", action="append", help="a clause that it is evidence for, instead of those that it names (may be repeated)"
    )
    addition.add_argument("--out", metavar="DIR", type=Path, help="the folder of the vectors (default: that of the package)")


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


def added(given: argparse.Namespace) -> int:
    """Run the action; the exit status."""
    from conformance import candidate, vectors
    from conformance.accept import accept

    if given.name is not None and len(given.files) > 1:
        raise UsageError(f"--name is about one candidate, and {len(given.files)} are given; add each on its own")
    folder = vectors.installed() if given.out is None else given.out
    for written in (folder, candidate.FOUND if candidate.FOUND.exists() else candidate.FOUND.parent):
        writable_folder(written)
    ids, digest = accept(given.files, folder, given.name or "", given.clause or ())
    for id in ids:
        say(f"taken: {id}")
    say(f"the vectors are well formed and sealed anew: {digest}")
    return FINE
