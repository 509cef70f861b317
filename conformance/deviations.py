"""Known deviations of released backends: reading `conformance/expected/<backend>.toml`, and holding results against it.

    [versions]                 # the releases that the deviations were measured with, as globs
    torch = "2.13.*"

    [[deviation]]
    cases = ["kl_div/edges/masked-*"]   # ids or globs
    direction = "backward"     # optional: forward or backward
    output = "p"               # optional: "output", or the input that the gradient is of
    mode = "jit"               # optional
    clause = "KLD-3"           # the clause that is broken
    reason = "0 * -inf"
    defect = "kl_div is nan"   # optional: the title of what is wrong beyond dispute, for `lossref findings`; entries may share one
    issue = "owner/name#1"     # optional: the report upstream
    until = "2.14"             # optional: the version of the first package under [versions] that is to have it mended
    varies = true              # optional: what fails depends on what lies in memory, so it may pass

Every failure must be covered by a deviation, and everything that a deviation covers must fail, unless it varies: what has been
mended is deleted here. Of a run of a part, only that part is compared; whether an entry has any use at all only the whole can tell.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase, translate
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

from conformance.adapter import backends
from conformance.complaint import Complaint
from conformance.judge import Verdict
from conformance.runner import Result

FAILING = (Verdict.FAIL, Verdict.ERROR, Verdict.CRASH, Verdict.TIMEOUT)
DIRECTIONS = ("forward", "backward")


class ExpectedError(Complaint):
    """A file of expectations that can't be used; the message names the file, the entry and the remedy."""


@dataclass(frozen=True)
class Deviation:
    """One known deviation; the module's docstring says what the fields are."""

    cases: tuple[str, ...]
    clause: str
    reason: str
    direction: str | None = None
    output: str | None = None
    mode: str | None = None
    defect: str | None = None
    issue: str | None = None
    until: str | None = None
    varies: bool = False

    def covers(self, result: Result) -> bool:
        """Whether the result is one that this deviation speaks of, whatever its verdict."""
        finding = result.finding
        return (
            self.direction in (None, finding.direction)
            and self.output in (None, finding.output)
            and self.mode in (None, result.mode)
            and self.names(finding.case)
        )

    def names(self, case: str) -> bool:
        """Whether the case is one of `cases`."""
        return self._names(case) is not None

    @cached_property
    def _names(self) -> Callable[[str], re.Match[str] | None]:
        """All patterns as one expression: a run asks for thousands of ids."""
        return re.compile("|".join(map(translate, self.cases))).match


@dataclass(frozen=True)
class Expectations:
    """The contents of one file."""

    source: str
    versions: Mapping[str, str]
    deviations: tuple[Deviation, ...]


@dataclass(frozen=True)
class Comparison:
    """Results held against expectations. `problems` are sentences on expectations that don't hold; `notes` fail nothing."""

    unexpected: tuple[Result, ...]
    expected: tuple[tuple[Result, Deviation], ...]
    problems: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def holds(self) -> bool:
        return not self.unexpected and not self.problems


def packaged(backend: str) -> Expectations | None:
    """The expectations that come with the package, where there are any for the backend, which has any name that a user may write."""
    if backend not in backends():
        return None
    file = files("conformance") / "expected" / f"{backend}.toml"
    return parse(file.read_text(encoding="utf-8"), f"conformance/expected/{backend}.toml") if file.is_file() else None


