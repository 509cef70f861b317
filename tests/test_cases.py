"""The generators: the counter's published values, and cases as their sources state them."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from squares import OPERATION

from conformance import cases
from conformance.case import TIERS, Case, Recipe, VectorError, checksum, exactly, rounded
from conformance.cases import counter, defects, edges, ladders, random, regressions, table
from conformance.cases.build import case_of
from conformance.cases.defects import groups
from conformance.cases.ladders import rows
from conformance.layouts import lay
from conformance.spec import Level, sections
from refimpl.enclosure import FORMATS, round_fraction
from refimpl.operation import GENERAL, Operation
from refimpl.operations import operations

README = Path(__file__).parents[1] / "vectors" / "README.md"


def plain(seed: int, number: int) -> int:
    """One draw, as the README states it, in Python's integers."""
    mask = 2**64 - 1
    z = (seed + (number + 1) * 0x9E3779B97F4A7C15) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return z ^ (z >> 31)


@pytest.mark.parametrize("seed", [0, 7, 2**48 - 1])
def test_draws_are_those_of_the_readme(seed: int) -> None:
    assert counter.draw(seed, 5, 3).tolist() == [plain(seed, n) for n in (5, 6, 7)]


def test_readme_publishes_the_values_that_the_counter_gives() -> None:
    text = README.read_text()
    draws = re.findall(r"^\| (\d+) \| (\d+) \| `0x([0-9a-f]{16})` \|$", text, re.M)
    assert len(draws) >= 4
    for seed, number, value in draws:
        assert counter.draw(int(seed), int(number), 1)[0] == int(value, 16)
    rows = re.findall(r"^\| ([a-z_]+) \| (\w+) \| `([^`]+)` \| `([0-9a-f]{64})` \|$", text, re.M)
    assert {row[0] for row in rows} == {
        "logits",
        "probability",
        "positive_probability",
        "log_probability",
        "weight",
        "index",
        "some_ignored",
        "cotangent",
    }
    for holds, dtype, first, sha256 in rows:
        array = counter.make(Recipe(holds, 1, (3, 4), dtype, axis=-1, below=4, ignored=-100))
        assert checksum(array) == sha256, holds
        shown = [str(v) if dtype == "int64" else float(v).hex() for v in array.flat[:3]]
        assert first.split(", ") == shown, holds


@pytest.mark.parametrize("dtype", FORMATS)
def test_each_map_holds_what_it_says(dtype: str) -> None:
    def make(holds: str) -> np.ndarray:
        return counter.make(Recipe(holds, 3, (20, 500), dtype, axis=1)).astype(np.float64)

    logits, probability, log_p, weight, cotangent = map(make, ("logits", "probability", "log_probability", "weight", "cotangent"))
    assert abs(logits.mean()) < 0.1
    assert 2.7 < logits.std() < 3.1
    assert np.abs(probability.sum(axis=1) - 1).max() < 500 * FORMATS[dtype].unit
    assert (probability >= 0).all()
    assert (probability == 0).any()
    assert (log_p < 0).all()
    assert set(np.unique(weight * 8)) == {0.0, *map(float, range(2, 17))}
    assert not np.isin(np.abs(cotangent), (0.0, 1.0)).any()
    assert (np.diff(cotangent.ravel()) != 0).all()


def test_rounding_to_bfloat16_is_done_once() -> None:
    exact = 1.0 + 2.0**-8 + 2.0**-40  # by way of float32 this is a tie, and goes to 1.0
    assert rounded(np.array([exact]), "bfloat16").astype(float)[0] == 1.0 + 2.0**-7
    values = np.ldexp(counter.draw(1, 0, 1000).astype(np.float64), -64) * 2.0 ** (counter.draw(2, 0, 1000) % np.uint64(200)).astype(float)
    for dtype, target in FORMATS.items():
        expected = [round_fraction(Fraction(value), target) for value in values.tolist()]
        assert rounded(values, dtype).astype(np.float64).tolist() == expected


def test_rounding_keeps_signs_of_zero_and_one_nan() -> None:
    for dtype in FORMATS:
        array = rounded(np.array([-0.0, -np.nan, -5e-324, np.inf]), dtype)
        wide = array.astype(np.float64)
        assert math.copysign(1.0, wide[0]) == -1.0
        assert array[1:2].tobytes() == np.array([np.nan], array.dtype).tobytes()
        assert wide[3] == np.inf


def test_a_number_that_the_dtype_cannot_hold_is_refused() -> None:
    with pytest.raises(VectorError, match=r"an example: bfloat16 can't hold .*100000000\.0.* exactly; choose another number"):
        exactly([0.5, 1e8], "bfloat16", "an example")


