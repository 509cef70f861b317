"""The ledger: every id that there ever was, the version that had it first, and the digest of its case, which may never change."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

from conformance.case import Array, Case, VectorError, checksum
from conformance.storage.schema import checked
from conformance.storage.text import REMEDY, line, parse, wrong
from conformance.storage.writing import FORMAT

LEDGER = "history.json"

Ledger = Mapping[str, tuple[str, str]]  # id -> version, digest of the case


def meaning(case: Case) -> str:
    """The digest of what a backend is asked: dtype, parameters, layouts, and the bytes of every array. Words about it may change."""
    arrays: dict[str, Array] = {**case.inputs, **({} if case.cotangent is None else {"cotangent": case.cotangent})}
    asked = {
        "arrays": {name: [array.dtype.name, list(array.shape), checksum(array)] for name, array in arrays.items()},
        "dtype": case.dtype,
        "layouts": dict(case.layouts),
        "parameters": dict(case.parameters),
    }
    return hashlib.sha256(line(asked).encode()).hexdigest()[:32]


def extended(ledger: Ledger, cases: Iterable[Case], version: str) -> Ledger:
    """The ledger with the cases that it doesn't have yet; raises `VectorError` for one that isn't what its id stands for."""
    found = dict(ledger)
    for case in cases:
        digest = meaning(case)
        since, known = found.setdefault(case.id, (version, digest))
        if known != digest:
            raise VectorError(
                f"{case.id}: in version {since} this id stands for another case; give the new one an id of its own that supersedes it"
                " (before a release: `lossref generate --afresh`)"
            )
        if case.since != since:
            raise VectorError(f"{case.id}: since is {case.since}, and the ledger has it since {since}; correct the case")
    return found


def write(ledger: Ledger) -> bytes:
    """The file: under each version the ids that it had first, one a line."""
    versions = sorted({version for version, _ in ledger.values()})
    parts = []
    for version in versions:
        ids = sorted(id for id, (since, _) in ledger.items() if since == version)
        lines = [f"{line(id)}:{line(ledger[id][1])}" for id in ids]
        parts.append(line(version) + ":{\n" + ",\n".join(lines) + "\n}")
    return ('{"format":' + line(FORMAT) + ',"versions":{' + ",\n".join(parts) + "}}\n").encode()


def read(data: bytes) -> Ledger:
    """The ledger in a file; raises `VectorError`."""
    found = checked("history", LEDGER, parse(LEDGER, data))
    ledger: dict[str, tuple[str, str]] = {}
    for version, ids in found["versions"].items():
        for id, digest in ids.items():
            if id in ledger:
                raise wrong(LEDGER, f"versions.{version}.{id}", "another version had it first")
            ledger[id] = (version, digest)
    if write(ledger) != data:
        raise VectorError(f"{LEDGER}: its bytes aren't the canonical ones of what it holds; {REMEDY}")
    return ledger
