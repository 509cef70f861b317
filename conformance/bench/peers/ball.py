"""Ball arithmetic: the operation's own exact form, on a slice of the rows."""

from __future__ import annotations

import numpy as np

from conformance.bench.peer import Call, Peer
from conformance.bench.problem import FORWARD, GRADIENT, LOG_SUM_EXP, PADDING, SMOOTHING, Array, Problem
from refimpl.ball import Ball
from refimpl.operations import operation

_BITS = 128  # from which a double-double number can be rounded
_ELEMENTS = 20000  # of the slice: some microseconds each


def _values(found: list[Ball]) -> Array:
    return np.array([float(ball) for ball in found])


def _forward(problem: Problem, threads: int) -> Call:
    exact, part = operation("smoothed_attention_loss").exact, problem.part(_ELEMENTS)
    call = {"logits": part.logits, "target": part.target, "smoothing": SMOOTHING, "padding_idx": PADDING}
    return Call(lambda: exact([0], _BITS, **call), lambda found: {"loss": _values(found)}, lambda _: 8, part)


def _gradient(problem: Problem, threads: int) -> Call:
    loss, part = operation("smoothed_attention_loss"), problem.part(_ELEMENTS)
    call = {"logits": part.logits, "target": part.target, "smoothing": SMOOTHING, "padding_idx": PADDING}
    everywhere = range(part.logits.size)

    def run() -> tuple[list[Ball], list[Ball]]:
        gradient = loss.exact_vjp("logits", everywhere, _BITS, cotangent=np.array(1.0), **call)
        return loss.exact([0], _BITS, **call), gradient

    return Call(
        run,
        lambda found: {"loss": _values(found[0]), "gradient": _values(found[1])},
        lambda _: 8 + 8 * part.logits.size,
        part,
    )


def _log_sum_exp(problem: Problem, threads: int) -> Call:
    exact, part = operation("softmax_cross_entropy").exact, problem.part(_ELEMENTS)
    rows = part.rows
    call = {"logits": rows, "target": np.zeros(len(rows), np.int64), "reduction": "none"}
    return Call(lambda: exact(range(len(rows)), _BITS, **call), lambda found: {"values": _values(found)}, lambda _: 8 * len(rows), part)


PEERS = (
    Peer(
        name="ball",
        summary=f"the operation's exact form in ball arithmetic, with {_BITS} bits",
        works={FORWARD: _forward, GRADIENT: _gradient, LOG_SUM_EXP: _log_sum_exp},
        distributions=("python-flint",),
    ),
)
