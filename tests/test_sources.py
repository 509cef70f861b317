"""Backends by name: built in, declared by an installed package, or a function; at the command line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from conformance import vectors
from conformance.adapter import Unusable, backends
from conformance.case import Case, Vector
from conformance.cli import main
from conformance.expect import expect
from conformance.sources import OURS, Options, UnknownBackend, find, named

COTANGENT = np.array([[0.5, -1.25, 2.0]])

PACKAGE = '''
"""A library that declares itself as a backend."""

import numpy as np

from conformance.adapter import Adapter
from conformance.bound import Promise


def call(operation, mode, inputs, parameters, cotangent):
    logits = inputs["logits"]
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True)), {}


ADAPTER = Adapter("acme", ["log_softmax"], {"float64": Promise("B", "float64")}, call, lambda: {"acme": "1.5"})
OTHER = Adapter("acme-other", ["entropy"], {"float64": Promise("B", "float64")}, call, lambda: {"acme": "1.5"})
NO_ADAPTER = "ADAPTER"
'''
PROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "{name}"
version = "1.5"

[project.entry-points."lossref.backends"]
{entries}

[tool.hatch.build.targets.wheel]
include = ["acme_backend.py"]
"""


def vector(name: str, logits: list[float]) -> Vector:
    case = Case(f"log_softmax/edges/{name}-float64", "log_softmax", "float64", {"logits": np.array([logits])}, {}, COTANGENT, ("LSM-1",))
    return expect(case)


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [vector("plain", [1.0, 2.0, 3.0]), vector("large", [1000.0, 0.0, 1.0])]
    monkeypatch.setattr(vectors, "read", lambda folder=None, operation=None: found)
    monkeypatch.setattr(vectors, "digest", lambda: "sha256:0")


