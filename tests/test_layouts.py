"""Layouts: the same numbers elsewhere in memory, and poison in what lies between."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from conformance.adapter import Adapter, Array
from conformance.bound import Promise
from conformance.case import VectorError
from conformance.judge import Answer
from conformance.layouts import FAR, LAYOUTS, NO_CLASS, Laid, lay
from conformance.link import Request
from conformance.worker import reply
from refimpl.enclosure import FORMATS

DTYPES = [*(FORMATS[name].dtype for name in FORMATS), np.dtype(np.int64)]


def array(dtype: np.dtype) -> Array:
    return np.arange(15).reshape(3, 5).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_holds_the_same_numbers_in_memory_that_can_be_written(layout: str, dtype: np.dtype) -> None:
    given = array(dtype) if layout != "expanded" else np.repeat(array(dtype)[:1], 3, axis=0)
    laid = lay(given, layout)
    assert laid.array.dtype == dtype
    assert laid.array.shape == given.shape
    assert laid.array.tobytes() == given.tobytes()
    assert laid.untouched()
    assert not np.shares_memory(laid.array, given)
    laid.array[0, 0] = 7


@pytest.mark.parametrize(
    ("layout", "strides"),
    [
        ("contiguous", (5, 1)),
        ("transposed", (1, 3)),
        ("strided", (10, 2)),
        ("padded", (10, 1)),
        ("offset", (5, 1)),
        ("far", (FAR, 1)),
        ("expanded", (0, 1)),
    ],
)
def test_the_strides_are_those_that_the_layout_says(layout: str, strides: tuple[int, int]) -> None:
    given = array(np.dtype(np.float32)) if layout != "expanded" else np.ones((3, 5), np.float32)
    laid = lay(given, layout)
    assert tuple(stride // 4 for stride in laid.array.strides) == strides


def test_an_offset_array_begins_on_no_boundary() -> None:
    for dtype in DTYPES:
        assert lay(array(dtype), "offset").array.ctypes.data % (2 * dtype.itemsize) == dtype.itemsize


@pytest.mark.parametrize("layout", ["strided", "padded", "offset", "far"])
@pytest.mark.parametrize("dtype", [np.dtype(np.float32), np.dtype(np.int64)], ids=str)
def test_poison_surrounds_the_numbers_and_a_write_to_it_is_seen(layout: str, dtype: np.dtype) -> None:
    laid = lay(array(dtype), layout)
    assert laid.guards
    for guard in laid.guards:
        assert ((guard == NO_CLASS) if dtype.kind == "i" else np.isnan(guard)).all()
    guard = laid.guards[-1]
    before = guard.flat[0]
    guard.flat[0] = 1
    assert not laid.untouched()
    guard.flat[0] = before
    assert laid.untouched()


def test_a_far_row_that_is_looked_for_with_32_bits_is_not_found() -> None:
    given = array(np.dtype(np.float32))
    laid = lay(given, "far").array
    wrapped = int(np.int64(FAR).astype(np.int32))  # the second row's offset
    at = np.lib.stride_tricks.as_strided(laid, (5,), (4,))
    before = laid.ctypes.data + 4 * wrapped
    seen = np.frombuffer((np.ctypeslib.as_array((np.ctypeslib.ctypes.c_float * 5).from_address(before))).tobytes(), np.float32)
    assert np.isnan(seen).all()
    assert np.array_equal(at, given[0])
    assert (2 * FAR) % 2**32 == 0  # the third row's offset, as the first row's


def test_far_rows_take_no_memory() -> None:
    status = Path("/proc/self/statm")
    if not status.exists():
        pytest.skip("resident memory is read from /proc, which this system doesn't have")
    pages = int(status.read_text().split()[1])
    laid = [lay(array(np.dtype(np.float64)), "far") for _ in range(20)]
    assert laid[0].array.nbytes == 120
    assert int(status.read_text().split()[1]) - pages < 20 * 64  # of 48 GB each, at most 64 pages


@pytest.mark.parametrize(
    ("given", "layout", "sentence"),
    [
        (np.zeros((2, 2)), "sideways", "no layout is named 'sideways'; the layouts are contiguous, transposed"),
        (np.zeros(3), "transposed", r"an array of shape \(3,\) can't be transposed; it needs 2 axes"),
        (np.zeros((0, 3)), "far", r"an array of shape \(0, 3\) can't be far"),
        (np.arange(4.0).reshape(2, 2), "expanded", "rows differ can't be expanded"),
    ],
)
def test_what_cannot_lie_so_is_refused(given: Array, layout: str, sentence: str) -> None:
    with pytest.raises(VectorError, match=sentence):
        lay(given, layout)


def answer(inputs: dict[str, Array], layouts: dict[str, str], harm: bool) -> Answer:
    """What the worker says of a backend that writes beyond its input, or doesn't."""

    def call(operation: str, mode: str, arrays: dict[str, Array], *_: object) -> tuple[Array, dict[str, Array]]:
        x = arrays["x"]
        if harm:
            np.lib.stride_tricks.as_strided(x, (2,), (x.itemsize,))[1] = 5.0
        return x.sum(axis=-1), {}

    adapter = Adapter("a", ("sum",), {"float32": Promise("A", "float32")}, call, versions=dict)
    found = reply(adapter, Request("sum", "eager", inputs, {}, None, layouts))
    assert isinstance(found, Answer)
    return found


def test_the_worker_lays_inputs_out_and_sees_what_is_written_between_them() -> None:
    inputs = {"x": array(np.dtype(np.float32))}
    honest = answer(inputs, {"x": "strided"}, harm=False)
    assert honest.output is not None
    assert honest.output.tolist() == inputs["x"].sum(axis=-1).tolist()
    assert honest.modified == ()
    assert answer(inputs, {"x": "strided"}, harm=True).modified == ("x",)
    assert answer(inputs, {}, harm=True).modified == ("x",)  # there it is an element


def test_guards_are_part_of_what_was_laid() -> None:
    assert Laid(np.zeros(2)).untouched()
