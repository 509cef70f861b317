"""Mistakes in reading memory: right for contiguous arrays, wrong for others. Nothing outside an array's own memory is read."""

from __future__ import annotations

import numpy as np
from numpy.lib.array_utils import byte_bounds
from numpy.lib.stride_tricks import as_strided

from conformance.adapter import Array
from conformance.faults.smoothed import rows_of


def memory_of(array: Array) -> Array:
    """The elements from the first to the last that belong to the array, in memory's order, those between them included."""
    if array.size == 0 or min(array.strides, default=0) < 0:
        return array.reshape(-1)
    low, high = byte_bounds(array)
    return as_strided(array, ((high - low) // array.itemsize,), (array.itemsize,), writeable=False)


def as_contiguous(array: Array) -> Array:
    """The array as code reads it that ignores strides; past the end of its memory it begins again."""
    memory = memory_of(array)
    return memory[np.arange(array.size) % max(memory.size, 1)].reshape(array.shape)


def contiguous_rows(logits: Array, axis: int) -> Array:
    return rows_of(as_contiguous(logits), axis)


def contiguous_targets(target: Array) -> Array:
    return as_contiguous(target).reshape(-1)


def by_int32_offsets(logits: Array, axis: int) -> Array:
    """Rows whose elements are found by offsets that wrap at 2^31; an offset outside the array's memory finds nan."""
    if logits.size == 0 or min(logits.strides) < 0:
        return rows_of(logits, axis)
    offsets = np.zeros(logits.shape, np.int64)
    for n, (size, stride) in enumerate(zip(logits.shape, logits.strides, strict=True)):
        shape = [1] * logits.ndim
        shape[n] = size
        offsets += (np.arange(size) * (stride // logits.itemsize)).reshape(shape)
    wrapped = offsets.astype(np.int32).astype(np.int64)
    inside = (wrapped >= 0) & (wrapped < memory_of(logits).size)
    found = np.where(inside, memory_of(logits)[np.where(inside, wrapped, 0)], np.array(np.nan, logits.dtype))
    return rows_of(found, axis)
