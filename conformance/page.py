"""Tables that a command makes, between markers in a page that people write."""

from __future__ import annotations

from collections.abc import Mapping


def filled(page: str, maker: str, texts: Mapping[str, str]) -> str:
    """The page with each text between the markers of its name, as the command `maker` makes it.

    The markers are the lines `<!-- name: made by `maker` -->` and `<!-- end of name -->`; raises `ValueError` where one is missing.
    """
    for name, text in texts.items():
        begin, end = f"<!-- {name}: made by `{maker}` -->", f"<!-- end of {name} -->"
        before, found, rest = page.partition(begin)
        _, closed, after = rest.partition(end)
        if not (found and closed):
            raise ValueError(f"the page has no place for the table {name!r}: add the lines {begin!r} and {end!r}")
        page = f"{before}{begin}\n\n{text}\n\n{end}{after}"
    return page
