"""`lossref findings`: the defects of released libraries, each asked of the installed one again; and the page of them."""

from __future__ import annotations

import argparse
from pathlib import Path

from conformance.commands.common import Commands, UsageError, say
from conformance.complaint import FINE

MAKER = "lossref findings"


def add(commands: Commands) -> None:
    """The command and its arguments."""
    command = commands.add_parser(
        "findings",
        help="the defects found in released libraries",
        description="Show each defect that the known deviations name, by its shortest case: message and script, from the installed "
        "library. Status 1 where one doesn't show.",
    )
    command.set_defaults(command=findings)
    command.add_argument("backends", nargs="*", metavar="BACKEND", help="by default all whose known deviations name a defect")
    command.add_argument("--expect", metavar="F", type=Path, help="known deviations, instead of those that come with the package")
    command.add_argument("--write", metavar="PAGE", type=Path, help="make the sections of these backends in this page anew")


def findings(given: argparse.Namespace) -> int:
    """Run the command; the exit status."""
    from conformance import deviations
    from conformance.adapter import backends as known
    from conformance.findings import ask, defects, section, shown, vectors_of
    from conformance.page import filled
    from conformance.sources import find

    if given.expect is not None and len(given.backends) != 1:
        raise UsageError("--expect is about one backend; name it")
    sections = {}
    for name in dict.fromkeys(given.backends or known()):
        source = find(name)
        expectations = deviations.packaged(name) if given.expect is None else deviations.read(given.expect)
        named = [] if expectations is None else [one for one in expectations.deviations if one.defect is not None]
        if expectations is None or not named:
            if given.backends:
                raise UsageError(f"the known deviations of {name} name no defect; leave {name} out, or name one there")
            continue
        chosen = defects(expectations, vectors_of(named))
        about, results = ask(source, chosen)
        sections[about.name] = section(source, about, shown(chosen, results, expectations.source))
    if given.write is None:
        for name, text in sections.items():
            say(f"## {name}\n\n{text}\n")
        return FINE
    try:
        given.write.write_text(filled(given.write.read_text(encoding="utf-8"), MAKER, sections), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{given.write} can't be read and written ({error.strerror}); name the page, docs/findings.md") from error
    except ValueError as error:
        raise UsageError(f"{given.write}: {error}") from error
    return FINE
