"""docs/backends.md, read as a newcomer does: its files are written, its commands are run, and they end and print as it says."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
PROGRAMS = "## A program in any language"  # that part has a test of its own


@dataclass(frozen=True)
class Block:
    """A fenced block of the guide: `kind` is its language."""

    kind: str
    text: str


def blocks() -> list[Block]:
    text = (ROOT / "docs/backends.md").read_text(encoding="utf-8").partition(PROGRAMS)[0]
    return [Block(kind, body) for kind, body in BLOCK.findall(text)]


def commands(block: Block) -> Iterator[tuple[list[str], int]]:
    """Each command of a block of shell, with the status that it is said to end with."""
    for line in block.text.splitlines():
        command, said, status = line.partition("  # status ")
        assert said, f"say with which status this ends: {line}"
        program, *arguments = shlex.split(command)
        yield [sys.executable, *(["-m", "conformance.cli"] if program == "lossref" else []), *arguments], int(status)


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Follow the guide from top to bottom; what each of its commands printed."""
    folder = tmp_path_factory.mktemp("guide")
    printed = {}
    for block in blocks():
        first = block.text.partition("\n")[0]
        if block.kind == "sh":
            for command, status in commands(block):
                environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT, folder)))}
                run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
                assert run.returncode == status, f"{shlex.join(command)}\n{run.stdout}\n{run.stderr}"
                printed[shlex.join(command)] = run.stdout
        elif block.kind in ("python", "toml"):
            assert first.startswith("# "), f"say which file this is: {first}"
            (folder / first.removeprefix("# ")).write_text(block.text)
            if first == "# pyproject.toml":
                declare(folder, block.text)
    return printed


def declare(folder: Path, project: str) -> None:
    """Leave the records of an installed package with the entry points of a project, as pip would."""
    (declared,) = tomllib.loads(project)["project"]["entry-points"].items()
    record = folder / "acme-1.0.dist-info"
    record.mkdir()
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    lines = [f"{name} = {value}" for name, value in declared[1].items()]
    (record / "entry_points.txt").write_text("\n".join([f"[{declared[0]}]", *lines, ""]))


def test_it_ends_as_it_says(followed: dict[str, str]) -> None:
    assert len(followed) == sum(len(list(commands(block))) for block in blocks() if block.kind == "sh") >= 7


def test_it_prints_what_it_shows(followed: dict[str, str]) -> None:
    (shown,) = (block.text.splitlines() for block in blocks() if block.kind == "text")
    lines = followed[next(command for command in followed if "naive" in command)].splitlines()
    first = lines.index(shown[0])
    for line, printed in zip(shown, lines[first:], strict=False):
        assert printed.startswith(line)


def test_what_it_speaks_of_is_there() -> None:
    text = BLOCK.sub("", (ROOT / "docs/backends.md").read_text(encoding="utf-8"))  # of the prose
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    assert links
    paths = re.findall(r"`(conformance/[\w/.]+)`", text)
    assert not [link for link in links if not (ROOT / "docs" / link).exists()]
    assert not [path for path in paths if not (ROOT / path).exists()]


def test_every_promise_of_its_table_can_be_made() -> None:
    from conformance.promises import parse

    text = (ROOT / "docs/backends.md").read_text(encoding="utf-8")
    promises = re.findall(r"^\| `(\w+=[^`]+)` \|", text, flags=re.MULTILINE)
    assert len({parse(promise) for promise in promises}) == len(promises) >= 8