def install(folder: Path, target: Path, name: str, **entries: str) -> None:
    """Build and install a package with these entry points, as pip does, into a folder."""
    folder.mkdir()
    (folder / "acme_backend.py").write_text(PACKAGE)
    lines = "\n".join(f'{key.replace("_", "-")} = "{value}"' for key, value in entries.items())
    (folder / "pyproject.toml").write_text(PROJECT.format(name=name, entries=lines))
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index", "--target", str(target)]
    subprocess.run([*command, str(folder)], check=True, capture_output=True)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an installed package that declares backends, one of ours among them, and the records of another, with one of its."""
    folder = tmp_path_factory.mktemp("entry-points")
    entries = {"acme": "acme_backend", "acme_other": "acme_backend:OTHER", "acme_wrong": "acme_backend:NO_ADAPTER"}
    install(folder / "source", folder / "site", "acme-kernels", **entries, shared="acme_backend", scipy="acme_backend")
    record = folder / "site/acme_too-2.0.dist-info"
    record.mkdir()
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-too\nVersion: 2.0\n")
    (record / "entry_points.txt").write_text("[lossref.backends]\nshared = acme_backend\n")
    return folder / "site"


@pytest.fixture
def acme(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(site))


@pytest.mark.usefixtures("acme")
def test_a_declared_backend_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "acme", "--case", "*/plain-*"]) == 0
    out, err = capsys.readouterr()
    assert "acme 1.5" in out
    assert "1 passed, 0 failed as expected, 0 failed unexpectedly, 1 unsupported" in out
    assert err == ""
    assert main(["run", "acme"]) == 1
    assert "lossref run acme --case log_softmax/edges/large-float64\n" in capsys.readouterr().out


@pytest.mark.usefixtures("acme")
def test_another_adapter_of_the_module_is_found_by_its_name() -> None:
    assert find("acme-other").name == "acme-other"
    assert main(["run", "acme-other"]) == 0  # it has no log_softmax


@pytest.mark.usefixtures("acme")
def test_the_list_says_where_they_come_from(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert named() == {
        **dict.fromkeys(backends(), OURS),
        **dict.fromkeys(["acme", "acme-other", "acme-wrong"], "acme-kernels 1.5"),
        "scipy": "lossref and acme-kernels 1.5",
        "shared": named()["shared"],  # in the order in which they are found
    }
    monkeypatch.setattr("conformance.sources.backends", lambda: ("numpy", "scipy"))
    assert main(["backends"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "acme (declared by acme-kernels 1.5): acme 1.5; eager" in lines
    assert any(line.startswith("numpy: numpy ") for line in lines)
    assert any(line.startswith("scipy: the backend 'scipy' is declared by lossref and acme-kernels 1.5; uninstall") for line in lines)


@pytest.mark.usefixtures("acme")
@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("scipy", "the backend 'scipy' is declared by lossref and acme-kernels 1.5; uninstall all but one"),
        ("shared", "the backend 'shared' is declared by acme-"),
        ("acme-wrong", "acme_backend has no NO_ADAPTER that is a conformance.adapter.Adapter; declare one there"),
    ],
)
def test_a_name_that_means_no_single_adapter_is_refused(name: str, sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", name]) == 2
    assert sentence in capsys.readouterr().err


def test_an_unknown_name_lists_what_there_is() -> None:
    with pytest.raises(
        UnknownBackend, match=r"no backend is named 'tourch'; the backends are autograd, .*torch, .*package\.module:function, exec:COMMAND"
    ):
        find("tourch")


@pytest.fixture
def kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kernels_at_hand.py").write_text(
        "import numpy as np\n\n\n"
        "def log_softmax(logits):\n    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))\n\n\n"
        "def of_x(x):\n    return x\n\n\ndef lacks(logits):\n    raise NotImplementedError('not today')\n"
    )
    (tmp_path / "needs_more.py").write_text("import no_such_library\n")
    (tmp_path / "breaks.py").write_text("1 / 0\n")
    monkeypatch.chdir(tmp_path)


FUNCTION = ["run", "kernels_at_hand:log_softmax", "--operation", "log_softmax"]


@pytest.mark.usefixtures("kernels")
def test_a_function_of_the_current_folder_is_judged(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*FUNCTION, "--case", "*/plain-*"]) == 0
    assert "1 passed, 0 failed as expected, 0 failed unexpectedly, 1 unsupported" in capsys.readouterr().out
    assert main([*FUNCTION, "--promise", "float64=B", "--dialect", "optax"]) == 1
    out = capsys.readouterr().out
    assert "kernels_at_hand:log_softmax" in out
    again = next(line.split("again")[1].strip() for line in out.splitlines() if "again" in line)
    options = "--operation log_softmax --promise float64=B --dialect optax --case log_softmax/edges/large-float64"
    assert again == f"lossref run kernels_at_hand:log_softmax {options}"
    assert main(again.split()[1:]) == 1


@pytest.mark.usefixtures("kernels")
def test_a_function_that_answers_nothing_is_no_pass(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "kernels_at_hand:lacks", "--operation", "log_softmax"]) == 1
    assert "kernels_at_hand:lacks promises float64 and answers none of its cases: not today" in capsys.readouterr().out


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        (["run", "kernels_at_hand:log_softmax"], 2, "kernels_at_hand:log_softmax is a function; say with --operation which loss it is"),
        ([*FUNCTION, "--promise", "float64"], 2, "the promise 'float64' names no dtype"),
        ([*FUNCTION, "--promise", "float32=A", "--dtype", "float64"], 2, "float64 is asked for and not promised"),
        ([*FUNCTION, "--tensors", "cupy"], 2, "tensors is 'cupy'"),
        (["run", "scipy", "--promise", "float32=A"], 2, "--promise and --tensors are about functions"),
        (["run", "scipy", "--tensors", "jax"], 2, "--promise and --tensors are about functions"),
        (
            ["run", "kernels_at_hand:of_x", "--operation", "log_softmax"],
            2,
            "of_x doesn't take logits by name and needs x; a function for log_",
        ),
        (["run", "kernels_at_hand:soft", "--operation", "log_softmax"], 2, "kernels_at_hand has no 'soft'"),
        (["run", "no_kernels:soft", "--operation", "log_softmax"], 2, "no module is named 'no_kernels'"),
        (["run", "needs_more:soft", "--operation", "log_softmax"], 3, "(no module 'no_such_library'); install what has that module"),
        (["run", "breaks:soft", "--operation", "log_softmax"], 3, "could not be imported: ZeroDivisionError: division by zero; mend"),
    ],
)
def test_what_is_wrong_with_a_function_is_said_at_once(
    arguments: list[str], status: int, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == status
    assert sentence in capsys.readouterr().err


def test_a_function_runs_where_it_wants() -> None:
    with pytest.raises(Unusable, match="leave out --device cuda"):
        find("kernels:loss", Options(operation="entropy", device="cuda"))
