"""The faults: named, caught, told apart, wrong where they say so; and a matrix that notices when that isn't so."""

from __future__ import annotations

import importlib
import json
import mmap
import os
import re
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conformance import faults as package
from conformance.cli import main
from conformance.faults import Fault, faults, matrix, scores, smoothed
from conformance.faults.matrix import Matrix, Row, Seen
from conformance.faults.steps import PROMISES
from conformance.kernel import kernel
from conformance.spec import sections
from refimpl.operation import GENERAL
from refimpl.operations import operation, operations

ROOT = Path(__file__).parents[1]
SMALL = "smoothed_attention_loss"  # the fewest vectors
LIMIT = 0.95  # of the vectors that a fault is asked: a fault that fails on more says little of the suite


def right(name: str, of: str = SMALL, dtypes: tuple[str, ...] = tuple(PROMISES), **dialect: str) -> Any:
    return kernel(f"{of}/{name}", of, smoothed.function(of), {dtype: PROMISES[dtype] for dtype in dtypes}, dialect)


def sabotage(direction: Any = "forward", name: str = "right", adapter: Any = None) -> Fault:
    """A fault that makes no mistake."""
    return Fault(adapter or right(name), "SAL-1", direction, "None.")


@pytest.fixture(scope="module")
def whole() -> Matrix:
    """The matrix of all faults, without the right kernels: the bounds' own tests hold those."""
    return matrix.matrix(faults(), (), "core", os.cpu_count() or 1)


def test_names_are_unique_and_begin_with_the_operation() -> None:
    names = Counter(fault.name for fault in faults())
    assert names
    assert max(names.values()) == 1
    assert all(re.fullmatch(rf"{fault.operation}/[A-Za-z0-9]+(-[A-Za-z0-9]+)*", fault.name) for fault in faults())


def test_another_process_finds_every_kernel() -> None:
    assert len(matrix._listed()) == len(faults()) + len(matrix.right_kernels())


def test_every_fault_says_what_it_breaks_and_where_it_was_seen() -> None:
    for fault in faults():
        known = {clause.id for clause in (*operation(fault.operation).clauses, *GENERAL)}
        assert fault.clause in known, fault.name
        assert fault.clause in sections(), fault.name
        assert fault.direction in ("forward", "backward"), fault.name
        assert fault.mistake, fault.name
        assert re.fullmatch(r"|[\w.-]+(/[\w.-]+)?(#\d+)?", fault.seen), f"{fault.name}: {fault.seen}"
        assert fault.adapter.promises, fault.name


def test_every_operation_has_faults_in_both_directions() -> None:
    found = {(fault.operation, fault.direction) for fault in faults()}
    assert found == {(name, direction) for name in operations() for direction in ("forward", "backward")}


@pytest.mark.parametrize("name", operations())
def test_the_kernel_that_faults_are_made_of_passes_everything(name: str) -> None:
    adapter = importlib.import_module(f"conformance.faults.{name}").RIGHT
    vectors = matrix.of_tier([name], "full")
    seen = matrix.see(adapter, vectors)
    assert seen.asked == len(vectors), "it is asked in every dtype"
    assert not seen.failed


def test_every_fault_is_caught(whole: Matrix) -> None:
    assert not whole.missed


def test_no_two_faults_are_caught_alike(whole: Matrix) -> None:
    assert not whole.alike


def test_the_clause_is_among_those_that_the_findings_name(whole: Matrix) -> None:
    assert not [row.fault.name for row in whole.rows if row.caught and not row.named]


def test_a_fault_in_the_gradient_has_a_right_loss_and_the_others_a_wrong_one(whole: Matrix) -> None:
    assert not whole.astray
    forward = [row for row in whole.rows if row.fault.direction == "forward" and row.caught]
    assert not [row.fault.name for row in forward if not any("forward" in where for where in row.seen.failed.values())]
    assert len(whole.rows) - len(forward) > 30, "faults in gradients"


def test_no_fault_fails_everywhere(whole: Matrix) -> None:
    assert not [row.fault.name for row in whole.rows if len(row.caught) > LIMIT * row.seen.asked]


def test_the_page_lists_every_fault() -> None:
    page = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")
    chapters = {part.partition("\n")[0]: part for part in page.split("\n### ")[1:]}
    missing = [fault.name for fault in faults() if f"| {fault.name.partition('/')[2]} |" not in chapters.get(fault.operation, "")]
    assert not missing, "run `lossref faults --write`"


# What the matrix must notice


def test_a_right_kernel_is_not_caught() -> None:
    made = matrix.matrix([sabotage(), sabotage("backward", "right-too")], (), "core", 1)
    assert made.missed == [f"{SMALL}/right", f"{SMALL}/right-too"]
    assert not made.alike, "what isn't caught isn't caught alike"
    assert not made.holds


