"""How the reference's cost grows with the number of elements."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from conformance.bench.memory import available
from conformance.bench.peer import Kind, Peer
from conformance.bench.problem import FORWARD, numbers, problem_of
from conformance.bench.table import State, measure
from conformance.bench.timing import Clock, Spread, spread
from refimpl.enclosure import FORMATS

CLASSES = 10_000
SIZES = tuple(CLASSES * 10**n for n in range(6))  # 10^4 to 10^9 elements

# Bytes an element that a call may need beyond the logits: half formats are widened, and an enclosure's arrays are put together.
_SCRATCH = 6
_ENCLOSURE = 80


@dataclass(frozen=True)
class Cost:
    """What an element cost one of the reference's peers at a size, in ns; None, with a note, where it wasn't timed."""

    peer: Peer
    work: str
    dtype: str
    elements: int
    state: State
    nanoseconds: Spread | None
    note: str = ""


def costs(
    peers: Sequence[Peer],
    works: Sequence[str],
    dtype: str,
    rounds: int,
    threads: int,
    sizes: Sequence[int] = SIZES,
    clock: Clock | None = None,
) -> Iterator[Cost]:
    """The costs at growing sizes, rows of CLASSES logits; what memory doesn't suffice for is left out, with a note."""
    width = FORMATS[dtype].dtype.itemsize
    room = available()
    values = numbers(max(size for size in sizes if size == min(sizes) or size * (width + _SCRATCH) <= room), dtype)
    ours = [peer for peer in peers if peer.kind == Kind.REFERENCE]
    for size in sizes:
        for work in works:
            free = available()
            fitting = [peer for peer in ours if size <= values.size and size * _needed(peer, work, width) <= free]
            for peer in ours:
                if peer not in fitting:
                    yield Cost(peer, work, dtype, size, State.UNSUPPORTED, None, "more memory than is free")
            if fitting:
                shape = (max(1, size // CLASSES), 1, min(size, CLASSES))
                table = measure(fitting, work, problem_of(values[: math.prod(shape)], shape), rounds, threads, clock)
                for line in table.lines:
                    each = spread([1e9 * seconds / math.prod(shape) for seconds in line.seconds]) if line.seconds else None
                    yield Cost(line.peer, work, dtype, size, line.state, each, line.note)


def _needed(peer: Peer, work: str, width: int) -> int:
    if work == FORWARD:
        return _SCRATCH
    return _ENCLOSURE if peer.name == "double-double" else width + _SCRATCH
