"""SciPy: the loss in float64 from scipy.special.log_softmax, its gradient by hand; and scipy.special.logsumexp."""

from __future__ import annotations

import numpy as np

from conformance.bench.peer import Call, Peer
from conformance.bench.problem import FORWARD, GRADIENT, LOG_SUM_EXP, PADDING, SMOOTHING, Array, Problem, entropy_of_target

_ELEMENTS = 1 << 22  # larger problems are cut: one thread takes seconds for them, and the cost of an element doesn't depend on N


def _loss(log_p: Array, target: Array, batch: int) -> float:
    """The loss of rows whose target isn't PADDING, over the batch."""
    rows, classes = log_p.shape
    shared = SMOOTHING / (classes - 1)
    on = log_p[np.arange(rows), target]
    cross = -(1 - SMOOTHING) * on - shared * (log_p.sum(axis=-1) - on)
    return float((cross - entropy_of_target(classes)).sum() / batch)


def _kept(part: Problem) -> tuple[Array, Array, Array]:
    """The rows in float64, their targets, and which are kept."""
    target = part.target.reshape(-1)
    return part.rows.astype(np.float64), target, target != PADDING


def _forward(problem: Problem, threads: int) -> Call:
    from scipy import special

    part = problem.part(_ELEMENTS)
    x, target, kept = _kept(part)

    def run() -> float:
        return _loss(special.log_softmax(x, axis=-1)[kept], target[kept], part.shape[0])

    return Call(run, lambda loss: {"loss": np.array(loss)}, lambda _: 8, part)


def _gradient(problem: Problem, threads: int) -> Call:
    from scipy import special

    part = problem.part(_ELEMENTS)
    x, target, kept = _kept(part)

    def run() -> tuple[float, Array]:
        batch, _, classes = part.shape
        log_p = special.log_softmax(x, axis=-1)
        loss = _loss(log_p[kept], target[kept], batch)
        gradient = np.exp(log_p)
        gradient -= SMOOTHING / (classes - 1)
        gradient[kept, target[kept]] -= 1 - SMOOTHING - SMOOTHING / (classes - 1)
        gradient[~kept] = 0
        gradient /= batch
        return loss, gradient

    return Call(run, lambda found: {"loss": np.array(found[0]), "gradient": found[1]}, lambda found: 8 + found[1].nbytes, part)


def _log_sum_exp(problem: Problem, threads: int) -> Call:
    from scipy import special

    part = problem.part(_ELEMENTS)
    x = part.rows
    return Call(
        lambda: special.logsumexp(x, axis=-1),
        lambda found: {"values": found - x[:, 0]},
        lambda found: found.nbytes,
        part,
    )


PEERS = (
    Peer(
        name="scipy",
        summary="the loss in float64 from scipy.special.log_softmax, its gradient by hand; scipy.special.logsumexp",
        works={FORWARD: _forward, GRADIENT: _gradient, LOG_SUM_EXP: _log_sum_exp},
        distributions=("scipy",),
    ),
)
