"""Vectors as files: what `vectors/README.md` describes, read strictly and written in canonical bytes.

One JSON index and one safetensors file for each operation and group, a ledger of ids, and a manifest that seals every file of the folder.
"""

from __future__ import annotations

from conformance.storage.ledger import LEDGER
from conformance.storage.reading import decode
from conformance.storage.seal import MANIFEST, VERSION, manifest, names, read_manifest, verified
from conformance.storage.text import REMEDY
from conformance.storage.writing import FORMAT, encode

__all__ = [
    "FORMAT",
    "LEDGER",
    "MANIFEST",
    "REMEDY",
    "VERSION",
    "decode",
    "encode",
    "manifest",
    "names",
    "read_manifest",
    "verified",
]
