"""The deep search: `python -m tests.search --minutes 10`, also `make deep`. It adds what it finds worse to `tests/worst.json`.

With `--minutes 0` it measures again what the file holds, as is due after a change of a kernel; `--also` takes in what another file of
this kind holds, found on another machine or by another version. Status 1 where an enclosure doesn't
contain the truth; that input is in the file, and the tests fail until the kernel is mended.
"""

from __future__ import annotations

import argparse
import heapq
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from refimpl.operations import operations
from tests.search.calls import SLOTS, CallSpace
from tests.search.climb import KINDS, climb
from tests.search.record import KEPT, WORST, Record, Target, load, measured, member, save, targets, worst
from tests.search.rounding import counts

LONG_SHARE = 0.3  # of an operation's time goes to long rows


def main(argv: list[str] | None = None) -> int:
    """Search everything, or the targets whose label holds `--only`."""
    parser = argparse.ArgumentParser(prog="python -m tests.search", description="Search for the inputs on which the reference is worst.")
    parser.add_argument("--minutes", type=float, default=10.0, help="for all targets together; 0: measure the file's inputs again")
    parser.add_argument("--only", default="", metavar="TEXT", help="only targets whose label holds this")
    parser.add_argument("--seed", type=int, help="of the climbs (default: a new one)")
    parser.add_argument("--rounding", action="store_true", help="count again how often the exact form is asked (some minutes)")
    parser.add_argument("--also", type=Path, action="append", default=[], metavar="FILE", help="take in the inputs of another such file")
    parser.add_argument("--file", type=Path, default=WORST, help="where the inputs stand (default: tests/worst.json)")
    arguments = parser.parse_args(argv)
    seed = arguments.seed if arguments.seed is not None else int(np.random.SeedSequence().generate_state(1)[0])
    content, others = load(arguments.file), [load(path) for path in arguments.also]
    chosen = [(section, name, space) for section, of in targets().items() for name, space in of.items() if arguments.only in name]
    seconds = 60.0 * arguments.minutes / max(len(chosen), 1)
    say(f"{len(chosen)} targets, {seconds:.1f} s each, seed {seed}")
    outside = []
    for number, (section, name, space) in enumerate(chosen):
        known = [record for file in (content, *others) for record in file[section].get(name, [])]
        records = [measured(space, member(space, record)) for record in known]
        if seconds:
            records += search(space, np.random.default_rng([seed, number]), seconds, records)
        content[section][name] = kept = worst(records)
        save(content, arguments.file)
        outside += [name] if any(record["share"] > 1.0 for record in kept) else []
        shares, units = ([record[kind] for record in kept] for kind in KINDS)
        say(f"{name:34} {max(shares, default=0.0):8.4g} of the radius {max(units, default=0.0):8.4g} units")
    if arguments.rounding:
        content["rounding"] = {name: counts(operation) for name, operation in operations().items()}
        save(content, arguments.file)
    for name in outside:
        say(f"NOT CONTAINED: {name}")
    return 1 if outside else 0


def search(space: Target, rng: np.random.Generator, seconds: float, known: list[Record]) -> list[Record]:
    """Climbs for both kinds of error, from the known inputs first; for an operation also over long rows."""
    plans: list[tuple[Target, float]] = [(space, seconds)]
    if isinstance(space, CallSpace):
        plans = [(space, seconds * (1.0 - LONG_SHARE)), (replace(space, long=True), seconds * LONG_SHARE)]
    found: list[Record] = []
    for plan, share in plans:
        for kind in KINDS:
            more = until(time.monotonic() + share / len(KINDS))
            firsts = [member(space, record) for record in known] if plan is space else []
            climbed = [next(climb(plan, rng, kind, more, first.take(np.zeros(SLOTS, np.intp)))) for first in firsts]
            climbed += climb(plan, rng, kind, more)
            found += [measured(space, one.member) for one in heapq.nlargest(KEPT, climbed, key=lambda one: one.score)]
    return found


def until(end: float) -> Callable[[int], bool]:
    """A budget of time."""
    return lambda spent: time.monotonic() < end


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
