"""The specification as data: its chapters in `docs/spec`, which are Markdown that people read, and their clauses.

A clause is a section of its chapter:

    ### SCE-4 (MUST)

    The statement: one paragraph, one sentence.

    The rest, by its leading words: **Mathematics.** **Reason.** **Today.** (what named libraries do), and what the evidence is:
    **Applied by.** (other clauses, whose vectors are this one's too; or "every vector") or **No vectors.** (why)

Where neither stands, the evidence is the vectors that name the clause. `README.md` there states the version and, by its links, the order
in which the chapters are read.
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
_LABEL = re.compile(r"^\*\*([A-Z][a-z]+(?: [a-z]+)*)\.\*\*\s*", flags=re.MULTILINE)
_VERSION = re.compile(r"^Version (\d+\.\d+\.\d+), ([A-Z][a-z]+) (\d{4})\.$", flags=re.MULTILINE)

CLAUSE = re.compile(r"\b[A-Z]+-\d+\b")  # an id, wherever it is mentioned
EVERY = "every vector"


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

    @property
    def prefix(self) -> str:
        return self.id.rpartition("-")[0]

    @property
    def parts(self) -> dict[str, str]:
        """What follows the statement, by its leading words."""
        pieces = _LABEL.split(self.rest)
        return {label: text.strip() for label, text in zip(pieces[1::2], pieces[2::2], strict=True)}

    @property
    def of_every_vector(self) -> bool:
        """Whether every vector is evidence for it."""
        return self.parts.get("Applied by", "").startswith(EVERY)

    @property
    def applied_by(self) -> tuple[str, ...]:
        """The clauses whose vectors are evidence for this one too."""
        return tuple(dict.fromkeys(CLAUSE.findall(self.parts.get("Applied by", ""))))

    def shown_by(self, clauses: tuple[str, ...]) -> bool:
        """Whether a vector that names these clauses is evidence for this one."""
        return self.of_every_vector or not {self.id, *self.applied_by}.isdisjoint(clauses)


@dataclass(frozen=True)
class Version:
    """The version of the spec (SemVer), and when it was published."""

    number: str
    month: str
    year: str


@cache
def sections() -> dict[str, Section]:
    """Every clause of the spec, in reading order."""
    found: dict[str, Section] = {}
    for path in chapters():
        for one in sections_of(path.stem, path.read_text(encoding="utf-8")):
            if one.id in found:
                raise SpecError(f"{path.name}: {one.id} stands in {found[one.id].chapter}.md too; rename one")
            found[one.id] = one
    return found


def chapters() -> list[Path]:
    """The files of the spec in reading order: README.md, then as its contents name them, then the others."""
    folder = next((place for place in _PLACES if place.is_dir()), None)
    if folder is None:
        raise SpecError("the chapters of the spec aren't installed; reinstall lossref")
    contents = (folder / "README.md").read_text(encoding="utf-8")
    order = ["README.md", *dict.fromkeys(re.findall(r"^\| \[[^\]]+\]\((\w+\.md)\)", contents, flags=re.MULTILINE))]
    return sorted(folder.glob("*.md"), key=lambda path: (order.index(path.name) if path.name in order else len(order), path.name))


def version() -> Version:
    """The version, as README.md states it."""
    contents = chapters()[0].read_text(encoding="utf-8")
    stated = _VERSION.search(contents)
    if stated is None:
        raise SpecError("README.md: no line is like 'Version 1.0.0, November 2026.'; add it")
    return Version(*stated.groups())


def sections_of(chapter: str, text: str) -> list[Section]:
    """The clauses in the text of a chapter."""
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
