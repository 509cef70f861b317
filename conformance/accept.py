"""Candidates become golden vectors: proven again, told from all that is asked already, written with the others of their operation."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from conformance import candidate, spec, storage, vectors
from conformance.candidate import CandidateError, Origin
from conformance.case import Case, Vector
from conformance.expect import expect
from conformance.storage import ledger, writing

NAME = "[A-Za-z0-9][A-Za-z0-9_.+-]*"  # as `vectors/schema/index.json` has it in an id


def accept(paths: Sequence[Path], folder: Path, name: str = "", clauses: Sequence[str] = ()) -> tuple[list[str], str]:
    """Take the candidates in these files into the vectors of a folder; their ids as vectors, and the digest.

    `name` takes the place of the one that a single candidate has, `clauses` of those of each. Nothing is written unless all can be taken.
    Raises `CandidateError` for a name that can't be one, a candidate that isn't what its file says, is of another group, is asked already,
    or has the id of another case, and `VectorError` for one that can't be proven.
    """
    if name and re.fullmatch(NAME, name) is None:
        raise CandidateError(f"--name {name!r} can't be part of an id; write letters, digits, and . _ + - between them")
    known = {digest: id for id, (_, digest) in vectors.history(folder).items()}
    new: dict[str, tuple[Vector, Origin]] = {}
    for path in paths:
        given = candidate.read(path)
        case = _renamed(given.vector.case, name, clauses)
        digest = ledger.meaning(case)
        if case.group != candidate.GROUP:
            raise CandidateError(f"{path}: field case.id: {case.id} isn't in the group {candidate.GROUP}; name this one with --name")
        if digest in known:
            raise CandidateError(f"{path}: {known[digest]} asks the same; leave it out")
        if case.id in known.values():
            raise CandidateError(f"{path}: another case has the id {case.id}; name this one with --name")
        unknown = [clause for clause in case.clauses if clause not in spec.sections()]
        if unknown or not case.clauses:
            raise CandidateError(
                f"{path}: {f'no clause is named {unknown[0]}' if unknown else 'it names no clause'}; name one with --clause"
            )
        proven = expect(given.vector.case)
        if _entries(proven) != _entries(given.vector):
            raise CandidateError(f"{path}: field expectations: they aren't those that both witnesses prove; {candidate.REMEDY}")
        known[digest] = case.id
        # The indices that are kept of a large tensor follow from the id.
        new[case.id] = replace(proven, case=case) if case.id == proven.case.id else expect(case), given.origin
    added = [vector for vector, _ in new.values()]
    operations = dict.fromkeys(vector.case.operation for vector in added)
    vectors.write([vector for operation in operations for vector in _with(folder, operation, added)], folder)
    for vector, origin in new.values():
        candidate.keep(vector.case, origin)
    return list(new), vectors.lint(folder)


def _renamed(case: Case, name: str, clauses: Sequence[str]) -> Case:
    id = f"{case.operation}/{candidate.GROUP}/{name}-{case.dtype}" if name else case.id
    return replace(case, id=id, clauses=tuple(clauses) or case.clauses, since=storage.VERSION)


def _entries(vector: Vector) -> list[object]:
    """What is expected, as it is written; the name of a tensor stands for its bytes."""
    return list(writing.expectation_entries(vector, {}))


def _with(folder: Path, operation: str, new: Sequence[Vector]) -> list[Vector]:
    """The vectors of an operation with those that are new, in the order of the generator: what was found by a search last, by name."""
    found = {case.id for case in candidate.taken(operation)}
    there = vectors.read(folder, operation)
    late = [*(vector for vector in there if vector.case.id in found), *(vector for vector in new if vector.case.operation == operation)]
    return [*(vector for vector in there if vector.case.id not in found), *sorted(late, key=lambda vector: vector.case.id)]