def test_a_changed_recipe_is_refused() -> None:
    recipe = counter.sealed(Recipe("logits", 9, (4, 4), "float32"))
    assert checksum(counter.make(recipe)) == recipe.sha256
    with pytest.raises(VectorError, match="doesn't give the bytes of its checksum"):
        counter.make(replace(recipe, seed=10))
    with pytest.raises(VectorError, match="no generator"):
        counter.make(replace(recipe, holds="noise"))


def test_examples_become_cases() -> None:
    found = {case.id: case for case in edges.cases(OPERATION)}
    shared = found["squares/edges/shared-float16"]
    assert shared.clauses == ("SQR-1", "SQR-2")
    assert shared.flags == ("many-rows",)
    assert shared.inputs["logits"].dtype == np.float16
    assert shared.inputs["target"].dtype == np.int64
    assert shared.cotangent is not None
    assert abs(float(shared.cotangent[0])) != 1.0
    assert found["squares/edges/cotangent-float32"].cotangent == np.float32(0.5)
    assert found["squares/edges/doubled-float32"].parameters == {"doubling": True}
    assert "squares/edges/tiny-float32" not in found


def test_random_cases_are_the_same_numbers_in_every_dtype() -> None:
    found = {case.id: case for case in random.cases(OPERATION)}
    wide, half = (found[f"squares/random/plain-V5-{dtype}"] for dtype in ("float64", "float16"))
    assert np.array_equal(rounded(wide.inputs["logits"], "float16"), half.inputs["logits"])
    assert np.array_equal(wide.inputs["target"], half.inputs["target"])
    large = found["squares/random/plain-V50000-float32"]
    assert large.recipes["logits"].sha256 == checksum(large.inputs["logits"])
    assert "target" not in large.recipes


def test_a_call_that_is_not_the_operations_is_refused() -> None:
    with pytest.raises(VectorError, match="squares/edges/x-float32: squares has no input or parameter 'labels'"):
        case_of(OPERATION, "edges/x", "float32", {"labels": [0]}, clauses=())
    with pytest.raises(VectorError, match="squares/edges/x-float32: squares refuses this call"):
        case_of(OPERATION, "edges/x", "float32", {"logits": [[1.0]], "target": [0, 0]}, clauses=())
    with pytest.raises(VectorError, match="whole numbers"):
        case_of(OPERATION, "edges/x", "float32", {"logits": [[1.0]], "target": [0.5]}, clauses=())


def test_two_examples_of_one_name_are_refused() -> None:
    other = replace(OPERATION.clauses[1], examples=(replace(OPERATION.clauses[1].examples[0], call={"logits": [[2.0]], "target": [0]}),))
    clash = replace(OPERATION, clauses=(OPERATION.clauses[0], other))
    with pytest.raises(VectorError, match="SQR-2: another clause has a different example 'shared'"):
        list(edges.cases(clash))


def test_a_defect_names_a_clause(monkeypatch: pytest.MonkeyPatch) -> None:
    call = {"logits": table.repeat((3, 2), 1, 2), "target": [0, 0, 1]}
    monkeypatch.setitem(defects.DEFECTS, "squares", (table.Entry("d", ("E2",), call, ("float32",), "a/b#1"),))
    (case,) = regressions.cases(OPERATION)
    assert (case.id, case.clauses, case.source) == ("squares/regression/d-float32", ("SQR-2",), "a/b#1")
    monkeypatch.setitem(defects.DEFECTS, "squares", (table.Entry("d", ("E9",), call, ("float32",)),))
    with pytest.raises(VectorError, match="no clause has the id or edge label 'E9'"):
        list(regressions.cases(OPERATION))


def test_two_cases_of_one_id_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    twice = table.Entry("d", ("E1",), {"logits": [[1.0]], "target": [0]}, ("float32",))
    monkeypatch.setitem(defects.DEFECTS, "squares", (twice, twice))
    with pytest.raises(VectorError, match="two cases have this id"):
        cases.cases(OPERATION)


def test_every_defect_belongs_to_an_operation() -> None:
    assert set(defects.DEFECTS) <= set(operations())


@pytest.fixture(scope="module", params=list(operations()))
def found(request: pytest.FixtureRequest) -> tuple[Operation, list[Case]]:
    operation = operations()[request.param]
    return operation, cases.cases(operation)


def test_every_case_is_evidence_for_clauses_of_its_operation(found: tuple[Operation, list[Case]]) -> None:
    operation, members = found
    known = {clause.id for clause in (*operation.clauses, *GENERAL)}
    for case in members:
        assert case.clauses, case.id
        assert set(case.clauses) <= known, case.id


