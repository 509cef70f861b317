"""Asks implementations of classification losses for their answers and judges them against `refimpl`.

For a user's own tests: `check`, `assert_conforms`, and the nouns that they speak of. They are imported when they are asked for, so that
the command line starts at once.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from conformance.adapter import Unsupported, Unusable
    from conformance.bound import Promise
    from conformance.checking import Report, assert_conforms, check
    from conformance.summation import Summation

__all__ = ["Promise", "Report", "Summation", "Unsupported", "Unusable", "assert_conforms", "check"]

_HOMES = {
    "Promise": "bound",
    "Report": "checking",
    "Summation": "summation",
    "Unsupported": "adapter",
    "Unusable": "adapter",
    "assert_conforms": "checking",
    "check": "checking",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"conformance.{_HOMES[name]}"), name)
