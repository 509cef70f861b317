"""The golden vectors: made and proven, written, read, checked.

vectors = generate("kl_div")      every vector of an operation, each proven by kernel and exact form
write(vectors, folder)            the files, sealed by a manifest
read(operation="kl_div")          those of the installed package, verified
check(folder)                     made anew and compared byte for byte
lint(folder)                      all that can be told without making them anew
digest()                          the root of the Merkle tree, which a paper cites
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np

from conformance import candidate, spec, storage
from conformance.case import FLAGS, GROUPS, Case, Expectation, Expected, Recipe, Vector, VectorError
from conformance.cases import cases
from conformance.expect import expect
from conformance.storage import ledger, schema, seal
from refimpl.operations import operation as find
from refimpl.operations import operations

__all__ = [
    "Case",
    "Expectation",
    "Expected",
    "Recipe",
    "Vector",
    "VectorError",
    "check",
    "digest",
    "expect",
    "generate",
    "lint",
    "prove",
    "read",
    "write",
]

SCHEMAS = tuple(sorted(f"schema/{path.name}" for path in schema.FOLDER.glob("*.json")))
STATIC = ("README.md", "LICENSE", "__init__.py", "py.typed", *SCHEMAS)  # sealed too, where they are there


def generate(operation: str | None = None, jobs: int | None = None) -> list[Vector]:
    """The vectors of an operation, or of all, in the order of operation, group and definition.

    Each is proven; raises `VectorError` for the first that can't be. `jobs` processes, by default one for each core.
    """
    wanted = list(operations()) if operation is None else [find(operation).name]
    ordered = [case for name in wanted for case in cases(find(name), candidate.taken(name))]
    jobs = jobs or os.cpu_count() or 1
    if jobs == 1:
        return [expect(case) for case in ordered]
    costly = sorted(range(len(ordered)), key=lambda i: (-_cost(ordered[i]), i))
    large = [i for i in costly if ordered[i].recipes]
    small = [i for i in costly if not ordered[i].recipes]
    made: dict[int, Vector] = {}
    try:
        with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
            for batch, size in ((large, 1), (small, 16)):
                made |= zip(batch, pool.map(expect, [ordered[i] for i in batch], chunksize=size), strict=True)
    except BrokenProcessPool as error:
        raise VectorError("generate: a process that proves vectors died; see its message, or try again with jobs=1") from error
    return [made[i] for i in range(len(ordered))]


def _cost(case: Case) -> int:
    return sum(array.size for array in case.inputs.values())


def write(vectors: Iterable[Vector], folder: str | Path, *, afresh: bool = False) -> str:
    """Writes the vectors' files, the ledger and the manifest, and returns its digest.

    Files of other operations that are there stay as they are and are sealed with them, the README with all: where vectors of some
    operations stay, so must all else be as it was sealed. The README is added where it is missing. The ledger is that of the folder, or
    of the installed vectors for a folder without one; `afresh` forgets what it has of these operations. Raises `VectorError` for a
    folder that holds something else, a damaged file that would stay, or a case that isn't the one that its id stands for.
    """
    folder = Path(folder)
    groups = _grouped(vectors)
    written = {operation for operation, _ in groups}
    _refuse_what_would_stay(folder, written)
    known = ledger.extended(_known(folder, written, afresh), [v.case for members in groups.values() for v in members], storage.VERSION)
    files = {name: data for pair, members in groups.items() for name, data in storage.encode(*pair, members).items()}
    for operation in written:
        for group in GROUPS:
            for suffix in ("json", "safetensors"):
                (folder / operation / f"{group}.{suffix}").unlink(missing_ok=True)
    for name, data in {**files, storage.LEDGER: ledger.write(known)}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    _add_static(folder, installed())
    present = {name: (folder / name).read_bytes() for name in _present(folder)}
    (folder / storage.MANIFEST).write_bytes(storage.manifest(present))
    return digest(folder)


def _grouped(vectors: Iterable[Vector]) -> dict[tuple[str, str], list[Vector]]:
    groups: dict[tuple[str, str], list[Vector]] = {}
    for vector in vectors:
        groups.setdefault((vector.case.operation, vector.case.group), []).append(vector)
    return groups


def _known(folder: Path, written: set[str], afresh: bool) -> ledger.Ledger:
    """What the ledger has already of ids that the folder's will hold."""
    other = installed() / storage.LEDGER
    if (folder / storage.LEDGER).is_file():
        known = history(folder)
        return {id: entry for id, entry in known.items() if not afresh or id.partition("/")[0] not in written}
    known = ledger.read(other.read_bytes()) if other.is_file() and not afresh else {}
    return {id: entry for id, entry in known.items() if id.partition("/")[0] in written}


