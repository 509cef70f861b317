"""Deliberately wrong kernels, named: the proof that the suite can fail. Each is one mistake in code that is otherwise right.

The faults of an operation stand in the module (or package) of its name here, which ends with a tuple `FAULTS`.
"""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass
from typing import Literal

from conformance.adapter import Adapter
from refimpl.operations import operations


@dataclass(frozen=True)
class Fault:
    """One mistake: the kernel that makes it, the clause that it breaks, and where it shows.

    `direction` "backward" is a mistake in the gradient alone: the loss is right. `mistake` says in one sentence what the code does
    wrong; `seen` names where real code did it, a report as "repository#number" or a repository whose source has it, or is empty.
    """

    adapter: Adapter
    clause: str
    direction: Literal["forward", "backward"]
    mistake: str
    seen: str = ""

    @property
    def name(self) -> str:
        return self.adapter.name

    @property
    def operation(self) -> str:
        (operation,) = self.adapter.operations
        return operation


def faults() -> tuple[Fault, ...]:
    """Every fault, in the order of the operations' names and of their modules."""
    present = {module.name for module in pkgutil.iter_modules(__path__)}
    found: list[Fault] = []
    for name in operations():
        if name in present:
            found += importlib.import_module(f"{__name__}.{name}").FAULTS
    return tuple(found)
