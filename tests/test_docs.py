"""The pages: every link in them leads somewhere, on a forge and on the site that is made of them, which needs nothing but itself."""

from __future__ import annotations

import importlib
import inspect
import re
import shlex
import subprocess
import sys
import tomllib
from dataclasses import dataclass, field
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import conformance
import refimpl
from conformance import deviations, spec
from conformance.adapter import backends
from conformance.cli import parser
from docs.extensions.docstrings import restructured
from refimpl.operations import operations
from tests.pages import PAGES, ROOT, anchors, links

FETCHED = {
    "script": "src",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "link": "href",
}  # what a browser loads by itself


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere_on_a_forge(path: Path) -> None:
    for file, anchor in links(path):
        assert file.exists(), f"{path.name} links to {file.name}, which isn't there"
        assert not anchor or anchor in anchors(file), f"{path.name} links to #{anchor}, which {file.name} doesn't have"


def test_it_is_installed_from_where_it_is() -> None:
    """By no name, before there is a release, and with extras that are declared."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    elsewhere = set()
    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        for line in re.findall(r"pip install ([^`\n]+)", text):
            for word in shlex.split(line):
                name, _, address = word.partition(" @ ")
                package, _, extras = name.removesuffix("]").partition("[")
                if package in (".", "lossref"):
                    assert package == "." or address == "git+https://github.com/OWNER/lossref", f"{path.name}: {word}"
                    assert set(filter(None, extras.split(","))) <= declared.keys(), f"{path.name}: {word}"
                if address:
                    assert "placeholder" in text, f"{path.name} doesn't say what OWNER is"
                    elsewhere.add(path.name)
    assert elsewhere == {"pytest.md", "reports.md"}


@dataclass
class Page(HTMLParser):
    """A page of the site: its text, its anchors, where its links lead, and what it loads."""

    text: str
    anchors: set[str] = field(default_factory=set)
    links: set[str] = field(default_factory=set)
    loaded: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given["id"]} if "id" in given else set()
        self.links |= {given["href"]} if tag == "a" and "href" in given else set()
        self.loaded |= {given[FETCHED[tag]]} if FETCHED.get(tag) in given else set()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, as `make docs` makes it: a warning is an error."""
    folder = tmp_path_factory.mktemp("site")
    strict = ["--quiet", "--fail-on-warning", "--keep-going"]
    built = subprocess.run(
        [sys.executable, "-m", "sphinx", *strict, "-d", folder / "doctrees", "docs", folder / "html"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    return folder / "html"


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}


def target(page: Path, link: str) -> tuple[Path, str]:
    """The file and the anchor, or nothing, that a link within the site leads to."""
    parts = urlsplit(link)
    return ((page.parent / unquote(parts.path)).resolve() if parts.path else page), unquote(parts.fragment)


def test_links_lead_somewhere_on_the_site(pages: dict[Path, Page]) -> None:
    for path, page in pages.items():
        assert page.links
        for link in page.links:
            if not urlsplit(link).scheme:
                file, anchor = target(path, link)
                assert file.is_file(), f"{path.name} links to {link}, which isn't there"
                assert not anchor or anchor in pages[file].anchors, f"{path.name} links to {link}, and there is no such anchor"


def test_the_site_loads_nothing_from_elsewhere(site: Path, pages: dict[Path, Page]) -> None:
    for path, page in pages.items():
        assert page.loaded
        for resource in page.loaded:
            assert not urlsplit(resource).netloc, f"{path.name} loads {resource}"
            assert target(path, resource)[0].exists(), f"{path.name} loads {resource}, which isn't there"
    sheets = list(site.rglob("*.css"))
    assert sheets
    for sheet in sheets:
        assert not re.search(r"@import|url\(\s*['\"]?(?:https?:)?//", sheet.read_text(encoding="utf-8")), sheet.name


def test_a_clause_is_two_clicks_away(site: Path, pages: dict[Path, Page]) -> None:
    first, second = site / "index.html", site / "clauses.html"
    assert (second, "") in {target(first, link) for link in pages[first].links}
    listed = {target(second, link) for link in pages[second].links}
    for section in spec.sections().values():
        assert (site / "spec" / f"{section.chapter}.html", section.id.lower()) in listed


def test_a_clause_says_who_breaks_it(site: Path, pages: dict[Path, Page]) -> None:
    stated = {backend: deviations.packaged(backend) for backend in backends()}
    for section in spec.sections().values():
        text = pages[site / "spec" / f"{section.chapter}.html"].text
        _, _, shown = text.partition(f'<section id="{section.id.lower()}">')
        said = re.findall(r"Who breaks it: ([^<]+)<", shown.partition("<section ")[0])
        broken = [name for name, found in stated.items() if found and any(one.clause == section.id for one in found.deviations)]
        assert said == ([", ".join(broken)] if broken else []), section.id


def test_every_public_name_and_command_is_there(site: Path, pages: dict[Path, Page]) -> None:
    known = set().union(*(page.anchors for path, page in pages.items() if path.parent == site / "api"))
    for package in (refimpl, conformance):
        assert {f"{package.__name__}.{name}" for name in package.__all__} <= known
    commands = re.findall(r"^    (\w+) ", parser().format_help(), flags=re.MULTILINE)
    assert len(commands) > 10
    assert {f"lossref-{name}" for name in commands} <= pages[site / "cli.html"].anchors


def letters(text: str) -> str:
    """A text without what the layout of a page adds or leaves out."""
    return re.sub(r"[\s`:]", "", text)


def test_the_reference_says_what_the_docstrings_say(site: Path, pages: dict[Path, Page]) -> None:
    """Letter by letter: no sign of theirs is taken for markup."""
    documented = [importlib.import_module(f"refimpl.operations.{name}") for name in operations()]
    documented += [getattr(package, name) for package in (refimpl, conformance) for name in package.__all__]
    said = letters("".join(unescape(re.sub(r"<[^>]+>", "", page.text)) for path, page in pages.items() if path.parent == site / "api"))
    for one in documented:
        for line in (inspect.getdoc(one) or "").splitlines():
            assert letters(line.strip().removeprefix("- ")) in said, f"{one}: {line}"


def test_a_docstring_is_read_as_it_is_written() -> None:
    written = (
        "The loss, 2*p*q and `p[0]`; see `round`.\n\n    a  = b*c\n\n"
        "Edges\n    E1  One case,\n        and more.\n    E2  Another.\n\n"
        "Algorithm\n    First:\n\n        x\n\n    then y.\n\n- one\n- two\n"
    )
    assert restructured(written) == (
        "The loss, 2\\*p\\*q and \\ ``p[0]``\\ ; see \\ :py:obj:`round`\\ .\n\n::\n\n    a  = b*c\n\n"
        "Edges\n    :E1: One case,\n        and more.\n    :E2: Another.\n\n"
        "Algorithm\n    First\\:\n\n    ::\n\n        x\n\n    then y.\n\n-   one\n-   two\n"
    )
