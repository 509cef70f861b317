"""How the tests run: Hypothesis draws the same examples every time, unless asked to explore with --hypothesis-profile=explore."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numba
import pytest
from hypothesis import settings

from conformance import vectors
from conformance.case import Vector
from conformance.expect import expect
from conformance.report import jsonlines
from tests import kernels, squares, squares_files
from tests.few import few as three
from tests.records import ran, wrong

settings.register_profile("repeatable", derandomize=True, deadline=None, database=None, print_blob=True)
settings.register_profile("explore", deadline=None, max_examples=2000, print_blob=True)
settings.load_profile("repeatable")


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts programs with kernels of their own: `tests.kernels.start` in a file of the test's."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: Any, **keywords: Any) -> subprocess.Popen[str]:
        started.append(kernels.start(tmp_path / "program.py", *arguments, **keywords))
        return started[-1]

    yield start
    for process in started:
        with process:
            process.kill()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder of this process."""
    path = tmp_path / "kernels"
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(path))
    return path


@pytest.fixture(scope="session")
def made() -> list[Vector]:
    """The vectors of the tiny operation."""
    return [expect(case, squares.OPERATION) for case in squares_files.small()]


@pytest.fixture(scope="session")
def written(made: list[Vector], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Their files; a test that changes them makes a copy."""
    folder = tmp_path_factory.mktemp("vectors")
    vectors.write(made, folder)
    return folder


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> list[Vector]:
    """Three vectors in the place of those installed, the second of which numpy fails; nothing is expected to fail."""
    found = three()

    def read(folder: object = None, operation: str | None = None) -> list[Vector]:
        return [there for there in found if operation in (None, there.case.operation)]

    monkeypatch.setattr(vectors, "read", read)
    monkeypatch.setattr(vectors, "digest", lambda: "sha256:0")
    monkeypatch.setattr("conformance.deviations.packaged", lambda backend: None)
    return found


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """The file of a run in which two cases fail."""
    path = tmp_path / "results.jsonl"
    jsonlines.write(path, ran(wrong(1, 4)))
    return path
