"""How an array lies in memory when a backend gets it: the same numbers, elsewhere.

    contiguous    C order, nothing between the elements
    transposed    the axes in memory in reverse order: of (N, V) logits a row's classes lie N elements apart
    strided       along the last axis every second element of a larger buffer: of one axis, a column of a matrix
    padded        each run along the last axis followed by five more elements: a matrix whose rows are longer than V
    offset        C order, beginning at the first odd element of a larger buffer, so on no boundary of 16 bytes
    far           the first axis strides over 2^31 elements, in a mapping of a file without contents, which takes no memory
    expanded      the first axis strides over nothing: one row stands for all, which have to be equal

Whatever of a buffer isn't the array holds poison: nan, or an index that no number of classes reaches. In `far` there is poison around
every row, and where an offset of 32 bits, signed or unsigned, would find the second row; the third lies 2^32 elements from the first.
A call that reads poison has a wrong answer, and one that writes to it has modified its input.
"""

from __future__ import annotations

import math
import mmap
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from conformance.case import Array, VectorError

FAR = 2**31  # elements
GUARD = 64  # elements of poison on each side of a far row
PADDING = 5  # odd, so that rows begin on every boundary
NO_CLASS = 2**62


@dataclass(frozen=True, eq=False)
class Laid:
    """An array as it was laid out; `guards` are the parts of its buffer that hold poison and nothing else."""

    array: Array
    guards: tuple[Array, ...] = ()

    def untouched(self) -> bool:
        """Whether all poison is where it was."""
        return all(guard.tobytes() == _poison(guard.shape, guard.dtype).tobytes() for guard in self.guards)


def lay(array: Array, layout: str = "contiguous") -> Laid:
    """A copy of the array in that layout; raises `VectorError` for an unknown one, or for an array that can't lie so."""
    if layout not in LAYOUTS:
        raise VectorError(f"no layout is named {layout!r}; the layouts are {', '.join(LAYOUTS)}")
    return LAYOUTS[layout](array)


def _contiguous(array: Array) -> Laid:
    return Laid(array.copy())


def _transposed(array: Array) -> Laid:
    _needs(array, 2, "transposed")
    return Laid(np.array(array, order="F"))


def _strided(array: Array) -> Laid:
    _needs(array, 1, "strided")
    buffer = _poison((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)
    view, gaps = buffer[..., 0::2], buffer[..., 1::2]
    view[...] = array
    return Laid(view, (gaps,))


def _padded(array: Array) -> Laid:
    _needs(array, 2, "padded")
    buffer = _poison((*array.shape[:-1], array.shape[-1] + PADDING), array.dtype)
    view, tail = buffer[..., : array.shape[-1]], buffer[..., array.shape[-1] :]
    view[...] = array
    return Laid(view, (tail,))


def _offset(array: Array) -> Laid:
    buffer = _poison((array.size + 2 * GUARD,), array.dtype)
    first = 1 if (buffer.ctypes.data // array.dtype.itemsize) % 2 == 0 else 2
    view = buffer[first : first + array.size].reshape(array.shape)
    view[...] = array
    return Laid(view, (buffer[:first], buffer[first + array.size :]))


def _far(array: Array) -> Laid:
    _needs(array, 1, "far")
    rows, run = array.shape[0], math.prod(array.shape[1:])
    size = array.dtype.itemsize
    begin = FAR + GUARD  # of the first row; what lies 2^31 before it, a wrapped offset may read
    with tempfile.TemporaryFile() as file:  # only what is touched is ever stored
        length = (begin + rows * FAR + run + GUARD) * size
        file.truncate(length)
        buffer = np.frombuffer(mmap.mmap(file.fileno(), length), array.dtype)
    guards = [buffer[begin - FAR - GUARD : begin - FAR + run + GUARD]]
    for row in range(rows):
        at = begin + row * FAR
        guards += [buffer[at - GUARD : at], buffer[at + run : at + run + GUARD]]
    for guard in guards:
        guard[...] = _poison(guard.shape, guard.dtype)
    strides = (FAR * size, *np.empty(array.shape[1:], array.dtype).strides)
    view = np.lib.stride_tricks.as_strided(buffer[begin:], array.shape, strides)
    view[...] = array
    return Laid(view, tuple(guards))


def _expanded(array: Array) -> Laid:
    _needs(array, 1, "expanded")
    if any(row.tobytes() != array[0].tobytes() for row in array[1:]):
        raise VectorError("an array whose rows differ can't be expanded from one; give it another layout")
    row = array[:1].copy()
    return Laid(np.lib.stride_tricks.as_strided(row, array.shape, (0, *row.strides[1:])))


def _needs(array: Array, ndim: int, layout: str) -> None:
    if array.ndim < ndim or array.size == 0:
        raise VectorError(f"an array of shape {array.shape} can't be {layout}; it needs {ndim} axes and an element")


def _poison(shape: tuple[int, ...], dtype: np.dtype) -> Array:
    return np.full(shape, NO_CLASS if dtype.kind in "iu" else np.nan, dtype)


LAYOUTS: Mapping[str, Callable[[Array], Laid]] = {
    "contiguous": _contiguous,
    "transposed": _transposed,
    "strided": _strided,
    "padded": _padded,
    "offset": _offset,
    "far": _far,
    "expanded": _expanded,
}
