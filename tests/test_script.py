"""Scripts that show a finding: they run without us, in the library's own API, and print what the judge was given."""

from __future__ import annotations

import ast
import json
import math
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

import needs
import pytest

from conformance.adapter import backends
from conformance.cli import main
from conformance.deviations import FAILING, packaged
from conformance.finding import Verdict
from conformance.runner import Result, Run
from conformance.script import ScriptError, script
from conformance.sources import Options, find
from conformance.vectors import Vector, read
from refimpl.operations import operations

# Runs scripts in one process of the library, which takes seconds to import; nothing of ours can be imported there.
DRIVER = """
import runpy, sys
sys.modules["conformance"] = sys.modules["refimpl"] = None
for path in sys.argv[1:]:
    try:
        runpy.run_path(path)
    except Exception as error:
        print("raised", (str(error).strip().splitlines() or [""])[0])
    print("=====")
"""


known_vectors = cache(lambda operation: read(operation=operation))


def vectors_of(backend: str, limit: int) -> list[Vector]:
    """Small vectors, each operation's in turn: first those that its known deviations name, then others."""
    known = packaged(backend)
    patterns = [pattern for one in known.deviations for pattern in one.cases] if known is not None else []
    found = []
    for operation in operations():
        small = [vector for vector in known_vectors(operation) if sum(array.size for array in vector.case.inputs.values()) <= 60]
        small = [vector for vector in small if vector.case.group in ("edges", "regression") and not vector.case.layouts]
        named = [vector for vector in small if any(fnmatchcase(vector.case.id, pattern) for pattern in patterns)]
        found += [*named[:: max(1, len(named) // limit)], *small[:: max(1, len(small) // limit)]]
    return list({vector.case.id: vector for vector in found}.values())


def printed(texts: Sequence[str], folder: Path) -> list[list[str]]:
    """What each script writes, in a process without us."""
    paths = []
    for number, text in enumerate(texts):
        paths.append(folder / f"script{number}.py")
        paths[-1].write_text(text, encoding="utf-8")
    command = [sys.executable, "-W", "ignore", "-c", DRIVER, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return [part.strip().splitlines() for part in done.stdout.split("=====")[:-1]]


def agrees(result: Result, lines: Sequence[str]) -> bool:
    """Whether a script has shown what the judge was given."""
    finding = result.finding
    if finding.verdict == Verdict.ERROR or (finding.ratio is None and "raised" in lines[-1]):
        return lines[-1].startswith("raised")
    if finding.ratio is None:
        return lines[-1].startswith("actual")
    shown = float(lines[-1].removeprefix("actual"))
    if finding.told.actual_hex:
        return shown == float.fromhex(finding.told.actual_hex)
    return math.isnan(shown) if finding.told.actual == "nan" else finding.told.actual == str(shown)


def asked(backend: str, vectors: Sequence[Vector]) -> tuple[list[Result], list[str]]:
    """A backend's results that there is something to show of, and their scripts."""
    by_id = {vector.case.id: vector for vector in vectors}
    with Run([find(backend)], vectors) as run:
        results = [one for one in run.results() if one.finding.verdict in (Verdict.PASS, *FAILING)]
        about = run.descriptions[backend]
    results = [one for one in results if one.finding.told.actual or one.finding.verdict in FAILING]
    if about.fragile:  # a bad target may end the process of the scripts after it
        results = [one for one in results if by_id[one.finding.case].expectations[0].kind != "error"]
    return results, [script(by_id[one.finding.case], one, about) for one in results]


@pytest.mark.parametrize("backend", backends())
def test_a_script_shows_what_the_judge_was_given(backend: str, tmp_path: Path) -> None:
    needs.library(backend)
    results, texts = asked(backend, vectors_of(backend, 3))
    assert len(results) > 10
    shown = printed(texts, tmp_path)
    assert len(shown) == len(texts)
    wrong = [f"{one.finding}\n{text}\n{lines}" for one, text, lines in zip(results, texts, shown, strict=True) if not agrees(one, lines)]
    assert not wrong, f"{len(wrong)} of {len(texts)}:\n{wrong[0]}"


def shown(arguments: Sequence[str], capsys: pytest.CaptureFixture[str]) -> str:
    main(["show", *arguments, "--script"])
    return capsys.readouterr().out


def test_a_script_has_what_was_judged_and_what_is_expected(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(["kl_div/edges/gradient-at-0-float32", "--backend", "torch"], capsys)
    lines = text.splitlines()
    assert lines[0] == "# kl_div: gradient of p[0] is nan, not -inf"
    assert "lossref's case kl_div/edges/gradient-at-0-float32" in lines[1]
    assert lines[2].startswith("# MUST KLP-7: ")
    assert "log_q = torch.tensor([-1.0, -0.5], dtype=torch.float32)" in lines
    assert "output = F.kl_div(log_q, p, reduction='none', log_target=False)" in lines
    assert lines[-2] == 'print("expected", "-inf")'
    assert len(lines) <= 25


def test_a_script_imports_nothing_of_ours_and_nothing_that_it_does_not_use(capsys: pytest.CaptureFixture[str]) -> None:
    tree = ast.parse(shown(["softmax_cross_entropy/regression/maximum-of-the-row-float32", "--backend", "jax"], capsys))
    bound = [alias.asname or alias.name for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom) for alias in node.names]
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert set(bound) <= used
    assert not {"conformance", "refimpl"} & used


def test_a_function_is_imported_and_called_as_it_is_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_loss.py").write_text("def entropy(p, cotangent):\n    return p.sum(-1), {'p': 0 * p}\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    source = find("own_loss:entropy", Options(operation="entropy"))
    (vector,) = (one for one in read(operation="entropy") if one.case.id == "entropy/edges/uniform-float32")
    with Run([source], [vector]) as run:
        results = list(run.results())
        about = run.descriptions[source.name]
    texts = [script(vector, one, about) for one in results]
    assert all("from own_loss import entropy" in text and "entropy(p=p, cotangent=cotangent)" in text for text in texts)
    assert all(agrees(one, lines) for one, lines in zip(results, printed(texts, tmp_path), strict=True))


def test_a_program_gets_its_request_by_a_line_of_the_shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = tmp_path / "echo.py"
    program.write_text(
        "import json, sys\n"
        "for text in sys.stdin:\n"
        "    given = json.loads(text)\n"
        "    if given['cmd'] == 'hello':\n"
        "        said = {'protocol': given['protocol'], 'name': 'echo', 'operations': ['entropy']}\n"
        "        said['promises'] = {'float32': {'accuracy': 'A'}}\n"
        "    elif given['cmd'] == 'run':\n"
        "        said = {'id': given['id'], 'output': given['inputs']['p'], 'gradients': {}}\n"
        "    else:\n"
        "        break\n"
        "    print(json.dumps(said), flush=True)\n",
        encoding="utf-8",
    )
    text = shown(["entropy/edges/uniform-float32", "--backend", f"exec:{sys.executable} {program}"], capsys)
    done = subprocess.run(["sh", "-c", text], capture_output=True, text=True, timeout=60, check=True)
    hello, answer = map(json.loads, done.stdout.splitlines())
    (vector,) = (one for one in read(operation="entropy") if one.case.id == "entropy/edges/uniform-float32")
    assert hello["name"] == "echo"
    assert answer["output"]["data"] == vector.case.inputs["p"].tobytes().hex()
    assert f"| {sys.executable} {program}" in text
    assert "\n# expected " in text


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        (["kl_div/edges/zeros-float32", "--script"], 2, "name it with --backend"),
        (
            ["nll_loss/edges/mean-ignored-float32", "--backend", "scipy", "--script"],
            3,
            "has no answer to nll_loss/edges/mean-ignored-float32",
        ),
    ],
)
def test_what_no_script_can_show_is_said(arguments: list[str], status: int, sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", *arguments]) == status
    assert sentence in capsys.readouterr().err


def test_an_adapter_without_an_idiom_has_no_scripts() -> None:
    (vector,) = (one for one in read(operation="entropy") if one.case.id == "entropy/edges/uniform-float32")
    with Run([find("numpy")], [vector]) as run:
        result, *_ = run.results()
        about = run.descriptions["numpy"]
    with pytest.raises(ScriptError, match="numpy states no idiom"):
        script(vector, result, replace(about, idiom=None))
    with pytest.raises(ScriptError, match=r"OPERATIONS\['entropy'\] is no function of the file"):
        script(vector, result, replace(about, source="OPERATIONS = {}"))
