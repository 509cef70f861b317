"""What a peer is: something that computes the loss, or a limit that no loss can beat, with the call that is timed.

A peer is declared in a file of `conformance/bench/peers` and found by looking into that folder. Frameworks are imported inside its
functions, so that a peer whose package isn't installed can still be named.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Any

from conformance.bench.problem import Answer, BenchError, Problem


class Unsupported(Exception):
    """The peer has no such dtype; the message says so."""


class Absent(Exception):
    """What the peer needs, and is no Python package, isn't installed; the message names it."""


class Kind(StrEnum):
    """What a peer stands for in a table."""

    REFERENCE = "reference"
    PEER = "peer"
    LIMIT = "limit"


@dataclass(frozen=True)
class Call:
    """One peer, ready: `run` is what is timed; it works on `on`, the problem or a part of it.

    `answer` gives what a run returned as arrays, nothing for a limit; `held` the bytes of what a run returns.
    """

    run: Callable[[], Any]
    answer: Callable[[Any], Answer]
    held: Callable[[Any], int]
    on: Problem


@dataclass(frozen=True)
class Peer:
    """`works` maps what is computed to (problem, threads) -> Call; `compiles` says that a call is compiled for its shape."""

    name: str
    summary: str
    works: Mapping[str, Callable[[Problem, int], Call]]
    distributions: tuple[str, ...] = ()
    kind: Kind = Kind.PEER
    compiles: bool = False


@cache
def peers() -> dict[str, Peer]:
    """Every peer by its name: the reference, then the others, then the limits."""
    from conformance.bench import peers as folder

    modules = (importlib.import_module(f"{folder.__name__}.{module.name}") for module in pkgutil.iter_modules(folder.__path__))
    found = [peer for module in modules for peer in module.PEERS]
    return {peer.name: peer for kind in Kind for peer in found if peer.kind == kind}


def chosen(names: Sequence[str] | None) -> list[Peer]:
    """The peers of those names, all without names, and always the reference; raises `BenchError` for a name that is none."""
    for name in names or ():
        if name not in peers():
            raise BenchError(f"no peer is named {name!r}; the peers are {', '.join(peers())}")
    return [peer for peer in peers().values() if names is None or peer.name in names or peer.kind == Kind.REFERENCE]
