"""What is computed: logits and targets of a shape, the right answer, and how far another one is from it.

A problem is an input of `smoothed_attention_loss`, with smoothing SMOOTHING; a few tokens are PADDING. Errors are in ulps of a format, here
those of float32 throughout, so that they can be compared between dtypes, and those of float64 for log-sum-exp.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import refimpl
from conformance.complaint import UNABLE, Complaint
from refimpl.enclosure import FORMATS

Array = NDArray[Any]
Shape = tuple[int, int, int]
Answer = Mapping[str, Array]  # "loss" and, with a gradient, "gradient"; or "values", one for each row

FORWARD, GRADIENT, LOG_SUM_EXP = "forward", "gradient", "log-sum-exp"
DTYPES = ("float32", "bfloat16", "float16", "float64")
SMOOTHING, PADDING = 0.1, -1

_PERIOD, _PADDED = 16, 3  # one token in so many is padding, and which
_CHECKED = 1 << 22  # elements of a gradient that are checked, up to a whole sequence more
_CHUNK = 1 << 24  # elements that are drawn at a time


class BenchError(Complaint):
    """What was asked for can't be timed; the message says why and what to write."""


class Unmeasurable(Complaint):
    """This system doesn't tell what was asked for; the message says what is missing."""

    status = UNABLE


@dataclass(frozen=True)
class Problem:
    """Logits (B, T, V) and targets (B, T), in memory of their own."""

    logits: Array
    target: NDArray[np.int64]

    @property
    def dtype(self) -> str:
        return self.logits.dtype.name

    @property
    def shape(self) -> Shape:
        batch, tokens, classes = self.logits.shape
        return batch, tokens, classes

    @property
    def rows(self) -> Array:
        """The logits as (N, V)."""
        return self.logits.reshape(-1, self.logits.shape[2])

    @property
    def kept(self) -> int:
        return int(np.count_nonzero(self.target != PADDING))

    def part(self, elements: int) -> Problem:
        """The first rows of it, or the beginning of the first, of not more than so many elements; itself where it has no more."""
        if self.logits.size <= elements:
            return self
        classes = min(self.shape[2], elements)
        count = elements // classes
        target = self.target.reshape(-1, 1)[:count]
        logits = np.ascontiguousarray(self.rows[:count, :classes]).reshape(count, 1, classes)
        return Problem(logits, np.where(target == PADDING, PADDING, target % classes))


def shape_of(text: str) -> Shape:
    """BxTxV, or NxV for tokens that are each a sequence; raises `BenchError` for anything else."""
    if re.fullmatch(r"[1-9]\d*(x[1-9]\d*){1,2}", text, re.ASCII):
        first, *middle, classes = map(int, text.split("x"))
        if classes > 1:
            return first, (middle or [1])[0], classes
    raise BenchError(f"{text!r} is no shape; write sequences, tokens and classes (two or more), like 16x13x4233, or rows and classes")


def text_of(shape: Shape) -> str:
    """A shape as it is written on the command line."""
    return "x".join(map(str, shape))


def numbers(size: int, dtype: str) -> Array:
    """So many normal logits of standard deviation 3, always the same ones."""
    draw = np.random.default_rng(0)
    wide = np.float64 if dtype == "float64" else np.float32
    values = np.empty(size, FORMATS[dtype].dtype)
    for start in range(0, size, _CHUNK):
        values[start : start + _CHUNK] = 3 * draw.standard_normal(min(_CHUNK, size - start), wide)
    return values


def problem_of(values: Array, shape: Shape) -> Problem:
    """A problem with these logits."""
    tokens = shape[0] * shape[1]
    target = np.random.default_rng(1).integers(0, shape[2], tokens)
    target[_PADDED::_PERIOD] = PADDING
    return Problem(values.reshape(shape), target.reshape(shape[:2]))


def problem(shape: Shape, dtype: str) -> Problem:
    """The problem of a shape, always the same one."""
    return problem_of(numbers(math.prod(shape), dtype), shape)


def entropy_of_target(classes: int) -> float:
    """The entropy of a smoothed target: what the loss is less than a cross entropy."""
    shared = SMOOTHING / (classes - 1)
    return -(1 - SMOOTHING) * math.log(1 - SMOOTHING) - SMOOTHING * math.log(shared)


def expected(work: str, on: Problem) -> Answer:
    """The answer, to float64; of a gradient the first sequences only, as many as are checked."""
    if work == LOG_SUM_EXP:
        return {"values": log_sum_exp(on).hi}
    loss = refimpl.smoothed_attention_loss(on.logits, on.target, smoothing=SMOOTHING, padding_idx=PADDING).hi
    if work == FORWARD:
        return {"loss": loss}
    batch, tokens, classes = on.shape
    few = min(batch, max(1, _CHECKED // (tokens * classes)))
    gradient = refimpl.smoothed_attention_loss_vjp(
        on.logits[:few], on.target[:few], cotangent=few / batch, smoothing=SMOOTHING, padding_idx=PADDING
    )
    return {"loss": loss, "gradient": gradient["logits"].hi}


def log_sum_exp(on: Problem) -> refimpl.Enclosure:
    """The log-sum-exp of each row less its first logit: the cross entropy of class 0, which is where the reference has it."""
    rows = on.rows
    return refimpl.softmax_cross_entropy(rows, np.zeros(len(rows), np.int64), reduction="none")


def errors(work: str, actual: Answer, right: Answer) -> dict[str, float]:
    """The largest error of each part of an answer, in ulps.

    That of a gradient is in ulps of the largest element of its row; "element" is in ulps of the element itself, which can be a difference
    of two numbers that are almost alike.
    """
    unit = np.dtype(np.float64 if work == LOG_SUM_EXP else np.float32)
    found = {}
    for name, value in actual.items():
        there = right[name]
        distance = np.abs(value.reshape(-1)[: there.size].astype(np.float64).reshape(there.shape) - there)
        if name == "gradient":
            found[name] = _ulps(distance, np.abs(there).max(axis=-1, keepdims=True), unit)
            found["element"] = _ulps(distance, np.abs(there), unit)
        else:
            found[name] = _ulps(distance, np.abs(there), unit)
    return found


def _ulps(distance: Array, size: Array, unit: np.dtype[Any]) -> float:
    return float(np.max(distance / np.spacing(size.astype(unit)).astype(np.float64)))
