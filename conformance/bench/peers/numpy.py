"""A limit: reading the logits once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from conformance.bench.peer import Call, Kind, Peer
from conformance.bench.problem import FORWARD, GRADIENT, Problem

_ALONE = 1 << 20  # bytes below which one thread is faster than several


def _read(problem: Problem, threads: int) -> Call:
    """The largest 32-bit integer of the same memory, found by numpy in threads of their own, in as many parts."""
    memory = problem.logits.reshape(-1).view(np.uint8)
    words = memory[: memory.size // 4 * 4].view(np.int32)
    if words.nbytes < _ALONE or threads == 1:
        return Call(words.max, lambda _: {}, lambda _: 0, problem)
    pool = ThreadPoolExecutor(threads)
    parts = np.array_split(words, threads)
    return Call(lambda: max(pool.map(np.max, parts)), lambda _: {}, lambda _: 0, problem)


PEERS = (
    Peer(
        name="read",
        summary="reading the logits once: numpy's maximum of their memory as integers",
        works={FORWARD: _read, GRADIENT: _read},
        distributions=("numpy",),
        kind=Kind.LIMIT,
    ),
)
