"""`lossref search`: draw calls that no vector makes, and shrink what fails."""

from __future__ import annotations

import argparse
import math
import re
import sys
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

from conformance.commands.common import Commands, UsageError, count, gibibytes, known_dtype, minutes, say, seconds, writable_folder
from conformance.complaint import FINE, SHORT, UNABLE, Complaint


class SearchError(Complaint):
    """There can be no search here; the message says what to install."""

    status = UNABLE


def add(commands: Commands) -> None:
    """The command and its arguments."""
    command = commands.add_parser(
        "search",
        help="draw calls that no vector makes, and shrink what fails",
        description="Draw calls of a backend, climb towards its worst error, and shrink each failure that no known cause explains to the "
        "smallest call. Each is kept in a folder as a candidate for `lossref vectors add`. Status 1 where one is no listed defect.",
    )
    command.set_defaults(command=search)
    command.add_argument("backend", metavar="BACKEND", help="as for `lossref run`")
    command.add_argument("--against", metavar="OTHER", help="ask another backend the same, and look for where the two part")
    command.add_argument("--operation", metavar="O", action="append", help="only this operation (may be repeated)")
    command.add_argument("--dtype", metavar="D", action="append", help="only this dtype (may be repeated)")
    command.add_argument("--mode", metavar="M", help="the mode to ask (default: for each dtype the first that a run asks)")
    command.add_argument("--minutes", metavar="M", type=minutes, default=600.0, help="how long to search (default 10)")
    command.add_argument("--out", metavar="DIR", type=Path, help="where findings are kept, and found again (default: build/search/BACKEND)")
    command.add_argument("--seed", metavar="N", type=int, default=0, help="another seed draws other calls (default 0)")
    command.add_argument(
        "--examples", metavar="N", type=count, default=math.inf, help="stop after so many calls, if the time isn't up before"
    )
    command.add_argument("--timeout", metavar="S", type=seconds, default=20.0, help="seconds that a call may take (default 20)")
    command.add_argument("--memory", metavar="GIB", type=gibibytes, help="memory that a worker process may take")
    command.add_argument("--dialect", metavar="D", help="judge by this dialect: a name or a file, as for `lossref run`")
    command.add_argument("--tensors", metavar="T", default="numpy", help="what functions get: numpy (default), torch or jax")
    command.add_argument("--promise", metavar="P", action="append", help="what functions promise, as for `lossref run`")
    command.add_argument("--device", metavar="D", help="a device of the backend's library (default: cpu)")


def search(given: argparse.Namespace) -> int:
    """Run the command; the exit status."""
    if find_spec("hypothesis") is None:
        raise SearchError("a search needs hypothesis, which isn't installed; pip install 'lossref[hypothesis]'")
    from functools import partial

    from conformance import dialects
    from conformance.report import terminal
    from conformance.search import words
    from conformance.search.differ import Partings
    from conformance.search.engine import Limits
    from conformance.search.look import alone
    from conformance.search.session import Found, Session
    from conformance.search.subject import Subject
    from conformance.search.watch import Watch
    from conformance.sources import Options, command_of, find, refuse_idle

    names = [given.backend, *([given.against] if given.against is not None else [])]
    if len(set(names)) < len(names):
        raise UsageError(f"{given.backend} can't be searched against itself; name another backend with --against")
    operations, dtypes = tuple(given.operation or ()), tuple(map(known_dtype, given.dtype or ()))
    options = Options(
        given.dialect,
        operations[0] if len(operations) == 1 else None,
        dtypes[0] if len(dtypes) == 1 else None,
        tuple(given.promise or ()),
        given.tensors,
        given.device,
    )
    refuse_idle(names, options)
    dialect = None if given.dialect is None else dialects.named(given.dialect)
    folder = given.out or Path("build", "search", re.sub(r"[^\w.-]+", "-", "-".join(names)))
    writable_folder(folder)
    out = terminal.console(sys.stdout)
    limits = Limits(given.minutes, given.examples, given.seed)
    with ExitStack() as open_:
        subjects = [open_.enter_context(Subject(find(name, options), given.mode, given.timeout, given.memory, dialect)) for name in names]
        cells = [cell for cell in subjects[0].cells(operations, dtypes) if all(cell in one.cells() for one in subjects)]
        if not cells:
            raise UsageError(f"{names[0]} and {names[-1]} have no operation and dtype in common; name another backend with --against")
        by_command = {command_of(name, options): subject for name, subject in zip(names, subjects, strict=True)}
        parted = Partings(subjects[0], subjects[-1])
        say(words.head(subjects, cells, limits, folder))

        def tell(found: Found) -> None:
            watch.say("\n" + words.told(found))

        watch = open_.enter_context(Watch(out, limits.seconds))
        session = Session(by_command, parted.look if given.against is not None else partial(alone, subjects[0]), folder, tell)
        ended = session.search(cells, limits, watch.note)
    say("")
    out.print(words.table(session.coverage))
    for sentence in words.covered(session.coverage, cells, ended):
        say(sentence)
    for subject in subjects:
        say("")
        for sentence in words.known(session, subject.source.name):
            say(sentence)
    if given.against is not None:
        say("")
        for sentence in words.partings(parted):
            say(sentence)
    for sentence in words.mended(session.mended):
        say(sentence)
    say("\n" + words.counts(session))
    return SHORT if session.unknown else FINE
