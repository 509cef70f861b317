"""The operations, one file each, found by looking into this folder."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from refimpl.operation import InvalidInput, Operation


@cache
def operations() -> dict[str, Operation]:
    """Every operation by its name, in alphabetical order."""
    modules = (importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__))
    found = {module.OPERATION.name: module.OPERATION for module in modules}
    return dict(sorted(found.items()))


def operation(name: str) -> Operation:
    """The operation of that name; raises `InvalidInput` for an unknown one."""
    if name not in operations():
        raise InvalidInput(f"no operation is named {name!r}; the operations are {', '.join(operations())}")
    return operations()[name]
