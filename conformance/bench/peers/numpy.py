"""A limit: reading the logits once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from conformance.bench.peer import Call, Kind, Peer
from conformance.bench.problem import FORWARD, GRADIENT, Problem

_ALONE = 1 << 20  # bytes below which one thread is faster than several


def _read(problem: Problem, threads: int) -> Call:
    """numpy's sum, in threads of their own, of the same memory: as float32, of which numpy adds up the most bytes at a time."""
    memory = problem.logits.reshape(-1).view(np.uint8)
    words = memory[: memory.size // 4 * 4].view(np.float32)
    if words.nbytes < _ALONE or threads == 1:
        return Call(words.sum, lambda _: {}, lambda _: 0, problem)
    pool = ThreadPoolExecutor(threads)
    parts = np.array_split(words, threads)
    return Call(lambda: sum(pool.map(np.sum, parts)), lambda _: {}, lambda _: 0, problem)


PEERS = (Peer("read", "reading the logits once: numpy's sum of their memory", {FORWARD: _read, GRADIENT: _read}, ("numpy",), Kind.LIMIT),)