def history(folder: Path) -> ledger.Ledger:
    """The ledger of a folder; raises `VectorError`."""
    try:
        return ledger.read((folder / storage.LEDGER).read_bytes())
    except OSError as error:
        raise VectorError(f"{storage.LEDGER}: can't be read from {folder} ({type(error).__name__}); {storage.REMEDY}") from error


def read(folder: str | Path | None = None, operation: str | None = None) -> list[Vector]:
    """The vectors of a folder, or of those installed, of one operation or of all; every file is verified first.

    Raises `VectorError`, naming file, field and remedy, for anything that isn't as it was sealed. The array of a recipe is made, and
    its checksum compared, when it is first used; and so are the expectations of installed vectors read.
    """
    vectors = _decoded(storage.verified(_folder(folder)), operation, whole=folder is not None)
    if operation is not None and not vectors:
        raise VectorError(f"{storage.MANIFEST}: no vectors of operation {operation!r} are here; {storage.REMEDY}")
    return vectors


def _decoded(sealed: Mapping[str, bytes], operation: str | None = None, whole: bool = True) -> list[Vector]:
    vectors: list[Vector] = []
    for name, group in storage.names(sealed):
        if operation in (None, name):
            data = sealed.get(f"{name}/{group}.safetensors")
            if data is None:
                raise VectorError(f"{storage.MANIFEST}: {name}/{group}.safetensors isn't listed; {storage.REMEDY}")
            vectors += storage.decode(name, group, sealed[f"{name}/{group}.json"], data, whole)
    return vectors


def check(folder: str | Path | None = None, jobs: int | None = None) -> str:
    """Verifies the folder's files, makes all vectors anew, compares byte for byte and returns the digest.

    Raises `VectorError` naming the first file that differs, is missing or has no place here.
    """
    source = _folder(folder)
    sealed = storage.verified(source)
    fresh: dict[str, bytes] = {name: sealed[name] for name in STATIC if name in sealed}
    vectors = generate(jobs=jobs)
    known = ledger.read(sealed[storage.LEDGER]) if storage.LEDGER in sealed else {}
    fresh[storage.LEDGER] = ledger.write(ledger.extended(known, [vector.case for vector in vectors], storage.VERSION))
    for (operation, group), members in _grouped(vectors).items():
        fresh |= storage.encode(operation, group, members)
    for name in sorted(fresh.keys() | sealed.keys()):
        if name not in sealed:
            raise VectorError(f"{name}: this release makes it and the folder doesn't have it; {storage.REMEDY}")
        if name not in fresh:
            raise VectorError(f"{name}: the folder has it and this release doesn't make it; {storage.REMEDY}")
        if fresh[name] != sealed[name]:
            raise VectorError(
                f"{name}: differs from what this release generates, first {_first(fresh[name], sealed[name])}; {storage.REMEDY}"
            )
    _refuse_unsealed(source, sealed)
    return digest(folder)


def lint(folder: str | Path | None = None) -> str:
    """Checks all that can be told without making the vectors anew, and returns the digest.

    The seal, the schemas, canonical bytes, every recipe's bytes, ids, clauses, flags, the ledger, what is superseded, and the size of all.
    Raises `VectorError`, naming file, field and remedy, for the first that isn't right.
    """
    source = _folder(folder)
    sealed = storage.verified(source)
    _refuse_unsealed(source, sealed)
    vectors = _decoded(sealed)
    for (operation, group), members in _grouped(vectors).items():
        for name, data in storage.encode(operation, group, members).items():
            if data != sealed[name]:
                raise VectorError(f"{name}: its bytes aren't the canonical ones, first {_first(data, sealed[name])}; {storage.REMEDY}")
    _lint_words(vectors, spec.sections())
    known = ledger.read(sealed[storage.LEDGER]) if storage.LEDGER in sealed else {}
    _lint_ids(vectors, known)
    for name in SCHEMAS:
        if sealed.get(name) != (schema.FOLDER / Path(name).name).read_bytes():
            raise VectorError(f"{name}: it isn't the schema of this release; {storage.REMEDY}")
    size = sum(map(len, sealed.values()))
    if size >= seal.ALL:
        raise VectorError(f"{storage.MANIFEST}: all files together have {size} bytes; {seal.ALL} are too many: leave out the largest cases")
    return digest(folder)


