"""`lossref run`: judge backends."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from conformance.commands import candidates, outputs
from conformance.commands.common import Commands, UsageError, count, gibibytes, say, seconds, select, shard, writable
from conformance.complaint import FINE, SHORT, UNABLE

if TYPE_CHECKING:
    from conformance.link import Source
    from conformance.store import Keeper
    from conformance.vectors import Vector


def add(commands: Commands) -> None:
    """The command and its arguments."""
    command = commands.add_parser("run", help="judge backends", description="Ask backends for their answers and judge them.")
    command.set_defaults(command=run)
    command.add_argument(
        "backends",
        nargs="+",
        metavar="BACKEND",
        help="torch, jax, ... (see `lossref backends`), exec:COMMAND, dir:FOLDER, or package.module:function with --operation",
    )
    command.add_argument("--operation", metavar="O", help="only this operation")
    command.add_argument("--dtype", metavar="D", help="only this dtype")
    command.add_argument("--case", metavar="GLOB", action="append", help="only the cases that match (may be repeated)")
    command.add_argument(
        "--tier", choices=("smoke", "core", "full"), help="smoke: seconds; core: a minute; full: all (default: core; full with --case)"
    )
    command.add_argument(
        "--candidate", metavar="FILE", type=Path, action="append", help="ask what a candidate asks instead (may be repeated)"
    )
    command.add_argument("--shard", metavar="I/N", type=shard, default=(1, 1), help="only every Nth of these cases, from the Ith on")
    command.add_argument("--json", metavar="F", type=Path, help="write the results as JSON lines")
    command.add_argument("--store", metavar="DIR", type=Path, help="keep the run in this folder, for `lossref history`")
    command.add_argument("--expect", metavar="F", type=Path, help="known deviations, instead of those that come with the package")
    command.add_argument("--write-expect", metavar="F", type=Path, help="draft a file of known deviations from what failed")
    command.add_argument("--dialect", metavar="D", help="judge by this dialect: a name (see `lossref dialects`) or a file of your own")
    command.add_argument("--infer-dialect", action="store_true", help="work out from the answers which dialect each backend follows")
    command.add_argument(
        "--tensors", metavar="T", default="numpy", help="what functions get: numpy (default), torch or jax, which differentiate them"
    )
    command.add_argument(
        "--promise",
        metavar="P",
        action="append",
        help="what functions promise: DTYPE=CLASS, then any of ,compute=D ,store=D ,summation=KIND:LANES:BLOCK ,flush=true ,exp=X ,log=X "
        ",gap=X, like float16=N,compute=float32 (may be repeated; default: class A for float64 and float32)",
    )
    command.add_argument(
        "--validate", action="store_true", help="exec: and dir: refuse messages with fields that the protocol doesn't have"
    )
    command.add_argument(
        "--jobs", metavar="N", type=count, default=1, help="worker processes that run at the same time and share the processors (default 1)"
    )
    command.add_argument("--timeout", metavar="S", type=seconds, help="seconds that a case may take (default: by its size)")
    command.add_argument(
        "--memory", metavar="GIB", type=gibibytes, help="memory that a worker process may take (default: 8, or 3/4 of the machine's)"
    )
    command.add_argument("--device", metavar="D", help="a device of the backend's library: cuda, mps, ... (default: cpu)")
    command.add_argument("--in-process", action="store_true", help="call adapters in this process, for a debugger; survives nothing")
    outputs.add(command)


def run(given: argparse.Namespace) -> int:
    """Run the command; the exit status."""
    from conformance import deviations, dialects, vectors
    from conformance.changes import refuse_others
    from conformance.draft import draft
    from conformance.finding import Verdict
    from conformance.infer import infer
    from conformance.links.here import HereSource
    from conformance.links.process import WorkerSource
    from conformance.record import Record, Selection, held
    from conformance.report import jsonlines, terminal
    from conformance.report.inference import described
    from conformance.runner import Result, Run
    from conformance.sources import Options, command_of, find, refuse_idle

    earlier = outputs.check(given)
    backends = list(dict.fromkeys(given.backends))
    promises = tuple(given.promise or ())
    options = Options(given.dialect, given.operation, given.dtype, promises, given.tensors, given.device, given.validate, given.jobs)
    refuse_idle(backends, options)
    sources = [find(name, options) for name in backends]
    _refuse_what_is_of_others(given, sources)
    if given.in_process:
        sources = [HereSource(source.name, source.load) for source in sources if isinstance(source, WorkerSource)]
    dialect = None if given.dialect is None else dialects.named(given.dialect)
    if given.candidate is not None:
        return candidates.ask(given, sources, options, dialect)
    for option, path in (("--expect", given.expect), ("--write-expect", given.write_expect)):
        if path is not None and len(backends) > 1:
            raise UsageError(f"{option} is about one backend, and {len(backends)} are named; run each on its own")
    tier = given.tier or ("core" if given.case is None else "full")  # whoever names a case is to get it
    index, count = given.shard
    known = {name: deviations.packaged(name) if given.expect is None else deviations.read(given.expect) for name in backends}
    ids: set[str] = set()  # of all cases of the operation

    def chosen() -> list[Vector]:
        found, there = select(given.operation, given.dtype, given.case, tier)
        for expectations in filter(None, known.values()):
            deviations.refuse_unknown(expectations, there, given.operation)
        ids.update(there)
        return found[index - 1 :: count]

    for path in filter(None, (given.json, given.write_expect)):
        writable(path)
    keeper = None if given.store is None else _keeper(given.store)
    out = terminal.console(sys.stdout)
    selection = Selection(tier, given.operation, given.dtype, tuple(given.case or ()), index, count)
    results: list[Result] = []
    with (
        Run(sources, chosen, given.jobs, given.timeout, dialect, given.memory, tier, given.infer_dialect) as run,
        terminal.progress(out, run.total) as bar,
    ):
        about = {name: replace(one, command=command_of(name, options)) for name, one in run.descriptions.items()}
        started = Record.begun(vectors.digest(), selection, about)
        if earlier is not None:
            refuse_others(earlier, started)
        if given.json is not None:
            given.json.write_bytes(b"")  # an interrupted run leaves no older results
        outputs.empty(given)
        if keeper is not None:
            keeper.begin(started)

        def kind(result: Result) -> str:
            if result.finding.verdict in deviations.FAILING:
                excused = deviations.excuse(result, known[result.backend], about[result.backend].versions)
                return "unexpected" if excused is None else "expected"
            return "passed" if result.finding.verdict == Verdict.PASS else ""

        try:
            coming = run.results() if keeper is None else keeper.follow(run.results())
            results.extend(terminal.follow(coming, bar, kind))  # what came before an interrupt stays
        except KeyboardInterrupt:
            if keeper is not None:
                keeper.end(started.ended(results))
            if given.json is not None:
                jsonlines.write(given.json, started.ended(results))
            raise
    results.sort(key=lambda result: (backends.index(result.backend), result.number))  # whoever answered first
    record = started.ended(results, held(selection, about, results, known, ids))
    if keeper is not None:
        keeper.end(record)
    if given.infer_dialect:
        for name in backends:
            say(described(name, infer(record.of(name))) + "\n")
    terminal.summary(out, record, kept=given.json)  # first: nothing that can't be written is to hide the verdict
    if given.json is not None:
        jsonlines.write(given.json, record)
    if given.write_expect is not None:
        (name,) = backends
        given.write_expect.write_text(draft(results, about[name].versions), encoding="utf-8")
    outputs.write(given, record, earlier)
    if keeper is not None and keeper.failure is not None:
        sys.stderr.write(f"lossref: this run isn't kept whole: {keeper.failure}\n")
    if not record.holds:
        return SHORT
    return FINE if keeper is None or keeper.failure is None else UNABLE


def _keeper(folder: Path) -> Keeper:
    from conformance.store import Keeper

    return Keeper(folder)


def _refuse_what_is_of_others(given: argparse.Namespace, sources: Sequence[Source]) -> None:
    """Refuse what a backend that isn't a Python adapter can't do or what only a program can, and what can't be done in this process."""
    from conformance.links.folder import FolderSource
    from conformance.links.process import WorkerSource
    from conformance.links.program import ProgramSource
    from conformance.sources import is_function

    strangers = [source.name for source in sources if not isinstance(source, WorkerSource)]
    functions = [source.name for source in sources if is_function(source.name)]
    for option, wanted, others in (
        ("--device", given.device is not None, strangers + functions),
        ("--in-process", given.in_process, strangers),
    ):
        if wanted and others:
            raise UsageError(f"{option} is about Python adapters, and {others[0]} is none; leave out one of them")
    if given.validate and not any(isinstance(source, ProgramSource | FolderSource) for source in sources):
        raise UsageError("--validate is about the messages of exec: and dir:, and none is named; leave it out")
    bounds = (("--timeout", given.timeout is not None), ("--memory", given.memory is not None), ("--jobs", given.jobs > 1))
    for option, wanted in bounds:
        if given.in_process and wanted:
            raise UsageError(f"{option} is about worker processes, and --in-process has none; leave out one of them")
