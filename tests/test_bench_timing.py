"""`lossref bench`: turns, ratios and spreads by a clock of ours; problems, their parts, and errors."""

from __future__ import annotations

import math

import numpy as np
import pytest
from machine import Machine

from conformance.bench.problem import GRADIENT, LOG_SUM_EXP, PADDING, BenchError, errors, expected, problem, shape_of, text_of
from conformance.bench.timing import CALLS, ENOUGH, LONG, PAUSE, Clock, Spread, ratios, spread, take_turns


def test_everyone_takes_a_turn_in_every_round_and_the_order_turns_round() -> None:
    machine = Machine()
    seconds, failures = take_turns({name: machine.call(name, lambda _: 0.01) for name in "abc"}, 3, machine.clock())
    assert machine.turns() == [*"abc", *"cba", *"abc"]
    assert {name: len(times) for name, times in seconds.items()} == {"a": 3, "b": 3, "c": 3}
    assert failures == {}


def test_a_turn_begins_with_a_pause_and_a_call_that_does_not_count() -> None:
    machine = Machine()
    seconds, _ = take_turns({"a": machine.call("a", lambda n: 0.001 if n % (CALLS + 1) else 0.9 * LONG)}, 2, machine.clock())
    assert machine.log == [f"pause {PAUSE}", *"a" * (CALLS + 1)] * 2
    assert seconds["a"] == pytest.approx([0.001, 0.001])


def test_the_time_of_a_turn_is_the_median_of_its_counted_calls() -> None:
    machine = Machine()
    seconds, _ = take_turns({"a": machine.call("a", lambda n: [0.5, 0.0625, 0.03125, 0.0625, 0.015625, 0.0078125][n])}, 1, machine.clock())
    assert seconds["a"] == [0.03125]


def test_a_slow_call_ends_the_turn() -> None:
    machine = Machine()
    take_turns({"slow": machine.call("slow", lambda _: ENOUGH), "half": machine.call("half", lambda _: 0.75 * ENOUGH)}, 1, machine.clock())
    assert (machine.log.count("slow"), machine.log.count("half")) == (1 + 1, 1 + 2)


def test_a_long_call_is_a_turn() -> None:
    machine = Machine()
    seconds, _ = take_turns({"long": machine.call("long", lambda n: (n + 1) * LONG)}, 2, Clock(lambda: machine.time, lambda _: None))
    assert seconds["long"] == [LONG, 2 * LONG]


