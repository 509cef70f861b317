"""JSON Schemas as checks, for what is read from files and from programs.

Of JSON Schema 2020-12 the keywords in `_KEYWORDS` are known, and a schema with another one is refused. Every schema is closed. A whole
number is written without a point, where JSON Schema would take 1.0 for one. A pattern must match the whole text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Check = Callable[[Any], None]

# What JSON's values are in Python, of exactly these types.
_KINDS: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "null": (type(None),),
    "integer": (int,),
    "number": (int, float),
}
_SAID = {"$schema", "$id", "$defs", "title", "description"}


class Mismatch(Exception):
    """A value that isn't as a schema says: why, and the way to it from the end."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.trail: list[str] = []

    @property
    def path(self) -> str:
        """The field, from the value that was checked; empty for that value itself."""
        return "".join(reversed(self.trail)).removeprefix(".")


def compiled(schema: Mapping[str, Any], known: Mapping[str, Any]) -> Check:
    """The check of a schema whose references lead to `known`, its `$defs`; it raises `Mismatch` for the first thing that is wrong."""
    if "$ref" in schema:
        return compiled(known[schema["$ref"].removeprefix("#/$defs/")], known)
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
    by_type = {kind: compiled(branch, known) for branch in resolved for kind in _KINDS[branch["type"]]}
    types = " or ".join(branch["type"] for branch in resolved)

    def one(value: Any) -> None:
        check = by_type.get(type(value))
        if check is None:
            raise Mismatch(f"it is not of type {types}")
        check(value)

    return one


def _type(schema: Mapping[str, Any], known: Mapping[str, Any]) -> Check:
    kinds, name = _KINDS[schema["type"]], schema["type"]

    def check(value: Any) -> None:
        if type(value) not in kinds:
            raise Mismatch(f"it is not of type {name}")

    return check


def _properties(schema: Mapping[str, Any], known: Mapping[str, Any]) -> Check:
    fields = {name: compiled(one, known) for name, one in schema.get("properties", {}).items()}
    needed = tuple(schema.get("required", ()))
    names = compiled(schema["propertyNames"], known) if "propertyNames" in schema else None
    others = schema["additionalProperties"]  # every schema is closed
    other = None if others is False else compiled(others, known)

    def check(value: Any) -> None:
        for name in needed:
            if name not in value:
                raise Mismatch(f"it has no field {name!r}")
        for name, one in value.items():
            inner = fields.get(name, other)
            if inner is None:
                raise Mismatch(f"it has an unknown field {name[:40]!r}")
            try:
                if names is not None:
                    names(name)
                inner(one)
            except Mismatch as error:
                error.trail.append(f".{name[:80]}")
                raise

    return check


def _items(schema: Mapping[str, Any], known: Mapping[str, Any]) -> Check:
    inner = compiled(schema["items"], known)

    def check(value: Any) -> None:
        at = 0
        try:
            for one in value:
                inner(one)
                at += 1
        except Mismatch as error:
            error.trail.append(f"[{at}]")
            raise

    return check


def _pattern(schema: Mapping[str, Any], known: Mapping[str, Any]) -> Check:
    match = re.compile(schema["pattern"]).fullmatch

    def check(value: Any) -> None:
        if match(value) is None:
            raise Mismatch(f"{value[:40]!r} is not what it may be")

    return check


def _text(schema: Mapping[str, Any]) -> Check:
    match = re.compile(schema["pattern"]).fullmatch

    def check(value: Any) -> None:
        if not isinstance(value, str) or match(value) is None:
            raise Mismatch(f"{value!r:.60} is not what it may be")

    return check


def _enum(schema: Mapping[str, Any], known: Mapping[str, Any]) -> Check:
    allowed = schema["enum"]

    def check(value: Any) -> None:
        if value not in allowed:
            raise Mismatch(f"{value!r:.60} is none of {', '.join(map(str, allowed))}")

    return check


def _limit(keyword: str, measure: Callable[[Any], Any], fine: Callable[[Any, Any], bool], what: str) -> Callable[..., Check]:
    def make(schema: Mapping[str, Any], known: Mapping[str, Any]) -> Check:
        limit = schema[keyword]

        def check(value: Any) -> None:
            if not fine(measure(value), limit):
                raise Mismatch(f"{what} {limit}")

        return check

    return make


def _unique(schema: Mapping[str, Any], known: Mapping[str, Any]) -> Check:
    def check(value: Any) -> None:
        if len(set(value)) != len(value):  # of texts only
            raise Mismatch("it holds something twice")

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