def wrong(direction: Any = "forward", name: str = "no-target", **changes: Any) -> Fault:
    """A fault of few vectors."""
    maker = smoothed.Maker(SMALL)
    made = maker.both(name, "SAL-9", "Targets are not checked.", classes=lambda flat, kept, classes: np.where(kept, flat, 0) % classes)
    return replace(made, direction=direction, **changes)


def test_two_faults_that_are_one_are_alike() -> None:
    made = matrix.matrix([wrong(), wrong(name="the-same"), sabotage()], (), "core", 1)
    assert made.alike == [(f"{SMALL}/no-target", f"{SMALL}/the-same")]
    assert made.missed == [f"{SMALL}/right"]


def test_a_gradient_fault_with_a_wrong_loss_is_astray() -> None:
    made = matrix.matrix([wrong("backward")], (), "core", 1)
    assert [row.fault.name for row in made.astray] == [f"{SMALL}/no-target"]
    assert not made.missed
    assert not made.holds


def test_a_wrong_kernel_among_the_right_ones_is_accused() -> None:
    made = matrix.matrix([wrong()], (right("right"), wrong(name="accused").adapter), "core", 1)
    assert [seen.name for seen in made.accused] == [f"{SMALL}/accused"]
    assert next(seen.asked for seen in made.right) > 100
    assert not made.holds
    assert matrix.matrix([wrong()], (right("right"),), "core", 1).holds


def test_the_same_answer_under_another_promise_is_judged_anew() -> None:
    nan, zero = right("nan"), right("zero", all_ignored="zero")
    assert not matrix.see(nan, matrix.of_tier(nan.operations, "core")).failed
    assert set(matrix.see(zero, matrix.of_tier(zero.operations, "core")).broken) >= {"SAL-8"}


def test_processes_see_what_one_process_sees(whole: Matrix) -> None:
    some = [row for row in whole.rows if row.fault.operation == SMALL][::12]
    assert matrix.matrix([row.fault for row in some], (), "core", 1).rows == tuple(some)


def test_a_tier_holds_those_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = right("right")
    vectors = matrix.of_tier(adapter.operations, "full")[:4]
    tiered = [replace(v, case=replace(v.case, tier=tier)) for v, tier in zip(vectors, ("smoke", "core", "full", "core"), strict=True)]
    monkeypatch.setattr(matrix.vectors, "read", lambda operation: tiered)
    matrix._of_tier.cache_clear()
    try:
        assert [len(matrix.of_tier(adapter.operations, tier)) for tier in ("smoke", "core", "full")] == [1, 3, 4]
    finally:
        matrix._of_tier.cache_clear()


