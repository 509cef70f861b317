"""Following a page of the docs as a newcomer does: its files are written, its commands are run, and end as it says."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)

# The plugin of this checkout, whichever is installed.
PLUGIN = ("-p", "no:lossref", "-p", "conformance.plugin")
PROGRAMS = {"lossref": ("-m", "conformance.cli"), "pytest": ("-m", "pytest", *PLUGIN), "python": ()}


@dataclass(frozen=True)
class Block:
    """A fenced block: `kind` is its language."""

    kind: str
    text: str


def blocks(text: str) -> list[Block]:
    """The blocks of a page."""
    return [Block(kind, body) for kind, body in BLOCK.findall(text)]


def commands(blocks: Sequence[Block]) -> Iterator[tuple[str, int]]:
    """Each command of the blocks of shell that are about more than an installation, with the status that it is said to end with."""
    for block in blocks:
        for line in block.text.splitlines() if block.kind == "sh" else ():
            if not line.startswith("pip install"):
                command, said, status = line.partition("  # status ")
                assert said, f"say with which status this ends: {line}"
                yield command, int(status)


def write(folder: Path, block: Block) -> Path:
    """Write the file that a block is, by its first line."""
    first, _, _ = block.text.partition("\n")
    assert first.startswith("# "), f"say which file this is: {first}"
    path = folder / first.removeprefix("# ")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(block.text)
    return path


def run(folder: Path, command: str) -> subprocess.CompletedProcess[str]:
    """Run a command in that folder."""
    program, *arguments = shlex.split(command)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT, folder)))}
    return subprocess.run(
        [sys.executable, *PROGRAMS[program], *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def follow(folder: Path, blocks: Sequence[Block], written: Callable[[Block], None] = lambda _: None) -> dict[str, str]:
    """Follow a page from top to bottom; what each of its commands printed. `written` is told of each file."""
    printed = {}
    for block in blocks:
        if block.kind in ("python", "toml"):
            write(folder, block)
            written(block)
        for command, status in commands([block]):
            done = run(folder, command)
            assert done.returncode == status, f"{command}\n{done.stdout}\n{done.stderr}"
            printed[command] = done.stdout
    return printed
