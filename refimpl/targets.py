"""Class indices and class weights: checked, in rows, with the rows that count and what a mean divides by."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from refimpl.jit import frozen, kernel, over_rows
from refimpl.operation import InvalidInput, NotPermitted, OutOfRange, indices, real

Float = NDArray[np.float64]


@kernel
def sort_out(start: int, stop: int, target: Any, ignored: Any, named: bool, classes: int, state: Any) -> None:
    """Writes 0 for the rows that hold `ignored`, if such a value is `named`, 1 for those that name a class, 2 for the others."""
    for i in range(start, stop):
        state[i] = 0 if named and target[i] == ignored else 1 if 0 <= target[i] < classes else 2


def class_targets(
    target: Any, shape: tuple[int, ...], classes: int, parameter: str, ignored: int | None
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The class of each row (0 for ignored ones) and which rows are kept, both flat.

    `parameter` and `ignored` name the value that ignores a row. Raises `InvalidInput` for another shape than `shape`, and
    `OutOfRange` for the first kept target that names no class.
    """
    t = indices("target", target)
    if t.shape != shape:
        raise InvalidInput(f"target has shape {t.shape}; pass {shape}, one class for each row")
    flat, state = frozen(t.reshape(-1)), np.empty(t.size, np.uint8)
    named = ignored is not None and np.iinfo(flat.dtype).min <= ignored <= np.iinfo(flat.dtype).max
    over_rows(sort_out, t.size, t.size, flat, flat.dtype.type(ignored if named else 0), named, classes, state)
    if state.max(initial=0) == 2:
        bad = int(np.argmax(state))
        where = [int(i) for i in np.unravel_index(bad, shape)]
        or_ignored = f" or {parameter} = {ignored}" if ignored is not None else f" or name the value that ignores a row as {parameter}"
        raise OutOfRange(f"target{where} is {int(flat[bad])}; pass a class from 0 to {classes - 1},{or_ignored}")
    index = flat.astype(np.int64, copy=False)
    return index if state.all() else np.where(state, index, 0), state.view(np.bool_)


def class_weight(weight: Any, classes: int) -> Float | None:
    """The weights as float64, or None; raises `InvalidInput` for another shape or a weight that is negative or not finite."""
    if weight is None:
        return None
    w = real("weight", weight).astype(np.float64)
    if w.shape != (classes,):
        raise InvalidInput(f"weight has shape {w.shape}; pass ({classes},), one for each class")
    bad = np.flatnonzero(~(np.isfinite(w) & (w >= 0)))
    if bad.size:
        raise InvalidInput(f"weight[{bad[0]}] is {w[bad[0]]}; pass finite numbers that are not negative")
    return w


def padding_class(parameter: str, ignored: int | None, classes: int) -> int:
    """The class that stands for padding, which `smoothing_mass` "V-2" needs; raises `NotPermitted` where there is none."""
    if classes < 3:
        raise NotPermitted("smoothing_mass", f"smoothing_mass 'V-2' divides by V - 2, and there are {classes} classes; pass 'V' or 'V-1'")
    if ignored is None or not 0 <= ignored < classes:
        why = f"smoothing_mass 'V-2' leaves out the class that stands for padding, and {parameter} is {ignored}"
        raise NotPermitted("smoothing_mass", f"{why}; pass a class from 0 to {classes - 1} as {parameter}, or 'V' or 'V-1'")
    return int(ignored)


def mean_denominator(rule: str, index: NDArray[np.int64], kept: NDArray[np.bool_], weight: Float | None, batch: int) -> Float:
    """The numbers whose sum a mean over class indices divides by, by the choice `denominator`; `batch` is the first axis' length."""
    if rule == "weights" and weight is not None:
        return np.append(weight[index[kept]], 0.0)
    rows = {"weights": kept.sum(), "kept": kept.sum(), "rows": kept.size, "batch": batch}[rule]
    return np.array([float(rows)])
