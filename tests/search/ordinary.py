"""Ordinary inputs, made of integer arithmetic alone (so the same everywhere), and how wide the kernels' radii are on them."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refimpl.doubledouble import U2
from refimpl.operation import IndexOrReal, Operation
from refimpl.operations import operations
from tests.search.magnitude import magnitude

Float = NDArray[np.float64]

ROWS = 3


def uniform(rows: int, classes: int, salt: int) -> Float:
    """Numbers of 32 bits in [0, 1), scattered (a multiplicative hash with two xor-shifts)."""
    x = np.arange(1, rows * classes + 1, dtype=np.uint64) + np.uint64(salt << 40)
    for factor in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9):
        x = (x ^ (x >> np.uint64(29))) * np.uint64(factor)
    return ((x >> np.uint64(32)).astype(np.float64) / 2.0**32).reshape(rows, classes)


def logits(rows: int, classes: int) -> Float:
    """Within +-8."""
    return 16.0 * uniform(rows, classes, 1) - 8.0


def probability(rows: int, classes: int, salt: int) -> Float:
    """Positive, of about 1/classes: a row sums to about 1."""
    return (uniform(rows, classes, salt) + 2.0**-10) * (2.0 / classes)


def call(operation: Operation, classes: int, *, reduction: str = "none", given: bool = False) -> tuple[dict[str, Any], Float]:
    """Keywords of a call and a cotangent; smoothed by 0.1 where the operation smooths, against distributions if `given`."""
    keywords = operation.defaults()
    if "reduction" in keywords:
        keywords["reduction"] = reduction
    if "label_smoothing" in keywords:
        keywords["label_smoothing"] = 0.1
    contents = {
        "logits": logits(ROWS, classes),
        "p": probability(ROWS, classes, 2),
        "q": probability(ROWS, classes, 3),
        "log_q": -16.0 * uniform(ROWS, classes, 4) - 2.0**-10,
        "log_p": -16.0 * uniform(ROWS, classes, 4) - 2.0**-10,
        "weight": 0.5 + uniform(1, classes, 5)[0],
        "target": np.arange(ROWS) * 7 % classes,
    }
    if given and isinstance(operation.inputs["target"], IndexOrReal):
        contents["target"] = probability(ROWS, classes, 2)
    inputs = {name: contents[name] for name in operation.inputs}
    if operation.inputs[next(iter(operation.inputs))].axes.startswith("B T"):
        inputs = {name: array[None] for name, array in inputs.items()}
    keywords |= inputs
    shape = operation.forward(**keywords).shape
    return keywords, (uniform(1, int(np.prod(shape, dtype=np.int64)), 6) + 0.5).reshape(shape)


@cache
def widths(name: str, wrt: str | None, classes: int, reduction: str = "none") -> Float:
    """The radii of an output (`wrt` None) or a gradient on ordinary rows, in units of 2^-106 of the terms' magnitude, in order."""
    operation = operations()[name]
    arguments, g = call(operation, classes, reduction=reduction)
    e = operation.forward(**arguments) if wrt is None else operation.vjp(cotangent=g, **arguments)[wrt]
    size = np.broadcast_to(magnitude(name, wrt, arguments, g), e.shape)
    return np.sort(e.radius[size > 0.0] / (size[size > 0.0] * U2))


def bound(name: str, wrt: str | None, classes: int, reduction: str = "none") -> float:
    """The proven bound: the widest of them."""
    return float(widths(name, wrt, classes, reduction).max(initial=0.0))


def typical(name: str, wrt: str | None, classes: int, reduction: str = "none") -> float:
    """The one in the middle."""
    found = widths(name, wrt, classes, reduction)
    return float(found[len(found) // 2]) if found.size else 0.0


def reduced(rows: int, reduction: str) -> float:
    """The bound of a reduction alone: of so many losses that are exact."""
    log_p, weight = -16.0 * uniform(rows, 2, 4) - 2.0**-10, 0.5 + uniform(1, 2, 5)[0]
    e = operations()["nll_loss"].forward(log_p=log_p, target=np.arange(rows) % 2, weight=weight, reduction=reduction)
    return float(e.radius / (np.abs(e.hi) * U2))  # no term is negative: the sum of the magnitudes is the result
