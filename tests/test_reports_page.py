"""docs/reports.md: its commands exist with those options, and its workflows are YAML."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import needs
import pytest

from conformance.cli import parser

TEXT = (Path(__file__).parents[1] / "docs/reports.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^ *(?:- (?:run: )?)?(lossref .*)$", flags=re.MULTILINE)
VARIABLE = re.compile(r"\$(?:\{\{.*?\}\}|\w+)")  # of a workflow: stands for a number


@pytest.mark.parametrize("command", [command for _, text in BLOCK.findall(TEXT) for command in COMMAND.findall(text)])
def test_every_command_is_understood(command: str) -> None:
    _, *arguments = shlex.split(VARIABLE.sub("1", command), comments=True)
    parser().parse_args(arguments)


def test_the_workflows_are_well_formed() -> None:
    needs.library("yaml")
    import yaml

    there = [yaml.safe_load(text) for kind, text in BLOCK.findall(TEXT) if kind == "yaml"]
    assert [list(one)[-1] for one in there] == ["jobs", "shard"]
    on_github, on_gitlab = there
    for job in on_github["jobs"].values():
        steps = [step.get("uses", step.get("run", "")) for step in job["steps"]]
        assert steps[0].startswith("actions/setup-python@"), "what is judged is a library, in whoever's repository this is"
        assert steps[1].startswith("pip install 'lossref")
    assert on_gitlab["shard"]["script"][0].startswith("pip install 'lossref")
