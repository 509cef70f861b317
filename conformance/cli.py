"""The command line: arguments, exit status, and sentences on what went wrong.

Whatever is heavy is imported by the command that needs it, so that `lossref --help` answers at once.
Exit status: 0 all as promised or as expected; 1 something fell short, or an expectation no longer holds; 2 wrong usage or
bad input; 3 a backend isn't installed or the suite could not run; 130 interrupted.
"""

from __future__ import annotations

import argparse
import math
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from conformance.vectors import Vector
    from refimpl.operation import Clause

FINE, SHORT, BAD, UNABLE, INTERRUPTED = 0, 1, 2, 3, 130


class UsageError(Exception):
    """The arguments can't be what was meant; the message says why and what to write."""


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
    from conformance.bench.problem import BenchError, Unmeasurable
    from conformance.bench.startup import ProgramError
    from conformance.bits import BitsError
    from conformance.expected import ExpectedError
    from conformance.report.jsonlines import ReportError
    from conformance.runner import BackendError, UnknownBackend
    from conformance.vectors import VectorError
    from refimpl.operation import InvalidInput

    if isinstance(error, (BackendError, ProgramError, Unmeasurable)):
        return UNABLE
    explained = (UsageError, BenchError, BitsError, UnknownBackend, VectorError, ExpectedError, ReportError, InvalidInput)
    return BAD if isinstance(error, explained) else None


def parser() -> argparse.ArgumentParser:
    """Every command and its arguments."""
    top = argparse.ArgumentParser(prog="lossref", description="The reference for classification losses, and its conformance suite.")
    top.add_argument("--version", action=_Version, nargs=0, help="print the version and leave")
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="judge backends", description="Ask backends for their answers and judge them.")
    run.set_defaults(command=_run)
    run.add_argument("backends", nargs="+", metavar="BACKEND", help="torch, jax, scipy, numpy, ... (see `lossref backends`)")
    run.add_argument("--operation", metavar="O", help="only this operation")
    run.add_argument("--dtype", metavar="D", help="only this dtype")
    run.add_argument("--case", metavar="GLOB", action="append", help="only the cases that match (may be repeated)")
    run.add_argument("--json", metavar="F", type=Path, help="write the results as JSON lines")
    run.add_argument("--expect", metavar="F", type=Path, help="known deviations, instead of those that come with the package")
    run.add_argument("--write-expect", metavar="F", type=Path, help="draft a file of known deviations from what failed")
    run.add_argument("--jobs", metavar="N", type=_count, default=1, help="backends that run at the same time (default 1)")
    run.add_argument("--timeout", metavar="S", type=_seconds, help="seconds that a case may take (default: by its size)")

    generate = commands.add_parser("generate", help="make the golden vectors", description="Make the golden vectors, each proven twice.")
    generate.set_defaults(command=_generate)
    generate.add_argument("--out", metavar="DIR", type=Path, help="the folder (default: that of the package)")
    generate.add_argument("--operation", metavar="O", help="only this operation")
    generate.add_argument("--check", action="store_true", help="write nothing; compare with what is there, byte for byte")

    bits = commands.add_parser("bits", help="digests of the reference's bits", description="Hash a million results of every operation.")
    bits.set_defaults(command=_bits)
    what = bits.add_mutually_exclusive_group()
    what.add_argument("--check", action="store_true", help="compare with the digests that come with the package")
    what.add_argument("--write", action="store_true", help="record the digests in the package, after a change that is meant to change them")
    bits.add_argument("--short", action="store_true", help="some of the calls, with fewer rows; they have digests of their own")
    bits.add_argument("--operation", metavar="O", help="only this operation")
    bits.add_argument("--threads", metavar="N", type=_count, help="processors to use (default: all that the process may)")

    vectors = commands.add_parser("vectors", help="check or list the golden vectors")
    vectors.set_defaults(command=_vectors)
    vectors.add_argument("action", choices=("lint", "list"), help="lint: verify the seal and every vector; list: their ids")

    show = commands.add_parser("show", help="show a case and what is expected of it")
    show.set_defaults(command=_show)
    show.add_argument("case", metavar="CASE", help="its id, like kl_div/edges/... (see `lossref vectors list`)")
    show.add_argument("--backend", metavar="B", help="also ask this backend, and judge its answer")

    known = commands.add_parser("backends", help="the known backends, and which are installed")
    known.set_defaults(command=_backends)

    about = "Time the smoothed attention loss of the reference and of what one would run instead, in turns, and print ratios."
    bench = commands.add_parser("bench", help="time the reference beside what one would run instead", description=about)
    bench.set_defaults(command=_bench)
    bench.add_argument("--shape", metavar="BxTxV", action="append", help="sequences, tokens and classes, or rows and classes (repeatable)")
    bench.add_argument("--dtype", metavar="D", action="append", help="of the logits (may be repeated; default float32)")
    bench.add_argument("--peer", metavar="P", action="append", help="only this one beside the reference (may be repeated)")
    bench.add_argument("--direction", choices=("forward", "gradient", "both"), default="both", help="gradient: and the loss (default both)")
    bench.add_argument("--rounds", metavar="N", type=_count, help="turns that each takes (default: fewer for large shapes)")
    bench.add_argument("--threads", metavar="N", type=_count, help="threads of each (default: one for each processor)")
    bench.add_argument("--json", metavar="F", type=Path, help="write the results as a JSON document")
    instead = bench.add_mutually_exclusive_group()
    instead.add_argument("--linear", action="store_true", help="instead: the reference's cost an element, from 10^4 to 10^9 of them")
    instead.add_argument("--memory", action="store_true", help="instead: peak memory beyond inputs and outputs, each in a fresh process")
    instead.add_argument("--startup", action="store_true", help="instead: what a first call costs in a fresh process, by operation")

    spec = commands.add_parser("spec", help="the clauses of the specification")
    spec.set_defaults(command=_spec)
    spec.add_argument("clause", nargs="?", metavar="CLAUSE", help="a clause, its prefix, or an operation")
    return top


