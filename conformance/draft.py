"""Drafts a file of expectations from the failures of a run: `lossref run BACKEND --write-expect FILE`.

Failures are grouped by operation and clause; the reasons, and where it is known the issue, are for a person to write.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from conformance.deviations import DIRECTIONS, FAILING
from conformance.runner import Result
from refimpl.enclosure import FORMATS

Group = tuple[str, str, str, str, str]  # operation, clause, direction, mode, output; "" where it doesn't matter


def draft(results: Sequence[Result], versions: Mapping[str, str]) -> str:
    """The text of a file of expectations that these results of one backend meet."""
    groups = group(results)
    ids = {result.finding.case for result in results}
    lines = ["# Drafted by `lossref run --write-expect`. Write each reason yourself, and the upstream issue where there is one.", ""]
    lines += ["[versions]", *(f"{_key(package)} = {_text(_series(version))}" for package, version in versions.items())]
    for (_, clause, direction, mode, output), cases in sorted(groups.items()):
        lines += ["", "[[deviation]]", "cases = ["]
        lines += [f"    {_text(pattern)}," for pattern in patterns(cases, ids)]
        lines += ["]"]
        for key, value in (("direction", direction), ("output", output), ("mode", mode)):
            lines += [f"{key} = {_text(value)}"] if value else []
        lines += [f"clause = {_text(clause)}", 'reason = "TODO"']
    return "\n".join(lines) + "\n"


def group(results: Sequence[Result]) -> dict[Group, set[str]]:
    """The failing cases by what a deviation says of them: no more of direction, mode and output than tells them from what passes."""
    by_case: dict[str, list[Result]] = defaultdict(list)
    for result in results:
        by_case[result.finding.case].append(result)
    groups: dict[Group, set[str]] = defaultdict(set)
    for case, there in by_case.items():
        for clause in sorted({_clause(result) for result in there if result.finding.verdict in FAILING}):
            failing = [result for result in there if result.finding.verdict in FAILING and _clause(result) == clause]
            for direction, mode, output in _narrowest(there, failing):
                groups[there[0].finding.operation, clause, direction, mode, output].add(case)
    return dict(groups)


def _narrowest(there: Sequence[Result], failing: Sequence[Result]) -> Iterable[tuple[str, str, str]]:
    """(direction, mode, output) of deviations that cover exactly the failing among a case's results, the fewest that do it simply."""
    if len(failing) == len(there):
        return [("", "", "")]
    found = []
    for direction in DIRECTIONS:
        all_of = [result for result in there if result.finding.direction == direction]
        bad = [result for result in failing if result.finding.direction == direction]
        modes, outputs = _keys(bad)
        if not bad:
            continue
        if len(bad) == len(all_of):
            found.append((direction, "", ""))
        elif len(bad) == sum(result.mode in modes for result in all_of):
            found += [(direction, mode, "") for mode in modes]
        elif len(bad) == sum(result.finding.output in outputs for result in all_of):
            found += [(direction, "", output) for output in outputs]
        else:
            found += sorted({(direction, result.mode, result.finding.output) for result in bad})
    return found


def _keys(results: Sequence[Result]) -> tuple[list[str], list[str]]:
    return sorted({result.mode for result in results}), sorted({result.finding.output for result in results})


def patterns(cases: Iterable[str], ids: Iterable[str]) -> list[str]:
    """The cases, those that differ only in the dtype as one glob where it names no other case."""
    cases, ids = set(cases), set(ids)
    found = []
    for stem in sorted({case.rpartition("-")[0] for case in cases}):
        of_stem = {case for case in cases if case.rpartition("-")[0] == stem}
        glob = f"{stem}-*"
        collapses = len(of_stem) > 1 and all(case.rpartition("-")[2] in FORMATS for case in of_stem)
        found += [glob] if collapses and {case for case in ids if fnmatchcase(case, glob)} == of_stem else sorted(of_stem)
    return found


def _clause(result: Result) -> str:
    return result.finding.clauses[0] if result.finding.clauses else "GEN-5"


def _series(version: str) -> str:
    """The glob of a release series: 2.13.* of "2.13.0+cpu"."""
    return ".".join([*version.split(".")[:2], "*"])


def _key(package: str) -> str:
    return package if package.replace("-", "").replace("_", "").isalnum() else _text(package)


def _text(value: str) -> str:
    """A TOML basic string; JSON's escapes are among TOML's."""
    return json.dumps(value, ensure_ascii=False)
