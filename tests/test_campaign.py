"""Campaigns: every point once, tallies that merge in any order, and shards that lose and hide nothing."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from campaign_backends import accurate, asking_of, backend
from hypothesis import given
from hypothesis import strategies as st

from conformance.adapter import Unsupported
from conformance.campaign import asking
from conformance.campaign.asking import SINGLES, Asked, ask, confirmed_by, tallied
from conformance.campaign.space import BLOCK, SPACES, Campaign, CampaignError
from conformance.campaign.tally import MODULUS, ZERO, Count, Outcome, Place, Tally, Worst, merged
from conformance.case import VectorError
from conformance.complaint import UNABLE
from conformance.finding import Verdict
from conformance.sources import UnknownBackend
from refimpl.operations import operation

Array = np.ndarray[Any, Any]


def places() -> st.SearchStrategy[Place]:
    return st.builds(Place, st.integers(0, 50), st.integers(0, 1))


def worst() -> st.SearchStrategy[Worst | None]:
    return st.none() | st.builds(Worst, st.sampled_from([0.0, 0.25, 1.0, 1.5, 1e300]), places())


def tallies() -> st.SearchStrategy[Tally]:
    counts, outcomes = st.builds(Count, st.integers(1, 9), places()), st.sampled_from(list(Outcome))
    numbers = st.integers(0, 9)
    digests = st.integers(0, MODULUS - 1)
    return st.builds(Tally, numbers, numbers, st.dictionaries(outcomes, counts), numbers, worst(), worst(), digests, st.none() | counts)


@given(tallies(), tallies(), tallies())
def test_tallies_merge_in_any_order(a: Tally, b: Tally, c: Tally) -> None:
    assert merged(a, b) == merged(b, a)
    assert merged(merged(a, b), c) == merged(a, merged(b, c))
    assert merged(ZERO, a) == a


@given(tallies())
def test_a_tally_is_read_back(tally: Tally) -> None:
    assert Tally.from_json(json.loads(json.dumps(tally.to_json(), allow_nan=False))) == tally


def test_what_is_merged() -> None:
    a = Tally(2, 4, {Outcome.WITHIN: Count(4, Place(7, 0))}, 1, Worst(0.5, Place(8, 1)), None, MODULUS - 1)
    b = Tally(1, 2, {Outcome.WITHIN: Count(1, Place(3, 1)), Outcome.KIND: Count(1, Place(3, 0))}, 0, Worst(0.5, Place(3, 1)), None, 3)
    outcomes = {Outcome.WITHIN: Count(5, Place(3, 1)), Outcome.KIND: Count(1, Place(3, 0))}
    assert merged(a, b) == Tally(3, 6, outcomes, 1, Worst(0.5, Place(3, 1)), None, 2)
    assert a.passed
    assert not merged(a, b).passed


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_every_pattern_is_a_point(dtype: str) -> None:
    campaign = Campaign("numpy", "entropy/one", dtype)
    assert campaign.size == BLOCK
    p = campaign.inputs(0, BLOCK)["p"]
    assert p.dtype.name == dtype
    assert np.array_equal(p[:, 0].view(np.uint16), np.arange(2**16))
    assert (p[:, 1].astype(float) == 0.25).all()


def test_a_point_is_its_digits() -> None:
    campaign = Campaign("numpy", "softmax_cross_entropy/pairs", "bfloat16")
    assert campaign.size == 2**33
    found = campaign.inputs((1 << 32) + (0x1234 << 16) + 0xFFFE, (1 << 32) + (0x1235 << 16) + 1)
    assert found["logits"].view(np.uint16).tolist() == [[0x1234, 0xFFFE], [0x1234, 0xFFFF], [0x1235, 0]]
    assert found["target"].tolist() == [1, 1, 1]
    assert Campaign("numpy", "log_softmax/triples", "float16").size == 2**48
    assert Campaign("numpy", "log_softmax/one", "float32").size == 2**32


@pytest.mark.parametrize("space", SPACES.values(), ids=lambda space: space.name)
def test_a_space_is_of_its_operation(space: Any) -> None:
    """Its places exist, all of them hold something, and its rows are a call of the operation."""
    assert set(space.varied) | set(space.fixed) == set(space.places)
    assert not set(space.varied) & set(space.fixed)
    for direction in ("forward", "backward"):
        campaign = Campaign("numpy", space.name, "float16", direction=direction)
        inputs = campaign.inputs(0, 3)
        call = {**inputs, **space.parameters}
        assert operation(space.operation).forward(**call).shape == (3, *space.row)
        if direction == "backward":
            assert operation(space.operation).vjp(cotangent=campaign.cotangent(inputs), **call)


def test_a_campaign_is_read_back() -> None:
    campaign = Campaign("torch", "entropy/one", "float16", fixed=(("p[1]", float("inf")),), dialect="torch", promises=("float16=A",))
    assert Campaign.from_dict(json.loads(json.dumps(campaign.to_dict(), allow_nan=False))) == campaign
    assert pickle.loads(pickle.dumps(campaign)) == campaign
    assert campaign != Campaign("torch", "entropy/one", "float16")
    assert Campaign("torch", "entropy/one", "float16", fixed=(("p[1]", 0.25),)) == Campaign("torch", "entropy/one", "float16")


def test_both_zeros_are_operands() -> None:
    one, other = (Campaign("numpy", "entropy/one", "float32", fixed=(("p[1]", zero),)) for zero in (0.0, -0.0))
    assert one != other
    assert one.to_dict() != other.to_dict()
    for campaign in (one, other):
        assert Campaign.from_dict(json.loads(json.dumps(campaign.to_dict()))) == campaign
        assert np.signbit(asking.prepared(campaign).campaign.inputs(0, 1)["p"][0, 1]) == (campaign is other)


@pytest.mark.parametrize(
    ("fields", "error", "said"),
    [
        ({"space": "entropy/all"}, CampaignError, "no space is named 'entropy/all'; the spaces are log_softmax/one, "),
        ({"dtype": "half"}, CampaignError, "no dtype is named 'half'"),
        ({"direction": "sideways"}, CampaignError, "the direction is 'sideways'"),
        ({"fixed": (("p[0]", 1.0),)}, CampaignError, r"no fixed operand 'p\[0\]'; its fixed operands are p\[1\]"),
        ({"fixed": (("p[1]", 0.1),)}, VectorError, r"the operand p\[1\]: float16 can't hold 0.1 exactly"),
        ({"fixed": (("p[1]", 0.5), ("p[1]", 0.25))}, CampaignError, r"an operand is given twice among p\[1\], p\[1\]; give each once"),
        ({"fixed": (("p[1]", float("nan")),)}, CampaignError, r"the operand p\[1\] is nan"),
        ({"space": "entropy/pairs", "dtype": "float32"}, CampaignError, "has 1.8e\\+19 points; choose a narrower dtype"),
    ],
)
def test_what_no_campaign_can_be(fields: dict[str, Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        Campaign(**{"backend": "numpy", "space": "entropy/one", "dtype": "float16"} | fields)


def test_points_that_are_none() -> None:
    with pytest.raises(CampaignError, match="has points 0 to 65535"):
        Campaign("numpy", "entropy/one", "float16").inputs(0, BLOCK + 1)
    with pytest.raises(CampaignError, match="has the fields"):
        Campaign.from_dict({"backend": "numpy"})


def planted(change: Callable[[Array, Array], None], space: str = "log_softmax/one", dtype: str = "float16") -> Asked:
    """The right log-softmax, which `change(logits, output)` then spoils in place."""

    def function(logits: Array, **_: Any) -> Array:
        output = accurate(logits)
        change(logits, output)
        return output

    return asking_of(backend(function), space, dtype)


def bits(logits: Array) -> Array:
    return logits[:, 0].view(np.uint16)


def test_a_right_backend_passes_everywhere() -> None:
    tally = tallied(planted(lambda logits, output: None), 0, BLOCK)
    assert tally.passed
    assert (tally.points, tally.elements) == (2**16, 2**17)
    assert tally.outcomes == {Outcome.WITHIN: Count(2**17, Place(0, 0))}
    assert tally.outside == 2 * (2 * 1023 + 1), "the rows with a nan or +inf"
    assert tally.ulps is not None
    assert tally.ulps.value == pytest.approx(0.5, rel=1e-3)


def test_the_one_wrong_number_of_all_is_found() -> None:
    def change(logits: Array, output: Array) -> None:
        output[bits(logits) == 0x3C01, 1] *= np.float16(1.01)

    asked = planted(change)
    tally = tallied(asked, 0, BLOCK)
    assert tally.outcomes[Outcome.BEYOND] == Count(1, Place(0x3C01, 1))
    assert tally.outcomes[Outcome.WITHIN].number == 2**17 - 1
    assert tally.ratio is not None
    assert tally.ratio.place == Place(0x3C01, 1)
    assert tally.ratio.value > 1.0
    assert asked.columns[1] == "output[1]"
    finding = confirmed_by(asked, 0x3C01)
    assert (finding.verdict, finding.ratio, finding.worst_index) == (Verdict.FAIL, pytest.approx(tally.ratio.value), (0, 1))


def test_numbers_and_nans_in_each_others_place_are_found() -> None:
    def change(logits: Array, output: Array) -> None:
        output[bits(logits) == 0x3C01] = np.nan
        output[bits(logits) == 0x7C00] = 0.0

    tally = tallied(planted(change), 0, BLOCK)
    assert tally.outcomes[Outcome.KIND] == Count(2, Place(0x3C01, 0))
    assert tally.outcomes[Outcome.ANSWERED] == Count(2, Place(0x7C00, 0))
    assert tally.ratio is not None
    assert tally.ratio.value < 1.0, "of numbers alone"


def test_a_row_that_raises_costs_none_of_the_others() -> None:
    def change(logits: Array, output: Array) -> None:
        if np.isin(bits(logits), [0x3C01, 0x3C02]).any():
            raise ZeroDivisionError("by row")

    asked = planted(change)
    tally = tallied(asked, 0, BLOCK)
    assert tally.outcomes[Outcome.RAISED] == Count(4, Place(0x3C01, 0))
    assert tally.outcomes[Outcome.WITHIN].number == 2**17 - 4
    finding = confirmed_by(asked, 0x3C01)
    assert (finding.verdict, finding.note) == (Verdict.ERROR, "ZeroDivisionError: by row")
    assert confirmed_by(asked, 0x3C03).verdict == Verdict.PASS


def test_a_call_that_raises_though_no_row_does_is_counted() -> None:
    def change(logits: Array, output: Array) -> None:
        if len(logits) > 1 << 14 and np.isin(bits(logits), [0x3C01, 0xBC01]).any():
            raise ZeroDivisionError("too many")

    tally = tallied(planted(change), 0, BLOCK)
    assert tally.outcomes == {Outcome.WITHIN: Count(2**17, Place(0, 0))}
    assert tally.retried == Count(3, Place(0, 0)), "the whole and both halves"
    assert not tally.passed


def test_a_row_that_raises_explains_the_calls_that_it_is_in() -> None:
    def change(logits: Array, output: Array) -> None:
        if 0x3C01 in bits(logits) or (len(logits) > 1 << 14 and 0xBC01 in bits(logits)):
            raise ZeroDivisionError("one")

    tally = tallied(planted(change), 0, BLOCK)
    assert tally.outcomes[Outcome.RAISED] == Count(2, Place(0x3C01, 0))
    assert tally.retried == Count(1, Place(BLOCK // 2, 0))


def test_a_backend_that_always_raises_costs_few_calls() -> None:
    calls, first = [0], 0x4000

    def change(logits: Array, output: Array) -> None:
        calls[0] += 1
        if (bits(logits) >= first).any():
            raise ZeroDivisionError("always")

    asked = planted(change)
    tally = tallied(asked, 0, BLOCK)
    assert calls[0] < 4 * SINGLES
    assert tally.outcomes[Outcome.RAISED] == Count(2 * (BLOCK - first), Place(first, 0))
    assert tally.outcomes[Outcome.WITHIN] == Count(2 * first, Place(0, 0))
    assert (tally.points, tally.retried) == (BLOCK, None)
    assert confirmed_by(asked, BLOCK - 1).verdict == Verdict.ERROR


def test_what_the_backend_lacks_is_no_failure() -> None:
    def change(logits: Array, output: Array) -> None:
        raise Unsupported("no halves")

    tally = tallied(planted(change), 0, BLOCK)
    assert tally.outcomes == {Outcome.UNSUPPORTED: Count(2**17, Place(0, 0))}
    assert tally.passed
    backward = asking_of(backend(accurate), "log_softmax/one", "float16", direction="backward")
    assert tallied(backward, 0, BLOCK).outcomes == {Outcome.UNSUPPORTED: Count(2**17, Place(0, 0))}


@pytest.mark.parametrize("spoiled", [lambda y: y.astype(np.float64), lambda y: y[:, :1], lambda y: y.T])
def test_another_form_is_no_answer(spoiled: Callable[[Array], Array]) -> None:
    asked = asking_of(backend(lambda logits: spoiled(accurate(logits))), "log_softmax/one", "float16")
    assert tallied(asked, 0, BLOCK).outcomes == {Outcome.FORM: Count(2**17, Place(0, 0))}


def test_shards_may_be_cut_anywhere_between_blocks() -> None:
    def change(logits: Array, output: Array) -> None:
        output[logits[:, 1] == 1.5, 0] += np.float16(0.5)

    asked, first = planted(change, "log_softmax/pairs"), 0x3C00 * BLOCK
    whole = tallied(asked, first, first + 5 * BLOCK)
    parts = [tallied(asked, first + start * BLOCK, first + stop * BLOCK) for start, stop in ((3, 5), (0, 1), (1, 3))]
    assert reduce(merged, parts) == whole
    assert whole.outcomes[Outcome.BEYOND].number == 5
    for start, stop in ((1, BLOCK), (0, BLOCK - 1), (0, 0), (BLOCK, 0)):
        with pytest.raises(CampaignError, match="cuts a block"):
            tallied(asked, start, stop)


def test_another_answer_has_another_digest() -> None:
    calls = iter(range(9))

    def change(logits: Array, output: Array) -> None:
        if next(calls) == 1:
            output[5, 0] = np.nextafter(output[5, 0], np.float16(0))

    asked = planted(change)
    first, second, third = (tallied(asked, 0, BLOCK).digest for _ in range(3))
    assert first == third != second


def test_an_answer_that_depends_on_its_neighbours_is_said_to() -> None:
    def change(logits: Array, output: Array) -> None:
        output[: len(output) // 2] *= np.float16(1.5)

    asked = planted(change)
    assert confirmed_by(asked, 0x3C01).verdict == Verdict.FAIL
    assert confirmed_by(asked, 0x3C01).note == "the answer to this row among others, which is not its answer alone"


def test_asked_by_name() -> None:
    campaign = Campaign("numpy", "entropy/one", "float32")
    assert asking.resolved(campaign)[0].mode == "eager"
    assert ask(campaign, 0, BLOCK) == ask(campaign.to_dict(), 0, BLOCK)


@pytest.mark.parametrize(
    ("fields", "error", "said"),
    [
        ({"backend": "nump"}, UnknownBackend, "no backend is named 'nump'"),
        ({"backend": "exec:true"}, CampaignError, "answers by files or messages"),
        ({"backend": "absent_module:function"}, CampaignError, "can't be asked: no module is named 'absent_module'; write"),
        ({"mode": "fast"}, CampaignError, "numpy has no mode 'fast'; its modes are eager"),
        ({"dtype": "float16"}, CampaignError, "promises nothing for entropy in float16, mode eager; it does for float64, float32"),
        ({"dialect": "mine"}, CampaignError, "no dialect is named 'mine'; name one of "),
    ],
)
def test_what_can_not_be_asked(fields: dict[str, str], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        asking.prepared(Campaign(**{"backend": "numpy", "space": "entropy/one", "dtype": "float32"} | fields))


def test_a_backend_that_is_not_installed_is_another_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "leaning.py").write_text("import absent_module\n\ndef loss(logits):\n    return logits\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(asking.NotInstalled, match=r"leaning:loss can't be asked: .*absent_module") as raised:
        asking.prepared(Campaign("leaning:loss", "log_softmax/one", "float32"))
    assert raised.value.status == UNABLE
