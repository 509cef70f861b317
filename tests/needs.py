"""What a test needs of the machine, and a skip with the reason where it isn't here."""

from __future__ import annotations

import shutil
from importlib.util import find_spec

import pytest


def library(name: str) -> None:
    """Skip without that library. It is not imported: not all of them can share a process."""
    if find_spec(name) is None:
        pytest.skip(f"{name} isn't installed; make backends installs every library that has an adapter")


def program(name: str, package: str, folder: str = "") -> str:
    """The path of that program, which may be in a folder too; skip without it."""
    path = shutil.which(name) or shutil.which(name, path=folder)
    if path is None:
        pytest.skip(f"no {name} is here; install {package}")
    return path
