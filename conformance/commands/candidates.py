"""`lossref run BACKEND --candidate FILE`: ask a backend what a candidate asks."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from conformance.commands import outputs
from conformance.commands.common import UsageError, say
from conformance.complaint import FINE, SHORT

if TYPE_CHECKING:
    from conformance.case import Vector
    from conformance.dialects import Dialect
    from conformance.link import Source
    from conformance.sources import Options


def ask(given: argparse.Namespace, sources: Sequence[Source], options: Options, dialect: Dialect | None) -> int:
    """Print each failure, and how many tensors passed, failed and were unsupported; the exit status."""
    from collections import Counter

    from conformance import candidate
    from conformance.deviations import FAILING
    from conformance.finding import Verdict
    from conformance.report.message import candidate_line, message
    from conformance.runner import Run
    from conformance.sources import command_of

    _refuse_what_is_of_golden_vectors(given)
    files: dict[str, tuple[Path, Vector]] = {}
    for path in given.candidate:
        vector = candidate.read(path).vector
        for option, wanted, own in (("--operation", given.operation, vector.case.operation), ("--dtype", given.dtype, vector.case.dtype)):
            if wanted not in (None, own):
                raise UsageError(f"{path} is of {own}; leave out {option} {wanted}, or the file")
        if vector.case.id in files:
            raise UsageError(f"{path} and {files[vector.case.id][0]} are both {vector.case.id}; ask one of them")
        files[vector.case.id] = path, vector
    with Run(sources, [vector for _, vector in files.values()], given.jobs, given.timeout, dialect, given.memory) as run:
        about = run.descriptions
        results = sorted(run.results(), key=lambda result: (list(about).index(result.backend), result.number))
    verdicts = Counter(result.finding.verdict for result in results)
    failed = [result for result in results if result.finding.verdict in FAILING]
    for result in failed:
        again = candidate_line(command_of(result.backend, options), files[result.finding.case][0])
        say(message(result.finding, result.backend, about[result.backend].version, result.mode, again) + "\n")
    say(f"{verdicts[Verdict.PASS]} passed, {len(failed)} failed, {verdicts[Verdict.UNSUPPORTED]} unsupported")
    return SHORT if failed else FINE


def _refuse_what_is_of_golden_vectors(given: argparse.Namespace) -> None:
    idle = {
        "--case": given.case is not None,
        "--tier": given.tier is not None,
        "--shard": given.shard != (1, 1),
        "--json": given.json is not None,
        "--store": given.store is not None,
        "--expect": given.expect is not None,
        "--write-expect": given.write_expect is not None,
        "--infer-dialect": given.infer_dialect,
        "a report": outputs.asked(given),
    }
    for option, wanted in idle.items():
        if wanted:
            raise UsageError(f"{option} is about the golden vectors, and --candidate asks what is none yet; leave out one of them")
