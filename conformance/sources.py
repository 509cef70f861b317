"""Backends by what a user calls them.

A built-in name; one that an installed package declares; a function (`package.module:function`); a program (`exec:COMMAND`); a folder of
answers (`dir:FOLDER`). A package declares its adapters, of type `conformance.adapter.Adapter`, as entry points; without a name after the
module it is `ADAPTER`:

    [project.entry-points."lossref.backends"]
    ours = "our_package.for_lossref"
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from conformance.adapter import Unusable, backends
from conformance.complaint import Complaint
from conformance.function import Contract, load
from conformance.link import Source
from conformance.links.folder import FolderSource
from conformance.links.process import WorkerSource, module_source
from conformance.links.program import ProgramSource
from conformance.promises import parse, spelled
from refimpl.operations import operations

GROUP = "lossref.backends"
OURS = "lossref"  # the origin of those that are built in


class UnknownBackend(Complaint):
    """No backend has that name, or more than one; the message lists them."""


@dataclass(frozen=True)
class Options:
    """What the command line says of the backends that it names, each of which takes what concerns it.

    `operation` to `tensors` are about functions; `promises` are texts, as in `conformance.promises`. `device` is about libraries,
    `strict` about the messages of programs; `jobs` are the workers that run at the same time, and share the processors.
    """

    dialect: str | None = None
    operation: str | None = None
    dtype: str | None = None
    promises: tuple[str, ...] = ()
    tensors: str = "numpy"
    device: str | None = None
    strict: bool = False
    jobs: int = 1


NONE = Options()


def find(name: str, options: Options = NONE) -> Source:
    """The source of a backend; raises `UnknownBackend`, and `conformance.adapter.Unusable` or `PromiseError` for a function."""
    way, _, rest = name.partition(":")
    if is_function(name):
        return WorkerSource(name, partial(load, name, _contract(name, options)), options.jobs)
    if way in ("exec", "dir"):
        if not rest.strip():
            raise UnknownBackend(f"{name!r} names no {'program' if way == 'exec' else 'folder'}; write exec:COMMAND or dir:FOLDER")
        return ProgramSource(rest, options.strict, options.jobs) if way == "exec" else FolderSource(Path(rest), options.strict)
    return module_source(name, _place(name), options.device, options.jobs)


def is_function(name: str) -> bool:
    """Whether it is written as package.module:function."""
    return ":" in name and not name.startswith(("exec:", "dir:"))


def refuse_idle(names: Sequence[str], options: Options) -> None:
    """Raise `Unusable` for options that are about functions only, where none of the backends is one."""
    if not any(map(is_function, names)) and (options.promises or options.tensors != NONE.tensors):
        raise Unusable("--promise and --tensors are about functions; name one as package.module:function, or leave them out")


def command_of(name: str, options: Options = NONE) -> str:
    """What to write after `lossref run` to judge that backend with these options again, as a shell takes it."""
    if is_function(name):
        return function_command(name, _contract(name, options), options.dialect)
    stated = {"--device": options.device, "--dialect": options.dialect}
    words = [word for option, value in stated.items() if value is not None for word in (option, value)]
    return shlex.join([name, *words, *(["--validate"] if options.strict else [])])


def function_command(name: str, contract: Contract, dialect: str | None) -> str:
    """The same for a function with a contract."""
    words = [name, "--operation", contract.operation]
    if contract.tensors != "numpy":
        words += ["--tensors", contract.tensors]
    if contract.promises != Contract.of(contract.operation).promises:
        for dtype, promise in contract.promises.items():
            words += ["--promise", spelled(dtype, promise)]
    return shlex.join(words if dialect is None else [*words, "--dialect", dialect])


def named() -> dict[str, str]:
    """The names of all backends, in alphabetical order, each with where it comes from: `OURS`, or the packages that declare it."""
    origins = {name: [OURS] for name in backends()}
    for entry in entry_points(group=GROUP):
        origins.setdefault(entry.name, []).append(_origin(entry))
    return {name: " and ".join(origins[name]) for name in sorted(origins)}


def _place(name: str) -> str:
    """Where the adapter of that name is."""
    declared = entry_points(group=GROUP, name=name)
    if name in backends() and not declared:
        return f"conformance.adapters.{name}"
    if name in backends() or len(declared) > 1:
        raise UnknownBackend(f"the backend {name!r} is declared by {named()[name]}; uninstall all but one, or have it renamed")
    for entry in declared:
        return entry.value
    known = ", ".join(named())
    raise UnknownBackend(f"no backend is named {name!r}; the backends are {known}, package.module:function, exec:COMMAND and dir:FOLDER")


def _origin(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else entry.value


def _contract(name: str, options: Options) -> Contract:
    if options.operation is None:
        raise Unusable(f"{name} is a function; say with --operation which loss it is: {', '.join(operations())}")
    if options.device is not None:
        raise Unusable(f"{name} is a function, which runs where it wants to; leave out --device {options.device}")
    dtypes = () if options.dtype is None else (options.dtype,)
    return Contract.of(options.operation, dict(map(parse, options.promises)), dtypes, options.tensors)