def read(path: Path) -> Expectations:
    """The expectations in a file; raises `ExpectedError`."""
    try:
        return parse(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ExpectedError(f"{path} can't be read ({error}); name a file that `lossref run --write-expect` wrote") from error


def parse(text: str, source: str) -> Expectations:
    """The expectations in a text; `source` is its name in messages. Raises `ExpectedError`."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ExpectedError(f"{source} is no TOML: {error}; correct it there") from error
    _known(document, ("versions", "deviation"), source, "the file")
    versions = document.get("versions", {})
    if not isinstance(versions, dict) or not all(isinstance(value, str) for value in versions.values()):
        raise ExpectedError(f'{source}: [versions] must map packages to globs; write them like torch = "2.13.*"')
    entries = document.get("deviation", [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ExpectedError(f"{source}: `deviation` must be tables; begin each with [[deviation]]")
    deviations = tuple(_deviation(entry, f"deviation {number}", source) for number, entry in enumerate(entries, 1))
    if not versions and any(deviation.until for deviation in deviations):
        raise ExpectedError(f"{source}: `until` speaks of the first package under [versions], and there is none; add it")
    return Expectations(source, cast("dict[str, str]", versions), deviations)


def _deviation(entry: Mapping[str, Any], which: str, source: str) -> Deviation:
    _known(entry, tuple(field.name for field in fields(Deviation)), source, which)
    for key in ("cases", "clause", "reason"):
        if not entry.get(key):
            raise ExpectedError(f"{source}: {which} has no `{key}`; add it")
    cases = entry["cases"]
    if not isinstance(cases, list) or not all(isinstance(case, str) for case in cases):
        raise ExpectedError(f"{source}: `cases` of {which} must be a list of case ids or globs")
    for key, value in entry.items():
        if key == "varies" and value is not True:
            raise ExpectedError(f"{source}: `varies` of {which} is {value!r}; write true, or leave it out")
        if key not in ("cases", "varies") and not isinstance(value, str):
            raise ExpectedError(f"{source}: `{key}` of {which} is {value!r}; write it as a string")
    if entry.get("direction", "forward") not in DIRECTIONS:
        raise ExpectedError(f"{source}: `direction` of {which} is {entry['direction']!r}; write forward or backward")
    if "until" in entry and not _release(entry["until"]):
        raise ExpectedError(f"{source}: `until` of {which} is {entry['until']!r}; write a version, like 2.14")
    return Deviation(**{**entry, "cases": tuple(cases)})


def _known(table: Mapping[str, Any], keys: Sequence[str], source: str, which: str) -> None:
    for key in table:
        if key not in keys:
            raise ExpectedError(f"{source}: {which} has an unknown key {key!r}; the keys are {', '.join(keys)}")


def refuse_unknown(expectations: Expectations, ids: Collection[str], operation: str | None = None) -> None:
    """Raise `ExpectedError` for a pattern that names none of all the cases there are, or of those of an operation, if it speaks of that."""
    for deviation in expectations.deviations:
        for pattern in deviation.cases:
            asked = operation in (None, pattern.partition("/")[0])
            if asked and pattern not in ids and not any(fnmatchcase(case, pattern) for case in ids):
                raise ExpectedError(f"{expectations.source}: no case is named {pattern!r}; delete it, or see `lossref vectors list`")


def excuse(result: Result, expectations: Expectations | None, versions: Mapping[str, str]) -> Deviation | None:
    """The deviation that excuses a failure: the first that covers it, has not expired, and names a clause that it breaks."""
    if expectations is None:
        return None
    return next(
        (
            deviation
            for deviation in expectations.deviations
            if deviation.clause in result.finding.clauses and deviation.covers(result) and not _expired(deviation, expectations, versions)
        ),
        None,
    )


def compare(
    results: Sequence[Result],
    expectations: Expectations | None,
    versions: Mapping[str, str],
    idle: Collection[str] = (),
    ids: Collection[str] | None = (),
) -> Comparison:
    """Hold the results of one backend, of the installed `versions`, against what is expected of it; `idle` are modes that weren't asked.

    `ids` are those of all the cases that there are, where these are more than the results' own. An entry of which some weren't asked, in
    another shard or tier say, may cover or excuse none: what it is there for may be among those. None: that goes for every entry.
    """
    failures = [result for result in results if result.finding.verdict in FAILING]
    if expectations is None:
        return Comparison(tuple(failures), (), (), ())
    problems, notes = [], []
    excused = {id(result): deviation for result in failures if (deviation := excuse(result, expectations, versions)) is not None}
    by_case: dict[str, list[Result]] = {}
    for result in results:
        by_case.setdefault(result.finding.case, []).append(result)
    for deviation in expectations.deviations:
        ran = [result for case, there in by_case.items() if deviation.names(case) for result in there]
        if not ran or deviation.mode in idle:
            continue  # a part was run, and not this one
        covered = [result for result in ran if deviation.covers(result)]
        kept = [result for result in covered if result.finding.verdict not in FAILING]
        what = f"{expectations.source}: {', '.join(deviation.cases)} ({deviation.clause}: {deviation.reason})"
        missing = ids is None or any(deviation.names(id) for id in ids if id not in by_case)
        if not covered and not missing:
            problems.append(f"{what} covers no result: correct its direction, output or mode, or delete it")
        if kept and not deviation.varies:
            first = kept[0].finding
            problems.append(
                f"{what} is no longer needed as it stands: {len(kept)} of the {len(covered)} results that it covers don't fail, "
                f"{first.case} {first.direction} {first.output} {kept[0].mode} among them; delete it, or narrow it"
            )
        if _expired(deviation, expectations, versions):
            problems.append(f"{what} was to end with version {deviation.until}; look at it again")
            continue
        if not missing and covered and not kept and not any(excused.get(id(result)) is deviation for result in covered):
            problems.append(
                f"{what} excuses nothing: its results break another clause, or an entry above has them; correct it, or delete it"
            )
    for package, pattern in expectations.versions.items():
        found = versions.get(package, "none")
        if not fnmatchcase(found, pattern):
            notes.append(f"{expectations.source} was measured with {package} {pattern}; this is {package} {found}")
    return Comparison(
        unexpected=tuple(result for result in failures if id(result) not in excused),
        expected=tuple((result, excused[id(result)]) for result in failures if id(result) in excused),
        problems=tuple(problems),
        notes=tuple(notes),
    )


def _expired(deviation: Deviation, expectations: Expectations, versions: Mapping[str, str]) -> bool:
    if deviation.until is None:
        return False
    found = versions.get(next(iter(expectations.versions)), "")
    return bool(found) and _release(found) >= _release(deviation.until)


def _release(version: str) -> tuple[int, ...]:
    """The numbers that a version begins with: (2, 13, 0) of "2.13.0+cpu"; empty where there are none."""
    match = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(number) for number in match[0].split(".")) if match else ()
