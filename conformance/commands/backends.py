"""`lossref backends`: the known backends, and which are installed."""

from __future__ import annotations

import argparse

from conformance.commands.common import Commands, say
from conformance.complaint import FINE


def add(commands: Commands) -> None:
    """The command and its arguments."""
    command = commands.add_parser("backends", help="the known backends, and which are installed")
    command.set_defaults(command=backends)


def backends(given: argparse.Namespace) -> int:
    """Run the command; the exit status."""
    from conformance.adapter import Unusable
    from conformance.runner import BackendError, Run
    from conformance.sources import OURS, UnknownBackend, find, named

    for name, origin in named().items():
        try:
            with Run([find(name)], []) as run:
                about = run.descriptions[name]
        except (BackendError, UnknownBackend, Unusable) as error:
            say(f"{name}: {error}")
            continue
        versions = ", ".join(f"{package} {version}" for package, version in about.versions.items())
        declared = "" if origin == OURS else f" (declared by {origin})"
        say(f"{name}{declared}: {versions}; {', '.join(mode.name for mode in about.modes)}")
        say("  " + ", ".join(name + (" (composed)" if name in about.composed else "") for name in about.operations))
    return FINE
