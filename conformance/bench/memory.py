"""Peak memory beyond inputs and outputs, each peer in a fresh process.

The operating system's peak of the resident memory is set back right before one call and read after it; what was resident before and what
the call returned are subtracted. Before that the peer was called at a small shape, so that its library, its threads and its code are there;
peers that compile for a shape were called at that shape, and what they freed was given back.
"""

from __future__ import annotations

import ctypes
import gc
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from conformance.bench.peer import Kind, Peer, Unsupported, peers
from conformance.bench.problem import Shape, Unmeasurable, problem
from conformance.bench.table import State, attempt, using

SMALL: Shape = (4, 8, 4096)  # enough for several threads

_PROCESS = Path("/proc/self")
_EVERYTHING = 1 << 62


@dataclass(frozen=True)
class Peak:
    """The bytes that a peer's call needed at its peak, beyond inputs and outputs; None, with a note, where that wasn't measured."""

    peer: Peer
    state: State
    extra: int | None = None
    note: str = ""


def peaks(chosen: Sequence[Peer], work: str, shape: Shape, dtype: str, threads: int) -> Iterator[Peak]:
    """The peaks of those peers that compute it, but for the limits."""
    if not (_PROCESS / "clear_refs").exists():
        raise Unmeasurable("this system has no /proc/self/clear_refs, by which the peak of the memory is measured")
    for peer in chosen:
        if work in peer.works and peer.kind != Kind.LIMIT:
            with ProcessPoolExecutor(1, get_context("spawn")) as fresh:
                found, state, note = attempt(fresh.submit(_measured, peer.name, work, shape, dtype, threads).result)
            extra, inner, said = found if found is not None else (None, state, note)
            yield Peak(peer, inner, extra, said)


def _measured(name: str, work: str, shape: Shape, dtype: str, threads: int) -> tuple[int | None, State, str]:
    with using(threads):
        return attempt(partial(extra, peers()[name], work, shape, dtype, threads))


def extra(peer: Peer, work: str, shape: Shape, dtype: str, threads: int) -> int:
    """The bytes of this process's memory that one call needs at its peak, beyond inputs and outputs."""
    peer.works[work](problem(SMALL, dtype), threads).run()
    whole = problem(shape, dtype)
    call = peer.works[work](whole, threads)
    if call.on is not whole:
        raise Unsupported(f"works on {call.on.logits.size} elements only")
    if peer.compiles:
        call.run()
    gc.collect()
    _give_back()
    (_PROCESS / "clear_refs").write_text("5")  # sets the peak back
    before = status("VmRSS")
    result = call.run()
    return max(0, status("VmHWM") - before - call.held(result))


def status(name: str) -> int:
    """A number of this process's memory, in bytes."""
    found = re.search(rf"^{name}:\s+(\d+) kB$", (_PROCESS / "status").read_text(), re.MULTILINE)
    if found is None:
        raise Unmeasurable(f"this system doesn't tell {name}")
    return int(found.group(1)) << 10


def available() -> int:
    """The bytes that can be allocated before the system runs out of memory, where it tells that."""
    try:
        found = re.search(r"^MemAvailable:\s+(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE)
    except FileNotFoundError:
        found = None
    return int(found.group(1)) << 10 if found else _EVERYTHING


def _give_back() -> None:
    """Have the C library return freed memory to the system, where it can."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