def _lint_words(vectors: Iterable[Vector], clauses: Collection[str]) -> None:
    for vector in vectors:
        unknown = [id for id in vector.case.clauses if id not in clauses]
        if unknown or not vector.case.clauses:
            raise VectorError(f"{vector.case.id}: clauses: {unknown or 'none'} isn't in the spec; correct the case, or write the clause")
        if any(flag not in FLAGS for flag in vector.case.flags):
            raise VectorError(f"{vector.case.id}: flags: nothing in conformance/case.py says what {vector.case.flags} mean")


def _lint_ids(vectors: Iterable[Vector], known: ledger.Ledger) -> None:
    ids = {vector.case.id for vector in vectors}
    for vector in vectors:
        case = vector.case
        if case.id not in known:
            raise VectorError(f"{storage.LEDGER}: it doesn't have {case.id}; {storage.REMEDY}")
        if case.supersedes and (case.supersedes not in known or case.supersedes in ids):
            raise VectorError(f"{case.id}: supersedes: {case.supersedes!r} isn't a former id of the ledger; correct the case")
    ledger.extended(known, [vector.case for vector in vectors], storage.VERSION)


def prove(id: str, folder: str | Path | None = None) -> dict[str, Any]:
    """The proof that a vector is part of the set with the folder's digest, as `vectors/README.md` describes it."""
    return seal.prove(_folder(folder), id)


def _first(fresh: bytes, there: bytes) -> str:
    """Where two contents differ first: the line of a text, or the byte."""
    size = min(len(fresh), len(there))
    unequal = np.flatnonzero(np.frombuffer(fresh, np.uint8, size) != np.frombuffer(there, np.uint8, size))
    at = int(unequal[0]) if unequal.size else size
    line = fresh[:at].count(b"\n") + 1
    return f"in line {line}" if fresh.startswith(b"{") else f"at byte {at}"


def digest(folder: str | Path | None = None) -> str:
    """The digest of a folder of vectors, or of those installed: it covers every file through the manifest."""
    found: str = storage.read_manifest(_folder(folder))["digest"]
    return found


def installed() -> Path:
    """The folder of the vectors that came with this release, beside this package; nothing in it is imported."""
    return Path(__file__).resolve().parents[1] / "vectors"


def _folder(folder: str | Path | None) -> Path:
    return installed() if folder is None else Path(folder)


def _refuse_what_would_stay(folder: Path, operations: set[str]) -> None:
    """Raises `VectorError` where writing the vectors of `operations` would seal files that were not sealed, or are damaged."""
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if not (folder / storage.MANIFEST).is_file():
        raise VectorError(f"{folder}: the folder isn't empty and has no {storage.MANIFEST}; name an empty folder, or one of vectors")
    others = [name for name in _present(folder) if _of_others(name, operations)]
    if others:
        listed = storage.read_manifest(folder)["files"]
        for name in others:
            if name not in listed:
                raise VectorError(f"{name}: the manifest doesn't list it; delete it")
        storage.verified(folder, {name for name in listed if _of_others(name, operations) or name == "README.md"})


def _of_others(name: str, operations: set[str]) -> bool:
    """Whether a file holds vectors of operations that aren't among these."""
    return "/" in name and name not in SCHEMAS and name.partition("/")[0] not in operations


def _refuse_unsealed(folder: Path, sealed: Collection[str]) -> None:
    for name in _present(folder):
        if name not in sealed:
            raise VectorError(f"{name}: the manifest doesn't list it; delete it, or {storage.REMEDY}")


def _present(folder: Path) -> list[str]:
    """The files of a folder that belong to the seal, found by looking."""
    data = [path.relative_to(folder).as_posix() for suffix in ("json", "safetensors") for path in folder.glob(f"*/*.{suffix}")]
    others = [name for name in (*STATIC, storage.LEDGER) if (folder / name).is_file()]
    return sorted({*data, *others})


def _add_static(folder: Path, source: Path) -> None:
    """The files that are the same in every folder: the schemas as they are in this release, the others where they are missing."""
    for name in STATIC:
        if (source / name).is_file() and (name in SCHEMAS or not (folder / name).exists()):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes((source / name).read_bytes())
