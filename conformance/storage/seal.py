"""The manifest: size and SHA-256 of every file, and one digest over all, from which each vector can be proven to be part of the set."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from conformance.case import GROUPS, VectorError
from conformance.storage import merkle
from conformance.storage.pages import records
from conformance.storage.schema import checked
from conformance.storage.text import REMEDY, parse, wrong
from conformance.storage.writing import FORMAT

MANIFEST = "manifest.json"
VERSION = "2026.11"  # CalVer: of the vectors that this release generates
LARGEST = 2**22  # bytes of a manifest
ALL = 20_000_000  # bytes of all files together


def manifest(files: Mapping[str, bytes]) -> bytes:
    """The manifest of a folder with these files, in its canonical bytes."""
    entries: dict[str, dict[str, Any]] = {}
    for name, data in files.items():
        entries[name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        if _pair(name) is not None:
            entries[name] |= _subtree(name, data)
    body: dict[str, Any] = {"files": entries, "format": FORMAT, "version": VERSION}
    return _text({**body, "digest": digest_of(body)})


def _subtree(name: str, index: bytes) -> dict[str, Any]:
    leaves = records(name, index)
    return {"root": merkle.root(leaves).hex(), "vectors": len(leaves)}


def _text(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, sort_keys=True, indent=1) + "\n").encode()


def leaves(body: Mapping[str, Any]) -> list[bytes]:
    """The records of the tree whose root is the digest: the version, then each file, and after an index its vectors."""
    found = [f"lossref vectors {body['version']} format {body['format']}"]
    for name in sorted(body["files"]):
        entry = body["files"][name]
        found.append(f"file {name} {entry['bytes']} {entry['sha256']}")
        if "root" in entry:
            found.append(f"vectors {name} {entry['vectors']} {entry['root']}")
    return [text.encode() for text in found]


def digest_of(body: Mapping[str, Any]) -> str:
    """The digest of a manifest's other fields."""
    return merkle.root(leaves(body)).hex()


def verified(folder: Path, names: Collection[str] | None = None) -> dict[str, bytes]:
    """The bytes of every sealed file (or of those named), checked against the manifest; raises `VectorError`."""
    files: dict[str, bytes] = {}
    for name, entry in read_manifest(folder)["files"].items():
        if names is not None and name not in names:
            continue
        data = _bytes(folder, name, entry["bytes"])
        if len(data) != entry["bytes"] or hashlib.sha256(data).hexdigest() != entry["sha256"]:
            raise VectorError(f"{name}: its bytes aren't the {entry['bytes']} that the manifest seals (sha256 differs); {REMEDY}")
        if "root" in entry and _subtree(name, data) != {"root": entry["root"], "vectors": entry["vectors"]}:
            raise wrong(MANIFEST, f"files.{name}.root", "it isn't the root of this file's vectors")
        files[name] = data
    return files


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest, its digest and canonical bytes checked; raises `VectorError`."""
    data = _bytes(folder, MANIFEST, LARGEST)
    found = parse(MANIFEST, data)
    if isinstance(found, dict) and found.get("format") != FORMAT:
        raise VectorError(
            f"{MANIFEST}: format {found.get('format')!r:.40} isn't {FORMAT}, the one that this release reads; install a matching lossref"
        )
    checked("manifest", MANIFEST, found)
    for name, entry in found["files"].items():
        if ("root" in entry, "vectors" in entry) != 2 * (_pair(name) is not None,):
            raise wrong(MANIFEST, f"files.{name}", "an index has a root and a number of vectors, and no other file has")
    if found["digest"] != digest_of(found) or _text(found) != data:
        raise VectorError(f"{MANIFEST}: its bytes aren't those that its digest seals; {REMEDY}")
    return dict(found)


def prove(folder: Path, id: str) -> dict[str, Any]:
    """The proof that a vector is part of the set with this folder's digest, as `vectors/README.md` describes it."""
    sealed, body = verified(folder), read_manifest(folder)
    name = "/".join(id.split("/")[:2]) + ".json"
    inner = records(name, sealed[name]) if name in sealed else []
    position = next((at for at, record in enumerate(inner) if parse(name, record.partition(b"\n")[2]).get("id") == id), None)
    if position is None:
        raise VectorError(f"{id}: no vector has this id; see `lossref vectors list`")
    outer = leaves(body)
    above = outer.index(f"vectors {name} {len(inner)} {body['files'][name]['root']}".encode())
    return {
        "digest": body["digest"],
        "index": {"count": len(inner), "path": [node.hex() for node in merkle.path(inner, position)], "position": position},
        "manifest": {"count": len(outer), "path": [node.hex() for node in merkle.path(outer, above)], "position": above},
        "name": name,
        "record": inner[position].decode(),
    }


def _bytes(folder: Path, name: str, limit: int) -> bytes:
    """A file's bytes, no more than `limit` and one; only of a regular file, reached without a link below the folder."""
    path = folder
    for part in name.split("/"):
        path = path / part
        if path.is_symlink():
            raise VectorError(f"{name}: it is a link, or lies behind one, and may lead out of {folder}; {REMEDY}")
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with os.fdopen(handle, "rb") as file:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise VectorError(f"{name}: it is no regular file; {REMEDY}")
            return file.read(limit + 1)
    except OSError as error:
        raise VectorError(f"{name}: can't be read from {folder} ({type(error).__name__}); {REMEDY}") from error


def _pair(name: str) -> tuple[str, str] | None:
    """The operation and group whose index a file is, by its name."""
    operation, _, group = name.removesuffix(".json").partition("/")
    return (operation, group) if name.endswith(".json") and group in GROUPS else None


def names(files: Iterable[str]) -> list[tuple[str, str]]:
    """The (operation, group) pairs of the files, in order."""
    return sorted(pair for name in files if (pair := _pair(name)) is not None)
