"""The same numbers give the same bits: whatever the threads, the layout of the arrays in memory, and the dtype that holds them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import refimpl.jit
from refimpl.enclosure import FORMATS, Enclosure
from refimpl.operation import Operation
from refimpl.operations import operations
from tests import inputs

ALL = pytest.mark.parametrize("op", operations().values(), ids=operations())


def bits(op: Operation, call: dict[str, Any], g: Any) -> list[bytes]:
    """Everything that the operation's two functions answer."""
    return [part.tobytes() for e in (op.forward(**call), *op.vjp(**call, cotangent=g).values()) for part in parts(e)]


def parts(e: Enclosure) -> tuple[Any, ...]:
    return e.kind, e.hi, e.lo, e.radius


def drawn(op: Operation, seed: int, rows: int, classes: int) -> tuple[dict[str, Any], Any]:
    rng = np.random.default_rng([26, seed, *op.name.encode()])
    call = inputs.call(rng, op, rows, classes)
    return call, inputs.cotangent(rng, op.forward(**call).shape)


def arrays(op: Operation, call: dict[str, Any]) -> dict[str, Any]:
    return {name: call[name] for name in op.inputs if name in call}


@ALL
@pytest.mark.parametrize("seed", range(3))
def test_the_number_of_threads_changes_no_bit(op: Operation, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refimpl.jit, "_GRAIN", 1)  # even small work is shared out
    call, g = drawn(op, seed, 97, 7 + 300 * seed)
    with ThreadPoolExecutor(3) as pool:
        monkeypatch.setattr(refimpl.jit, "_pool", lambda: pool)
        answers = []
        for count in (1, 2, 3):
            monkeypatch.setattr(refimpl.jit, "threads", lambda count=count: count)
            answers.append(bits(op, call, g))
    assert answers[0] == answers[1] == answers[2]


@ALL
def test_large_work_is_shared_out_and_changes_no_bit(op: Operation, monkeypatch: pytest.MonkeyPatch) -> None:
    call, g = drawn(op, 9, 64, 2500)
    assert max(array.size for array in arrays(op, call).values()) > 2 * refimpl.jit._GRAIN
    shared = bits(op, call, g)
    monkeypatch.setattr(refimpl.jit, "threads", lambda: 1)
    assert bits(op, call, g) == shared


def strided(array: Any) -> Any:
    """The same numbers, every second element of something larger along each axis."""
    larger = np.zeros([2 * size for size in array.shape], array.dtype)
    part = larger[(np.s_[::2],) * array.ndim]
    part[...] = array
    return part


def read_only(array: Any) -> Any:
    frozen = array.copy()
    frozen.flags.writeable = False
    return frozen


def backwards(array: Any) -> Any:
    """The same numbers under negative strides."""
    flipped = np.ascontiguousarray(np.flip(array))
    return np.flip(flipped)


def transposed(array: Any) -> Any:
    """The same numbers, as a view that moves the last axis."""
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(array, -1, 0)), 0, -1)


def offset(array: Any) -> Any:
    """The same numbers at an address that is no multiple of their size."""
    raw = np.zeros(array.nbytes + 1, np.uint8)[1:].view(array.dtype)
    raw[...] = array.reshape(-1)
    return raw.reshape(array.shape)


def swapped(array: Any) -> Any:
    """The same numbers in the other byte order."""
    return array.astype(array.dtype.newbyteorder())


LAYOUTS = (strided, read_only, backwards, transposed, np.asfortranarray, offset, swapped)


@ALL
@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_the_layout_in_memory_changes_no_bit(op: Operation, layout: Callable[[Any], Any]) -> None:
    for seed in range(3):
        call, g = drawn(op, seed, 13, (1, 5, 40)[seed])
        expected = bits(op, {name: np.ascontiguousarray(v) if isinstance(v, np.ndarray) else v for name, v in call.items()}, g)
        moved = {name: layout(array) for name, array in arrays(op, call).items()}
        assert bits(op, call | moved, layout(g) if g.ndim else g) == expected


@ALL
@pytest.mark.parametrize("dtype", [name for name in FORMATS if name != "float64"])
def test_a_narrow_dtype_gives_the_bits_of_its_float64_cast(op: Operation, dtype: str) -> None:
    rng = np.random.default_rng([27, *op.name.encode()])
    for _ in range(6):
        call = inputs.call(rng, op, 11, 6)
        narrow = {n: inputs.cast(a.astype(np.float64), dtype) if a.dtype.kind not in "iu" else a for n, a in arrays(op, call).items()}
        wide = {n: a.astype(np.float64) if a.dtype.kind not in "iu" else a for n, a in narrow.items()}
        g = inputs.cast(inputs.cotangent(rng, op.forward(**call | wide).shape), dtype)
        assert bits(op, call | narrow, g) == bits(op, call | wide, g.astype(np.float64))


@ALL
def test_the_inputs_are_not_modified(op: Operation) -> None:
    for seed in range(4):
        call, g = drawn(op, seed, 17, 6)
        before = {name: array.tobytes() for name, array in arrays(op, call).items()}, g.tobytes()
        output = op.forward(**call)
        bits(op, call, g)
        op.exact([0] if output.size else [], 100, **call)
        assert ({name: array.tobytes() for name, array in arrays(op, call).items()}, g.tobytes()) == before


@ALL
def test_an_answer_shares_no_memory_with_the_inputs(op: Operation) -> None:
    call, g = drawn(op, 5, 9, 4)
    for e in (op.forward(**call), *op.vjp(**call, cotangent=g).values()):
        for array in (*arrays(op, call).values(), g):
            assert not any(np.shares_memory(part, array) for part in parts(e))


def test_calls_from_several_threads_at_once_give_the_same_bits() -> None:
    work = [(op, *drawn(op, seed, 40, 50)) for op in operations().values() for seed in range(3)]
    expected = [bits(*item) for item in work]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            assert list(pool.map(lambda item: bits(*item), work)) == expected


def test_exact_forms_asked_from_several_threads_at_once_keep_their_precision() -> None:
    """python-flint has one precision for the whole process: a lock must keep the threads apart."""
    op = operations()["log_softmax"]
    x = np.random.default_rng(28).normal(size=(1, 5))

    def digits(bits: int) -> int:
        return min(ball.rel_accuracy_bits() for ball in op.exact(range(5), bits, logits=x))

    wanted = [100, 3000] * 40
    with ThreadPoolExecutor(8) as pool:
        accuracies = list(pool.map(digits, wanted))
    alone = {bits: digits(bits) for bits in set(wanted)}
    assert accuracies == [alone[bits] for bits in wanted]
    assert alone[3000] > 2 * alone[100]
