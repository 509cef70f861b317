"""`lossref backends`: the known backends, and which are installed."""

from __future__ import annotations

import argparse

from conformance.commands.common import FINE, Commands, say


def add(commands: Commands) -> None:
    """The command and its arguments."""
    command = commands.add_parser("backends", help="the known backends, and which are installed")
    command.set_defaults(command=backends)


def backends(given: argparse.Namespace) -> int:
    """Run the command; the exit status."""
    from conformance.adapter import backends
    from conformance.runner import BackendError, Run, modules

    for name in backends():
        try:
            with Run(modules([name]), []) as run:
                about = run.descriptions[name]
        except BackendError as error:
            say(f"{name}: {error}")
            continue
        say(f"{name}: {', '.join(f'{package} {version}' for package, version in about.versions.items())}; {', '.join(about.modes)}")
        say("  " + ", ".join(name + (" (composed)" if name in about.composed else "") for name in about.operations))
    return FINE
