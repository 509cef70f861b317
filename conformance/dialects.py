"""Dialects: named sets of choices, as `conformance/dialects.toml` and users' own files state them.

    summary = "the losses of our engine"
    source = ["docs/losses.md"]     # where each value below is published

    [choices]                       # for every operation that has the choice
    smoothing_mass = "V-1"
    refusal = "nan"

    [operations.kl_div]             # where one operation differs
    mean_over = "rows"

A choice that isn't named has its default. In `dialects.toml` each dialect is a table of that form under its name, and names every choice:
in `choices`, or in `silent`, the list of those of which the library says nothing.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from conformance.complaint import Complaint
from conformance.conduct import CONDUCT
from refimpl.choices import CHOICES
from refimpl.operation import Choice
from refimpl.operations import operations

PACKAGED = "dialects.toml"
KEYS = ("summary", "source", "choices", "operations", "silent")


class DialectError(Complaint):
    """A dialect that can't be used; the message names the file, the field, its value and the remedy."""


@dataclass(frozen=True)
class Dialect:
    """A set of choices: `choices` for every operation that has them, `operations` where one differs; the rest have their defaults.

    `source` says where each value is published, and `silent` lists the choices of which the library says nothing.
    """

    name: str
    choices: Mapping[str, str] = field(default_factory=dict)
    operations: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    summary: str = ""
    source: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()

    def of(self, operation: str) -> dict[str, str]:
        """The values of the choices that it names, for an operation."""
        return {**self.choices, **self.operations.get(operation, {})}


def choices() -> dict[str, Choice]:
    """Every choice by name: those that change a value, then those of conduct. An operation may begin with another default."""
    return {choice.name: choice for choice in (*CHOICES, *CONDUCT)}


@cache
def dialects() -> dict[str, Dialect]:
    """The dialects that come with the package, by name."""
    text = (files("conformance") / PACKAGED).read_text(encoding="utf-8")
    return parse_many(text, f"conformance/{PACKAGED}")


def resolved(declared: str | Mapping[str, str], owner: str) -> Dialect:
    """What an adapter declares, a dialect's name or a mapping of its own, as a dialect; `owner` is its name in messages."""
    if not isinstance(declared, str):
        return Dialect(owner, _checked(declared, "its dialect", f"the adapter {owner}"))
    if declared not in dialects():
        raise DialectError(
            f"the adapter {owner} names the dialect {declared!r}; name one of {', '.join(dialects())}, or map choices to values"
        )
    return dialects()[declared]


def named(name_or_file: str) -> Dialect:
    """The dialect of that name, or in that file."""
    if name_or_file in dialects():
        return dialects()[name_or_file]
    path = Path(name_or_file)
    if not path.is_file():
        raise DialectError(f"{name_or_file!r} is no dialect and no file; name one of {', '.join(dialects())}, or a file that states one")
    return read(path)


def read(path: Path) -> Dialect:
    """The dialect in a file of one's own; its name is the file's."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DialectError(f"{path} can't be read ({error}); name a file that states a dialect") from error
    return _dialect(path.stem, _document(text, str(path)), str(path))


def parse_many(text: str, source: str) -> dict[str, Dialect]:
    """The dialects of a file of many, each of which names every choice; `source` is the file's name in messages."""
    found = {}
    for name, entry in _document(text, source).items():
        where = f"{source}, [{name}]"
        if not isinstance(entry, dict):
            raise DialectError(f"{source}: {name} is {entry!r}; a dialect is a table: write [{name}]")
        found[name] = one = _dialect(name, entry, where)
        for key in ("summary", "source"):
            if not getattr(one, key):
                raise DialectError(f"{where}: `{key}` is missing; add it")
        missing = [choice for choice in choices() if choice not in one.choices and choice not in one.silent]
        if missing:
            raise DialectError(f"{where}: nothing is said of {', '.join(missing)}; add a value under `choices`, or the name to `silent`")
    return found


def _document(text: str, source: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise DialectError(f"{source} is no TOML: {error}; correct it there") from error


def _dialect(name: str, entry: Mapping[str, Any], where: str) -> Dialect:
    for key in entry:
        if key not in KEYS:
            raise DialectError(f"{where}: `{key}` is no key of a dialect; the keys are {', '.join(KEYS)}")
    summary = entry.get("summary", "")
    if not isinstance(summary, str):
        raise DialectError(f"{where}: `summary` is {summary!r}; write a sentence")
    stated = _checked(_table(entry, "choices", where), "choices", where)
    by_operation = {}
    for operation, values in _table(entry, "operations", where).items():
        if operation not in operations():
            raise DialectError(f"{where}: `operations` names {operation!r}; the operations are {', '.join(operations())}")
        if not isinstance(values, dict):
            raise DialectError(f"{where}: `operations.{operation}` is {values!r}; map choices to values")
        by_operation[operation] = _checked(values, f"operations.{operation}", where, operation)
    silent = _strings(entry, "silent", where)
    for choice in silent:
        _known(choice, "silent", where, tuple(choices()))
        if choice in stated:
            raise DialectError(f"{where}: `silent` names {choice!r}, which `choices` gives a value; delete one of them")
    return Dialect(name, stated, by_operation, summary, _strings(entry, "source", where), silent)


def _table(entry: Mapping[str, Any], key: str, where: str) -> dict[str, Any]:
    table = entry.get(key, {})
    if not isinstance(table, dict):
        raise DialectError(f"{where}: `{key}` is {table!r}; write it as a table")
    return table


def _strings(entry: Mapping[str, Any], key: str, where: str) -> tuple[str, ...]:
    values = entry.get(key, [])
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise DialectError(f"{where}: `{key}` is {values!r}; write a list of strings")
    return tuple(values)


def _checked(values: Mapping[str, Any], key: str, where: str, operation: str | None = None) -> dict[str, str]:
    """Choices and their values, all of which exist (and in the operation, where one is named)."""
    known = tuple(choices())
    if operation is not None:
        known = (*(choice.name for choice in operations()[operation].choices), *(choice.name for choice in CONDUCT))
    for name, value in values.items():
        _known(name, key, where, known)
        permitted = tuple(choices()[name].values)
        if value not in permitted:
            raise DialectError(f"{where}: {name} of `{key}` is {value!r}; write one of {', '.join(map(repr, permitted))}")
    return dict(values)


def _known(name: str, key: str, where: str, known: tuple[str, ...]) -> None:
    if name not in known:
        raise DialectError(f"{where}: `{key}` names {name!r}; the choices are {', '.join(known)}")
