"""`lossref bench --linear` and `--memory`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from machine import Machine, fake, raising, ticking

from conformance.bench import command, linear, memory
from conformance.bench.peer import Call, Kind, Unsupported
from conformance.bench.problem import FORWARD, GRADIENT, Problem
from conformance.bench.table import State
from conformance.bench.timing import Clock, Spread
from conformance.cli import main

TINY = (2, 3, 5)
MIB = 1 << 20


def test_costs_are_those_of_an_element(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine()
    monkeypatch.setattr(linear, "CLASSES", 10)
    ours = ticking(machine, "ours", 2.0, Kind.REFERENCE)
    costs = list(
        linear.costs(
            [ours, ticking(machine, "limit", 1.0, Kind.LIMIT)],
            [FORWARD],
            "float32",
            2,
            1,
            (10, 200),
            Clock(lambda: machine.time, lambda _: None),
        )
    )
    assert [(cost.peer.name, cost.elements, cost.nanoseconds) for cost in costs] == [
        ("ours", 10, Spread(2e8, 2e8, 2e8)),
        ("ours", 200, Spread(1e7, 1e7, 1e7)),
    ]


def test_what_memory_does_not_suffice_for_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """An enclosure of a gradient needs more than the logits and a sum."""
    machine = Machine()
    monkeypatch.setattr(linear, "CLASSES", 10)
    monkeypatch.setattr(linear, "available", lambda: 5000)
    ours = ticking(machine, "double-double", 2.0, Kind.REFERENCE, works=(FORWARD, GRADIENT))
    costs = list(linear.costs([ours], [FORWARD, GRADIENT], "float32", 1, 1, (10, 200, 1000), machine.clock()))
    left = [(cost.elements, cost.work) for cost in costs if cost.state == State.UNSUPPORTED]
    assert left == [(200, GRADIENT), (1000, FORWARD), (1000, GRADIENT)]
    assert all((cost.nanoseconds is None) == (cost.note == "more memory than is free") for cost in costs)


def test_the_linear_run_is_shown_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear.costs, "__defaults__", ((10, 40), Clock(sleep=lambda _: None)))
    asked = command.Asked.of(None, ["float64"], [], "both", 1, None)
    with (tmp_path / "shown").open("w") as shown:
        assert command.run(asked, shown, tmp_path / "kept.json", linearly=True)
    kept = json.loads((tmp_path / "kept.json").read_text())
    assert [(c["peer"], c["work"], c["elements"]) for c in kept["linear"] if c["nanoseconds"]] == [
        ("double-double", work, size) for size in (10, 40) for work in (FORWARD, GRADIENT)
    ]
    assert "4e1 elements" in (tmp_path / "shown").read_text()


needs_proc = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux tells the peak of a process's memory")


@needs_proc
def test_the_peak_is_what_a_call_needs_beyond_inputs_and_outputs() -> None:
    def work(on: Problem, count: int) -> Call:
        def run() -> Any:
            scratch = np.ones(96 * MIB, np.uint8)
            return scratch[: 32 * MIB].copy()

        return Call(run, lambda _: {}, lambda found: found.nbytes, on)

    extra = memory.extra(fake("scratch", work), FORWARD, TINY, "float32", 1)
    assert abs(extra - 96 * MIB) < 16 * MIB  # half of what is returned: a page here and there was there before


@needs_proc
def test_what_works_on_a_part_has_no_peak() -> None:
    with pytest.raises(Unsupported, match="works on 10 elements only"):
        memory.extra(ticking(Machine(), "few", 1.0, part=10), FORWARD, TINY, "float32", 1)


@needs_proc
def test_the_memory_run_is_shown_and_kept(tmp_path: Path) -> None:
    asked = command.Asked.of(["2x3x5"], ["float64"], ["read"], "forward", 1, None)
    with (tmp_path / "shown").open("w") as shown:
        assert command.run(asked, shown, tmp_path / "kept.json", peaks=True)
    (kept,) = json.loads((tmp_path / "kept.json").read_text())["memory"]
    assert [(line["peer"], line["state"]) for line in kept["peers"]] == [("double-double", "done"), ("rounded", "unsupported")]
    assert 0 <= kept["peers"][0]["bytes"] < MIB
    assert "copies of the logits" in (tmp_path / "shown").read_text()


def test_without_proc_there_is_no_peak(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(memory, "_PROCESS", tmp_path)
    assert main(["bench", "--memory", "--shape", "2x5"]) == 3
    assert capsys.readouterr().err == "lossref: this system has no /proc/self/clear_refs, by which the peak of the memory is measured\n"


def test_a_reference_that_fails_at_a_size_is_no_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear.costs, "__defaults__", ((10,), Clock(sleep=lambda _: None)))
    monkeypatch.setattr("conformance.bench.command.chosen", lambda names: [fake("ours", raising(ValueError("it")), Kind.REFERENCE)])
    with (tmp_path / "shown").open("w") as shown:
        assert not command.run(command.Asked.of(None, None, None, "forward", 1, None), shown, linearly=True)
    assert "failed: ValueError: it" in (tmp_path / "shown").read_text()
