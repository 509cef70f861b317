"""`lossref show`: a case, what is expected of it, what a backend says, and a script that shows it in the backend's own API."""

from __future__ import annotations

import argparse

from conformance.commands.common import Commands, UsageError, say, similar
from conformance.complaint import FINE, SHORT


def add(commands: Commands) -> None:
    """The command and its arguments."""
    command = commands.add_parser("show", help="show a case and what is expected of it")
    command.set_defaults(command=show)
    command.add_argument("case", metavar="CASE", help="its id, like kl_div/edges/... (see `lossref vectors list`)")
    command.add_argument("--backend", metavar="B", help="also ask this backend, and judge its answer")
    command.add_argument("--tensors", metavar="T", default="numpy", help="what a function gets: numpy (default), torch or jax")
    command.add_argument("--script", action="store_true", help="print only a script in the API of that backend, of the first failure")


def show(given: argparse.Namespace) -> int:
    """Run the command; the exit status."""
    from conformance.deviations import FAILING
    from conformance.links.program import ProgramSource
    from conformance.report.case import describe
    from conformance.report.message import command_line, message
    from conformance.runner import Run
    from conformance.script import line, script
    from conformance.sources import Options, command_of, find
    from conformance.vectors import read
    from refimpl.operations import operations

    if given.script and given.backend is None:
        raise UsageError("--script speaks the API of a backend; name it with --backend")
    operation = given.case.partition("/")[0]
    options = Options(operation=operation, tensors=given.tensors)
    source = None if given.backend is None else find(given.backend, options)
    found = read(operation=operation if operation in operations() else None)
    vector = next((vector for vector in found if vector.case.id == given.case), None)
    if vector is None:
        raise UsageError(f"no case is named {given.case!r}{similar(given.case, found)}; see `lossref vectors list`")
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
        again = command_line(command_of(given.backend, options), given.case)
        for result in results:
            say("\n" + message(result.finding, source.name, about.version, result.mode, again))
    return SHORT if failures else FINE