# The command


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Put faults and right kernels in the place of ours."""

    def put(*found: Fault, right: tuple[Any, ...] = ()) -> None:
        monkeypatch.setattr(package, "faults", lambda: found)
        monkeypatch.setattr(matrix, "right_kernels", lambda: right)

    return put


def test_the_command_reports_what_it_finds(only: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    only(wrong(), right=(right("right"),))
    assert main(["faults", "--jobs", "1", "--json", str(tmp_path / "matrix.json")]) == 0
    said = capsys.readouterr().out
    seen = matrix.see(wrong().adapter, matrix.of_tier(wrong().adapter.operations, "core"))
    numbers = rf"{len(seen.failed)}/{seen.asked}  edges/target-V-float32  \[edges \d.*; SAL-9 \d"
    assert re.search(rf"{SMALL}/no-target +forward +SAL-9 +{numbers}", said), said
    assert "1 of 1 faults caught by the vectors of tier core" in said
    assert "0 of 1 right kernels accused" in said
    asked = len(matrix.of_tier(right("right").operations, "core"))
    written = json.loads((tmp_path / "matrix.json").read_text())
    (row,) = written["faults"]
    assert (row["name"], row["asked"], row["caught"], row["named"]) == (f"{SMALL}/no-target", seen.asked, list(seen.failed), True)
    assert written["right"] == [{"name": f"{SMALL}/right", "asked": asked, "accused": []}]


def test_the_command_fails_for_a_fault_that_is_right(only: Any, capsys: pytest.CaptureFixture[str]) -> None:
    only(wrong(), sabotage())
    assert main(["faults", "--jobs", "1"]) == 1
    assert f"NOT CAUGHT   {SMALL}/right" in capsys.readouterr().out


def test_the_command_fails_for_an_accused_kernel_and_for_twins(only: Any, capsys: pytest.CaptureFixture[str]) -> None:
    only(wrong(), right=(wrong(name="accused").adapter,))
    assert main(["faults", "--jobs", "1", "--operation", SMALL]) == 1
    assert f"ACCUSED      {SMALL}/accused" in capsys.readouterr().out
    assert main(["faults", "--jobs", "1", "--fault", "*/no-*"]) == 0, "with --fault no right kernel is judged"
    assert main(["faults", "--jobs", "1", "--faults-only"]) == 0
    only(wrong(), wrong(name="twin"))
    assert main(["faults", "--jobs", "1"]) == 1
    assert f"ALIKE        {SMALL}/no-target = {SMALL}/twin" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tier", "huge"], "no tier is named 'huge'"),
        (["--fault", "no-such-fault"], "no fault is named 'no-such-fault'"),
        (["--operation", "perplexity"], "no operation is named 'perplexity'"),
        (["--write", "--tier", "full"], "--write publishes the whole matrix"),
        (["--write", "--operation", SMALL], "--write publishes the whole matrix"),
    ],
)
def test_what_the_command_does_not_take(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["faults", *arguments]) == 2
    assert message in capsys.readouterr().err


# What is published


MARKS = "<!-- faults: made by `lossref faults --write` -->\n\nold\n\n<!-- end of faults -->\n"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "docs").mkdir()
    for name in ("README.md", "docs/faults.md"):
        (tmp_path / name).write_text(f"before\n{MARKS}after\n")
    return tmp_path


def test_scores_of_other_suites_stay(checkout: Path) -> None:
    scores.record(checkout, {"ours": {"a/x": True, "a/y": True, "a/z": False, "b/x": True}}, 4)
    scores.record(checkout, {"theirs": {"a/x": True, "a/y": False}}, 4)
    readme = (checkout / "README.md").read_text()
    assert "| ours | 3 | 75 % | 75 % |\n| theirs | 1 | 50 % | 25 % |" in readme
    assert readme.startswith("before\n")
    assert readme.endswith("after\n")
    assert "old" not in readme


def test_the_page_is_made_of_the_matrix(checkout: Path) -> None:
    seen = Seen("right", 5, {f"{SMALL}/edges/one-float32": ("forward",)}, {"SAL-9": 1}, {"edges": 1})
    scores.write_page(checkout, Matrix((Row(wrong(), seen), Row(sabotage("backward"), Seen("right", 5, {}, {}, {}))), ()))
    page = (checkout / "docs" / "faults.md").read_text()
    assert f"### {SMALL}\n" in page
    assert "| no-target | float32 | SAL-9 | Targets are not checked. |  | 1 of 5 | `edges/one-float32` |" in page
    assert "| right | float64, float32, bfloat16, float16, gradient | SAL-1 | None. |  | 0 of 5 |  |" in page


# Faults that only a layout in memory shows


def answer(name: str, logits: Any, target: Any) -> Any:
    (fault,) = [fault for fault in faults() if fault.name == f"softmax_cross_entropy/{name}"]
    return fault.adapter.call("softmax_cross_entropy", "eager", {"logits": logits, "target": target}, {"reduction": "none"}, None)[0]


LOGITS, TARGET = np.array([[1.0, 2.0, 4.0], [0.0, 5.0, 1.0]], np.float32), np.array([0, 2])


def test_ignored_strides_show_in_a_transposed_array() -> None:
    expected = answer("saturates-at-64", LOGITS, TARGET)
    assert np.array_equal(answer("strides-ignored", LOGITS, TARGET), expected)
    assert not np.array_equal(answer("strides-ignored", np.asfortranarray(LOGITS), TARGET), expected)


def test_ignored_strides_show_in_a_column_of_targets() -> None:
    expected = answer("saturates-at-64", LOGITS, TARGET)
    assert np.array_equal(answer("target-strides-ignored", LOGITS, TARGET), expected)
    column = np.array([[0, 1], [2, 0]])[:, 0]
    assert np.array_equal(column, TARGET)
    assert not np.array_equal(answer("target-strides-ignored", LOGITS, column), expected)


def test_a_read_beyond_the_memory_of_an_array_stays_within_it() -> None:
    rows = np.broadcast_to(LOGITS[:1], (2, 3))
    assert np.array_equal(answer("strides-ignored", rows, TARGET), answer("saturates-at-64", rows, TARGET))


@pytest.fixture
def far() -> Iterator[Any]:
    """LOGITS with rows 2^31 elements apart, in a file that takes no room."""
    itemsize, apart = 4, 2**31
    with tempfile.TemporaryFile() as file:
        file.truncate((apart + 3) * itemsize)
        flat = np.frombuffer(mmap.mmap(file.fileno(), 0), np.float32)  # which keeps the mapping
        rows = np.lib.stride_tricks.as_strided(flat, (2, 3), (apart * itemsize, itemsize))
        rows[...] = LOGITS
        yield rows


def test_offsets_of_32_bits_show_in_rows_that_are_far_apart(far: Any) -> None:
    expected = answer("saturates-at-64", LOGITS, TARGET)
    assert np.array_equal(answer("int32-offsets", LOGITS, TARGET), expected)
    assert np.array_equal(answer("saturates-at-64", far, TARGET), expected)
    actual = answer("int32-offsets", far, TARGET)
    assert actual[0] == expected[0]
    assert np.isnan(actual[1])
