"""The addresses of the page's views: the part after #, as the page's program reads it (`state.js`), escaped for an attribute."""

from __future__ import annotations

from html import escape
from urllib.parse import quote

from conformance.backend import Result


def link(**state: str) -> str:
    """The address of a view, by its fields."""
    return escape("#" + "&".join(f"{name}={quote(value, safe='/')}" for name, value in state.items() if value))


def finding_link(result: Result) -> str:
    """The address of a finding."""
    finding = result.finding
    return link(view="finding", backend=result.backend, mode=result.mode, case=finding.case, output=finding.output)
