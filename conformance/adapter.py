"""What an adapter is: how one library is called, what it promises, and which of the definitions it follows.

An adapter calls the library's own public functions and its own differentiation; it translates names, shapes and argument
order, and nothing else. Each is one file in `conformance/adapters`, found by its name and imported only in a worker process.
"""

from __future__ import annotations

import inspect
import pkgutil
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conformance.bound import Promise
from conformance.case import TIERS
from conformance.complaint import Complaint
from conformance.dialects import Dialect, resolved

Array = NDArray[Any]
Arrays = Mapping[str, Array]

COTANGENT = "cotangent"  # no operation has an input of that name

# (operation, mode, inputs, parameters, cotangent or None) -> (output, {input: gradient}). A library without derivatives
# leaves the gradients out. Whatever it raises is its answer, save `Unsupported`.
Call = Callable[[str, str, Arrays, Mapping[str, Any], Array | None], tuple[Array, dict[str, Array]]]


class Unsupported(Exception):
    """The library has no such operation, or not for that value of a parameter; the message says which."""


class Unusable(Complaint):
    """What was named as a backend can't be one as it is; the message names it and the remedy."""


@dataclass(frozen=True)
class Idiom:
    """How a script in the library's own API is written (`conformance.script`): its statements, with names in braces to be filled in.

    `tensor` makes a tensor of `{values}` (a nested list, or an array of NumPy) with the dtype named `{dtype}`; `number` and `total` are
    a single element `{}` as a number of Python, and the sum of all elements, which must be computed in float64. `forward` leaves the
    output in `output`, `backward` the gradient of the input `{name}` in `{gradient}`, from a tensor `cotangent`. They contain the
    call as `{call}`, or the function of all inputs as `{function}` and its arguments as `{inputs}`; of a library that runs ONNX
    models, `forward` has the model's text as `{model}` and its inputs by name as `{feeds}`. `first` comes before the imports, `setup`
    after them. `index` and `real` are the tests by which the operations of the file tell integers and floating-point numbers apart, of
    a tensor `{}`.
    """

    tensor: str
    number: str
    total: str
    forward: str = "output = {call}"
    backward: str = ""
    first: str = ""
    setup: str = ""
    index: str = ""
    real: str = ""


@dataclass(frozen=True)
class Mode:
    """One way in which a library runs the same functions: eagerly, compiled, under a policy of its own.

    `cases` are globs for the ids of the vectors that it is asked, where all would cost too much or mean nothing (None: all).
    `promises` and `idiom` take the place of the adapter's, and `choices` of those of its dialect that differ. `allowance` is the time in
    seconds that a case may take beyond its deadline, for a compilation, and `tier` the smallest in which a run has time for the mode.
    """

    name: str
    cases: tuple[str, ...] | None = None
    promises: Mapping[str, Promise] | None = None
    choices: Mapping[str, str] = field(default_factory=dict)
    allowance: float = 0.0
    tier: str = TIERS[0]
    idiom: Idiom | None = None

    def works(self, tier: str) -> bool:
        """Whether a run of that tier has time for it."""
        return TIERS.index(self.tier) <= TIERS.index(tier)

    def asks(self, case: str, tier: str) -> bool:
        """Whether the vector of that id is asked in a run of that tier."""
        return self.works(tier) and (self.cases is None or any(fnmatchcase(case, pattern) for pattern in self.cases))


@dataclass(frozen=True)
class Adapter:
    """One library as a backend.

    `promises` has an entry for each dtype that the library documents ("float32"), and one for each operation that promises something
    else for a dtype ("entropy_with_logits/float32"). `dialect` is the name of the one that it follows (`conformance.dialects`), or a
    mapping of choices to values. `composed` are the operations that the library lacks and that are written in at most three lines of
    its own public functions; an operation that is not among `operations` is unsupported. `constants` are inputs that the library
    doesn't differentiate by. `fragile` says that a call with a bad target may spoil later calls: its process is replaced after each.
    `on` gives the adapter for another device of the library, by its name there, and raises `ValueError` for one that it doesn't have.
    `idiom` is how the library is written by hand; with it, `OPERATIONS` in the file of `call` must map operations to functions there, or
    in the text `source` that stands for it.
    """

    name: str
    operations: Collection[str]
    promises: Mapping[str, Promise]
    call: Call
    versions: Callable[[], dict[str, str]]
    dialect: str | Mapping[str, str] = field(default_factory=dict)
    modes: tuple[Mode, ...] = (Mode("eager"),)
    composed: frozenset[str] = frozenset()
    constants: frozenset[str] = frozenset()
    fragile: bool = False
    device: str = "cpu"
    on: Callable[[str], Adapter] | None = None
    idiom: Idiom | None = None
    source: str = ""


@dataclass(frozen=True)
class Description:
    """What an adapter says of itself, without its functions: what a worker process can send.

    `source` is the text of its file, of an adapter that has an idiom. `command` is what to write after `lossref run` to have it again, as
    a shell takes it; whoever was given that knows it.
    """

    name: str
    operations: tuple[str, ...]
    promises: Mapping[str, Promise]
    versions: Mapping[str, str]
    dialect: Dialect
    modes: tuple[Mode, ...] = (Mode("eager"),)
    composed: tuple[str, ...] = ()
    constants: tuple[str, ...] = ()
    fragile: bool = False
    device: str = "cpu"
    idiom: Idiom | None = None
    source: str = ""
    command: str = ""

    @property
    def version(self) -> str:
        """The version of the library, or of the package that has the function `package.module:function`; empty where there is none."""
        package, function, _ = self.name.partition(":")
        return self.versions.get(package.partition(".")[0], "") if function else next(iter(self.versions.values()), "")

    def idiom_of(self, mode: str) -> Idiom | None:
        """How the library is written by hand in a mode."""
        return next((one.idiom for one in self.modes if one.name == mode and one.idiom is not None), self.idiom)

    def idle(self, tier: str) -> tuple[str, ...]:
        """The modes for which a run of that tier has no time."""
        return tuple(mode.name for mode in self.modes if not mode.works(tier))

    def promise(self, operation: str, dtype: str, mode: str = "") -> Promise | None:
        """What is promised of an operation on inputs of a dtype, in a mode where that differs; None where nothing is."""
        stated = next((one.promises for one in self.modes if one.name == mode and one.promises is not None), self.promises)
        return stated.get(f"{operation}/{dtype}", stated.get(dtype))

    def choices(self, operation: str, mode: str) -> dict[str, str]:
        """The values of the choices that it names, for an operation in a mode."""
        differing = next((one.choices for one in self.modes if one.name == mode), {})
        return {**self.dialect.of(operation), **differing}


def describe(adapter: Adapter) -> Description:
    """The description of an adapter; asks the library for its versions."""
    return Description(
        name=adapter.name,
        operations=tuple(sorted(adapter.operations)),
        promises=dict(adapter.promises),
        versions=adapter.versions(),
        dialect=resolved(adapter.dialect, adapter.name),
        modes=tuple(replace(mode, choices=resolved(mode.choices, f"{adapter.name}, mode {mode.name}").choices) for mode in adapter.modes),
        composed=tuple(sorted(adapter.composed)),
        constants=tuple(sorted(adapter.constants)),
        fragile=adapter.fragile,
        device=adapter.device,
        idiom=adapter.idiom,
        source=adapter.source if adapter.source or adapter.idiom is None else _source(adapter.call),
    )


def _source(call: Call) -> str:
    """The text of the file that a function stands in, its first arguments given or not."""
    function = call.func if isinstance(call, partial) else call
    return inspect.getsource(sys.modules[function.__module__])


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
