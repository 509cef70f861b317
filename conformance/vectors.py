"""The golden vectors: made and proven, written, read, checked.

vectors = generate("kl_div")      every vector of an operation, each proven by kernel and exact form
write(vectors, folder)            the files, sealed by a manifest
read(operation="kl_div")          those of the installed package, verified
check(folder)                     made anew and compared byte for byte
digest()                          the SHA-256 that a paper cites
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np

from conformance import storage
from conformance.case import GROUPS, Case, Expectation, Expected, Recipe, Vector, VectorError
from conformance.cases import cases
from conformance.expect import expect
from conformance.storage import Folder
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
    "read",
    "write",
]

STATIC = ("README.md", "LICENSE", "__init__.py", "py.typed")  # sealed too, where they are there


def generate(operation: str | None = None, jobs: int | None = None) -> list[Vector]:
    """The vectors of an operation, or of all, in the order of operation, group and definition.

    Each is proven; raises `VectorError` for the first that can't be. `jobs` processes, by default one for each core.
    """
    wanted = list(operations()) if operation is None else [find(operation).name]
    ordered = [case for name in wanted for case in cases(find(name))]
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


def write(vectors: Iterable[Vector], folder: str | Path) -> str:
    """Writes the vectors' files and the manifest, and returns its digest.

    Files of other operations that are there stay as they are and are sealed with them, the README with all: where vectors of some
    operations stay, so must all else be as it was sealed. The README is added where it is missing. Raises `VectorError` for a
    folder that holds something else, or a damaged file that would stay.
    """
    folder = Path(folder)
    groups: dict[tuple[str, str], list[Vector]] = {}
    for vector in vectors:
        groups.setdefault((vector.case.operation, vector.case.group), []).append(vector)
    _refuse_what_would_stay(folder, {operation for operation, _ in groups})
    for operation in {operation for operation, _ in groups}:
        for group in GROUPS:
            for suffix in ("json", "safetensors"):
                (folder / operation / f"{group}.{suffix}").unlink(missing_ok=True)
    for (operation, group), members in groups.items():
        for name, data in storage.encode(operation, group, members).items():
            (folder / operation).mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
    folder.mkdir(parents=True, exist_ok=True)
    _add_static(folder, installed())
    present = {name: (folder / name).read_bytes() for name in _present(folder)}
    (folder / storage.MANIFEST).write_bytes(storage.manifest(present))
    return digest(folder)


def read(folder: str | Path | None = None, operation: str | None = None) -> list[Vector]:
    """The vectors of a folder, or of those installed, of one operation or of all; every file is verified first.

    Raises `VectorError`, naming file, field and remedy, for anything that isn't as it was sealed.
    """
    sealed = storage.verified(_folder(folder))
    vectors: list[Vector] = []
    for name, group in storage.names(sealed):
        if operation in (None, name):
            data = sealed.get(f"{name}/{group}.safetensors")
            if data is None:
                raise VectorError(f"{storage.MANIFEST}: {name}/{group}.safetensors isn't listed; {storage.REMEDY}")
            vectors += storage.decode(name, group, sealed[f"{name}/{group}.json"], data)
    if operation is not None and not vectors:
        raise VectorError(f"{storage.MANIFEST}: no vectors of operation {operation!r} are here; {storage.REMEDY}")
    return vectors


def check(folder: str | Path | None = None, jobs: int | None = None) -> str:
    """Verifies the folder's files, makes all vectors anew, compares byte for byte and returns the digest.

    Raises `VectorError` naming the first file that differs, is missing or has no place here.
    """
    source = _folder(folder)
    sealed = storage.verified(source)
    fresh: dict[str, bytes] = {name: sealed[name] for name in STATIC if name in sealed}
    groups: dict[tuple[str, str], list[Vector]] = {}
    for vector in generate(jobs=jobs):
        groups.setdefault((vector.case.operation, vector.case.group), []).append(vector)
    for (operation, group), members in groups.items():
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
    if isinstance(source, Path):
        for name in _present(source):
            if name not in sealed:
                raise VectorError(f"{name}: the manifest doesn't list it; delete it, or {storage.REMEDY}")
    return digest(folder)


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


def _folder(folder: str | Path | None) -> Folder:
    return installed() if folder is None else Path(folder)


def _refuse_what_would_stay(folder: Path, operations: set[str]) -> None:
    """Raises `VectorError` where writing the vectors of `operations` would seal files that were not sealed, or are damaged."""
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if not (folder / storage.MANIFEST).is_file():
        raise VectorError(f"{folder}: the folder isn't empty and has no {storage.MANIFEST}; name an empty folder, or one of vectors")
    listed = storage.read_manifest(folder)["files"]
    others = {name for name in listed if "/" in name and name.partition("/")[0] not in operations}
    if others:
        storage.verified(folder, others | {name for name in listed if "/" not in name})
        for name in _present(folder):
            if name not in listed and name.partition("/")[0] not in operations:
                raise VectorError(f"{name}: the manifest doesn't list it; delete it")


def _present(folder: Path) -> list[str]:
    """The files of a folder that belong to the seal, found by looking."""
    data = [path.relative_to(folder).as_posix() for suffix in ("json", "safetensors") for path in folder.glob(f"*/*.{suffix}")]
    return sorted([*data, *(name for name in STATIC if (folder / name).is_file())])


def _add_static(folder: Path, source: Folder) -> None:
    for name in STATIC:
        if not (folder / name).exists() and (source / name).is_file():
            (folder / name).write_bytes((source / name).read_bytes())
