"""The wheel carries everything: the packages, their type markers, the golden vectors and the expectations."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("conformance", "refimpl", "vectors")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The names in a freshly built wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder], cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return set(zipfile.ZipFile(built).namelist())


def test_the_wheel_holds_what_the_packages_hold(wheel: set[str]) -> None:
    held = {
        str(path.relative_to(ROOT).as_posix())
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    held |= {f"conformance/chapters/{path.name}" for path in (ROOT / "docs" / "spec").iterdir()}
    assert held == {name for name in wheel if name.split("/")[0] in PACKAGES}
    assert {f"{package}/py.typed" for package in PACKAGES} <= held
    assert {path.suffix for path in map(Path, held)} >= {".py", ".toml", ".json", ".safetensors"}


def test_the_wheel_holds_the_licences(wheel: set[str]) -> None:
    assert {name.partition("licenses/")[2] for name in wheel if "licenses/" in name} == {"LICENSE", "vectors/LICENSE"}


def test_what_is_tested_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {line.partition("==")[0].lower().replace("_", "-") for line in lines if "==" in line}
    extras = project["project"]["optional-dependencies"].values()
    asked = [*project["build-system"]["requires"], *project["project"]["dependencies"], *itertools.chain(*extras)]
    names = {re.split(r"[<>=!~ \[]", requirement)[0].lower().replace("_", "-") for requirement in asked}
    assert names <= pinned


def test_the_lowest_versions_are_those_of_the_metadata() -> None:
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    lines = (ROOT / "constraints-lowest.txt").read_text(encoding="utf-8").splitlines()
    bounded = [requirement for requirement in asked if requirement != "llvmlite"]  # which numba's own release decides
    assert [line for line in lines if not line.startswith("#")] == [requirement.replace(">=", "==") for requirement in bounded]
