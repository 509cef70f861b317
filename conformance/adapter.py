"""What an adapter is: how one library is called, what it promises, and which of the definitions it follows.

An adapter calls the library's own public functions and its own differentiation; it translates names, shapes and argument
order, and nothing else. Each is one file in `conformance/adapters`, found by its name and imported only in a worker process.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conformance.bound import Promise
from conformance.dialects import Dialect, resolved

Array = NDArray[Any]
Arrays = Mapping[str, Array]

# (operation, mode, inputs, parameters, cotangent or None) -> (output, {input: gradient}). A library without derivatives
# leaves the gradients out. Whatever it raises is its answer, save `Unsupported`.
Call = Callable[[str, str, Arrays, Mapping[str, Any], Array | None], tuple[Array, dict[str, Array]]]


class Unsupported(Exception):
    """The library has no such operation, or not for that value of a parameter; the message says which."""


@dataclass(frozen=True)
class Adapter:
    """One library as a backend.

    `promises` has an entry for each dtype that the library documents; `dialect` is the name of the one that it follows
    (`conformance.dialects`), or a mapping of choices to values. `partial` names, for a mode that costs too much to be asked
    everything, the groups of vectors that it is asked. `composed` are the operations that the library lacks and that are written in
    at most three lines of its own public functions; an operation that is not among `operations` is unsupported.
    """

    name: str
    operations: Collection[str]
    promises: Mapping[str, Promise]
    call: Call
    versions: Callable[[], dict[str, str]]
    dialect: str | Mapping[str, str] = field(default_factory=dict)
    modes: tuple[str, ...] = ("eager",)
    partial: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    composed: frozenset[str] = frozenset()
    device: str = "cpu"


@dataclass(frozen=True)
class Description:
    """What an adapter says of itself, without its functions: what a worker process can send."""

    name: str
    operations: tuple[str, ...]
    promises: Mapping[str, Promise]
    versions: Mapping[str, str]
    dialect: Dialect
    modes: tuple[str, ...]
    partial: Mapping[str, tuple[str, ...]]
    composed: tuple[str, ...]
    device: str

    def asks(self, mode: str, group: str) -> bool:
        """Whether vectors of that group are asked in that mode."""
        return mode not in self.partial or group in self.partial[mode]


def describe(adapter: Adapter) -> Description:
    """The description of an adapter; asks the library for its versions."""
    return Description(
        name=adapter.name,
        operations=tuple(sorted(adapter.operations)),
        promises=dict(adapter.promises),
        versions=adapter.versions(),
        dialect=resolved(adapter.dialect, adapter.name),
        modes=adapter.modes,
        partial=dict(adapter.partial),
        composed=tuple(sorted(adapter.composed)),
        device=adapter.device,
    )


def differentiable(inputs: Arrays) -> tuple[str, ...]:
    """The inputs that have a gradient: the floating-point ones, save class weights and probability targets."""
    return tuple(name for name, value in inputs.items() if name not in ("weight", "target") and not np.issubdtype(value.dtype, np.integer))


def installed(*distributions: str) -> dict[str, str]:
    """The versions of those distributions that are installed."""
    found = {}
    for name in distributions:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def backends() -> tuple[str, ...]:
    """The names of the known backends, in alphabetical order; imports none of them."""
    from conformance import adapters

    return tuple(sorted(module.name for module in pkgutil.iter_modules(adapters.__path__)))
