"""The schemas of `vectors/schema`, which a reader holds against a file before it trusts it."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from conformance.schema import Check, Mismatch, compiled
from conformance.storage.text import wrong

FOLDER = Path(__file__).resolve().parents[2] / "vectors" / "schema"  # those of this release, whatever folder is read


def checked(kind: str, name: str, value: Any) -> Any:
    """`value`, where it is as the schema `kind` says; else raises `VectorError`, naming the file `name` and the field."""
    try:
        _check_of(kind)(value)
    except Mismatch as error:
        raise wrong(name, error.path, str(error)) from None
    return value


@cache
def _check_of(kind: str) -> Check:
    schema = definition(kind)
    return compiled(schema, schema.get("$defs", {}))


def definition(kind: str) -> dict[str, Any]:
    """The schema itself."""
    found: dict[str, Any] = json.loads((FOLDER / f"{kind}.json").read_text(encoding="utf-8"))
    return found
