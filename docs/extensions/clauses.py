"""The clauses on the site: each has an anchor of its own and says who breaks it, and is linked wherever it is named, as are issues.

The chapters stay as they are: what is added to a clause here comes from `conformance/expected` and `conformance/faults`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import groupby

from docutils import nodes
from myst_parser.mdit_to_docutils.base import default_slugify
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata

from conformance import deviations, spec
from conformance.adapter import backends
from conformance.deviations import Deviation
from conformance.faults import Fault, faults
from conformance.findings import link
from conformance.spec import Section, sections

_ISSUE = re.compile(r"\b[\w.-]+/[\w.-]+#\d+\b")
_SIGNED = re.compile(r"(?<![\w)\]-])-[a-z]\w*")  # -inf, -sum_v
_NAMED = re.compile(rf"({spec.CLAUSE.pattern}|{_ISSUE.pattern}|{_SIGNED.pattern})")
_LEFT = (nodes.title, nodes.reference, nodes.literal, nodes.FixedTextElement, addnodes.pending_xref)  # where nothing is linked


def setup(app: Sphinx) -> ExtensionMetadata:
    """Add what this module's docstring says, and the directives `clauses` and `deviations`."""
    app.connect("source-read", _completed)
    app.add_transform(Mentions)
    app.add_directive("clauses", Clauses)
    app.add_directive("deviations", Deviations)
    return {"parallel_read_safe": True}


def _completed(app: Sphinx, page: str, source: list[str]) -> None:
    """A chapter with the anchors of its clauses and who breaks them; the first one also with the others as its pages, in their order."""
    folder, _, name = page.rpartition("/")
    if folder != "spec":
        return
    known = {section.id: section for section in sections().values() if section.chapter == name}
    parts = re.split(r"^(?=#{1,3} )", source[0], flags=re.MULTILINE)
    source[0] = "".join(_standing(part, known) for part in parts)
    if name == "README":
        others = [path.stem for path in spec.chapters() if path.stem != name]
        source[0] += "\n".join(["", "```{toctree}", ":hidden:", "", *others, "```", ""])


def _standing(part: str, known: dict[str, Section]) -> str:
    """A part of a chapter: that of a clause with its anchor before it and who breaks it after it."""
    heading = spec.CLAUSE.match(part.removeprefix("### "))
    if heading is None or heading[0] not in known:
        return part
    id, broken = heading[0], _breaking(heading[0])
    wrong = [fault for fault in _faults() if fault.clause == id]
    lines = [f"({id})=", part.rstrip(), ""]
    if broken:
        reasons = [f"{backend}: {text}" for backend, found in broken.items() for text in _texts(found)]
        lines += _folded(f"Who breaks it: {', '.join(broken)}", reasons)
    if wrong:
        lines += _folded(f"Faults that break it, and are caught: {len(wrong)}", map(_fault, wrong))
    return "\n".join([*lines, ""])


def _folded(summary: str, entries: Iterable[str]) -> list[str]:
    """A list that unfolds, as lines of Markdown."""
    return ["<details>", f"<summary>{summary}</summary>", "", *(f"- {entry}" for entry in entries), "", "</details>", ""]


class Clauses(SphinxDirective):
    """`{clauses}`: every clause in reading order, with its level, its statement and who breaks it."""

    def run(self) -> list[nodes.Node]:
        """The sections, one for each chapter."""
        lines = []
        for chapter, group in groupby(sections().values(), key=lambda section: section.chapter):
            lines += [f"## [{chapter}](/spec/{chapter}.md)", ""]
            for one in group:
                broken = f" *Broken by {', '.join(_breaking(one.id))}.*" if _breaking(one.id) else ""
                lines += [f"- {one.id} ({one.level}): {one.statement}{broken}"]
            lines += [""]
        return self.parse_text_to_nodes("\n".join(lines), allow_section_headings=True)


class Deviations(SphinxDirective):
    """`{deviations}`: the known deviations of each backend, by clause."""

    def run(self) -> list[nodes.Node]:
        """The sections, one for each backend."""
        lines = []
        for backend in _deviations():
            lines += [f"## {backend}", ""]
            lines += [f"- {id}: {text}" for id in sections() for text in _texts(_breaking(id).get(backend, ()))]
            lines += [""]
        return self.parse_text_to_nodes("\n".join(lines), allow_section_headings=True)


class Mentions(SphinxTransform):
    """Links each clause that is named in prose or in a table to where it stands, and each issue to where it is filed; keeps -inf whole."""

    default_priority = 600

    def apply(self, **_: object) -> None:
        """Change the document in place."""
        for text in list(self.document.findall(nodes.Text)):
            if not _NAMED.search(text) or any(isinstance(above, _LEFT) for above in _ancestors(text)):
                continue
            text.parent.replace(text, [_read(piece) for piece in _NAMED.split(text) if piece])


def _ancestors(node: nodes.Node) -> Iterator[nodes.Node]:
    while node.parent is not None:
        node = node.parent
        yield node


def _read(piece: str) -> nodes.Node:
    """A clause that exists or an issue as a link, what has a sign in one line; else the text."""
    whole = nodes.inline(piece, piece, classes=["unbroken"])
    if piece in sections():
        return addnodes.pending_xref("", whole, refdomain="std", reftype="ref", reftarget=piece.lower(), refexplicit=True, refwarn=True)
    if _ISSUE.fullmatch(piece):
        return nodes.reference(piece, piece, refuri=f"https://github.com/{piece.replace('#', '/issues/')}")
    return whole if _SIGNED.fullmatch(piece) else nodes.Text(piece)


@cache
def _deviations() -> dict[str, tuple[Deviation, ...]]:
    """The known deviations of each backend that has some."""
    found = {backend: deviations.packaged(backend) for backend in backends()}
    return {backend: stated.deviations for backend, stated in found.items() if stated is not None and stated.deviations}


def _breaking(clause: str) -> dict[str, tuple[Deviation, ...]]:
    """Those of them that break a clause."""
    found = {backend: tuple(one for one in stated if one.clause == clause) for backend, stated in _deviations().items()}
    return {backend: breaking for backend, breaking in found.items() if breaking}


@cache
def _faults() -> tuple[Fault, ...]:
    return faults()


def _texts(found: Iterable[Deviation]) -> list[str]:
    """For each deviation its reason, where the defect is shown, and the report upstream, as Markdown; each text once."""
    texts = []
    for one in found:
        shown = "" if one.defect is None else f" Shown under [{_plain(one.defect)}](/findings.md#{default_slugify(one.defect)})."
        issue = "" if one.issue is None else f" Upstream: {link(one.issue)}."
        texts.append(f"{_plain(one.reason)}{shown}{issue}")
    return list(dict.fromkeys(texts))


def _fault(fault: Fault) -> str:
    name = fault.name.rpartition("/")[2]
    return f"[{name}](/faults.md#{default_slugify(fault.operation)}): {_plain(fault.mistake)}"


def _plain(text: str) -> str:
    """A text in which nothing but code between backticks is Markdown."""
    pieces = re.split(r"(`[^`\n]+`)", text)
    return "".join(piece if index % 2 else re.sub(r"[\\*_\[\]<>|#&]", r"\\\g<0>", piece) for index, piece in enumerate(pieces))