def test_every_clause_with_an_edge_has_a_case(found: tuple[Operation, list[Case]]) -> None:
    operation, members = found
    spoken = {id for case in members for id in case.clauses}
    binding = {clause.id for clause in operation.clauses if clause.edge and sections()[clause.id].level == Level.MUST}
    assert binding <= spoken


def test_cotangents_are_never_all_one(found: tuple[Operation, list[Case]]) -> None:
    _, members = found
    for case in members:
        if case.cotangent is not None and case.cotangent.size and case.group != "edges":
            assert not (case.cotangent.astype(np.float64) == 1.0).any(), case.id


def test_every_group_of_reports_has_a_case_or_a_reason() -> None:
    sources = {case.source for operation in operations().values() for case in regressions.cases(operation)}
    assert sorted([*groups.SOURCES, *groups.WITHOUT]) == list(range(1, 73))
    assert set(groups.SOURCES.values()) <= sources
    assert all(len(reason.split()) > 6 for reason in groups.WITHOUT.values())


def test_every_table_of_ladders_is_one_of_operations() -> None:
    for entries in ladders.TABLES:
        assert set(entries) <= set(operations())


def test_every_layout_of_a_case_is_one_that_its_array_can_have(found: tuple[Operation, list[Case]]) -> None:
    _, members = found
    laid = [case for case in members if case.layouts]
    assert {layout for case in laid for layout in case.layouts.values()} >= {"transposed", "strided", "padded", "offset", "far"}
    for case in laid:
        assert "GEN-6" in case.clauses, case.id
        for name, layout in case.layouts.items():
            array = case.cotangent if name == "cotangent" else case.inputs[name]
            assert array is not None
            assert lay(array, layout).array.tobytes() == array.tobytes()


def test_a_row_of_a_layout_is_like_no_other(found: tuple[Operation, list[Case]]) -> None:
    """What is read in the wrong place shows, unless the layout needs rows that are alike."""
    _, members = found
    for case in members:
        for name, layout in case.layouts.items():
            array = case.inputs.get(name)
            if array is None or array.ndim < 2 or layout == "expanded":
                continue
            lines = {row.tobytes() for row in array.reshape(-1, array.shape[-1])}
            assert len(lines) == array.size // array.shape[-1], case.id


def test_every_tier_holds_cases_of_every_operation(found: tuple[Operation, list[Case]]) -> None:
    _, members = found
    assert {case.tier for case in members} <= set(TIERS)
    of = {tier: [case for case in members if case.tier == tier] for tier in TIERS}
    assert 0 < len(of["smoke"]) < len(of["core"])
    directions = {bool(case.cotangent is not None and np.any(case.cotangent.astype(float))) for case in of["smoke"]}
    assert True in directions


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("name", rows.FINITE)
def test_a_ladder_has_a_finite_row_and_a_target_that_is_not_masked(name: str, dtype: str) -> None:
    ladder = rows.FINITE[name](dtype)
    count, classes = ladder.logits.shape
    assert len(ladder.target) == count
    assert ladder.logits.size <= 1024  # all elements of a gradient are kept
    assert np.array_equal(table.narrowed(ladder.logits, dtype), ladder.logits)
    assert not np.isnan(ladder.logits).any()
    assert (ladder.logits < np.inf).all()
    for row, label in zip(ladder.logits, ladder.target, strict=True):
        assert 0 <= label < classes
        assert row[label] > -np.inf


@pytest.mark.parametrize("dtype", FORMATS)
def test_beside_is_the_next_number(dtype: str) -> None:
    target = FORMATS[dtype]
    assert table.beside(1.0, 1, dtype) == 1.0 + 2 * target.unit
    assert table.beside(1.0, -1, dtype) == 1.0 - target.unit
    assert table.beside(-1.0, 1, dtype) == -1.0 + target.unit
    assert table.beside(target.tiny, -1, dtype) == 0.0


def test_a_number_of_classes_reaches_every_block() -> None:
    """Each power of two up to 65536 is a block that some number of classes exceeds by one, and one that it falls short of."""
    ids = {case.id for case in ladders.cases(operations()["softmax_cross_entropy"])}
    sizes = {int(found[1]) for id in ids if (found := re.search(r"/V(\d+)", id))}
    for block in (32, 128, 1024, 65536):
        assert {block - 1, block, block + 1} <= sizes
    assert {1, 2, 3, 5, 4233, 32000, 50257, 128256, 200000} <= sizes
