"""The spec on a terminal: within 80 columns, and nothing lost of what it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from conformance import spec
from conformance.report.chapter import WIDTH, listing, plain, whole
from conformance.spec import Level, Section, sections


def too_wide(text: str) -> list[str]:
    """Lines beyond 80 columns that could be broken: code and tables are left as they are, as is what has no space in it."""
    lines = [line for line in text.splitlines() if not line.startswith("    ") and "  " not in line.strip()]
    return [line for line in lines if len(line) > WIDTH and " " in line.strip()]


def test_the_list_has_every_clause_in_80_columns() -> None:
    text = listing(sections().values())
    assert max(map(len, text.splitlines())) <= WIDTH
    assert re.findall(r"^[A-Z]+-\d+(?=  )", text, flags=re.MULTILINE) == list(sections())


@pytest.mark.parametrize("section", sections().values(), ids=lambda section: section.id)
def test_a_clause_stays_in_80_columns_and_loses_no_word(section: Section) -> None:
    text = whole(section)
    assert not too_wide(text)
    for word in re.findall(r"\w+", re.sub(r"\]\([^)]*\)", "", section.statement + section.rest)):
        assert word in text


@pytest.mark.parametrize("path", spec.chapters(), ids=lambda path: path.stem)
def test_a_chapter_stays_in_80_columns(path: Path) -> None:
    assert not too_wide(plain(path.read_text(encoding="utf-8")))


def test_markdown_becomes_plain() -> None:
    page = (
        "# Toy\n\nA **word**, a `span` and\na [link](toy.md#a).\n\n- one\n  item\n- two\n\n### TOY-1 (MUST)\n\n"
        "```\na * b\n\n  c\n```\n\n<!-- x: made by `y` -->\n\n| a | b |\n|---|---|\n| long | `c` |\n"
    )
    assert plain(page) == (
        "Toy\n===\n\nA word, a span and a link.\n\n- one item\n- two\n\nTOY-1  MUST\n\n    a * b\n\n      c\n\na     b\nlong  c"
    )


def test_a_withdrawn_clause_is_marked_in_the_list() -> None:
    section = Section("TOY-1", Level.MUST, "It is.", "**Withdrawn.** In 2.0.0: see TOY-2.", "toy")
    assert listing([section]) == "TOY-1  MUST  withdrawn\n    It is."
