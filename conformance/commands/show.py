"""`lossref show`: a case, what is expected of it, and what a backend says."""

from __future__ import annotations

import argparse

from conformance.commands.common import FINE, SHORT, Commands, UsageError, say, similar


def add(commands: Commands) -> None:
    """The command and its arguments."""
    command = commands.add_parser("show", help="show a case and what is expected of it")
    command.set_defaults(command=show)
    command.add_argument("case", metavar="CASE", help="its id, like kl_div/edges/... (see `lossref vectors list`)")
    command.add_argument("--backend", metavar="B", help="also ask this backend, and judge its answer")


def show(given: argparse.Namespace) -> int:
    """Run the command; the exit status."""
    from conformance.expected import FAILING
    from conformance.report.case import describe
    from conformance.report.message import message
    from conformance.runner import Run, modules
    from conformance.vectors import read
    from refimpl.operations import operations

    backends = {} if given.backend is None else modules([given.backend])
    operation = given.case.partition("/")[0]
    found = read(operation=operation if operation in operations() else None)
    vector = next((vector for vector in found if vector.case.id == given.case), None)
    if vector is None:
        raise UsageError(f"no case is named {given.case!r}{similar(given.case, found)}; see `lossref vectors list`")
    say(describe(vector))
    if not backends:
        return FINE
    with Run(backends, [vector]) as run:
        version = next(iter(run.descriptions[given.backend].versions.values()), "")
        results = list(run.results())
    for result in results:
        say("\n" + message(result.finding, given.backend, version, result.mode))
    return SHORT if any(result.finding.verdict in FAILING for result in results) else FINE
