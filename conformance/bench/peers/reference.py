"""The reference: enclosures in double-double arithmetic, and correctly rounded results."""

from __future__ import annotations

from typing import Any

import numpy as np

import refimpl
from conformance.bench.peer import Call, Kind, Peer, Unsupported
from conformance.bench.problem import FORWARD, GRADIENT, LOG_SUM_EXP, PADDING, SMOOTHING, Answer, Array, Problem, log_sum_exp

_NAME = "smoothed_attention_loss"


def _arguments(problem: Problem) -> dict[str, Any]:
    return {"logits": problem.logits, "target": problem.target, "smoothing": SMOOTHING, "padding_idx": PADDING}


def _bytes(found: refimpl.Enclosure | Array) -> int:
    arrays = (found.kind, found.hi, found.lo, found.radius) if isinstance(found, refimpl.Enclosure) else (found,)
    return sum(array.nbytes for array in arrays)


def _loss_of(found: refimpl.Enclosure | Array) -> Answer:
    return {"loss": np.asarray(found)}


def _both_of(found: tuple[refimpl.Enclosure | Array, refimpl.Enclosure | Array]) -> Answer:
    loss, gradient = found
    return {"loss": np.asarray(loss), "gradient": gradient.hi if isinstance(gradient, refimpl.Enclosure) else gradient}


def _both_bytes(found: tuple[refimpl.Enclosure | Array, refimpl.Enclosure | Array]) -> int:
    return sum(map(_bytes, found))


def _enclosure_forward(problem: Problem, threads: int) -> Call:
    arguments = _arguments(problem)

    def run() -> refimpl.Enclosure | Array:
        loss = refimpl.smoothed_attention_loss(**arguments)
        return loss.round("float64") if problem.dtype == "float64" else loss

    return Call(run, _loss_of, _bytes, problem)


def _enclosure_gradient(problem: Problem, threads: int) -> Call:
    arguments = _arguments(problem)

    def run() -> tuple[refimpl.Enclosure | Array, refimpl.Enclosure | Array]:
        loss = refimpl.smoothed_attention_loss(**arguments)
        gradient = refimpl.smoothed_attention_loss_vjp(**arguments, cotangent=1.0)["logits"]
        return (loss.round("float64"), gradient.round("float64")) if problem.dtype == "float64" else (loss, gradient)

    return Call(run, _both_of, _both_bytes, problem)


def _enclosure_log_sum_exp(problem: Problem, threads: int) -> Call:
    return Call(lambda: log_sum_exp(problem), lambda found: {"values": found.hi}, _bytes, problem)


def _narrow(problem: Problem) -> None:
    if problem.dtype == "float64":
        raise Unsupported("there is no wider quick phase for float64; double-double is what rounds to it")


def _rounded_forward(problem: Problem, threads: int) -> Call:
    _narrow(problem)
    arguments = _arguments(problem)
    return Call(lambda: refimpl.rounded(_NAME, dtype=problem.dtype, **arguments), _loss_of, _bytes, problem)


def _rounded_gradient(problem: Problem, threads: int) -> Call:
    _narrow(problem)
    arguments = _arguments(problem)

    def run() -> tuple[Array, Array]:
        loss, gradients = refimpl.rounded_with_gradient(_NAME, dtype=problem.dtype, cotangent=1.0, **arguments)
        return loss, gradients["logits"]

    return Call(run, _both_of, _both_bytes, problem)


_PACKAGES = ("numpy", "numba", "ml_dtypes")

PEERS = (
    Peer(
        name="double-double",
        summary="refimpl.smoothed_attention_loss: an enclosure (rounded for float64); with the gradient also its _vjp",
        works={FORWARD: _enclosure_forward, GRADIENT: _enclosure_gradient, LOG_SUM_EXP: _enclosure_log_sum_exp},
        distributions=_PACKAGES,
        kind=Kind.REFERENCE,
    ),
    Peer(
        name="rounded",
        summary="refimpl.rounded and rounded_with_gradient: correctly rounded to the dtype of the logits",
        works={FORWARD: _rounded_forward, GRADIENT: _rounded_gradient},
        distributions=_PACKAGES,
        kind=Kind.REFERENCE,
    ),
)
