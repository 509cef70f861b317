"""The spec on a terminal: Markdown as plain lines of 80 columns, for the parts of it that the chapters use."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from textwrap import wrap

from conformance.spec import Section

WIDTH = 80
ROOM = 24  # columns that a table's last cell needs to be filled in them
_ITEM = re.compile(r"(?:[-*] |\d+\. )")
_HEADING = re.compile(r"(#+) (.*)")


def listing(sections: Iterable[Section]) -> str:
    """The clauses by id and level, each with its statement."""
    return "\n".join(_lines_of(section) for section in sections)


def _lines_of(section: Section) -> str:
    withdrawn = "  withdrawn" if "Withdrawn" in section.parts else ""
    return "\n".join([f"{section.id}  {section.level}{withdrawn}", *_filled(section.statement, "    ", "    ")])


def whole(section: Section) -> str:
    """A clause with all that is said about it."""
    return _lines_of(section) + ("\n\n" + plain(section.rest) if section.rest else "")


def plain(markdown: str) -> str:
    """Markdown as plain text: paragraphs and lists filled, headings marked, links and emphasis by their words, all else as it is."""
    return "\n\n".join(filter(None, ("\n".join(_block(block)) for block in _blocks(markdown))))


def _blocks(markdown: str) -> Iterator[list[str]]:
    """The text in blocks that blank lines part; a fenced block is one, whatever it holds."""
    block: list[str] = []
    fenced = False
    for line in markdown.splitlines():
        fence = line.startswith("```")
        if not fenced and (not line.strip() or (fence and block)):
            if block:
                yield block
            block = []
        if fenced or line.strip():
            block.append(line)
        if fence:
            fenced = not fenced
            if not fenced:
                yield block
                block = []
    if block:
        yield block


def _block(lines: list[str]) -> Iterator[str]:
    first = lines[0]
    if first.startswith("```"):
        yield from ("    " + line if line else "" for line in lines[1:-1])
    elif heading := _HEADING.match(first):
        yield from _heading(len(heading[1]), heading[2])
        if lines[1:]:
            yield from _block(lines[1:])
    elif first.startswith("|"):
        yield from _table(lines)
    elif first.startswith("<!--"):
        yield from ()
    elif _ITEM.match(first):
        for item in _items(lines):
            mark = _ITEM.match(item)
            width = len(mark[0]) if mark else 2
            yield from _filled(item, "", " " * width)
    else:
        yield from _filled(" ".join(lines))


def _heading(level: int, text: str) -> Iterator[str]:
    clause = re.fullmatch(r"([A-Z]+-\d+) \((\w+)\)", text)
    yield f"{clause[1]}  {clause[2]}" if clause else text
    if level < 3:
        yield ("=" if level == 1 else "-") * len(text)


def _table(lines: Iterable[str]) -> Iterator[str]:
    """A table's rows with their columns under each other; the last one is filled where it finds room."""
    rows = [[_words(cell.strip()) for cell in line.strip().strip("|").split("|")] for line in lines if not set(line) <= set("|-: ")]
    widths = [max(map(len, column)) for column in list(zip(*rows, strict=False))[:-1]]
    for row in rows:
        first = "".join(cell.ljust(width + 2) for cell, width in zip(row, widths, strict=False))
        then = " " * len(first)
        room = WIDTH - len(first)
        yield from _filled(row[-1], first, then) if room >= ROOM else [(first + row[-1]).rstrip()]


def _items(lines: Iterable[str]) -> list[str]:
    """The items of a list, each in one line."""
    items: list[str] = []
    for line in lines:
        if _ITEM.match(line):
            items.append(line)
        else:
            items[-1] += " " + line.strip()
    return items


def _filled(text: str, first: str = "", then: str = "") -> list[str]:
    words = _words(text)  # a hyphen may be a minus
    return wrap(words, WIDTH, initial_indent=first, subsequent_indent=then, break_long_words=False, break_on_hyphens=False)


def _words(text: str) -> str:
    """A line without the marks of links, strong words and code."""
    return re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", text).replace("**", "").replace("`", "")
