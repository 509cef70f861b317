"""docs/pytest.md, read as a newcomer does; and its workflow, as GitHub does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests import guide, needs

PAGE = (guide.ROOT / "docs/pytest.md").read_text(encoding="utf-8")
BLOCKS = guide.blocks(PAGE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the page."""
    folder = tmp_path_factory.mktemp("guide")
    for block in BLOCKS:
        if block.kind == "python":
            guide.write(folder, block)
    return folder


@pytest.mark.parametrize(("command", "status"), [*guide.commands(BLOCKS)])
def test_a_command_ends_as_it_says(folder: Path, command: str, status: int) -> None:
    done = guide.run(folder, command)
    assert done.returncode == status, f"{done.stdout}\n{done.stderr}"
    assert re.search(r"=+ .*\d+ passed", done.stdout)


def test_a_notebook_shows_what_the_page_says(folder: Path) -> None:
    (block,) = (block for block in BLOCKS if block.text.startswith("# notebook.py"))
    shown = [line.partition("  # ")[0] for line in block.text.splitlines() if "  # " in line]
    program = "\n".join([*block.text.splitlines()[1:4], *(f"print({line}._repr_html_())" for line in shown)])
    (folder / "shows.py").write_text(program)
    done = guide.run(folder, "python shows.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("<table") == len(shown) == 2
    assert "FAIL  log_softmax" in done.stdout


def test_the_workflow_runs_what_exists(folder: Path) -> None:
    needs.library("yaml")
    import yaml

    (block,) = (block for block in BLOCKS if block.kind == "yaml")
    workflow = yaml.safe_load(block.text)
    assert workflow[True] == ["push", "pull_request"], "YAML 1.1 reads on as true, and so does GitHub"
    (job,) = workflow["jobs"].values()
    assert job["runs-on"] == "ubuntu-latest"
    assert all(re.fullmatch(r"actions/[\w-]+@v\d+", step["uses"]) for step in job["steps"] if "uses" in step)
    install, test = (step["run"] for step in job["steps"] if "run" in step)
    assert install.startswith("python -m pip install . ")
    done = guide.run(folder, f"{test} --collect-only -q")
    assert done.returncode == 0, done.stderr
    assert "lossref::kernels:log_softmax::log_softmax/edges/" in done.stdout


def test_the_table_lists_every_option(folder: Path) -> None:
    listed = re.findall(r"^\| `(--lossref[\w-]*)=", PAGE, flags=re.MULTILINE)
    offered = re.findall(r"^  (--lossref[\w-]*)=", guide.run(folder, "pytest --help").stdout, flags=re.MULTILINE)
    assert sorted(listed) == sorted(offered)
