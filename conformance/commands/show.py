"""`lossref show`: a case, what is expected of it, what a backend says, and a script that shows it in the backend's own API."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from conformance.commands.common import Commands, UsageError, say, similar
from conformance.complaint import FINE, SHORT

if TYPE_CHECKING:
    from conformance.vectors import Vector


def add(commands: Commands) -> None:
    """The command and its arguments."""
    command = commands.add_parser("show", help="show a case and what is expected of it")
    command.set_defaults(command=show)
    command.add_argument(
        "case", metavar="CASE", help="its id, like kl_div/edges/... (see `lossref vectors list`), or a candidate's file, FILE.json"
    )
    command.add_argument("--backend", metavar="B", help="also ask this backend, and judge its answer")
    command.add_argument("--tensors", metavar="T", default="numpy", help="what a function gets: numpy (default), torch or jax")
    command.add_argument("--script", action="store_true", help="print only a script in the API of that backend, of the first failure")


def show(given: argparse.Namespace) -> int:
    """Run the command; the exit status."""
    from conformance.deviations import FAILING
    from conformance.links.program import ProgramSource
    from conformance.report.case import describe
    from conformance.report.message import candidate_line, command_line, message
    from conformance.runner import Run
    from conformance.script import line, script
    from conformance.sources import Options, command_of, find

    if given.script and given.backend is None:
        raise UsageError("--script speaks the API of a backend; name it with --backend")
    in_file = given.case.endswith(".json")
    vector = _of_candidate(Path(given.case)) if in_file else _golden(given.case)
    options = Options(operation=vector.case.operation, tensors=given.tensors)
    source = None if given.backend is None else find(given.backend, options)
    if not given.script:
        say(describe(vector))
    if source is None:
        return FINE
    with Run([source], [vector]) as run:
        about = run.descriptions[source.name]
        results = list(run.results())
    failures = [result for result in results if result.finding.verdict in FAILING]
    if given.script:
        first = (failures or results)[0]
        if isinstance(source, ProgramSource):
            say(line(vector, first, about, source.command).rstrip())
        else:
            say(script(vector, first, about).rstrip())
    else:
        command = command_of(given.backend, options)
        again = candidate_line(command, Path(given.case)) if in_file else command_line(command, given.case)
        for result in results:
            say("\n" + message(result.finding, source.name, about.version, result.mode, again))
    return SHORT if failures else FINE


def _of_candidate(path: Path) -> Vector:
    from conformance.candidate import read

    return read(path).vector


def _golden(id: str) -> Vector:
    from conformance.vectors import read
    from refimpl.operations import operations

    operation = id.partition("/")[0]
    found = read(operation=operation if operation in operations() else None)
    for vector in found:
        if vector.case.id == id:
            return vector
    raise UsageError(f"no case is named {id!r}{similar(id, found)}; see `lossref vectors list`")
