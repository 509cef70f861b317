"""Deliberately wrong kernels, named: the proof that the suite can fail. Each is one mistake in code that is otherwise right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from conformance.adapter import Adapter


@dataclass(frozen=True)
class Fault:
    """One mistake: the kernel that makes it, the clause that it breaks, and where it shows.

    `direction` "backward" is a mistake in the gradient alone: the loss is right. `mistake` says in one sentence what the code does
    wrong; `seen` names where real code did it, as "repository#number", or is empty.
    """

    adapter: Adapter
    clause: str
    direction: Literal["forward", "backward"]
    mistake: str
    seen: str = ""

    @property
    def name(self) -> str:
        return self.adapter.name
