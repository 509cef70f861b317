"""A share of the hostile files of `tests.fuzz`, and those that would cost a careless reader all its memory or time."""

from __future__ import annotations

import json
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from conformance import storage
from conformance.case import VectorError
from conformance.storage.pages import page
from conformance.storage.text import line
from tests import fuzz

COUNT = 2500
MEGABYTES = 8  # the files themselves have 0.1


@pytest.fixture(scope="module")
def files() -> fuzz.Files:
    return fuzz.source()


def test_hostile_files_are_refused_or_taken_as_they_stand(files: fuzz.Files) -> None:
    tally = fuzz.attack(files, COUNT, seed=20261124)
    outcomes = {name.partition(": ")[2] for name in tally.counts}
    assert {"refused", "taken as it stands"} <= outcomes
    assert sum(tally.counts.values()) == COUNT
    assert fuzz.attack_ledger(files[storage.LEDGER], COUNT // 10, seed=20261124).counts["ledger flipped: refused"]


def vector(index: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = index["sets"][0]["vectors"][0]
    return found


def refused(index: dict[str, Any]) -> None:
    """Makes the first vector one whose target is refused, with an answer of the largest size."""
    for one in vector(index)["expectations"]:
        one |= {"kind": "error", "output": {"shape": [2**40]}, "gradients": {}}


def answer(index: dict[str, Any], **fields: Any) -> None:
    """Changes what is expected of the first vector, all of whose elements are then kept."""
    output = vector(index)["expectations"][0]["output"]
    output.pop("where")
    output |= fields


COSTLY: list[tuple[str, Callable[[dict[str, Any]], Any]]] = [
    ("an array of 2^40 elements", lambda index: vector(index)["arrays"]["logits"].update(shape=[2**20, 2**20])),
    ("an answer of 2^40 elements", lambda index: answer(index, shape=[2**40])),
    ("a recipe of 2^40 elements", lambda index: vector(index)["arrays"]["target"].update(shape=[2**40])),
    ("a recipe of many axes", lambda index: vector(index)["arrays"]["target"].update(shape=[2] * 8 + [0])),
    ("64 terms of 2^40 elements", lambda index: answer(index, shape=[2**40], terms=[None] * 64)),
]


def decode(index: bytes, files: fuzz.Files) -> None:
    storage.decode("squares", "regression", index, files["squares/regression.safetensors"])


def changed(files: fuzz.Files, change: Callable[[dict[str, Any]], Any]) -> bytes:
    index = json.loads(files["squares/regression.json"])
    change(index)
    lines = [(line(one["parameters"]), [line(one) for one in one["vectors"]]) for one in index["sets"]]
    return page({name: one for name, one in index.items() if name != "sets"}, lines)


@pytest.mark.parametrize(("what", "change"), COSTLY, ids=[what for what, _ in COSTLY])
def test_a_small_file_costs_little(files: fuzz.Files, what: str, change: Any) -> None:
    index = changed(files, change)
    tracemalloc.start()
    try:
        with pytest.raises(VectorError, match=r"^squares/regression\.json: field sets\[0\]"):
            decode(index, files)
        assert tracemalloc.get_traced_memory()[1] < MEGABYTES * 2**20
    finally:
        tracemalloc.stop()


def test_a_refusal_of_any_shape_takes_one_element(files: fuzz.Files) -> None:
    index = changed(files, refused)
    tracemalloc.start()
    try:
        with pytest.raises(VectorError, match="belongs to no vector"):  # the tensors of the answer that it had
            decode(index, files)
        assert tracemalloc.get_traced_memory()[1] < MEGABYTES * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("text", [b"[" * 10**6, b'{"a":' * 10**6, b'{"format":' + b"9" * 10**6 + b"}", b'"' + b"\\u0000" * 10**6 + b'"'])
def test_deep_and_long_json_is_refused_at_once(files: fuzz.Files, text: bytes) -> None:
    begun = time.process_time()
    with pytest.raises(VectorError, match=r"^squares/regression\.json: "):
        decode(text, files)
    assert time.process_time() - begun < fuzz.SECONDS
