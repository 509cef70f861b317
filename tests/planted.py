"""Backends whose answers are right, save for defects that were planted in them: what a search is to find."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

import refimpl
from conformance.adapter import Adapter, Array, Arrays
from conformance.bound import Promise
from conformance.case import rounded
from refimpl.enclosure import FORMATS

Gave = tuple[Array, dict[str, Array]]
Defect = Callable[[Array, Array, dict[str, Array]], Gave]  # the logits, the right output and gradients -> what is answered

PROMISES = {name: Promise("A", compute="float32") for name in FORMATS}  # in float64 a coarse one
MANY = 300  # classes
PEAK = 611.0  # the gap at which `drifting` errs most


def masked(logits: Array, output: Array, gradients: dict[str, Array]) -> Gave:
    """A masked class makes the others of its row nan."""
    rows = np.isneginf(logits).any(-1, keepdims=True) & np.isfinite(output)
    return np.where(rows, np.nan, output).astype(output.dtype), gradients


def many(logits: Array, output: Array, gradients: dict[str, Array]) -> Gave:
    """Of many classes the gradient of the first is too high, by more than any of its bounds."""
    if logits.shape[-1] >= MANY:
        gradients["logits"][..., 0] += 2.0**20
    return output, gradients


def drifting(logits: Array, output: Array, gradients: dict[str, Array]) -> Gave:
    """An error inside the bound of float32, the larger the nearer a gap is to `PEAK`."""
    with np.errstate(invalid="ignore"):
        gap = logits.max(-1, keepdims=True) - logits
        near = np.where(np.isfinite(gap), 1.0 / (1.0 + np.abs(gap - PEAK) / 16.0), 0.0)
    return output * (1.0 + 2.2 * FORMATS["float32"].unit * near), gradients


def wrong(logits: Array, output: Array, gradients: dict[str, Array]) -> Gave:
    """The first output of every row is 1 too low."""
    output[..., 0] -= 1.0
    return output, gradients


def raising(logits: Array, output: Array, gradients: dict[str, Array]) -> Gave:
    """No answer, and more words about it than a file takes."""
    raise RuntimeError("x" * 20000)


def right(logits: Array, output: Array, gradients: dict[str, Array]) -> Gave:
    """No defect."""
    return output, gradients


def adapter(*defects: Defect, name: str = "planted") -> Adapter:
    """A `log_softmax` that is rounded once, with those defects."""

    def call(_: str, __: str, inputs: Arrays, parameters: Mapping[str, Any], cotangent: Array | None) -> Gave:
        logits = inputs["logits"]
        output = rounded(refimpl.log_softmax(logits).hi, logits.dtype.name)
        given = refimpl.log_softmax_vjp(logits, cotangent=cotangent) if cotangent is not None else {}
        gradients = {key: rounded(value.hi, logits.dtype.name) for key, value in given.items()}
        for defect in defects:
            output, gradients = defect(logits, output, gradients)
        return output, gradients

    return Adapter(name, frozenset({"log_softmax"}), PROMISES, call, versions=lambda: {name: "1.0"})
