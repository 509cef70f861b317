"""Docstrings as this project writes them, plain prose, as reStructuredText.

    `name`              code, and a link where the reference has that name
    Title               a line directly above lines that are indented: the title of those
    E1  text            a label, two spaces, its text: an entry of a list
    - text              an entry of a list
    indented text       after an empty line: as it stands

No other sign means anything, as in "p*(t - 1)" or "|d|".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby
from textwrap import dedent, indent

from sphinx.application import Sphinx
from sphinx.util.typing import ExtensionMetadata

_CODE = re.compile(r"`([^`\n]+)`")
_SIGNS = re.compile(r"[\\*`|_:<>\[\]]")
_ENTRY = re.compile(r"(- |\S+(?: \S+)*? {2,})(?=\S)")


def setup(app: Sphinx) -> ExtensionMetadata:
    """Read every docstring of the reference so."""
    app.connect("autodoc-process-docstring", _processed)
    return {"parallel_read_safe": True}


def _processed(app: Sphinx, what: str, name: str, of: object, options: object, lines: list[str]) -> None:
    lines[:] = restructured("\n".join(lines)).splitlines()


def restructured(text: str) -> str:
    """The docstring, already without its indentation, as reStructuredText."""
    return "\n\n".join(_block(block) for block in _blocks(text.strip("\n").splitlines())) + "\n"


def _blocks(lines: Sequence[str]) -> list[list[str]]:
    """The parts between empty lines; what is indented belongs to the part that begins with a title above it."""
    found: list[list[str]] = []
    for empty, group in groupby(lines, key=lambda line: not line.strip()):
        part = list(group)
        if empty:
            continue
        if found and part[0].startswith(" ") and _titled(found[-1]):
            found[-1] += ["", *part]
        else:
            found.append(part)
    return found


def _titled(part: Sequence[str]) -> bool:
    return len(part) > 1 and not part[0].startswith((" ", "- ")) and all(line.startswith(" ") or not line for line in part[1:])


def _block(part: Sequence[str]) -> str:
    if part[0].startswith(" "):
        return "::\n\n" + indent(dedent("\n".join(part)), "    ")
    if _titled(part) and not _ENTRY.match(part[0]):
        inside = dedent("\n".join(part[1:]))
        return f"{_inline(part[0])}\n" + indent(restructured(inside), "    ").rstrip()
    if _ENTRY.match(part[0]):
        return "\n".join(_entries(part))
    return _inline("\n".join(part))


def _entries(part: Sequence[str]) -> list[str]:
    """Labelled entries as a list of fields, others as a list of points; their further lines are indented."""
    written: list[str] = []
    for line in part:
        entry = None if line.startswith(" ") else _ENTRY.match(line)
        if entry is None:
            written.append("    " + _inline(line.strip()))
        elif entry[1] == "- ":
            written.append("-   " + _inline(line[2:]))
        else:
            written.append(f":{_inline(entry[1].strip())}: {_inline(line[entry.end() :])}")
    return written


def _inline(text: str) -> str:
    """Code between backticks, and every other sign as it is."""
    pieces = _CODE.split(text)
    return "".join(_code(piece) if index % 2 else _SIGNS.sub(r"\\\g<0>", piece) for index, piece in enumerate(pieces))


def _code(text: str) -> str:
    if re.fullmatch(r"[A-Za-z_][\w.]*", text):
        return rf"\ :py:obj:`{text}`\ "
    return rf"\ ``{text}``\ "
