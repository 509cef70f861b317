"""`lossref cite`: how to cite the spec and the vectors."""

from __future__ import annotations

import argparse

from conformance.commands.common import Commands, say
from conformance.complaint import FINE


def add(commands: Commands) -> None:
    """The command and its arguments."""
    command = commands.add_parser("cite", help="how to cite the specification and the vectors")
    command.set_defaults(command=cite)
    command.add_argument("--format", choices=("text", "bibtex", "cff"), help="only this one (default: text, BibTeX and the digest)")


def cite(given: argparse.Namespace) -> int:
    """Run the command; the exit status."""
    from conformance.report import citation

    facts = citation.facts()
    makers = {"text": citation.text, "bibtex": citation.bibtex, "cff": citation.cff}
    if given.format is not None:
        say(makers[given.format](facts))
        return FINE
    say("\n\n".join((citation.text(facts), citation.bibtex(facts), f"release {facts.release}; digest of the vectors {facts.digest}")))
    return FINE
