"""docs/backends.md, read as a newcomer does: its files are written, its commands are run, and they end and print as it says."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from tests import guide

PAGE = (guide.ROOT / "docs/backends.md").read_text(encoding="utf-8")
BLOCKS = guide.blocks(PAGE.partition("## A program in any language")[0])  # that part has a test of its own


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Follow the guide from top to bottom; what each of its commands printed."""
    folder = tmp_path_factory.mktemp("guide")

    def installed(block: guide.Block) -> None:
        if block.text.startswith("# pyproject.toml"):
            declare(folder, block.text)

    return guide.follow(folder, BLOCKS, installed)


def declare(folder: Path, project: str) -> None:
    """Leave the records of an installed package with the entry points of a project, as pip would."""
    (declared,) = tomllib.loads(project)["project"]["entry-points"].items()
    record = folder / "acme-1.0.dist-info"
    record.mkdir()
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    lines = [f"{name} = {value}" for name, value in declared[1].items()]
    (record / "entry_points.txt").write_text("\n".join([f"[{declared[0]}]", *lines, ""]))


def test_it_ends_as_it_says(followed: dict[str, str]) -> None:
    assert len(followed) == len(list(guide.commands(BLOCKS))) >= 7


def test_it_prints_what_it_shows(followed: dict[str, str]) -> None:
    (shown,) = (block.text.splitlines() for block in BLOCKS if block.kind == "text")
    lines = followed[next(command for command in followed if "naive" in command)].splitlines()
    first = lines.index(shown[0])
    for line, printed in zip(shown, lines[first:], strict=False):
        assert printed.startswith(line)


def test_what_it_speaks_of_is_there() -> None:
    paths = re.findall(r"`(conformance/[\w/.]+)`", PAGE)
    assert paths
    assert not [path for path in paths if not (guide.ROOT / path).exists()]


def test_every_promise_of_its_table_can_be_made() -> None:
    from conformance.promises import parse

    promises = re.findall(r"^\| `(\w+=[^`]+)` \|", PAGE, flags=re.MULTILINE)
    assert len({parse(promise) for promise in promises}) == len(promises) >= 8
