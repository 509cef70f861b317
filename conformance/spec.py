"""The specification as data: its chapters in `docs/spec`, which are Markdown that people read, and their clauses.

A clause is a section of its chapter:

    ### SCE-4 (MUST)

    The statement: one paragraph, one sentence.

    The rest, by its leading words: **Mathematics.** **Reason.** **Today.** (what named libraries do), **No vectors.** (why)
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path

_HERE = Path(__file__).parent
_PLACES = (_HERE / "chapters", _HERE.parent / "docs" / "spec")  # where it is installed; in a checkout
_HEADING = re.compile(r"### ([A-Z]+-\d+) \((MUST|SHOULD|MAY)\)")


class SpecError(Exception):
    """A chapter that can't be read; the message names it and the remedy."""


class Level(StrEnum):
    """How binding a clause is (RFC 2119)."""

    MUST = "MUST"
    SHOULD = "SHOULD"
    MAY = "MAY"


@dataclass(frozen=True)
class Section:
    """One clause as the spec states it: `rest` is its Markdown after the statement, `chapter` the name of its file."""

    id: str
    level: Level
    statement: str
    rest: str
    chapter: str


def section(id: str) -> Section:
    """The section of a clause; raises `KeyError` for an unknown one."""
    return sections()[id]


@cache
def sections() -> dict[str, Section]:
    """Every clause of the spec, in the order of the chapters' names and of their text."""
    found: dict[str, Section] = {}
    for path in chapters():
        for one in _sections(path.stem, path.read_text(encoding="utf-8")):
            if one.id in found:
                raise SpecError(f"{path.name}: {one.id} stands in {found[one.id].chapter}.md too; rename one")
            found[one.id] = one
    return found


def chapters() -> list[Path]:
    """The files of the spec."""
    folder = next((place for place in _PLACES if place.is_dir()), None)
    if folder is None:
        raise SpecError("the chapters of the spec aren't installed; reinstall lossref")
    return sorted(folder.glob("*.md"))


def _sections(chapter: str, text: str) -> list[Section]:
    found = []
    for part in re.split(r"^(?=#{1,3} )", text, flags=re.MULTILINE):
        heading = _HEADING.match(part)
        if heading is None:
            if re.match(r"### [A-Z]+-\d", part):
                raise SpecError(f"{chapter}.md: the heading {part.splitlines()[0]!r} isn't like '### SCE-4 (MUST)'; correct it")
            continue
        statement, _, rest = part[heading.end() :].strip().partition("\n\n")
        found.append(Section(heading[1], Level(heading[2]), " ".join(statement.split()), rest.strip(), chapter))
    return found