class _Version(argparse.Action):
    """Prints the installed version; its metadata is read only when asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        _say(f"lossref {version('lossref')}")
        parser.exit()


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no count; write a whole number from 1")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no time; write a positive number of seconds")
    return seconds


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")


def _run(given: argparse.Namespace) -> int:
    from conformance import expected, vectors
    from conformance.draft import draft
    from conformance.report import jsonlines, terminal
    from conformance.runner import Run, modules

    backends = modules(list(dict.fromkeys(given.backends)))
    for option, path in (("--expect", given.expect), ("--write-expect", given.write_expect)):
        if path is not None and len(backends) > 1:
            raise UsageError(f"{option} is about one backend, and {len(backends)} are named; run each on its own")
    chosen = select(given.operation, given.dtype, given.case)
    known = {name: expected.packaged(name) if given.expect is None else expected.read(given.expect) for name in backends}
    if given.operation is None:
        everything = chosen if given.case is None and given.dtype is None else vectors.read()
        for expectations in filter(None, known.values()):
            expected.refuse_unknown(expectations, {vector.case.id for vector in everything})
    for path in filter(None, (given.json, given.write_expect)):
        _writable(path)
    out = terminal.console(sys.stdout)
    with Run(backends, chosen, given.jobs, given.timeout) as run, terminal.progress(out, run.total) as bar:
        about = run.descriptions
        if given.json is not None:
            given.json.write_bytes(b"")  # an interrupted run leaves no older results
        results = list(terminal.follow(run.results(), bar))
    results.sort(key=lambda result: list(backends).index(result.backend))
    of = {name: [result for result in results if result.backend == name] for name in backends}
    comparisons = {name: expected.compare(of[name], known[name], about[name].versions) for name in backends}
    if given.json is not None:
        jsonlines.write(given.json, results, about, vectors.digest())
    if given.write_expect is not None:
        (name,) = backends
        given.write_expect.write_text(draft(results, about[name].versions), encoding="utf-8")
    terminal.summary(out, comparisons, results, about)
    return FINE if all(comparison.holds for comparison in comparisons.values()) else SHORT


def select(operation: str | None, dtype: str | None, globs: Sequence[str] | None) -> list[Vector]:
    """The installed vectors that the filters leave; raises where one of them names nothing."""
    from fnmatch import fnmatchcase

    from conformance import vectors
    from refimpl.enclosure import FORMATS
    from refimpl.operations import operation as find

    if dtype is not None and dtype not in FORMATS:
        raise UsageError(f"no dtype is named {dtype!r}; the dtypes are {', '.join(FORMATS)}")
    found = vectors.read(operation=None if operation is None else find(operation).name)
    for glob in globs or ():
        if not any(fnmatchcase(vector.case.id, glob) for vector in found):
            raise UsageError(f"no case is named {glob!r}{_similar(glob, found)}; see `lossref vectors list`")
    chosen = [
        vector
        for vector in found
        if dtype in (None, vector.case.dtype) and (not globs or any(fnmatchcase(vector.case.id, glob) for glob in globs))
    ]
    if not chosen:
        raise UsageError("no case is left by these filters together; leave one of them out")
    return chosen


def _similar(name: str, vectors: Sequence[Vector]) -> str:
    from difflib import get_close_matches

    close = get_close_matches(name, [vector.case.id for vector in vectors], n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def _writable(path: Path) -> None:
    """See whether the file can be written, before minutes are spent on what goes there; it keeps what it holds."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.open("ab").close()
    except OSError as error:
        raise UsageError(f"{path} can't be written ({error.strerror}); name a file in a folder that you may write to") from error


def _folder(folder: Path) -> None:
    """Make the folder, and see whether it can be written to, before minutes are spent on what goes there."""
    import tempfile

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UsageError(f"{folder} can't be written ({error.strerror}); name another folder with --out") from error


