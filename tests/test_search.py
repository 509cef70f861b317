"""The search for the worst input: what it has found is still so, it finds nothing outside of a radius, and it does find what is there."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from flint import arb
from hypothesis import given, settings, target
from hypothesis import strategies as st

from conformance.page import filled
from refimpl.ball import Ball, precision
from refimpl.enclosure import FORMATS, Enclosure, Kind
from refimpl.operation import Index, IndexOrReal, Number, Switch
from tests.search import ordinary, table
from tests.search.__main__ import main as search
from tests.search.blocks import BLOCKS, BlockSpace
from tests.search.calls import Calls, CallSpace, Shared, spaces
from tests.search.climb import KINDS, climb, within
from tests.search.magnitude import magnitude
from tests.search.measure import BITS, errors
from tests.search.record import KEPT, Target, load, measured, member, save, targets, worst
from tests.search.rounding import counts

BUDGET = 1000  # evaluations of each quick search

TARGETS = {name: space for section in targets().values() for name, space in section.items()}
RECORDED = {name: records for section in ("blocks", "operations") for name, records in load()[section].items()}
EVERY = pytest.mark.parametrize("name", TARGETS)


def best_of_climbs(space: Target, kind: str, seed: int, budget: int) -> float:
    return max(found.score for found in climb(space, np.random.default_rng(seed), kind, within(budget)))


def best_of_draws(space: Target, kind: str, seed: int, budget: int) -> float:
    rng, more, best = np.random.default_rng(seed), within(budget), 0.0
    going = True
    while going:
        population = space.start(rng)
        best = max(best, float(space.scores(population).of(kind).max()))
        going = more(population.slots)
    return best


@EVERY
def test_a_quick_search_finds_nothing_outside(name: str) -> None:
    for kind in KINDS:
        found = climb(TARGETS[name], np.random.default_rng([14, len(name)]), kind, within(BUDGET))
        worst_of_all = max(found, key=lambda one: one.score)
        record = measured(TARGETS[name], worst_of_all.member)
        assert record["share"] <= 1.0, record
        assert kind != "share" or worst_of_all.score <= 1.0, record


def test_every_target_has_its_records() -> None:
    assert set(RECORDED) == set(TARGETS), "run make deep"
    exact = {name for name, records in RECORDED.items() if not records}
    assert exact == {name for name, block in BLOCKS.items() if block.stated == 0.0}


@EVERY
def test_what_was_found_is_contained_and_as_wrong_as_recorded(name: str) -> None:
    for record in RECORDED[name]:
        assert record["share"] <= 1.0
        assert measured(TARGETS[name], member(TARGETS[name], record)) == record, "a kernel has changed: run make accuracy"


@pytest.mark.parametrize("name", ["log_softmax output", "entropy_with_logits dlogits"])
def test_a_radius_that_is_too_small_is_found_by_the_climb_where_drawing_sees_nothing(name: str) -> None:
    space, budget = spaces()[name], 2000
    short = replace(space, shrink=best_of_draws(space, "share", 3, budget) * (1.0 + 2.0**-10))
    assert best_of_climbs(short, "share", 3, budget) > 1.0


@pytest.mark.parametrize("name", ["add_positive", "mul", "exp_split", "div"])
def test_a_constant_that_is_too_small_is_found_by_the_climb_where_drawing_sees_nothing(name: str) -> None:
    block, budget = BLOCKS[name], 15_000
    short = replace(block, stated=best_of_draws(BlockSpace(block), "units", 3, budget) * (1.0 + 2.0**-10))
    assert short.stated < block.stated
    assert best_of_climbs(BlockSpace(short), "share", 3, budget) > 1.0


@pytest.mark.parametrize("name", [name for name, block in BLOCKS.items() if block.stated == 0.0])
def test_an_error_of_an_exact_block_is_seen(name: str) -> None:
    rng = np.random.default_rng(6)
    space = BlockSpace(BLOCKS[name], wrong_by=2.0**-80)
    assert space.scores(space.start(rng)).share.max() == math.inf


def _enclosed(hi: list[float], radius: list[float], balls: list[Ball]) -> tuple[Enclosure, Callable[..., list[Ball]]]:
    count = len(hi)
    e = Enclosure(np.zeros(count, np.uint8), np.array(hi), np.zeros(count), np.array(radius))
    return e, lambda where, bits: [balls[index] for index in where]


def test_the_measure_of_an_error() -> None:
    with precision(BITS[0]):
        near, far, wide = arb(1) + arb(2.0**-62), arb(1) + arb(2.0**-59), arb(1, 2.0**-59)
    e, evaluate = _enclosed([1.0] * 6, [2.0**-60, 2.0**-60, 0.0, 0.0, math.inf, 2.0**-60], [near, far, arb(1), near, far, wide])
    found = errors(e, range(6), evaluate, np.ones(6), 2.0**50)
    assert found.share.tolist()[:3] == [0.25, 2.0, 0.0]
    assert found.units.tolist()[0] == 2.0**44
    assert found.share[3] == math.inf, "a radius of 0 allows no error"
    assert found.share[4] == 0.0, "what is undetermined contains everything"
    assert found.share[5] > 1.0, "what no ball shows to be contained counts as not contained"
    assert errors(e, [0], evaluate, np.ones(6), 2.0**40).units[0] == 0.0, "a radius far above the relative one tells of underflow"


def test_more_bits_are_asked_for_where_a_ball_is_wide() -> None:
    asked = []

    def evaluate(where: Any, bits: int) -> list[Ball]:
        asked.append(bits)
        return [arb(1, 2.0 ** -(61 if bits < BITS[1] else 300)) for _ in where]

    e, _ = _enclosed([1.0], [2.0**-60], [])
    assert errors(e, [0], evaluate, np.ones(1), math.inf).share[0] == 0.0
    assert asked == list(BITS[:2])


def test_another_kind_than_the_true_one_is_not_contained() -> None:
    e, evaluate = _enclosed([math.inf, 1.0], [0.0, 1.0], [arb(1), math.inf])
    e.kind[0] = Kind.POSITIVE_INFINITY
    assert errors(e, [0, 1], evaluate, np.ones(2), math.inf).share.tolist() == [math.inf, math.inf]


@pytest.mark.parametrize("label", [label for label in spaces() if label.endswith("output")])
def test_the_magnitude_of_a_loss_without_cancellation_is_its_value(label: str) -> None:
    """The magnitudes only scale what is printed with `DIGITS` digits, but a wrong one would make nonsense of it."""
    space = spaces()[label]
    for classes in (2, 7):
        call, g = ordinary.call(space.operation, classes)
        call |= {"target_entropy": "dropped"} if "target_entropy" in call else {}
        if "q" in call:  # p > q, so that no term of a divergence is negative
            call["p"], call["q"] = call["p"] / 4.0 + 0.25, call["p"] / 8.0 if space.name == "kl_divergence" else call["q"] / 4.0
        e = space.operation.forward(**call)
        expected = np.abs(e.hi)
        if space.name == "kl_div":
            expected = call["p"] * (np.abs(np.log(call["p"])) + np.abs(call["log_q"]))
        assert np.abs(magnitude(space.name, None, call, g) / expected - 1.0).max() < 2.0**-40


def test_records_come_back_as_they_were(tmp_path: Any) -> None:
    rng, content = np.random.default_rng(8), {"blocks": {}, "operations": {}, "rounding": {"entropy": {"elements": 1}}}
    for section, of in targets().items():
        for name, space in of.items():
            population = space.start(rng)
            content[section][name] = [measured(space, population.take(np.array([0])))]
    save(content, tmp_path / "worst.json")
    assert load(tmp_path / "worst.json") == content
    for section, of in targets().items():
        for name, space in of.items():
            record = content[section][name][0]
            assert measured(space, member(space, record)) == record


def test_the_command_measures_again_and_takes_in_what_another_file_holds(tmp_path: Any) -> None:
    first, second = RECORDED["add_positive"][:2]
    nothing: dict[str, Any] = {"blocks": {}, "operations": {}, "rounding": {}}
    save(nothing | {"blocks": {"add_positive": [first | {"share": 0.0, "units": 1e9}]}}, tmp_path / "here.json")
    save(nothing | {"blocks": {"add_positive": [second]}}, tmp_path / "there.json")
    arguments = ["--minutes", "0", "--only", "add_positive", "--file", str(tmp_path / "here.json"), "--also", str(tmp_path / "there.json")]
    assert search(arguments) == 0
    assert load(tmp_path / "here.json")["blocks"] == {"add_positive": [first, second]}


def test_the_worst_of_each_kind_are_kept() -> None:
    records = [{"share": share, "units": units} for share, units in ((0.1, 9.0), (0.5, 0.0), (0.4, 1.0), (0.2, 8.0), (0.0, 0.0))]
    kept = worst(records)
    assert kept == [records[1], records[2], records[0], records[3]]
    assert KEPT == 2
    assert {record["units"] for record in heapq.nlargest(KEPT, records, key=lambda record: record["units"])} == {9.0, 8.0}


def test_the_tables_of_the_page_are_what_the_command_makes() -> None:
    page = table.PAGE.read_text(encoding="utf-8")
    assert filled(page, table.MAKER, table.tables(load())) == page, "run make accuracy"


def test_a_page_without_a_place_for_a_table_is_refused() -> None:
    with pytest.raises(ValueError, match="no place for the table 'blocks'"):
        filled("nothing", table.MAKER, {"blocks": "text"})


def test_what_the_exact_form_is_asked_is_counted() -> None:
    operation = spaces()["entropy_with_logits output"].operation
    found = counts(operation, seed=1, wanted=100)
    assert set(found["asked"]) == set(FORMATS)
    assert 0 < found["asked"]["float64"] <= found["elements"], "a gradient of equal logits is 0, which a radius straddles"
    assert all(found["undecided"][dtype] <= found["asked"][dtype] for dtype in FORMATS)


NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
POSITIVE = st.floats(0.0, allow_infinity=False)


@st.composite
def one_row(draw: Any, space: CallSpace) -> Calls:
    """One row of anything that the operation takes, drawn number by number so that it shrinks."""
    operation, classes = space.operation, draw(st.integers(1, 4))
    parameters = operation.defaults() | ({"reduction": "none"} if "reduction" in operation.parameters else {})
    for name, kind in operation.parameters.items():
        if isinstance(kind, Number):
            parameters[name] = draw(st.floats(kind.low, kind.high))
        elif isinstance(kind, Switch):
            parameters[name] = draw(st.booleans())
    for choice in operation.choices:
        parameters[choice.name] = draw(st.sampled_from(sorted(choice.values)))
    rows: dict[str, Any] = {}
    for name, kind in operation.inputs.items():
        if isinstance(kind, Index | IndexOrReal):
            rows[name] = np.array([draw(st.integers(0, classes - 1))])
        elif name != "weight":
            positive = name in ("p", "q") and not (name == "p" and parameters.get("log_target", False))
            numbers = POSITIVE if positive else NUMBERS | st.just(-math.inf)
            rows[name] = np.array([draw(st.lists(numbers, min_size=classes, max_size=classes))])
    shared = Shared("float64", classes, parameters, {}, space.joins(parameters))
    shape = operation.forward(**space.call(Calls(rows | {"cotangent": np.array(1.0)}, shared))[0]).shape
    g = np.array(draw(st.lists(NUMBERS, min_size=math.prod(shape), max_size=math.prod(shape)))).reshape(shape)
    return Calls(rows | {"cotangent": g}, shared) if shape else Calls(rows, replace(shared, arrays={"cotangent": g}))


@pytest.mark.parametrize("name", spaces())
def test_drawn_rows_are_contained(name: str) -> None:
    space = spaces()[name]

    @settings(max_examples=60)
    @given(one_row(space))
    def contained(calls: Calls) -> None:
        share = float(space.scores(calls).share.max(initial=0.0))
        assert share <= 1.0
        target(share)

    contained()