def test_ratios_pair_what_was_timed_in_the_same_round() -> None:
    machine = Machine()
    slower = [1.0, 16.0, 4.0]  # the machine, round by round
    calls = {
        name: machine.call(name, lambda n, cost=cost: cost * slower[n // (CALLS + 1)]) for name, cost in (("a", 2.0**-10), ("b", 2.0**-12))
    }
    seconds, _ = take_turns(calls, 3, Clock(lambda: machine.time, lambda _: None))
    assert seconds["a"] == [2.0**-10, 2.0**-6, 2.0**-8]
    assert ratios(seconds["a"], seconds["b"]) == [4.0, 4.0, 4.0]
    with pytest.raises(ValueError, match="zip"):
        ratios(seconds["a"], seconds["b"][:2])


@pytest.mark.parametrize(
    ("numbers", "low", "middle", "high"),
    [([3.0], 3.0, 3.0, 3.0), ([1.0, 3.0], 1.5, 2.0, 2.5), ([5.0, 1.0, 2.0, 4.0, 3.0], 2.0, 3.0, 4.0), ([1.0, 100.0, 2.0], 1.5, 2.0, 51.0)],
)
def test_a_spread_is_the_median_between_its_quartiles(numbers: list[float], low: float, middle: float, high: float) -> None:
    assert spread(numbers) == Spread(low, middle, high)


def test_who_fails_in_a_turn_leaves_and_says_why() -> None:
    machine = Machine()
    fine = machine.call("fine", lambda _: 0.01)
    left = iter(range(CALLS + 2))

    def breaks() -> None:
        if next(left) == CALLS + 1:
            raise MemoryError("no room\nfor a second line")

    seconds, failures = take_turns({"fine": fine, "breaks": breaks}, 3, machine.clock())
    assert failures == {"breaks": "MemoryError: no room"}
    assert len(seconds["fine"]) == 3
    assert len(seconds["breaks"]) == 1


@pytest.mark.parametrize(("text", "shape"), [("16x13x4233", (16, 13, 4233)), ("1000000x5", (1000000, 1, 5)), ("1x2", (1, 1, 2))])
def test_a_shape_is_read(text: str, shape: tuple[int, int, int]) -> None:
    assert shape_of(text) == shape
    assert shape_of(text_of(shape)) == shape


@pytest.mark.parametrize("text", ["", "5", "0x5", "2x0x5", "2x3x4x5", "2*3", "-2x3", "2x3x1", "2x3x", "2 x3", "٢x٣"])
def test_what_is_no_shape_is_refused(text: str) -> None:
    with pytest.raises(BenchError, match="is no shape; write"):
        shape_of(text)


def test_a_problem_is_always_the_same_and_pads_a_few_tokens() -> None:
    for dtype in ("float32", "bfloat16", "float16", "float64"):
        one, two = problem((3, 7, 4), dtype), problem((3, 7, 4), dtype)
        assert one.dtype == dtype
        assert one.logits.tobytes() == two.logits.tobytes()
        assert (one.target == two.target).all()
        assert one.kept == 19
        assert set(np.unique(one.target)) <= {PADDING, 0, 1, 2, 3}


def test_a_part_is_the_beginning_of_a_problem() -> None:
    whole = problem((3, 7, 4), "float32")
    assert whole.part(84) is whole
    rows, row = whole.part(83), whole.part(3)
    assert rows.shape == (20, 1, 4)
    assert (rows.rows == whole.rows[:20]).all()
    assert (rows.target.reshape(-1) == whole.target.reshape(-1)[:20]).all()
    assert row.shape == (1, 1, 3)
    assert (row.rows[0] == whole.rows[0, :3]).all()
    assert 0 <= row.target.item() < 3


def test_errors_are_counted_in_ulps() -> None:
    right = {"loss": np.array(1.0), "gradient": np.array([1.0, -4.0, 0.0])}
    near = {"loss": np.array(1 + 2.0**-23), "gradient": np.array([[1.0, -4.0 - 2.0**-20, 0.0]])}
    assert errors(GRADIENT, near, right) == {"loss": 1.0, "gradient": 2.0, "element": 2.0}
    assert errors(GRADIENT, {"gradient": np.array([1 + 2.0**-21, -4.0, 0.0])}, right) == {"gradient": 1.0, "element": 4.0}
    assert errors(LOG_SUM_EXP, {"values": np.array([1 + 2.0**-50])}, {"values": np.array([1.0])}) == {"values": 4.0}
    assert math.isnan(errors(GRADIENT, {"gradient": np.array([1.0, math.nan, 0.0])}, right)["gradient"])
    assert errors(GRADIENT, {"gradient": np.array([1.0, -4.0, 2.0**-149])}, right)["element"] == 1.0


def test_a_gradient_is_checked_on_its_first_sequences(monkeypatch: pytest.MonkeyPatch) -> None:
    there = problem((8, 3, 5), "float64")
    whole = expected(GRADIENT, there)["gradient"]
    monkeypatch.setattr("conformance.bench.problem._CHECKED", 2 * 3 * 5)
    few = expected(GRADIENT, there)["gradient"]
    assert whole.shape == (8, 3, 5)
    assert few.shape == (2, 3, 5)
    assert few.tobytes() == whole[:2].tobytes()  # the cotangent that makes up for the smaller batch is a power of two here
