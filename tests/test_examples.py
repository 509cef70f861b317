"""The programs of docs/examples and of docs/backends.md, each judged as the docs say; the messages of docs/protocol.md."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import subprocess
import sys
from collections import Counter
from pathlib import Path

import needs
import pytest
from jsonschema import Draft202012Validator

from conformance import vectors
from conformance.cli import main
from conformance.finding import Verdict
from conformance.links.program import ProgramSource
from conformance.runner import Run

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "docs" / "examples"
TFJS = EXAMPLES / "tfjs"


@pytest.fixture(scope="module")
def examples() -> None:
    """What `make examples` makes."""
    for tool, remedy in {"make": "make", "cc": "a C compiler", "node": "Node.js", "npm": "npm"}.items():
        needs.program(tool, remedy)
    made = subprocess.run(["make", "examples"], cwd=ROOT, capture_output=True, text=True, timeout=500, check=False)
    assert made.returncode == 0, made.stderr
    assert "warning:" not in made.stderr, "the C program compiles without a warning"


@pytest.mark.usefixtures("examples")
@pytest.mark.parametrize("operation", ["log_softmax", "entropy", "kl_divergence", "softmax_cross_entropy"])
def test_the_c_program_is_right_in_all_that_it_takes(operation: str) -> None:
    chosen = [
        vector for vector in vectors.read(operation=operation) if vector.case.tier != "full" and vector.case.dtype in ("float64", "float32")
    ]
    with Run([ProgramSource(str(ROOT / "build" / "losses"), strict=True)], chosen) as run:
        results = list(run.results())
    counts = Counter(result.finding.verdict for result in results)
    assert counts.keys() <= {Verdict.PASS, Verdict.UNSUPPORTED}, [one.finding for one in results if one.finding.verdict == Verdict.FAIL][:1]
    assert counts[Verdict.PASS] > 200
    assert {result.finding.note for result in results if result.finding.verdict == Verdict.UNSUPPORTED} <= {"no probability targets"}
    assert all(result.accuracy == "A" for result in results)


def test_the_c_program_is_short_and_needs_nothing() -> None:
    text = (ROOT / "docs" / "examples" / "c" / "losses.c").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 300
    assert set(re.findall(r"#include (.*)", text)) <= {f"<{name}.h>" for name in ("math", "stdint", "stdio", "stdlib", "string")}


@pytest.mark.usefixtures("examples")
@pytest.mark.parametrize("operation", ["log_softmax", "softmax_cross_entropy"])
def test_tfjs_deviates_as_its_file_says(operation: str, capsys: pytest.CaptureFixture[str]) -> None:
    program = f"exec:node {TFJS / 'adapter.mjs'}"
    status = main(["run", program, "--operation", operation, "--dtype", "float32", "--validate", "--expect", str(TFJS / "expected.toml")])
    assert status == 0, capsys.readouterr().out


def test_tfjs_is_pinned_and_no_address_is_in_its_lock() -> None:
    (version,) = json.loads((TFJS / "package.json").read_text(encoding="utf-8"))["dependencies"].values()
    assert re.fullmatch(r"\d+\.\d+\.\d+", version)
    lock = json.loads((TFJS / "package-lock.json").read_text(encoding="utf-8"))
    assert lock["packages"]["node_modules/@tensorflow/tfjs"]["version"] == version
    assert all("resolved" not in package for package in lock["packages"].values())


def test_the_guide_works_to_the_letter(tmp_path: Path) -> None:
    """Its program is saved and its commands are run, in a shell that finds this lossref."""
    needs.program("node", "Node.js")
    guide = (ROOT / "docs" / "backends.md").read_text(encoding="utf-8").partition("## A program in any language")[2]
    (program,) = re.findall(r"```js\n(.*?)```", guide, re.DOTALL)
    commands = re.findall(r"```sh\n(.*?)```", guide, re.DOTALL)
    assert "exec:node kernel.mjs" in "".join(commands)
    (tmp_path / "kernel.mjs").write_text(program, encoding="utf-8")
    (tmp_path / "bin").mkdir()
    shim = tmp_path / "bin" / "lossref"
    shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m conformance.cli "$@"\n', encoding="utf-8")
    shim.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    said = subprocess.run(
        ["sh", "-ec", "\n".join(commands)], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=500, check=False
    )
    assert said.returncode == 0, said.stdout + said.stderr
    assert "FAIL" not in said.stdout.replace("FAILED;", "")
    assert (tmp_path / "asked" / "answers.jsonl").read_text(encoding="utf-8").count("\n") > 10


def test_the_messages_of_the_reference_are_as_the_schema_says() -> None:
    reference = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
    whole = Draft202012Validator(json.loads((ROOT / "conformance" / "protocol" / "schema.json").read_text(encoding="utf-8")))
    tensor = '{"dtype":"float64","shape":[],"data":"000000000000f03f"}'
    blocks = re.findall(r"(?:^ {4}.*\n)+", reference, re.MULTILINE)
    messages = [text for block in blocks for text in re.split(r"\n(?=\{)", re.sub(r"^ {4}", "", block, flags=re.MULTILINE))]
    messages = [text.replace("TENSOR", tensor) for text in messages if text.startswith("{")]
    assert len(messages) == 6
    for message in messages:
        whole.validate(json.loads(message))


def test_wenets_loss_deviates_as_its_file_says() -> None:
    pytest.importorskip("torch")
    stated = ast.get_docstring(ast.parse((EXAMPLES / "wenet_loss.py").read_text(encoding="utf-8"))) or ""
    program, *arguments = shlex.split(stated.split("\n\n")[1].replace("\\\n", " "))
    assert program == "lossref"
    command = [sys.executable, "-m", "conformance.cli", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.run(command, cwd=EXAMPLES, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    passed, expected = map(int, re.findall(r"(\d+) passed, (\d+) failed as expected, 0 failed unexpectedly, 0 unsupported", run.stdout)[0])
    assert passed > 500
    assert expected > 50
