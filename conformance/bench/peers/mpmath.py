"""mpmath, at the precision of a double-double number, on a slice of the rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from conformance.bench.peer import Call, Peer
from conformance.bench.problem import FORWARD, GRADIENT, LOG_SUM_EXP, PADDING, SMOOTHING, Problem

_BITS = 106
_ELEMENTS = 2000  # of the slice: some tens of microseconds each


def _row(x: list[Any], target: int) -> tuple[Any, list[Any]]:
    """The loss of a token and its gradient before the division by the batch."""
    import mpmath

    shared, on = mpmath.mpf(SMOOTHING) / (len(x) - 1), 1 - mpmath.mpf(SMOOTHING)
    top = max(x)
    exponentials = [mpmath.exp(value - top) for value in x]
    total = mpmath.fsum(exponentials)
    lse = top + mpmath.log(total)
    masses = [on if v == target else shared for v in range(len(x))]
    logs = {mass: mpmath.log(mass) for mass in (on, shared)}
    loss = mpmath.fsum(t * (logs[t] - value + lse) for t, value in zip(masses, x, strict=True))
    return loss, [e / total - t for e, t in zip(exponentials, masses, strict=True)]


def _prepare(problem: Problem) -> tuple[Problem, list[list[Any]], list[int]]:
    import mpmath

    part = problem.part(_ELEMENTS)
    return part, [[mpmath.mpf(float(value)) for value in row] for row in part.rows], part.target.reshape(-1).tolist()


def _forward(problem: Problem, threads: int) -> Call:
    import mpmath

    part, rows, targets = _prepare(problem)

    def run() -> float:
        with mpmath.workprec(_BITS):
            losses = [_row(x, y)[0] for x, y in zip(rows, targets, strict=True) if y != PADDING]
            return float(mpmath.fsum(losses) / part.shape[0])

    return Call(run, lambda loss: {"loss": np.array(loss)}, lambda _: 8, part)


def _gradient(problem: Problem, threads: int) -> Call:
    import mpmath

    part, rows, targets = _prepare(problem)

    def run() -> tuple[float, list[list[float]]]:
        batch = part.shape[0]
        with mpmath.workprec(_BITS):
            found = [_row(x, y) if y != PADDING else (0, [0] * len(x)) for x, y in zip(rows, targets, strict=True)]
            return float(mpmath.fsum(loss for loss, _ in found) / batch), [[float(g / batch) for g in gradient] for _, gradient in found]

    return Call(run, lambda found: {"loss": np.array(found[0]), "gradient": np.array(found[1])}, lambda _: 8 + 8 * part.logits.size, part)


def _log_sum_exp(problem: Problem, threads: int) -> Call:
    import mpmath

    part, rows, _ = _prepare(problem)

    def run() -> list[Any]:
        with mpmath.workprec(_BITS):
            found = []
            for x in rows:
                top = max(x)
                found.append(top + mpmath.log(mpmath.fsum(mpmath.exp(value - top) for value in x)) - x[0])
            return found

    return Call(run, lambda found: {"values": np.array([float(value) for value in found])}, lambda _: 8 * len(rows), part)


PEERS = (
    Peer(
        name="mpmath",
        summary=f"the loss from its definition with {_BITS} bits",
        works={FORWARD: _forward, GRADIENT: _gradient, LOG_SUM_EXP: _log_sum_exp},
        distributions=("mpmath",),
    ),
)
