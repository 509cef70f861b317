"""The closed JSON Schemas of `vectors/schema`, as checks that a reader runs before it trusts a file.

Of JSON Schema 2020-12 the keywords in `_KEYWORDS` are known, and a schema with another one is refused. A whole number is written without a
point, where JSON Schema would take 1.0 for one. A pattern must match the whole text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from conformance.storage.text import wrong

FOLDER = Path(__file__).resolve().parents[2] / "vectors" / "schema"  # those of this release, whatever folder is read

Check = Callable[[Any], None]

_KINDS: dict[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
}
_SAID = {"$schema", "$id", "$defs", "title", "description"}


class _MismatchError(Exception):
    """A value that isn't as a schema says: why, and the way to it from the end."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.trail: list[str] = []


def checked(kind: str, name: str, value: Any) -> Any:
    """`value`, where it is as the schema `kind` says; else raises `VectorError`, naming the file `name` and the field."""
    try:
        _check_of(kind)(value)
    except _MismatchError as error:
        raise wrong(name, "".join(reversed(error.trail)).removeprefix("."), str(error)) from None
    return value


@cache
def _check_of(kind: str) -> Check:
    schema = json.loads((FOLDER / f"{kind}.json").read_text(encoding="utf-8"))
    return _compiled(schema, schema.get("$defs", {}))


def _compiled(schema: Mapping[str, Any], known: Mapping[str, Any]) -> Check:
    if "$ref" in schema:
        return _compiled(known[schema["$ref"].removeprefix("#/$defs/")], known)
    if "anyOf" in schema:
        return _any(schema["anyOf"], known)
    unknown = schema.keys() - _KEYWORDS.keys() - _SAID - {"required", "properties", "propertyNames"}
    if unknown:
        raise ValueError(f"no check is known for {sorted(unknown)}")
    if schema.keys() - _SAID == {"type", "pattern"}:
        return _text(schema)  # which most values are: the two checks in one
    checks = [make(schema, known) for keyword, make in _KEYWORDS.items() if keyword in schema]
    if len(checks) == 1:
        return checks[0]

    def every(value: Any) -> None:
        for check in checks:
            check(value)

    return every


def _any(branches: Sequence[Mapping[str, Any]], known: Mapping[str, Any]) -> Check:
    """Branches of different types: that of the value's type decides."""
    resolved = [known[branch["$ref"].removeprefix("#/$defs/")] if "$ref" in branch else branch for branch in branches]
    by_type = [(_KINDS[branch["type"]], _compiled(branch, known)) for branch in resolved]
    types = " or ".join(branch["type"] for branch in resolved)

    def one(value: Any) -> None:
        for fits, check in by_type:
            if fits(value):
                return check(value)
        raise _MismatchError(f"it is not of type {types}")

    return one


def _type(schema: Mapping[str, Any], known: Mapping[str, Any]) -> Check:
    fits, name = _KINDS[schema["type"]], schema["type"]

    def check(value: Any) -> None:
        if not fits(value):
            raise _MismatchError(f"it is not of type {name}")

    return check


def _properties(schema: Mapping[str, Any], known: Mapping[str, Any]) -> Check:
    fields = {name: _compiled(one, known) for name, one in schema.get("properties", {}).items()}
    needed = tuple(schema.get("required", ()))
    names = _compiled(schema["propertyNames"], known) if "propertyNames" in schema else None
    others = schema["additionalProperties"]  # every schema is closed
    other = None if others is False else _compiled(others, known)

    def check(value: Any) -> None:
        for name in needed:
            if name not in value:
                raise _MismatchError(f"it has no field {name!r}")
        for name, one in value.items():
            inner = fields.get(name, other)
            if inner is None:
                raise _MismatchError(f"it has an unknown field {name[:40]!r}")
            try:
                if names is not None:
                    names(name)
                inner(one)
            except _MismatchError as error:
                error.trail.append(f".{name[:80]}")
                raise

    return check


def _items(schema: Mapping[str, Any], known: Mapping[str, Any]) -> Check:
    inner = _compiled(schema["items"], known)

    def check(value: Any) -> None:
        at = 0
        try:
            for one in value:
                inner(one)
                at += 1
        except _MismatchError as error:
            error.trail.append(f"[{at}]")
            raise

    return check


def _pattern(schema: Mapping[str, Any], known: Mapping[str, Any]) -> Check:
    match = re.compile(schema["pattern"]).fullmatch

    def check(value: Any) -> None:
        if match(value) is None:
            raise _MismatchError(f"{value[:40]!r} is not what it may be")

    return check


def _text(schema: Mapping[str, Any]) -> Check:
    match = re.compile(schema["pattern"]).fullmatch

    def check(value: Any) -> None:
        if not isinstance(value, str) or match(value) is None:
            raise _MismatchError(f"{value!r:.60} is not what it may be")

    return check


def _enum(schema: Mapping[str, Any], known: Mapping[str, Any]) -> Check:
    allowed = schema["enum"]

    def check(value: Any) -> None:
        if value not in allowed:
            raise _MismatchError(f"{value!r:.60} is none of {', '.join(map(str, allowed))}")

    return check


def _limit(keyword: str, measure: Callable[[Any], Any], fine: Callable[[Any, Any], bool], what: str) -> Callable[..., Check]:
    def make(schema: Mapping[str, Any], known: Mapping[str, Any]) -> Check:
        limit = schema[keyword]

        def check(value: Any) -> None:
            if not fine(measure(value), limit):
                raise _MismatchError(f"{what} {limit}")

        return check

    return make


def _unique(schema: Mapping[str, Any], known: Mapping[str, Any]) -> Check:
    def check(value: Any) -> None:
        if len(set(value)) != len(value):  # of texts only
            raise _MismatchError("it holds something twice")

    return check


def _same(value: Any) -> Any:
    return value


# In the order in which they are asked: the type first.
_KEYWORDS: dict[str, Callable[[Mapping[str, Any], Mapping[str, Any]], Check]] = {
    "type": _type,
    "enum": _enum,
    "pattern": _pattern,
    "minimum": _limit("minimum", _same, lambda a, b: a >= b, "it is below"),
    "maximum": _limit("maximum", _same, lambda a, b: a <= b, "it is above"),
    "minItems": _limit("minItems", len, lambda a, b: a >= b, "its items are fewer than"),
    "maxItems": _limit("maxItems", len, lambda a, b: a <= b, "its items are more than"),
    "maxLength": _limit("maxLength", len, lambda a, b: a <= b, "it is longer than"),
    "minProperties": _limit("minProperties", len, lambda a, b: a >= b, "its fields are fewer than"),
    "maxProperties": _limit("maxProperties", len, lambda a, b: a <= b, "its fields are more than"),
    "items": _items,
    "uniqueItems": _unique,
    "additionalProperties": _properties,
}
