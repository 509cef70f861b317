"""A search from its beginning to its end: what was found before, what is found now, and which listed defects that is.

The folder of a search holds a candidate vector for each cause, and the database of the calls with the best scores. A search in the same
folder asks the candidates first, and goes on from there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from conformance import candidate, deviations
from conformance.candidate import Origin
from conformance.case import Case, Vector, VectorError
from conformance.expect import expect
from conformance.findings import vectors_of
from conformance.report.message import candidate_line, message
from conformance.search.cause import Listed, clauses_of, listed, rediscovered
from conformance.search.coverage import Coverage
from conformance.search.engine import Limits, Search
from conformance.search.look import Failure, Look, Looker, Whose, alone, failures
from conformance.search.subject import Cell, Subject

DATABASE = "examples"  # the folder of Hypothesis' database in that of the search


@dataclass(frozen=True)
class Found:
    """A failure, the `others` that the same call shows in other tensors, and the titles of the listed defects that they may be of.

    `text` is the message on the failure, which ends with how to ask it again; a candidate keeps it.
    `path` is the file of its candidate, None where there is none: `doubt` says why, or that the failure didn't show again. `after` are the
    seconds and `calls` the calls that the search had taken; `before` says that an earlier search found it.
    """

    failure: Failure
    others: tuple[Failure, ...]
    text: str
    path: Path | None
    doubt: str
    defects: tuple[str, ...]
    after: float
    calls: int
    before: bool = False

    @property
    def failures(self) -> tuple[Failure, ...]:
        """All that the call shows."""
        return self.failure, *self.others


class Session:
    """A search of backends, all of which `ask` asks the same calls; it tells of what it finds, in the order in which that comes.

    `subjects` are the backends by what stands for each after `lossref run`. `listed` are the defects that are known of each backend,
    `mended` the candidates of earlier searches that don't fail any more. Use it while the subjects are open. The constructor asks the
    listed defects and the candidates in the folder again.
    """

    def __init__(self, subjects: Mapping[str, Subject], ask: Looker, folder: Path, tell: Callable[[Found], None]) -> None:
        self.coverage = Coverage()
        self.found: list[Found] = []
        self.mended: list[Path] = []
        self.seconds = 0.0
        self._subjects = {subject.source.name: subject for subject in subjects.values()}
        self._commands = {subject.source.name: command for command, subject in subjects.items()}
        self._ask = ask
        self._folder = folder
        self._tell = tell
        self._began = time.monotonic()
        self.listed = {name: _listed(subject) for name, subject in self._subjects.items()}
        self._known = [whose for path in sorted(folder.glob("*.json")) for whose in self._replayed(path)]

    def search(self, cells: Sequence[Cell], limits: Limits, note: Callable[[Cell, Search], None]) -> Search:
        """Search those cells, and return how that ended; `note` is called with every call."""

        def noted(cell: Cell, case: Case, found: Look) -> None:
            self.coverage.add(cell, case, found)
            note(cell, search)

        search = Search(self._ask, cells, self._folder / DATABASE, limits, known=self._known, tell=self._proven, note=noted)
        self._began = time.monotonic()
        search.run()
        self.seconds = time.monotonic() - self._began
        return search

    def rediscovered(self, backend: str) -> tuple[list[Listed], list[Listed]]:
        """The listed defects of a backend that were found, and those that were not."""
        return rediscovered(
            self.listed[backend], [failure.cause for one in self.found for failure in one.failures if failure.result.backend == backend]
        )

    @property
    def unknown(self) -> list[Found]:
        """What was found and is of no listed defect."""
        return [one for one in self.found if not one.defects]

    def _replayed(self, path: Path) -> Iterator[Whose]:
        """What a candidate of an earlier search still shows, as it was judged then and as a search sees it."""
        kept = candidate.read(path)
        by_origin = {candidate.fitted("backend", name): one for name, one in self._subjects.items()}
        subject = by_origin.get(kept.origin.backend)
        cell = kept.vector.case.operation, kept.vector.case.dtype
        if subject is None or cell not in subject.cells() or candidate.fitted("mode", subject.mode(cell)) != kept.origin.mode:
            return  # it is of another search
        still = list(failures(kept.vector, subject.ask(kept.vector)))
        if not still:
            self.mended.append(path)
            return
        text = self._text(still[0], path)
        self._note(Found(still[0], tuple(still[1:]), text, path, "", self._defects(still), 0.0, 0, before=True))
        yield from (failure.whose for failure in (*still, *alone(subject, kept.vector.case).failures))

    def _proven(self, failure: Failure) -> list[Whose]:
        """Prove what was found, keep it as a candidate, and tell of it; as what its cause is known from then on."""
        name, mode = failure.result.backend, failure.result.mode
        subject = self._subjects[name]
        case = candidate.named(replace(failure.vector.case, clauses=clauses_of(failure.vector.case)))
        after, calls = time.monotonic() - self._began, self.coverage.calls
        try:
            vector = expect(case)
        except VectorError as error:
            vector = Vector(case, failure.vector.expectations)
            doubt, path = f"no candidate can be made of it: {error}", None
        else:
            doubt, path = "", self._folder / candidate.file_name(case, name, mode)
            finding = failure.result.finding
            candidate.write(path, vector, Origin(name, subject.about.version, mode, finding.verdict.value, finding.note))
            vector = candidate.read(path).vector  # whose bounds are rounded up, as those of all vectors that are kept
        shown = sorted(failures(vector, subject.ask(vector)), key=lambda one: _place(one) != _place(failure))
        if not shown:
            doubt = (
                doubt or "asked once more, it didn't fail: the answer varies, or is beyond its bound by less than a vector rounds that up"
            )
        proven, *others = shown or [failure]
        text = self._text(proven, path)
        if path is not None:
            candidate.write(path, vector, Origin(name, subject.about.version, mode, proven.result.finding.verdict.value, text))
        self._note(Found(proven, tuple(others), text, path, doubt, self._defects([proven, *others]), after, calls))
        return [proven.whose, *(other.whose for other in others)]

    def _text(self, failure: Failure, path: Path | None) -> str:
        name, about = failure.result.backend, self._subjects[failure.result.backend].about
        again = "lossref search finds it" if path is None else candidate_line(self._commands[name], path)
        return message(failure.result.finding, about.name, about.version, failure.result.mode, again)

    def _note(self, found: Found) -> None:
        self.found.append(found)
        self._tell(found)

    def _defects(self, shown: Sequence[Failure]) -> tuple[str, ...]:
        found, _ = rediscovered(self.listed[shown[0].result.backend], [failure.cause for failure in shown])
        return tuple(one.title for one in found)


def _listed(subject: Subject) -> list[Listed]:
    expectations = deviations.packaged(subject.source.name)
    named = [] if expectations is None else [one for one in expectations.deviations if one.defect is not None]
    return listed(subject.source, expectations, vectors_of(named)) if expectations is not None and named else []


def _place(failure: Failure) -> tuple[str, str]:
    return failure.result.finding.direction, failure.result.finding.output
