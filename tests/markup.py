"""HTML as a notebook reads it: well-formed, without scripts or anything from elsewhere."""

from __future__ import annotations

from xml.etree import ElementTree


def _read(html: str) -> ElementTree.Element:
    """The tree of a fragment; raises `ParseError` where a tag isn't closed, or a sign isn't escaped."""
    return ElementTree.fromstring(f"<root>{html}</root>")


def tags(html: str) -> set[str]:
    """The names of its elements; nothing loads or runs anything, or has a colour of its own."""
    found = list(_read(html).iter())
    assert not {element.tag for element in found} & {"script", "link", "img", "iframe", "style"}
    assert not [element.attrib for element in found if "href" in element.attrib or "color" in element.get("style", "").lower()]
    return {element.tag for element in found}


def text(html: str) -> str:
    """What is read, cells and blocks apart by one space."""
    return " ".join("".join(element) for element in _cells(_read(html)))


def _cells(root: ElementTree.Element) -> list[list[str]]:
    return [list(element.itertext()) for element in root.iter() if element.tag in ("p", "caption", "th", "td", "pre")]
