"""The defects of released libraries, each shown by its shortest case: what `docs/findings.md` is made of.

A known deviation that names a `defect` is one beyond dispute; entries of one backend that name the same are one defect. Each is asked of
the installed library again, and one that doesn't show is an error.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from conformance.adapter import Description
from conformance.complaint import SHORT, Complaint
from conformance.deviations import FAILING, Deviation, Expectations
from conformance.link import Source
from conformance.links.program import ProgramSource
from conformance.literal import SMALL
from conformance.report.message import clauses_text, message
from conformance.runner import Result, Run
from conformance.script import line, script, tensors_text
from conformance.vectors import Vector, read
from refimpl.enclosure import FORMATS

LONG = 10000  # characters of a script that a page doesn't show
DTYPES = ("float32", *(name for name in FORMATS if name != "float32"))  # of two cases alike, the one that most readers use


class DefectError(Complaint):
    """A defect that doesn't show any more; the message names it, the case and the remedy."""

    status = SHORT


@dataclass(frozen=True)
class Defect:
    """One defect: its title, the deviations that are of it, and its shortest case."""

    title: str
    deviations: tuple[Deviation, ...]
    vector: Vector


@dataclass(frozen=True)
class Shown:
    """A defect as the library that is installed shows it."""

    defect: Defect
    deviation: Deviation
    result: Result


def vectors_of(deviations: Sequence[Deviation]) -> list[Vector]:
    """The golden vectors that these deviations name."""
    operations = dict.fromkeys(case.partition("/")[0] for deviation in deviations for case in deviation.cases)
    found = [vector for operation in operations for vector in read(operation=operation)]
    return [vector for vector in found if any(deviation.names(vector.case.id) for deviation in deviations)]


def defects(expectations: Expectations, vectors: Sequence[Vector]) -> list[Defect]:
    """The defects that a file of expectations names, in its order; of the cases of each, the one whose inputs are written shortest.

    A case of a deviation that varies stands for a defect only where there is no other. Raises `DefectError` for one without a case.
    """
    titles: dict[str, list[Deviation]] = {}
    for deviation in expectations.deviations:
        if deviation.defect is not None:
            titles.setdefault(deviation.defect, []).append(deviation)
    found = []
    for title, deviations in titles.items():
        of = [(vector, one) for one in deviations for vector in vectors if one.names(vector.case.id)]
        if not of:
            raise DefectError(f"{expectations.source}: the defect {title!r} names no case; correct its `cases`")
        of = [pair for pair in of if not pair[1].varies] or of
        written_out = [pair for pair in of if all(array.size <= SMALL for array in pair[0].case.inputs.values())]
        shortest, _ = min(written_out or of, key=lambda pair: _length(*pair))
        found.append(Defect(title, tuple(deviations), shortest))
    return found


def _length(vector: Vector, deviation: Deviation) -> tuple[int, int]:
    direction = "backward" if deviation.direction == "backward" else "forward"
    return len(tensors_text(vector.case, direction)), DTYPES.index(vector.case.dtype)


def shown(defects: Sequence[Defect], results: Sequence[Result], source: str) -> list[Shown]:
    """Each defect with the first result that shows it; raises `DefectError` where none does."""
    found = []
    for defect in defects:
        pairs = [(deviation, result) for result in results for deviation in defect.deviations if shows(deviation, defect, result)]
        if not pairs:
            raise DefectError(
                f"{source}: the defect {defect.title!r} doesn't show in {defect.vector.case.id}; "
                "if it is mended, delete its deviations, else narrow them"
            )
        found.append(Shown(defect, *pairs[0]))
    return found


def shows(deviation: Deviation, defect: Defect, result: Result) -> bool:
    """Whether a result shows a defect, as one of its deviations says."""
    finding = result.finding
    of_case = finding.case == defect.vector.case.id and deviation.covers(result)
    return of_case and finding.verdict in FAILING and deviation.clause in finding.clauses


def ask(source: Source, defects: Sequence[Defect]) -> tuple[Description, list[Result]]:
    """What a backend says of itself, and of the case of each defect."""
    vectors = list({defect.vector.case.id: defect.vector for defect in defects}.values())
    with Run([source], vectors) as run:
        results = list(run.results())
        (about,) = run.descriptions.values()
    return about, results


def section(source: Source, about: Description, found: Sequence[Shown]) -> str:
    """The section of one backend in the page, without its heading."""
    releases = ", ".join(f"{package} {version}" for package, version in about.versions.items())
    return "\n\n".join([f"Measured with {releases}.", *(_entry(source, about, one) for one in found)])


def _entry(source: Source, about: Description, one: Shown) -> str:
    deviation, result, vector = one.deviation, one.result, one.defect.vector
    title = one.defect.title
    if isinstance(source, ProgramSource):
        language, text = "sh", line(vector, result, about, source.command, title, deviation.reason)
    else:
        language, text = "python", script(vector, result, about, title, deviation.reason)
    return "\n\n".join(
        [
            f"### {title}",
            f"{deviation.reason} Clause: {clauses_text(result.finding)}. Upstream: {_upstream(one.defect)}.",
            f"```text\n{message(result.finding, source.name, about.version, result.mode)}\n```",
            f"```{language}\n{text}```" if len(text) <= LONG else f"Its numbers fill a page: {_command(source, vector)} prints the script.",
        ]
    )


def _command(source: Source, vector: Vector) -> str:
    return f"`lossref show {vector.case.id} --backend {shlex.quote(source.name)} --script`"


def _upstream(defect: Defect) -> str:
    issues = dict.fromkeys(deviation.issue for deviation in defect.deviations if deviation.issue is not None)
    return ", ".join(link(issue) for issue in issues) or "no report found"


def link(issue: str) -> str:
    """A report, "owner/name#1" or its address, as a link."""
    name = issue.removeprefix("https://github.com/").replace("/issues/", "#").replace("/pull/", "#")
    return f"[{name}](https://github.com/{name.replace('#', '/issues/')})"