def _generate(given: argparse.Namespace) -> int:
    from conformance import vectors
    from refimpl.operations import operation as find

    if given.check:
        if given.operation is not None:
            raise UsageError("--check compares all operations at once; leave out --operation")
        _say(f"the vectors are what this release generates, byte for byte: {vectors.check(given.out)}")
        return FINE
    name = None if given.operation is None else find(given.operation).name
    folder = given.out if given.out is not None else vectors.installed()
    _folder(folder)
    made = vectors.generate(name)
    digest = vectors.write(made, folder)
    _say(f"{len(made)} vectors written to {folder}: {digest}")
    return FINE


def _bits(given: argparse.Namespace) -> int:
    from conformance import bits
    from refimpl.operations import operation as find
    from refimpl.operations import operations

    if given.threads is not None:
        bits.limit_threads(given.threads)
    if given.write:
        if given.short or given.operation is not None:
            raise UsageError("--write records everything; leave out --short and --operation")
        _writable(bits.RECORD)
        _say(f"the digests are recorded in {bits.RECORD}; total {bits.total(bits.write()['whole'])}")
        return FINE
    chosen = list(operations().values()) if given.operation is None else [find(given.operation)]
    recorded = bits.read()["short" if given.short else "whole"] if given.check else {}
    found = {}
    for one in chosen:
        found[one.name] = bits.digest(one, given.short)
        _say(bits.describe(one.name, found[one.name]))
    if given.operation is None:
        _say(f"{'total':<24} {bits.total(found)}")
    else:
        recorded = {name: one for name, one in recorded.items() if name in found}
    wrong = bits.differences(found, recorded) if given.check else []
    for line in wrong:
        sys.stderr.write(f"lossref: {line}\n")
    if given.check and not wrong:
        _say(f"the bits are those of the record, on {bits.machine()}")
    return SHORT if wrong else FINE


def _vectors(given: argparse.Namespace) -> int:
    from conformance import vectors

    found = vectors.read()
    if given.action == "list":
        for vector in found:
            _say(vector.case.id)
    else:
        _say(f"{len(found)} vectors are well formed and as they were sealed: {vectors.digest()}")
    return FINE


def _show(given: argparse.Namespace) -> int:
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
        raise UsageError(f"no case is named {given.case!r}{_similar(given.case, found)}; see `lossref vectors list`")
    _say(describe(vector))
    if not backends:
        return FINE
    with Run(backends, [vector]) as run:
        version = next(iter(run.descriptions[given.backend].versions.values()), "")
        results = list(run.results())
    for result in results:
        _say("\n" + message(result.finding, given.backend, version, result.mode))
    return SHORT if any(result.finding.verdict in FAILING for result in results) else FINE


def _backends(given: argparse.Namespace) -> int:
    from conformance.adapter import backends
    from conformance.runner import BackendError, Run, modules

    for name in backends():
        try:
            with Run(modules([name]), []) as run:
                about = run.descriptions[name]
        except BackendError as error:
            _say(f"{name}: {error}")
            continue
        _say(f"{name}: {', '.join(f'{package} {version}' for package, version in about.versions.items())}; {', '.join(about.modes)}")
        _say("  " + ", ".join(name + (" (composed)" if name in about.composed else "") for name in about.operations))
    return FINE


def _bench(given: argparse.Namespace) -> int:
    from conformance.bench.command import Asked, run

    if given.startup:
        from conformance.bench.startup import report
        from refimpl.operations import operations

        for line in report(list(operations()), given.rounds or 5):
            _say(line)
        return FINE
    asked = Asked.of(given.shape, given.dtype, given.peer, given.direction, given.rounds, given.threads)
    if given.json is not None:
        _writable(given.json)
    return FINE if run(asked, sys.stdout, given.json, linearly=given.linear, peaks=given.memory) else UNABLE


def _spec(given: argparse.Namespace) -> int:
    from refimpl.operation import GENERAL
    from refimpl.operations import operations

    chapters: dict[str, tuple[Clause, ...]] = {"general": GENERAL}
    chapters |= {name: operation.clauses for name, operation in operations().items()}
    wanted = given.clause
    for name, clauses in chapters.items():
        chosen = [clause for clause in clauses if wanted in (None, name, clause.id, clause.id.rpartition("-")[0])]
        if chosen and wanted in (None, name):
            _say(f"{name}\n")
        for clause in chosen:
            _say(f"{clause.id}  {clause.level}{f'  ({clause.edge})' if clause.edge else ''}\n    {clause.statement}")
        if chosen:
            if wanted is not None:
                return FINE
            _say("")
    if wanted is not None:
        known = ", ".join(dict.fromkeys(clause.id.rpartition("-")[0] for clauses in chapters.values() for clause in clauses))
        raise UsageError(f"no clause or operation is named {wanted!r}; the clauses begin with {known}")
    return FINE


if __name__ == "__main__":
    sys.exit(main())
