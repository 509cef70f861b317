"""What is made when it is first used, as most commands use little of it: the array of a recipe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from conformance.case import Array, Recipe, VectorError
from conformance.cases import counter
from conformance.storage.text import wrong


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
