"""`lossref run`: judge backends."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from conformance.commands.common import FINE, SHORT, Commands, UsageError, count, seconds, select, writable


def add(commands: Commands) -> None:
    """The command and its arguments."""
    command = commands.add_parser("run", help="judge backends", description="Ask backends for their answers and judge them.")
    command.set_defaults(command=run)
    command.add_argument("backends", nargs="+", metavar="BACKEND", help="torch, jax, scipy, numpy, ... (see `lossref backends`)")
    command.add_argument("--operation", metavar="O", help="only this operation")
    command.add_argument("--dtype", metavar="D", help="only this dtype")
    command.add_argument("--case", metavar="GLOB", action="append", help="only the cases that match (may be repeated)")
    command.add_argument(
        "--tier", choices=("smoke", "core", "full"), help="smoke: seconds; core: a minute; full: all (default: core; full with --case)"
    )
    command.add_argument("--json", metavar="F", type=Path, help="write the results as JSON lines")
    command.add_argument("--expect", metavar="F", type=Path, help="known deviations, instead of those that come with the package")
    command.add_argument("--write-expect", metavar="F", type=Path, help="draft a file of known deviations from what failed")
    command.add_argument("--dialect", metavar="D", help="judge by this dialect: a name (see `lossref dialects`) or a file of your own")
    command.add_argument("--jobs", metavar="N", type=count, default=1, help="backends that run at the same time (default 1)")
    command.add_argument("--timeout", metavar="S", type=seconds, help="seconds that a case may take (default: by its size)")


def run(given: argparse.Namespace) -> int:
    """Run the command; the exit status."""
    from conformance import dialects, expected, vectors
    from conformance.draft import draft
    from conformance.report import jsonlines, terminal
    from conformance.runner import Run, modules

    backends = modules(list(dict.fromkeys(given.backends)))
    dialect = None if given.dialect is None else dialects.named(given.dialect)
    for option, path in (("--expect", given.expect), ("--write-expect", given.write_expect)):
        if path is not None and len(backends) > 1:
            raise UsageError(f"{option} is about one backend, and {len(backends)} are named; run each on its own")
    tier = given.tier or ("core" if given.case is None else "full")  # whoever names a case is to get it
    chosen, ids = select(given.operation, given.dtype, given.case, tier)
    known = {name: expected.packaged(name) if given.expect is None else expected.read(given.expect) for name in backends}
    if given.operation is None:
        for expectations in filter(None, known.values()):
            expected.refuse_unknown(expectations, ids)
    for path in filter(None, (given.json, given.write_expect)):
        writable(path)
    out = terminal.console(sys.stdout)
    with Run(backends, chosen, given.jobs, given.timeout, dialect) as run, terminal.progress(out, run.total) as bar:
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
