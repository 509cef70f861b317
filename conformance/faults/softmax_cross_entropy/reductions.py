"""Mistakes in reductions: what is summed in which dtype, what a mean divides by, what comes back."""

from __future__ import annotations

from itertools import count
from typing import Any

import ml_dtypes
import numpy as np

from conformance.adapter import Array
from conformance.faults import Fault
from conformance.faults.smoothed import Maker, Rows, denominator, factors, reduced
from conformance.faults.steps import total

MAKER = Maker("softmax_cross_entropy")


def all_rows(r: Rows) -> Any:
    return denominator(r) if r.given is not None or r.weight is not None or r.reduction != "mean" else r.number(len(r.x))


def all_rows_weights(r: Rows) -> Any:
    """The weights of ignored rows count too, with that of class 0."""
    return denominator(r) if r.given is not None or r.weight is None or r.reduction != "mean" else total(r.weight[r.index])


def number_of_kept(r: Rows) -> Any:
    return denominator(r) if r.given is not None or r.reduction != "mean" else r.number(r.kept.sum())


def all_weights(r: Rows) -> Any:
    return denominator(r) if r.weight is None or r.given is not None or r.reduction != "mean" else total(r.weight)


def weights_of_distribution(r: Rows) -> Any:
    return denominator(r) if r.given is None or r.weight is None or r.reduction != "mean" else total((r.given * r.weight).reshape(-1))


def none(r: Rows) -> Any:
    return None


def count_in(dtype: Any) -> Any:
    """The rows are counted in a half dtype, one after the other."""

    def counted(r: Rows) -> Any:
        if r.reduction != "mean" or r.weight is not None or r.given is not None or r.kept.size == 0:
            return denominator(r)
        return r.number(np.add.accumulate(r.kept.astype(dtype))[-1])

    return counted


def summed_in(dtype: Any) -> Any:
    """The losses of the rows are added in a half dtype, one after the other."""

    def summed(r: Rows, loss: Array, divisor: Any) -> Array:
        if r.reduction == "none" or loss.size == 0:
            return reduced(r, loss, divisor)
        return reduced(r, np.add.accumulate(loss.astype(dtype))[-1:].astype(r.number), divisor)

    return summed


def nothing_is_0(r: Rows, loss: Array, divisor: Any) -> Array:
    return np.zeros((), r.number) if divisor is not None and not r.kept.any() else reduced(r, loss, divisor)


def never_by_rows(r: Rows, loss: Array, divisor: Any) -> Array:
    return np.asarray(total(loss)) if r.reduction == "none" else reduced(r, loss, divisor)


def nans_left_out(r: Rows, loss: Array, divisor: Any) -> Array:
    return reduced(r, loss if r.reduction == "none" else np.nan_to_num(loss, posinf=np.inf), divisor)


def absolute(r: Rows, loss: Array, divisor: Any) -> Array:
    """The denominator has 1e-6 added, so that nothing is divided by 0."""
    return reduced(r, loss, None if divisor is None else divisor + r.number(1e-6))


def over_the_logits(r: Rows, output: Array, g: Array | None) -> tuple[Array, Array | None]:
    """The gradient of a reduced loss is written over the logits, to save memory."""
    if g is not None and r.reduction != "none":
        r.logits[...] = g
    return output, g


def as_float32(r: Rows, output: Array, g: Array | None) -> tuple[Array, Array | None]:
    return output if r.reduction == "none" else output.astype(np.float32), g


def added_to_the_last(name: str) -> Fault:
    """A sum is added to a buffer that only every second call clears."""
    buffer: dict[bytes, Array] = {}

    def accumulated(r: Rows, output: Array, g: Array | None) -> tuple[Array, Array | None]:
        key = r.logits.tobytes() + r.target.tobytes() + str(r.smoothing).encode()
        if r.reduction != "sum":
            return output, g
        if key in buffer:
            return np.asarray(output + buffer.pop(key)), g
        buffer[key] = output
        return output, g

    return MAKER.both(name, "GEN-4", "A second call adds its sum to that of the first.", finish=accumulated)


def in_any_order(name: str) -> Fault:
    """The rows are added from first to last and, in every second call, from last to first."""
    calls = count()

    def summed(r: Rows, loss: Array, divisor: Any) -> Array:
        if r.reduction == "none" or loss.size == 0:
            return reduced(r, loss, divisor)
        return reduced(r, np.add.accumulate(loss[:: 1 - 2 * (next(calls) % 2)])[-1:], divisor)

    return MAKER.forward(name, "GEN-4", "Atomic additions: the rows are summed in another order with every call.", reduced=summed)


def batch_divides_too(r: Rows, cotangent: Array, divisor: Any) -> Array:
    return factors(r, cotangent, r.number(r.shape[0]) if r.reduction == "none" else divisor)


FAULTS = (
    MAKER.both("ignored-in-mean", "SCE-4", "A mean divides by all rows, ignored ones included.", "pytorch/xla#859", denominator=all_rows),
    MAKER.both(
        "weights-of-ignored-in-mean",
        "SCE-4",
        "A weighted mean counts the weight of ignored rows, as class 0.",
        "tracel-ai/burn#5568",
        denominator=all_rows_weights,
    ),
    MAKER.both("weighted-mean-by-rows", "SCE-4", "A weighted mean divides by the number of kept rows.", denominator=number_of_kept),
    MAKER.both(
        "weighted-mean-by-all-weights", "SCE-4", "A weighted mean divides by the sum of the class weights.", denominator=all_weights
    ),
    MAKER.both(
        "distribution-mean-by-weights",
        "SCE-4",
        "A weighted mean over distributions divides by their weights, not by the rows.",
        denominator=weights_of_distribution,
    ),
    MAKER.both("mean-is-sum", "SCE-4", "A mean divides by nothing.", "speechbrain/speechbrain", denominator=none),
    MAKER.both("mean-plus-1e-6", "SCE-11", "1e-6 is added to the denominator.", "NVIDIA/NeMo", reduced=absolute),
    MAKER.both(
        "count-in-float16",
        "SCE-4",
        "The rows are counted in float16.",
        "pytorch/pytorch#29429",
        ("float16",),
        denominator=count_in(np.float16),
    ),
    MAKER.both(
        "count-in-bfloat16",
        "SCE-4",
        "The rows are counted in bfloat16, which stays at 256.",
        "pytorch/pytorch#29429",
        ("bfloat16",),
        denominator=count_in(ml_dtypes.bfloat16),
    ),
    MAKER.forward(
        "rows-summed-in-float16",
        "GEN-5",
        "The rows are added in float16.",
        "pytorch/pytorch#55657",
        ("float16",),
        reduced=summed_in(np.float16),
    ),
    MAKER.forward("nothing-is-0", "SCE-11", "A mean over no rows is 0, although nan is promised.", reduced=nothing_is_0),
    MAKER.forward("none-is-sum", "GEN-1", "Without a reduction, the sum comes back.", "linkedin/Liger-Kernel#421", reduced=never_by_rows),
    MAKER.forward("nan-rows-left-out", "SCE-9", "A reduction leaves out rows whose loss is nan.", reduced=nans_left_out),
    MAKER.both(
        "gradient-over-logits",
        "GEN-3",
        "The gradient of a reduced loss is written over the logits.",
        "unslothai/unsloth#5002",
        finish=over_the_logits,
    ),
    MAKER.both(
        "reduced-in-float32", "GEN-2", "The reduced loss of float64 logits comes back as float32.", dtypes=("float64",), finish=as_float32
    ),
    added_to_the_last("buffer-not-cleared"),
    in_any_order("atomic-order"),
)
