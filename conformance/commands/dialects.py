"""`lossref dialects`: the choices, and which dialect takes which; and the tables of the chapter on them."""

from __future__ import annotations

import argparse
from pathlib import Path

from conformance.commands.common import Commands, UsageError, say
from conformance.complaint import FINE

MAKER = "make spec"


def add(commands: Commands) -> None:
    """The command and its arguments."""
    command = commands.add_parser("dialects", help="the known dialects, and the choices that they take")
    command.set_defaults(command=dialects)
    command.add_argument("dialect", nargs="?", metavar="D", help="a dialect's name, or a file that states one: it is checked and shown")
    command.add_argument("--write", metavar="PAGE", type=Path, help="make the tables between the markers of this page anew")


def dialects(given: argparse.Namespace) -> int:
    """Run the command; the exit status."""
    from conformance.dialects import dialects as known
    from conformance.dialects import named

    if given.write is not None:
        _write(given.write)
        return FINE
    for dialect in known().values() if given.dialect is None else [named(given.dialect)]:
        say(f"{dialect.name}: {dialect.summary}" if dialect.summary else dialect.name)
        stated = {"": dialect.choices, **{f"{operation}: ": values for operation, values in dialect.operations.items()}}
        for where, values in stated.items():
            say(f"    {where}{', '.join(f'{name} {value}' for name, value in values.items()) or 'every default'}")
        for source in dialect.source if given.dialect is not None else ():
            say(f"    {source}")
    return FINE


def _write(page: Path) -> None:
    from conformance.page import filled
    from conformance.report.choices import tables
    from conformance.vectors import read

    try:
        text = page.read_text(encoding="utf-8")
        page.write_text(filled(text, MAKER, tables(read())), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{page} can't be read and written ({error.strerror}); name the chapter, docs/spec/choices.md") from error
    except ValueError as error:
        raise UsageError(f"{page}: {error}") from error
