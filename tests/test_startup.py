"""The measurement of start-up: what is timed, in which order, with which kernels; no test asserts a speed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from conformance.bench import startup
from conformance.bench.startup import ProgramError, Start, beside_numba, report, seconds
from conformance.cli import main
from refimpl.operations import operations


class Clock:
    """Gives programs set times and keeps what it was asked for."""

    def __init__(self, times: dict[str, float]) -> None:
        self.times = times
        self.asked: list[tuple[str, Path, bool]] = []

    def __call__(self, program: str, kernels: Path) -> float:
        self.asked.append((program, kernels, kernels.is_dir() and not any(kernels.iterdir())))
        return next((took for word, took in self.times.items() if word in program), 1.0)


def test_each_program_runs_right_after_numba_and_once_before_it_counts() -> None:
    clock = Clock({"numba": 2.0, "first": 3.0, "second": 5.0})
    starts = beside_numba([("a", "first"), ("b", "second")], 2, Path("kernels"), clock)
    assert [program for program, _, _ in clock.asked] == ["first", "second", *2 * ["import numba", "first", "import numba", "second"]]
    assert {kernels for _, kernels, _ in clock.asked} == {Path("kernels")}
    assert starts == [Start("a", (1.5, 1.5)), Start("b", (2.5, 2.5))]


def test_quartiles() -> None:
    assert Start("a", (5.0, 1.0, 2.0, 4.0, 3.0)).quartiles() == (2.0, 3.0, 4.0)
    assert Start("a", (1.5,)).quartiles() == (1.5, 1.5, 1.5)


def test_a_first_call_finds_nothing_compiled() -> None:
    clock = Clock({"False": 4.25, "True": 7.5})
    lines = list(report(["entropy", "kl_div"], 1, clock))
    cold = clock.asked[:4]
    assert all(empty for _, _, empty in cold)
    assert len({kernels for _, kernels, _ in cold}) == 4
    assert [re.findall(r"first_call\('(\w+)', (\w+)\)", program)[0] for program, _, _ in cold] == [
        ("entropy", "False"),
        ("entropy", "True"),
        ("kl_div", "False"),
        ("kl_div", "True"),
    ]
    assert lines[1].split() == ["entropy", "4.25", "7.50"]
    assert [line.split("  ")[1] for line in lines[4:]] == ["import refimpl", "lossref --help", "entropy", "kl_div"]


def test_a_real_run() -> None:
    lines = list(report(["nll_loss"], 1))
    assert re.fullmatch(r"  nll_loss +\d+\.\d\d +\d+\.\d\d", lines[1])
    assert all(re.fullmatch(r"  .{24} +\d+\.\d\d \(\d+\.\d\d to \d+\.\d\d\)", line) for line in lines[3:])
    assert len(lines) == 6


@pytest.mark.parametrize("name", operations())
def test_every_operation_has_a_first_call(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    from conformance.bench.startup import first_call

    first_call(name, True)
    assert capsys.readouterr().err == ""


def test_the_command_prints_the_report(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(startup, "report", lambda names, rounds: iter([f"{len(names)} operations, {rounds} rounds"]))
    assert main(["bench", "--startup", "--rounds", "3"]) == 0
    assert capsys.readouterr().out == f"{len(operations())} operations, 3 rounds\n"


def test_a_program_that_fails_says_why() -> None:
    with pytest.raises(ProgramError, match="NameError: name 'no_such_name' is not defined"):
        seconds("no_such_name", Path("kernels"))
    with pytest.raises(ProgramError, match="status 7"):
        seconds("raise SystemExit(7)", Path("kernels"))
