"""The command line: exit status, sentences, and what it leaves behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from conformance import vectors
from conformance.case import Vector
from conformance.cli import main
from conformance.links.process import module_source
from conformance.report import jsonlines


def expecting(folder: Path, case: str) -> str:
    file = folder / "numpy.toml"
    file.write_text(f'[[deviation]]\ncases = ["{case}"]\nclause = "LSM-1"\nreason = "exp overflows"\n')
    return str(file)


@pytest.mark.usefixtures("few")
def test_as_promised_is_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "scipy", "--case", "*/plain-*"]) == 0
    out, err = capsys.readouterr()
    assert "2 passed, 0 failed as expected, 0 failed unexpectedly, 2 unsupported" in out
    assert err == ""


@pytest.mark.usefixtures("few")
def test_short_of_the_promise_is_1_with_a_message_that_stands_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "numpy"]) == 1
    out, _ = capsys.readouterr()
    assert "FAIL  log_softmax  edges/large-float64  numpy" in out
    assert "lossref run numpy --case log_softmax/edges/large-float64\n" in out


@pytest.mark.usefixtures("few")
def test_as_expected_is_0_and_an_expectation_too_many_is_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "numpy", "--expect", expecting(tmp_path, "log_softmax/edges/large-*")]) == 0
    assert "2 failed as expected, 0 failed unexpectedly" in capsys.readouterr().out
    assert main(["run", "numpy", "--expect", expecting(tmp_path, "log_softmax/edges/*")]) == 1
    assert "no longer needed" in capsys.readouterr().out


@pytest.fixture
def tiers(few: list[Vector]) -> None:
    """The same three, one of each tier: the one that numpy fails is of the largest."""
    of = {"plain-float64": "smoke", "plain-float32": "core", "large-float64": "full"}
    few[:] = [replace(one, case=replace(one.case, tier=of[one.case.id.split("/")[2]])) for one in few]


@pytest.mark.usefixtures("tiers")
@pytest.mark.parametrize(
    ("arguments", "passed"),
    [
        (["--tier", "smoke"], 2),
        ([], 4),
        (["--tier", "core"], 4),
        (["--case", "*/plain-*"], 4),
    ],
)
def test_a_tier_holds_those_below_it(arguments: list[str], passed: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "numpy", *arguments]) == 0
    assert f"{passed} passed, 0 failed as expected, 0 failed unexpectedly" in capsys.readouterr().out


@pytest.mark.usefixtures("tiers")
@pytest.mark.parametrize("arguments", [["--tier", "full"], ["--case", "*/large-*"]])
def test_whoever_names_a_case_gets_it_whatever_its_tier(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "numpy", *arguments]) == 1
    assert "FAIL  log_softmax  edges/large-float64" in capsys.readouterr().out


@pytest.mark.usefixtures("tiers")
def test_an_expectation_of_another_tier_is_let_be_and_one_of_none_is_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "numpy", "--expect", expecting(tmp_path, "log_softmax/edges/large-*")]) == 0
    capsys.readouterr()
    assert main(["run", "numpy", "--expect", expecting(tmp_path, "log_softmax/edges/largest-*")]) == 2
    assert "no case is named 'log_softmax/edges/largest-*'" in capsys.readouterr().err


@pytest.mark.usefixtures("few")
def test_a_drafted_expectation_is_met(tmp_path: Path) -> None:
    file = tmp_path / "drafted.toml"
    assert main(["run", "numpy", "--write-expect", str(file)]) == 1
    assert main(["run", "numpy", "--expect", str(file)]) == 0


@pytest.mark.usefixtures("few")
def test_json_lines_have_header_results_and_footer(tmp_path: Path) -> None:
    file = tmp_path / "new" / "results.jsonl"
    assert main(["run", "numpy", "scipy", "--jobs", "2", "--json", str(file)]) == 1
    record = jsonlines.read(file)
    assert record.digest == "sha256:0"
    assert record.backends == ("numpy", "scipy")
    assert record.descriptions["numpy"].versions == {"numpy": np.__version__}
    assert len(record.results) == 12
    whole = file.read_text().splitlines()
    written = [json.loads(line) for line in whole[1:-1]]
    fields = "case operation direction output mode dtype backend verdict ratio ulps class choice worst_index clauses flags seconds"
    assert all(line.keys() >= set(fields.split()) for line in written)
    assert any(line["ratio"] == "inf" for line in written)
    assert list(jsonlines.lines(record)) == whole, "what is read is what was written"
    for cut in (whole[:-1], whole[:3] + whole[4:], whole[1:], [], [*whole[:-1], whole[-1][:-4]]):
        file.write_text("\n".join(cut))
        with pytest.raises(jsonlines.ReportError):
            jsonlines.read(file)
    assert json.loads(whole[-1])["results"] == 12


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["run", "tourch"], "no backend is named 'tourch'; the backends are"),
        (["run", "numpy", "--operation", "hinge"], "no operation is named 'hinge'; the operations are"),
        (["run", "numpy", "--dtype", "int8"], "no dtype is named 'int8'; the dtypes are float64, float32, bfloat16, float16"),
        (["run", "numpy", "--case", "log_softmax/edges/plane-float64"], "(did you mean log_softmax/edges/plain-float64?)"),
        (["run", "numpy", "--dtype", "float32", "--case", "*/large-*"], "no case is left by these filters together"),
        (["run", "numpy", "--json", "/dev/null/results.jsonl"], "can't be written"),
        (["run", "numpy", "--expect", "/nonexistent.toml"], "can't be read"),
        (["run", "numpy", "scipy", "--expect", "x.toml"], "--expect is about one backend, and 2 are named"),
        (["run", "exec:cat", "--device", "cuda"], "--device is about Python adapters, and exec:cat is none"),
        (["run", "numpy", "exec:cat", "--in-process"], "--in-process is about Python adapters, and exec:cat is none"),
        (["run", "numpy", "--in-process", "--jobs", "2"], "--jobs is about worker processes, and --in-process has none"),
        (["show", "log_softmax/edges/none-float64"], "no case is named"),
        (["show", "log_softmax/edges/plain-float64", "--backend", "tourch"], "no backend is named"),
        (["spec", "LSM-999"], "no clause or chapter is named 'LSM-999'"),
        (["generate", "--operation", "hinge"], "no operation is named 'hinge'"),
        (["generate", "--check", "--operation", "log_softmax"], "leave out --operation"),
        (["generate", "--operation", "log_softmax", "--out", "/dev/null/x"], "can't be written"),
    ],
)
def test_bad_input_is_2_with_one_sentence(capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str) -> None:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("lossref: ")
    assert err.count("\n") == 1
    assert sentence in err


@pytest.mark.usefixtures("few")
def test_a_device_that_is_not_there_is_3(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "numpy", "--device", "cuda"]) == 3
    error = capsys.readouterr().err
    assert error == "lossref: backend 'numpy' could not be started: it has no device 'cuda'; leave out --device: it runs on cpu\n"


@pytest.mark.usefixtures("few")
def test_in_this_process_the_results_are_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "scipy", "--case", "*/plain-*"]) == 0
    apart = capsys.readouterr().out
    assert main(["run", "scipy", "--case", "*/plain-*", "--in-process"]) == 0
    assert capsys.readouterr().out == apart


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["run"],
        ["run", "numpy", "--jobs", "0"],
        ["run", "numpy", "--timeout", "-1"],
        ["run", "numpy", "--memory", "much"],
        ["fly"],
        ["vectors", "eat"],
    ],
)
def test_wrong_usage_is_2(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: lossref" in capsys.readouterr().err


@pytest.mark.usefixtures("few")
def test_a_backend_that_is_not_installed_is_3(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "absent_adapter.py").write_text("import no_such_library")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("conformance.sources.find", lambda name, *_, **__: module_source(name, "absent_adapter"))
    kept = [tmp_path / "mine.toml", tmp_path / "old.jsonl"]
    for path in kept:
        path.write_text("precious")
    assert main(["run", "numpy", "--write-expect", str(kept[0]), "--json", str(kept[1])]) == 3
    assert [path.read_text() for path in kept] == ["precious", "precious"]
    assert "is not installed (no module 'no_such_library'); install it: pip install 'lossref[numpy]'" in capsys.readouterr().err


def test_a_defect_of_ours_is_3_and_shows_where(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def read(folder: object = None, operation: object = None) -> list[Vector]:
        raise AssertionError("a slip")

    monkeypatch.setattr(vectors, "read", read)
    assert main(["vectors", "list"]) == 3
    error = capsys.readouterr().err
    assert "a slip" in error
    assert error.endswith("lossref: the suite itself failed; please report the lines above\n")


@pytest.mark.usefixtures("few")
def test_broken_vectors_are_2(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def read(folder: object = None, operation: object = None) -> list[Vector]:
        raise vectors.VectorError("kl_div/edges.json: the checksum differs; restore it")

    monkeypatch.setattr(vectors, "read", read)
    assert main(["run", "numpy"]) == 2
    assert capsys.readouterr().err == "lossref: kl_div/edges.json: the checksum differs; restore it\n"


@pytest.mark.usefixtures("few")
def test_show_a_case_and_what_a_backend_makes_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "log_softmax/edges/large-float64"]) == 0
    shown = capsys.readouterr().out
    assert "logits  float64[1, 3]  1000 0 1" in shown
    assert "cotangent  float64[1, 3]  0.5 -1.25 2" in shown
    assert "[1]  -1000.0" in shown
    assert main(["show", "log_softmax/edges/large-float64", "--backend", "scipy"]) == 0
    assert "PASS  log_softmax" in capsys.readouterr().out
    assert main(["show", "log_softmax/edges/large-float64", "--backend", "numpy"]) == 1
    assert "FAIL  log_softmax" in capsys.readouterr().out


@pytest.mark.usefixtures("few")
def test_vectors_are_listed_and_linted(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["vectors", "list"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "log_softmax/edges/plain-float64"
    monkeypatch.setattr("conformance.vectors.lint", lambda: "sha256:0")
    assert main(["vectors", "lint"]) == 0
    assert "the vectors are well formed and as they were sealed: sha256:0" in capsys.readouterr().out
    assert main(["vectors", "prove", "log_softmax/edges/no-such-float64"]) == 2
    assert "no vector has this id" in capsys.readouterr().err


def test_the_spec_is_printed_as_a_list_by_chapter_and_by_clause(capsys: pytest.CaptureFixture[str]) -> None:
    for wanted in ("LSM-1", "lsm-1", "LSM", "log_softmax", None):
        assert main(["spec", *([wanted] if wanted else [])]) == 0
        assert "LSM-1  MUST" in capsys.readouterr().out
    assert main(["spec", "GEN-4"]) == 0
    assert capsys.readouterr().out.startswith("GEN-4  MUST\n    A second call")


def test_a_clause_is_printed_with_its_reasons_its_edge_and_its_vectors(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["spec", "LSM-5"]) == 0
    out = capsys.readouterr().out
    for part in ("\nReason. ", "\nToday. ", "Chapter: docs/spec/log_softmax.md", "Edge: E2 in refimpl/operations/log_softmax.py"):
        assert part in out
    assert re.search(r"Vectors: \d+, among them\n    log_softmax/edges/nan-float64\n    log_softmax/edges/plus-inf-float64\n", out)
    assert main(["spec", "GRD-9"]) == 0
    assert "Vectors: " in capsys.readouterr().out, "the evidence for a general rule is that of the clauses that apply it"
    assert main(["spec", "CON-22"]) == 0
    out = capsys.readouterr().out
    assert "\nNo vectors. " in out
    assert "Vectors: " not in out


def test_backends_are_listed_with_their_versions(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("conformance.sources.backends", lambda: ("numpy",))
    assert main(["backends"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"numpy: numpy {np.__version__}; eager\n")
    assert "log_softmax" in out


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("error", ["ValueError", "NotImplementedError"])
def test_a_text_that_cannot_be_written_is_told_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: str) -> None:
    (tmp_path / "strange.py").write_text(f"def loss(logits):\n    raise {error}('half a pair: \\ud800\\nand more')\n")
    monkeypatch.delitem(sys.modules, "strange", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "results.jsonl"
    assert main(["run", "strange:loss", "--operation", "log_softmax", "--in-process", "--json", str(file)]) == 1
    assert jsonlines.read(file).results[0].finding.note.endswith("half a pair: \\ud800")


def test_an_interrupt_ends_everything_with_130(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from conformance import cli, sources, vectors\n"
        "from conformance.links.process import module_source\n"
        "import hostile\n"
        "behaviours = hostile.honest, hostile.leak_a_child, hostile.loop\n"
        "vectors.read = lambda *_, **__: [hostile.vector(behaviour) for behaviour in behaviours]\n"
        "sources.find = lambda name, *_, **__: module_source(name, 'hostile')\n"
        "sys.argv = ['lossref', 'run', 'numpy', '--expect', sys.argv[2], '--json', sys.argv[1]]\n"
        "sys.exit(cli.main())\n"
    )
    script = tmp_path / "interrupted.py"
    script.write_text(program)
    expected = tmp_path / "expected.toml"
    expected.write_text("")
    tests = Path(__file__).parent
    flag = tmp_path / "looping"
    environment = {
        **os.environ,
        "HOSTILE_FLAG": str(flag),
        "PYTHONPATH": os.pathsep.join([str(tests), str(tests.parent), os.environ.get("PYTHONPATH", "")]),
    }
    process = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path / "results.jsonl"), str(expected)],
        env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    while process.poll() is None and not flag.exists():
        time.sleep(0.05)
    assert process.poll() is None, process.communicate()
    started = psutil.Process(process.pid).children(recursive=True)
    assert len(started) == 4 + 2, "a worker, its guard, and what it started at each of two calls"
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert out == ""
    assert (process.returncode, err) == (130, "lossref: interrupted\n")
    _, alive = psutil.wait_procs(started, timeout=10)
    assert not alive
    lines = (tmp_path / "results.jsonl").read_text().splitlines()
    assert [json.loads(line)["verdict"] for line in lines[1:]] == ["pass"] * 4, "what was judged is there"
    with pytest.raises(jsonlines.ReportError, match="the run was cut short"):
        jsonlines.read(tmp_path / "results.jsonl")
