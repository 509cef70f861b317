"""A record for the tests of reports: two textbook libraries on the smallest tier, and a stranger whose every word is an attack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

from conformance import vectors
from conformance.backend import Result
from conformance.case import Vector
from conformance.deviations import compare, packaged
from conformance.finding import Told, Verdict
from conformance.links.here import HereSource
from conformance.links.process import WorkerSource
from conformance.record import Record, Selection
from conformance.report.html import page
from conformance.runner import Run
from conformance.sources import find
from conformance.vectors import read

STRANGER = '"><img src=x onerror=window.attacked=1>'
ATTACK = "</script><script>window.attacked=1</script><b onmouseover='window.attacked=1'>&amp;"
BACKENDS = ("numpy", "scipy")


@cache
def installed() -> tuple[Vector, ...]:
    """Every vector."""
    return tuple(read())


@cache
def record() -> Record:
    """Numpy's and scipy's results, called in this process and held against what is expected of them; then the stranger's."""
    chosen = [vector for vector in installed() if vector.case.tier == "smoke"]
    known = [find(name) for name in BACKENDS]
    sources = [HereSource(one.name, one.load) for one in known if isinstance(one, WorkerSource)]
    with Run(sources, chosen, tier="smoke") as run:
        abouts = {name: replace(about, command=name) for name, about in run.descriptions.items()}
        results = sorted(run.results(), key=lambda one: (BACKENDS.index(one.backend), one.number))
    held = {name: compare([one for one in results if one.backend == name], packaged(name), abouts[name].versions) for name in BACKENDS}
    abouts[STRANGER] = replace(abouts["scipy"], name=STRANGER, versions={ATTACK: ATTACK}, command=f"exec:{ATTACK}", source="")
    strange = _strange([one for one in results if one.backend == "scipy"])
    held[STRANGER] = compare(strange, None, {})
    begun = Record.begun(vectors.digest(), Selection("smoke"), abouts)
    ended = begun.ended([*results, *strange], held)
    return replace(ended, began="2026-11-27T12:00:00+00:00", seconds=12.0, machine=f"A machine {ATTACK}")


@cache
def text() -> str:
    """The record's page."""
    return page(record())


def _strange(results: Sequence[Result]) -> list[Result]:
    """Results that the stranger claims: passes, a number that is no number, a word in each place, an exception."""
    answered = [one for one in results if one.finding.verdict == Verdict.PASS][:12]
    said = Told(inputs=ATTACK, expected="1.5", expected_hex="0x1.8p+0", actual=ATTACK, allowed="1e-6", format=ATTACK, side=1)
    words = [
        {"verdict": Verdict.FAIL, "note": ATTACK, "ratio": 3.5, "ulps": 7.0, "spelled": said, "clauses": (ATTACK, "GEN-5")},
        {"verdict": Verdict.ERROR, "note": ATTACK, "ratio": None, "ulps": None, "spelled": Told(inputs=ATTACK), "flags": (ATTACK,)},
        {"verdict": Verdict.CRASH, "note": "killed by signal 11", "ratio": None, "ulps": None, "spelled": Told()},
    ]
    findings = [replace(one.finding, **changed) for one, changed in zip(answered, words, strict=False)]
    findings += [replace(one.finding) for one in answered[len(words) :]]
    return [replace(one, backend=STRANGER, mode=ATTACK, finding=finding) for one, finding in zip(answered, findings, strict=True)]
