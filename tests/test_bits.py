"""The digest of the bits: its inputs hold what breaks kernels, one bit changes it, and the record is compared as it should be."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conformance import bits
from conformance.bits import BitsError, Digest
from conformance.case import Array
from conformance.cases import adversarial
from conformance.cli import main
from refimpl import rows
from refimpl.enclosure import FORMATS, Enclosure, Kind
from refimpl.operation import Operation
from refimpl.operations import operations

ALL = pytest.mark.parametrize("op", operations().values(), ids=operations())
ONE = operations()["entropy"]
MILLION = 10**6


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Two operations and few rows of few classes, and a record in a folder of its own."""
    chosen = {name: operations()[name] for name in ("entropy", "log_softmax")}
    monkeypatch.setattr(bits, "operations", lambda: chosen)
    monkeypatch.setattr("refimpl.operations.operations", lambda: chosen)
    monkeypatch.setattr(bits, "LADDER", ((3, 96), (17, 50)))
    monkeypatch.setattr(bits, "RECORD", tmp_path / "bits.json")
    bits.write(bits.RECORD)
    return bits.RECORD


def test_the_record_holds_a_million_results_of_every_operation() -> None:
    recorded = bits.read()
    assert list(recorded["whole"]) == list(recorded["short"]) == list(operations())
    for name, digest in recorded["whole"].items():
        assert digest.gradients >= MILLION
        assert digest.outputs >= MILLION or (
            "reduction" not in operations()[name].parameters and "normalize_length" in operations()[name].parameters
        )


@ALL
def test_the_calls_reach_every_format_and_the_edges_of_the_kernels_blocks(op: Operation) -> None:
    made = list(bits.calls(op, short=True))
    assert {call.dtype for call in made} == set(FORMATS)
    edges = {around for size in (rows.LANES, rows.BLOCK) for around in (size - 1, size, size + 1)} | {1, 2}
    assert edges <= {classes for classes, _ in bits.LADDER}
    for parameter in op.parameters:
        assert len({repr(call.arguments[parameter]) for call in made}) > 1, parameter
    for choice in op.choices:
        assert {call.arguments[choice.name] for call in made} == set(choice.values)
    assert {name for call in made for name in call.arguments} == {*op.inputs, *op.defaults()}


def test_a_whole_call_is_shared_among_threads_and_a_short_one_has_fewer_rows() -> None:
    def sizes(short: bool) -> list[int]:
        return [call.arguments["p"].size for call in bits.calls(ONE, short)]

    assert len(sizes(True)) == len(sizes(False))
    assert sum(sizes(True)) < sum(sizes(False)) / 4
    assert sum(size > 1 << 16 for size in sizes(False)) > 10


def special(array: Array) -> set[str]:
    """Which of the numbers that break kernels an array holds."""
    wide, tiny = array.astype(np.float64), FORMATS[array.dtype.name].normal
    size = np.abs(wide[np.isfinite(wide)])
    there = {
        "nan": np.isnan(wide).any(),
        "+inf": (wide == np.inf).any(),
        "-inf": (wide == -np.inf).any(),
        "zero": (wide == 0.0).any(),
        "negative": (size.size and wide[np.isfinite(wide)].min() < 0.0),
        "subnormal": ((size > 0.0) & (size < tiny)).any(),
        "huge": (size >= FORMATS[array.dtype.name].largest / 4).any(),
        "ties": (np.sort(wide, axis=-1)[:, 1:] == np.sort(wide, axis=-1)[:, :-1]).any(),
    }
    return {name for name, is_there in there.items() if is_there}


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize(
    ("holds", "lacks"),
    [
        ("logits", {"huge"}),
        ("huge logits", set()),
        ("probability", {"-inf", "huge"}),
        ("huge probability", {"-inf"}),
        ("target probability", {"nan", "+inf", "-inf", "negative", "huge"}),
        ("huge target probability", {"nan", "+inf", "-inf", "negative"}),
        ("log_probability", {"huge"}),
        ("weight", {"nan", "+inf", "-inf", "negative", "huge"}),
        ("cotangent", {"nan", "+inf", "-inf", "huge"}),
    ],
)
def test_the_inputs_hold_what_breaks_kernels(holds: str, lacks: set[str], dtype: str) -> None:
    array = adversarial.make(holds, 7, (4000, 9), -1, dtype)
    assert (array.dtype, array.shape) == (FORMATS[dtype].dtype, (4000, 9))
    everything = {"nan", "+inf", "-inf", "zero", "negative", "subnormal", "huge", "ties"}
    if dtype != "float64":  # numbers beyond a narrow format's range are its largest
        lacks = lacks - {"huge"}
        assert special(array) - {"huge"} == everything - lacks - {"huge"}
    else:
        assert special(array) == everything - lacks


