"""The command line: arguments, exit status, and sentences on what went wrong.

Whatever is heavy is imported by the command that needs it, so that `lossref --help` answers at once.
"""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil
import signal
import sys
import traceback
from collections.abc import Callable, Sequence

from conformance import commands
from conformance.commands.common import say
from conformance.complaint import BAD, FINE, INTERRUPTED, UNABLE, Complaint


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return the exit status. Without `arguments`, those of the process."""
    if arguments is None:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # leave no worker behind, however we are stopped
    given = parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = given.command
    try:
        return command(given)
    except KeyboardInterrupt:
        sys.stderr.write("lossref: interrupted\n")
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FINE
    except Exception as error:
        status = _status(error)
        if status is None:  # a defect of ours is no verdict
            traceback.print_exc()
            sys.stderr.write("lossref: the suite itself failed; please report the lines above\n")
            return UNABLE
        sys.stderr.write(f"lossref: {error}\n")
        return status


def _status(error: Exception) -> int | None:
    """The exit status of an error that its own message explains; None for a defect of ours."""
    from refimpl.operation import InvalidInput

    if isinstance(error, Complaint):
        return error.status
    return BAD if isinstance(error, InvalidInput) else None


def parser() -> argparse.ArgumentParser:
    """Every command and its arguments."""
    top = argparse.ArgumentParser(prog="lossref", description="The reference for classification losses, and its conformance suite.")
    top.add_argument("--version", action=_Version, nargs=0, help="print the version and leave")
    into = top.add_subparsers(required=True, metavar="COMMAND")
    for module in pkgutil.iter_modules(commands.__path__):
        if module.name not in ("candidates", "common", "outputs"):
            importlib.import_module(f"conformance.commands.{module.name}").add(into)
    return top


class _Version(argparse.Action):
    """Prints the installed version; its metadata is read only when asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        say(f"lossref {version('lossref')}")
        parser.exit()


if __name__ == "__main__":
    sys.exit(main())
