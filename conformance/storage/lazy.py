"""What is made when it is first used, as most commands use little of it: the array of a recipe, the expectations of a vector."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import overload

import numpy as np

from conformance.case import Array, Expectation, Recipe, VectorError
from conformance.cases import counter
from conformance.storage.text import wrong


@dataclass(frozen=True, eq=False)
class Expectations(Sequence[Expectation]):
    """The expectations of a vector; `make` reads them, and raises `VectorError` for what isn't as described."""

    make: Callable[[], tuple[Expectation, ...]]

    @cached_property
    def all(self) -> tuple[Expectation, ...]:
        return self.make()

    @overload
    def __getitem__(self, index: int) -> Expectation: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Expectation, ...]: ...
    def __getitem__(self, index: int | slice) -> Expectation | tuple[Expectation, ...]:
        return self.all[index]

    def __len__(self) -> int:
        return len(self.all)


@dataclass(frozen=True, eq=False)
class Inputs(Mapping[str, Array]):
    """Arrays by name, some of them as recipes; `file` and `path` say in which field of which file they stand."""

    given: dict[str, Array | Recipe]
    file: str
    path: str

    def __getitem__(self, name: str) -> Array:
        found = self.given[name]
        if isinstance(found, Recipe):
            found = self.given[name] = made(found, self.file, f"{self.path}.{name}.recipe")
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self.given)

    def __len__(self) -> int:
        return len(self.given)


def made(recipe: Recipe, file: str, path: str) -> Array:
    """The array of a recipe; raises `VectorError`, naming file and field, where it makes none, or one of other bytes than it should."""
    try:
        with np.errstate(all="ignore"):  # the checksum decides whether the numbers are right
            return counter.make(recipe)
    except VectorError as error:
        raise wrong(file, path, str(error)) from error
    except (TypeError, ValueError, IndexError, ZeroDivisionError, OverflowError) as error:
        raise wrong(file, path, f"its settings make no array ({error})") from error