def test_inputs_are_drawn_along_their_class_axis() -> None:
    last = adversarial.make("probability", 5, (6, 4, 50), -1, "float64")
    assert np.array_equal(np.moveaxis(adversarial.make("probability", 5, (6, 50, 4), 1, "float64"), 1, -1), last, equal_nan=True)
    assert adversarial.make("cotangent", 5, (), -1, "float16").shape == ()
    assert adversarial.make("cotangent", 5, (0, 3), -1, "float16").shape == (0, 3)


def test_neighbours_are_near() -> None:
    array = np.array([[1.0, 0.0, 3e-310, np.inf, np.nan, 7.5]] * 50)
    moved = adversarial.near(array, 3, "float64")
    ordinary = array[:, [0, 5]]
    assert np.array_equal(np.isnan(moved), np.isnan(array))
    assert (moved[:, 1] == 0.0).all()
    assert (moved[:, 3] == np.inf).all()
    assert 0.0 < np.abs(moved[:, [0, 5]] / ordinary - 1.0).max() <= 0.25


def test_the_results_are_of_every_kind() -> None:
    kinds: Counter[int] = Counter()
    undetermined = 0
    for op in operations().values():
        for call in bits.calls(op, short=True):
            if call.dtype == "float64":
                output = op.forward(**call.arguments)
                for e in (output, *op.vjp(**call.arguments, cotangent=call.cotangent(output.shape)).values()):
                    kinds.update(dict(zip(*(part.tolist() for part in np.unique(e.kind, return_counts=True)), strict=True)))
                    undetermined += int(np.isinf(e.radius).sum())
    assert set(kinds) == {int(kind) for kind in Kind}
    assert undetermined > 0
    assert kinds[Kind.FINITE] > sum(kinds.values()) / 3


def changed(part: str, e: Enclosure) -> Enclosure:
    """The enclosure with the smallest change of one part of its last element that isn't a nan."""
    arrays = {name: getattr(e, name).copy() for name in ("kind", "hi", "lo", "radius")}
    index = int(np.flatnonzero(e.kind.reshape(-1) == Kind.FINITE)[-1])
    flat = arrays[part].reshape(-1)
    if part == "kind":
        flat[index] = Kind.OVERFLOW
    else:
        flat.view(np.int64)[index] ^= 1 if part != "lo" or flat[index] else -(2**63)  # of a zero, the sign
    return Enclosure(**arrays)


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("part", ["kind", "hi", "lo", "radius"])
@pytest.mark.parametrize("direction", ["forward", "vjp"])
def test_one_bit_changes_the_digest(part: str, direction: str) -> None:
    def forward(**call: Any) -> Enclosure:
        return changed(part, ONE.forward(**call))

    def vjp(**call: Any) -> dict[str, Enclosure]:
        return {name: changed(part, e) for name, e in ONE.vjp(**call).items()}

    other = replace(ONE, forward=forward) if direction == "forward" else replace(ONE, vjp=vjp)
    before, after = bits.digest(ONE), bits.digest(other)
    assert before == bits.digest(ONE)
    assert replace(after, results=before.results) == before
    assert after.results != before.results


