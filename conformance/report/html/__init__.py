"""The report as one file of HTML, for people: a matrix of grades, and down from it to one number, its bits and how to see it first hand.

The headline and the matrix are written here and need no program. The rest is data for the page's own program (`*.js`, joined in the order
of `PROGRAM`): a document of JSON (`document`), deflated, in base64. The page asks nothing of any network, and its policy forbids it to run
any script but its own.
"""

from __future__ import annotations

import base64
import json
import zlib
from hashlib import sha256
from html import escape
from importlib.resources import files
from string import Template

from conformance import vectors
from conformance.record import Record
from conformance.report.html import headline, matrix
from conformance.report.html.document import document
from conformance.report.html.failures import failures
from conformance.report.jsonlines import ReportError

PROGRAM = ("dom", "data", "state", "picture", "bits", "findings", "finding", "axes", "plots", "clauses", "backends", "main")


def page(record: Record) -> str:
    """The whole page, the same for the same record.

    Raises `ReportError` for a record of other vectors than those that are installed: their inputs could not be shown.
    """
    digest = vectors.digest()
    if record.digest != digest:
        raise ReportError(
            f"the results are of the vectors {record.digest[:12]}, and those that are installed are {digest[:12]}: "
            "install the lossref that made the results, or run again"
        )
    found = {vector.case.id: vector for vector in vectors.read(operation=record.selection.operation)}
    for result in record.results:
        if result.finding.case not in found:
            raise ReportError(f"the results name a case {result.finding.case!r}, and there is none; run again")
    failed = failures(record)
    style, program = _text("style.css"), "".join(["(() => {\n'use strict';\n", *(_text(f"{name}.js") for name in PROGRAM), "})();\n"])
    return Template(_text("page.html")).substitute(
        policy=f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(program)}'",
        title=escape(f"lossref: {', '.join(record.backends)}"),
        headline=headline.headline(record, failed),
        looks=headline.looks(record, failed),
        facts=headline.facts(record),
        matrix=matrix.matrix(record, failed),
        legend=matrix.legend(),
        style=style,
        program=program,
        data=packed(json.dumps(document(record, found, failed), ensure_ascii=False, allow_nan=False, separators=(",", ":"))),
    )


def packed(text: str) -> str:
    """A text as the page's program unpacks it."""
    return base64.b64encode(zlib.compress(text.encode(), 9)).decode()


def _text(name: str) -> str:
    return (files("conformance.report.html") / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(sha256(text.encode()).digest()).decode()}"
