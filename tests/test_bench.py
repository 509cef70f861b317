"""`lossref bench`: its tables, that every peer computes the same thing, and what is shown and kept.

No test here asserts how fast anything is.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from machine import Machine, constant, fake, raising, ticking

import refimpl
from conformance.bench import command
from conformance.bench.peer import Absent, Kind, Peer, Unsupported, peers
from conformance.bench.problem import FORWARD, GRADIENT, LOG_SUM_EXP, entropy_of_target, expected, problem
from conformance.bench.table import Line, State, Table, measure, using
from conformance.bench.timing import Clock
from conformance.cli import main
from refimpl.jit import threads

TINY = (2, 3, 5)


def table_of(*several: Peer, rounds: int = 2) -> Table:
    machine = Machine()
    return measure(several, FORWARD, problem(TINY, "float32"), rounds, 1, machine.clock())


def test_what_becomes_of_a_peer_is_said() -> None:
    found = table_of(
        fake("elsewhere", raising(ModuleNotFoundError("No module named 'x'", name="x"))),
        fake("compiler", raising(Absent("a C++ compiler (g++)"))),
        fake("narrow", raising(Unsupported("no float32"))),
        fake("broken", raising(ValueError("bad\nworse"))),
        fake("late", constant(1.0, lambda: [][0])),
        fake("other", constant(1.0), works=(GRADIENT,)),
    )
    assert {line.peer.name: (line.state, line.note) for line in found.lines} == {
        "elsewhere": (State.ABSENT, "no module 'x'"),
        "compiler": (State.ABSENT, "a C++ compiler (g++)"),
        "narrow": (State.UNSUPPORTED, "no float32"),
        "broken": (State.FAILED, "ValueError: bad"),
        "late": (State.FAILED, "IndexError: list index out of range"),
    }


def test_a_table_has_the_reference_first_the_limits_last_and_ratios_to_both() -> None:
    machine = Machine()
    several = [
        ticking(machine, "limit", 0.25, Kind.LIMIT),
        ticking(machine, "slow", 4.0),
        ticking(machine, "fast", 1.0),
        ticking(machine, "ours", 2.0, Kind.REFERENCE),
    ]
    found = measure(several, FORWARD, problem(TINY, "float32"), 3, 1, machine.clock())
    assert [line.peer.name for line in found.lines] == ["ours", "fast", "slow", "limit"]
    assert [base.peer.name for base in found.bases] == ["ours", "limit"]
    assert [found.ratio(line, found.bases[0]).median for line in found.lines] == [1.0, 0.5, 2.0, 0.125]
    assert [found.ratio(line, found.bases[1]).median for line in found.lines] == [8.0, 4.0, 16.0, 1.0]


def test_a_slice_is_scaled_up_to_the_shape() -> None:
    machine = Machine()
    (line,) = measure([ticking(machine, "few", 1.0, part=10)], FORWARD, problem(TINY, "float32"), 1, 1, machine.clock()).lines
    assert line.on == (2, 1, 5)
    assert line.seconds == (3.0,)


def test_every_peer_is_found_and_described() -> None:
    assert list(peers())[:2] == ["double-double", "rounded"]
    assert set(peers()) == {"double-double", "rounded", *OTHERS, "torch-compile", "read", "copy"}
    assert all(peer.summary and peer.works for peer in peers().values())


OTHERS = ("torch-module", "torch-cross-entropy", "jax", "scipy", "mpmath", "ball")


def lines_of(work: str, dtype: str, names: tuple[str, ...] = ("double-double", *OTHERS, "read", "copy")) -> dict[str, Line]:
    clock = Clock(sleep=lambda _: None)
    found = measure([peers()[name] for name in names], work, problem(TINY, dtype), 2, threads(), clock)
    return {line.peer.name: line for line in found.lines}


@pytest.mark.parametrize("work", [FORWARD, GRADIENT])
def test_every_peer_computes_the_same_loss(work: str) -> None:
    """In float64, whose rounding errors are 2^-29 ulps of float32 each."""
    for name, line in lines_of(work, "float64").items():
        assert (line.state, line.note) == (State.DONE, ""), name
        parts = {FORWARD: {"loss"}, GRADIENT: {"loss", "gradient", "element"}}[work]
        assert dict(line.errors).keys() == (set() if line.peer.kind == Kind.LIMIT else parts)
        assert all(ulps < 1 for _, ulps in line.errors), (name, line.errors)
        assert len(line.seconds) == 2


def test_every_log_sum_exp_is_the_same() -> None:
    """To the rounding of a sum of five terms and a logarithm, which float64 allows; the others round once."""
    lines = lines_of(LOG_SUM_EXP, "float64", ("double-double", "scipy", "mpmath", "ball"))
    assert all(ulps < (16 if name == "scipy" else 1) for name, line in lines.items() for _, ulps in line.errors)
    assert all(line.state == State.DONE and line.errors for line in lines.values())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_every_peer_runs_in_narrow_formats(dtype: str) -> None:
    """And is off by less than the loss and the largest elements themselves, which have 2^23 ulps of float32 or more."""
    for name, line in lines_of(GRADIENT, dtype).items():
        assert (line.state, line.note) == (State.DONE, ""), name
        assert all(ulps < 2.0**23 for part, ulps in line.errors if part != "element"), (name, line.errors)


def test_double_double_is_what_rounds_to_float64() -> None:
    (line,) = lines_of(FORWARD, "float64", ("rounded",)).values()
    assert line.state == State.UNSUPPORTED


def test_the_entropy_that_a_cross_entropy_has_more() -> None:
    there = problem((1, 1, 6), "float64")
    rows, target = there.rows, there.target.reshape(-1)
    more = refimpl.softmax_cross_entropy(rows, target, label_smoothing=0.1 * 6 / 5).hi - expected(FORWARD, there)["loss"]
    assert abs(more - entropy_of_target(6)) <= 8 * np.spacing(more)  # 0.1 * 6 / 5 and the entropy are rounded


def test_without_a_compiler_torch_compile_is_not_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    (line,) = lines_of(FORWARD, "float32", ("torch-compile",)).values()
    assert line.state == State.ABSENT
    assert line.note.startswith("a C++ compiler (")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--peer", "tourch"], "no peer is named 'tourch'; the peers are double-double, rounded, "),
        (["--shape", "2x"], "'2x' is no shape; write sequences, tokens and classes (two or more), like 16x13x4233, or rows and classes"),
        (["--dtype", "int8"], "no dtype is named 'int8'; the dtypes are float32, bfloat16, float16, float64"),
        (["--threads", "5000"], f"this process has {threads()} processors, not 5000; write --threads {threads()} or leave it out"),
        (["--json", "/dev/null/x.json"], "can't be written"),
    ],
)
def test_bad_input_is_2_with_one_sentence(capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str) -> None:
    assert main(["bench", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("lossref: ")
    assert err.count("\n") == 1
    assert sentence in err


@pytest.mark.parametrize("arguments", [["--rounds", "0"], ["--threads", "x"], ["--direction", "up"], ["--linear", "--memory"]])
def test_wrong_usage_is_2(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["bench", *arguments])
    assert caught.value.code == 2
    assert "usage: lossref bench" in capsys.readouterr().err


def test_a_run_shows_and_keeps_what_was_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "bench.json"
    named = ["--peer", "scipy", "--peer", "mpmath", "--peer", "read"]
    assert main(["bench", "--shape", "300x7", "--dtype", "float64", "--rounds", "2", *named, "--json", str(file)]) == 0
    out = capsys.readouterr().out
    for words in (
        "smoothed_attention_loss, forward, 300x1x7 float64, 2 rounds",
        "gradient and loss",
        "log-sum-exp of the rows",
        " x read\n",
    ):
        assert words in out
    assert "mpmath: per element, on a slice of 285x1x7, scaled up to the shape" in out
    assert "rounded: unsupported: " in out
    assert f"{threads()} thread" in out
    kept = json.loads(file.read_text())
    assert kept["format"] == "lossref-bench/1"
    assert kept["threads"] == threads()
    assert kept["versions"]["numpy"] == np.__version__
    assert {"python", "numba", "scipy", "mpmath"} <= kept["versions"].keys()
    assert [(t["work"], t["shape"], t["dtype"], t["rounds"]) for t in kept["tables"]] == [
        ("forward", [300, 1, 7], "float64", 2),
        ("gradient", [300, 1, 7], "float64", 2),
        ("log-sum-exp", [208, 1, 4233], "float64", 2),
    ]
    by_name = {line["peer"]: line for line in kept["tables"][1]["peers"]}
    assert by_name.keys() == {"double-double", "rounded", "scipy", "mpmath", "read"}
    assert by_name["rounded"]["state"] == "unsupported"
    assert by_name["mpmath"]["slice"] == [285, 1, 7]
    assert by_name["scipy"]["slice"] is None
    assert by_name["scipy"]["errors"].keys() == {"loss", "gradient", "element"}
    assert by_name["scipy"]["ratios"].keys() == {"double-double", "read"}
    assert by_name["double-double"]["ratios"]["double-double"] == {"low": 1.0, "median": 1.0, "high": 1.0}
    ours, theirs = (by_name[name]["seconds"] for name in ("double-double", "scipy"))
    low, high = sorted(b / a for a, b in zip(ours, theirs, strict=True))
    assert low <= by_name["scipy"]["ratios"]["double-double"]["low"] <= by_name["scipy"]["ratios"]["double-double"]["high"] <= high


def test_what_is_not_finite_is_kept_as_a_string(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("conformance.bench.command.chosen", lambda names: [fake("odd", constant(math.nan))])
    asked = command.Asked.of(["2x5"], None, None, "forward", 1, None)
    with (tmp_path / "shown").open("w") as shown:
        assert command.run(asked, shown, tmp_path / "kept.json")
    assert json.loads((tmp_path / "kept.json").read_text())["tables"][0]["peers"][0]["errors"] == {"loss": "nan"}


@pytest.mark.parametrize(
    ("several", "named", "there"),
    [
        ([("fine", constant(1.0)), ("gone", raising(Absent("it")))], [], True),
        ([("fine", constant(1.0)), ("gone", raising(Absent("it")))], ["gone"], False),
        ([("fine", constant(1.0)), ("broken", raising(ValueError("it")))], ["broken"], False),
        ([("fine", constant(1.0)), ("narrow", raising(Unsupported("it")))], ["narrow"], True),
    ],
)
def test_a_peer_that_was_named_must_be_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, several: list[tuple[str, Any]], named: list[str], there: bool
) -> None:
    monkeypatch.setattr("conformance.bench.command.chosen", lambda names: [fake(*each) for each in several])
    asked = command.Asked.of(["2x5"], None, named, "forward", 1, None)
    with (tmp_path / "shown").open("w") as shown:
        assert command.run(asked, shown) is there
    if len(several) > 1:
        assert f"{several[1][0]}: " in (tmp_path / "shown").read_text()


def test_the_reference_must_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("conformance.bench.command.chosen", lambda names: [fake("ours", raising(ValueError("it")), Kind.REFERENCE)])
    with (tmp_path / "shown").open("w") as shown:
        assert not command.run(command.Asked.of(["2x5"], None, None, "forward", 1, None), shown)


def test_fewer_threads_are_fewer_processors_for_a_while() -> None:
    if threads() == 1:
        pytest.skip("one processor can't be fewer")
    before = threads()
    with using(1):
        assert threads() == 1
    assert threads() == before


def test_torch_compile_in_a_process_of_its_own(tmp_path: Path) -> None:
    """It rounds the two masses of the smoothed target to float32, each by half an ulp at most, in float64 as well."""
    file = tmp_path / "bench.json"
    small = ["--shape", "2x3x5", "--dtype", "float64", "--direction", "gradient", "--rounds", "2"]
    run = subprocess.run(
        [sys.executable, "-m", "conformance.cli", "bench", "--peer", "torch-compile", *small, "--json", str(file)],
        capture_output=True, text=True, check=False, cwd=Path(__file__).parents[1],
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    lines = {line["peer"]: line for line in json.loads(file.read_text())["tables"][0]["peers"]}
    assert lines["torch-compile"]["state"] == "done"
    assert all(ulps < 2 for part, ulps in lines["torch-compile"]["errors"].items() if part != "element")