def test_every_nan_is_the_same_and_every_zero_is_not() -> None:
    nans = np.array([0x7FF8000000000000, -0x8000000000000, 0x7FF0000000000001, -1], np.int64).view(np.float64)
    assert np.isnan(nans).all()
    assert len({bits._canonical(nans[i : i + 1]) for i in range(4)}) == 1
    assert bits._canonical(np.array([0.0])) != bits._canonical(np.array([-0.0]))
    assert bits._canonical(np.array([1.0], ">f8")) == np.array([1.0], "<f8").tobytes()


def test_as_recorded_is_0(few: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for size in ([], ["--short"], ["--operation", "entropy"]):
        assert main(["bits", "--check", *size]) == 0
        out, err = capsys.readouterr()
        assert "the bits are those of the record, on " in out
        assert bits.read(few)["short" if "--short" in size else "whole"]["entropy"].results in out
        assert ("log_softmax" in out, "total" in out) == ((False, False) if "--operation" in size else (True, True))
        assert err == ""


def alter(record: Path, **fields: Any) -> None:
    text = json.loads(record.read_text())
    text["whole"]["log_softmax"] |= fields
    record.write_text(json.dumps(text))


def test_other_bits_are_1_with_the_operation_and_the_machine(few: Path, capsys: pytest.CaptureFixture[str]) -> None:
    alter(few, results="0" * 64)
    assert main(["bits"]) == 0, "only --check compares"
    assert main(["bits", "--check", "--operation", "entropy"]) == 0
    capsys.readouterr()
    assert main(["bits", "--check"]) == 1
    out, err = capsys.readouterr()
    assert "the bits are those" not in out
    first, last = err.splitlines()
    assert first.startswith("lossref: log_softmax: its results have the digest ")
    assert first.endswith("from the same inputs")
    assert "0" * 64 in first
    assert last == f"lossref: this is {bits.machine()}"
    assert "numba 0." in last
    assert "compiled for " in last


def test_other_inputs_are_told_from_other_bits(few: Path, capsys: pytest.CaptureFixture[str]) -> None:
    alter(few, inputs="0" * 64)
    assert main(["bits", "--check"]) == 1
    assert "log_softmax: its inputs have the digest" in capsys.readouterr().err


def test_an_operation_more_or_less_is_a_difference() -> None:
    one = Digest(1, 2, "a", "b")
    assert "the record has no such operation" in bits.differences({"new": one}, {})[0]
    assert "there is no such operation" in bits.differences({}, {"old": one})[0]
    assert "other counts" in bits.differences({"same": one}, {"same": replace(one, outputs=3)})[0]
    assert not bits.differences({"same": one}, {"same": replace(one)})


@pytest.mark.parametrize("text", [None, "", "[]", "{}", '{"whole": {"entropy": {}}, "short": {}}', '{"whole": 3, "short": {}}'])
def test_a_record_that_is_none_is_2(few: Path, text: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    few.unlink()
    if text is not None:
        few.write_text(text)
    with pytest.raises(BitsError, match="holds no digests"):
        bits.read(few)
    assert main(["bits", "--check"]) == 2
    assert main(["bits", "--operation", "entropy"]) == 0, "without --check nothing is read"
    assert "lossref bits --write" in capsys.readouterr().err


def test_writing_records_what_is_there(few: Path) -> None:
    before = few.read_bytes()
    alter(few, results="0" * 64)
    assert main(["bits", "--write"]) == 0
    assert few.read_bytes() == before
    for wrong in (["--short"], ["--operation", "entropy"]):
        assert main(["bits", "--write", *wrong]) == 2


def test_more_processors_than_there_are_is_2(few: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bits", "--threads", "100000"]) == 2
    assert "100000" in capsys.readouterr().err
