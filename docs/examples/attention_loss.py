"""WeNet's label-smoothed attention loss as its users write it in PyTorch, timed beside the reference.

    python docs/examples/attention_loss.py

prints the median times of both at WeNet's shape, float32, their ratio with its quartiles, and the extra memory of the reference in
copies of the logits. They take turns of a few calls each, of which the first is not counted: PyTorch's worker threads spin on for
a while after a call, in the time of whatever runs next.
"""

from __future__ import annotations

import os
import statistics
import time
import tracemalloc
from collections.abc import Callable

import numpy as np
import torch

import refimpl

SHAPE, SMOOTHING, PADDING, ROUNDS, CALLS = (16, 13, 4233), 0.1, -1, 40, 7


def attention_loss(x: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """KLDivLoss(reduction="none") against a materialised smoothed target, padded tokens filled with 0, divided by the batch."""
    batch, classes = x.size(0), x.size(2)
    x, target = x.view(-1, classes), target.view(-1)
    smoothed = torch.full_like(x, SMOOTHING / (classes - 1))
    padded = target == PADDING
    smoothed.scatter_(1, target.masked_fill(padded, 0).unsqueeze(1), 1 - SMOOTHING)
    divergence = torch.nn.KLDivLoss(reduction="none")(torch.log_softmax(x, dim=1), smoothed)
    return divergence.masked_fill(padded.unsqueeze(1), 0).sum() / batch


def seconds(function: Callable[[], object]) -> float:
    """The median time of a turn's calls after the first."""
    times = []
    for _ in range(CALLS):
        begin = time.perf_counter()
        function()
        times.append(time.perf_counter() - begin)
    return statistics.median(times[1:])


def main() -> None:
    """Time both, turn by turn, for `ROUNDS` rounds."""
    threads = len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    numbers = np.random.default_rng(0)
    logits = (3 * numbers.standard_normal(SHAPE)).astype(np.float32)
    target = numbers.integers(-1, SHAPE[2], SHAPE[:2])
    x, y = torch.from_numpy(logits), torch.from_numpy(target)

    def reference() -> refimpl.Enclosure:
        return refimpl.smoothed_attention_loss(logits, target, smoothing=SMOOTHING, padding_idx=PADDING)

    print(f"reference {reference()!r}, PyTorch {attention_loss(x, y).item()!r}")
    with torch.no_grad():
        pairs = [(seconds(lambda: attention_loss(x, y)), seconds(reference)) for _ in range(ROUNDS)]
    module, ours = (statistics.median(column) for column in zip(*pairs, strict=True))
    low, middle, high = statistics.quantiles([a / b for a, b in pairs], n=4)
    print(f"PyTorch {module * 1e3:.2f} ms, reference {ours * 1e3:.2f} ms, {threads} threads each")
    print(f"ratio {middle:.2f} ({low:.2f} to {high:.2f})")

    tracemalloc.start()
    reference()
    _, peak = tracemalloc.get_traced_memory()
    print(f"extra memory of the reference: {peak / logits.nbytes:.3f} copies of the logits")


if __name__ == "__main__":
    main()
