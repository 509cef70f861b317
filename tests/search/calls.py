"""An operation's output or one of its gradients as something to search: rows of inputs, many in one call where rows don't meet.

Arrays are kept as float64 in one layout: rows along the first axis, classes along the last. A row of `classes` classes repeats a short
pattern, so that long rows are searched, and written down, as well as short ones. Where rows meet (a reduction), the call is one slot.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refimpl.ball import Ball
from refimpl.choices import permitted
from refimpl.enclosure import Enclosure
from refimpl.operation import Number, Operation
from refimpl.operations import operations
from tests import inputs
from tests.search import mutate
from tests.search.climb import Scores
from tests.search.magnitude import magnitude
from tests.search.measure import Errors, Evaluate, errors
from tests.search.ordinary import typical

Array = NDArray[Any]

SLOTS = 32
PATTERN = (1, 2, 2, 3, 3, 4, 5, 6, 8)  # classes of a row before it is repeated
LONG = (33, 100, 257, 1000, 4097)


@dataclass(frozen=True, eq=False)
class Shared:
    """What all slots of a population have in common. `joined` says that the rows are one slot."""

    dtype: str
    classes: int
    parameters: Mapping[str, Any]
    arrays: Mapping[str, Array]
    joined: bool


@dataclass(frozen=True, eq=False)
class Calls:
    """A population: `rows` maps names (of inputs, and "cotangent") to arrays (slots, ...)."""

    rows: Mapping[str, Array]
    shared: Shared

    @property
    def slots(self) -> int:
        return 1 if self.shared.joined else len(next(iter(self.rows.values())))

    def take(self, slots: NDArray[np.intp]) -> Calls:
        return self if self.shared.joined else replace(self, rows={name: array[slots] for name, array in self.rows.items()})


@dataclass(frozen=True)
class CallSpace:
    """The output (`wrt` None) or a gradient of an operation, as `climb` searches it.

    `long` draws long rows too. `shrink` is a fault for tests: the radii are multiplied by it.
    """

    name: str
    wrt: str | None
    long: bool = False
    shrink: float = 1.0

    @property
    def operation(self) -> Operation:
        return operations()[self.name]

    @property
    def label(self) -> str:
        return f"{self.name} {'output' if self.wrt is None else 'd' + self.wrt}"

    def start(self, rng: np.random.Generator) -> Calls:
        fixed: dict[str, str] = {}
        if "reduction" in self.operation.parameters:
            options = self.operation.parameters["reduction"].options
            fixed["reduction"] = "none" if rng.random() < 0.8 else str(rng.choice(options))
        joined = self.joins(fixed)
        classes = int(rng.choice(PATTERN))
        while True:  # until a call comes in the one layout
            call = inputs.call(rng, self.operation, int(rng.integers(1, 4)) if joined else SLOTS, classes, **fixed)
            main = call[next(iter(self.operation.inputs))]
            if main.ndim == 2 or (self._batched and len(main) == 1):
                break
        repeated = int(rng.choice(LONG)) if self.long and rng.random() < 0.5 and classes > 1 else classes
        return self._arranged(rng, call, repeated, joined, main.dtype.name)

    def joins(self, parameters: Mapping[str, Any]) -> bool:
        """Whether rows meet in the answer of a call with these parameters."""
        return parameters.get("reduction", "none") != "none" or (self._batched and self.wrt is None)

    def _arranged(self, rng: np.random.Generator, call: dict[str, Any], classes: int, joined: bool, dtype: str) -> Calls:
        """A call in the population's layout, with a cotangent."""
        g = inputs.cotangent(rng, self.operation.forward(**call).shape)
        arrays = {name: call.pop(name) for name in self.operation.inputs if name in call}
        rows = {name: array[0] if self._batched else array for name, array in arrays.items() if name != "weight"}
        rows = {name: array.astype(np.int64 if array.dtype.kind in "iu" else np.float64) for name, array in rows.items()}
        shared = {"weight": arrays["weight"].astype(np.float64)} if "weight" in arrays else {}
        (rows if g.ndim else shared)["cotangent"] = g
        return Calls(rows, Shared(dtype, classes, call, shared, joined))

    def vary(self, rng: np.random.Generator, population: Calls) -> Calls:
        shared, rows = population.shared, dict(population.rows)
        if rng.random() < (0.3 if shared.joined else 0.05):
            shared = self._varied(rng, shared)
        ignored = shared.parameters.get("ignore_index", shared.parameters.get("padding_idx"))
        for name, array in rows.items():
            if array.dtype.kind == "i":  # which rows are ignored stays as it is: a denominator is every row's concern
                other = rng.integers(0, self._pattern(population), array.shape)
                rows[name] = np.where((rng.random(array.shape) < 0.05) & (array != ignored) & (other != ignored), other, array)
            elif rng.random() < (0.4 if name == "cotangent" else 0.9):
                changed = mutate.rows(rng, array.reshape(len(array), -1), self._annulling(name, shared)).reshape(array.shape)
                changed = np.abs(changed) if self._positive(name, shared) else changed
                rows[name] = np.where(np.isfinite(changed) | ~np.isfinite(array) | (changed == -np.inf), changed, array)
        return Calls(rows, shared)

    def _varied(self, rng: np.random.Generator, shared: Shared) -> Shared:
        """The weights, the common cotangent and the numbers among the parameters changed a little."""
        arrays = {name: mutate.floats(rng, array, share=0.5) for name, array in shared.arrays.items()}
        arrays = {name: np.where(np.isfinite(array), array, 1.0) for name, array in arrays.items()}
        arrays = {name: np.abs(array) if name == "weight" else array for name, array in arrays.items()}
        parameters = dict(shared.parameters)
        for name, kind in self.operation.parameters.items():
            if isinstance(kind, Number):
                parameters[name] = float(np.clip(mutate.floats(rng, np.array([parameters[name]]))[0], kind.low, kind.high))
        return replace(shared, arrays=arrays, parameters=parameters)

    @property
    def _batched(self) -> bool:
        """Whether the inputs have an axis of sequences before that of the rows."""
        return self.operation.inputs[next(iter(self.operation.inputs))].axes.startswith("B T")

    def _pattern(self, population: Calls) -> int:
        return population.rows[next(iter(self.operation.inputs))].shape[-1]

    @staticmethod
    def _positive(name: str, shared: Shared) -> bool:
        """Whether an array holds probabilities."""
        return name in ("p", "q", "target") and not (name == "p" and shared.parameters.get("log_target", False))

    def _annulling(self, name: str, shared: Shared) -> float:
        """What leaves a class out."""
        return 0.0 if name == "cotangent" or self._positive(name, shared) else -np.inf

    def mix(self, better: NDArray[np.bool_], children: Calls, parents: Calls) -> Calls | None:
        if children.shared is not parents.shared or parents.shared.joined:
            return None
        rows = {}
        for name, array in parents.rows.items():
            mask = better.reshape(-1, *[1] * (array.ndim - 1))
            rows[name] = np.where(mask, children.rows[name], array)
        return Calls(rows, parents.shared)

    def scores(self, population: Calls) -> Scores:
        measured, where = self.measure(population)
        if population.shared.joined:
            return Scores(measured.share.max(initial=0.0, keepdims=True), measured.units.max(initial=0.0, keepdims=True))
        by_slot = len(where) // population.slots
        return Scores(measured.share.reshape(-1, by_slot).max(axis=1), measured.units.reshape(-1, by_slot).max(axis=1))

    def measure(self, population: Calls) -> tuple[Errors, list[int]]:
        """The errors of the elements of the answer, and their flat indices: of a repeated pattern, those of its first turn."""
        call, g = self.call(population)
        e, evaluate = self.answer(call, g)
        width = e.shape[-1] if len(e.shape) > 1 else 1
        where = [start + v for start in range(0, e.size, width) for v in range(min(self._pattern(population), width))]
        size = np.broadcast_to(magnitude(self.name, self.wrt, call, g), e.shape)
        classes = population.shared.classes if self.wrt is None else max(population.shared.classes, 64)
        relative = 2.0 * typical(self.name, self.wrt, classes, call.get("reduction", "none"))
        return errors(replace(e, radius=e.radius * self.shrink), where, evaluate, size, relative), where

    def call(self, population: Calls) -> tuple[dict[str, Any], Array]:
        """The keywords of the operation's functions, and the cotangent."""
        shared, whole = population.shared, {}
        for name, array in {**population.rows, **shared.arrays}.items():
            if array.ndim == 2 or name == "weight":
                array = array[..., np.arange(shared.classes) % array.shape[-1]]
            if name != "cotangent":
                array = inputs.cast(array, shared.dtype) if array.dtype.kind == "f" else array
                array = array[None] if self._batched else array
            whole[name] = array
        g = whole.pop("cotangent")
        return permitted(self.operation, whole | dict(shared.parameters)), g

    def answer(self, call: dict[str, Any], g: Array) -> tuple[Enclosure, Evaluate]:
        """The enclosures of the output or of the gradient, and their exact form."""
        if self.wrt is None:
            return self.operation.forward(**call), lambda where, bits: self.operation.exact(where, bits, **call)
        name = self.wrt

        def evaluate(where: Sequence[int], bits: int) -> list[Ball]:
            return self.operation.exact_vjp(name, where, bits, cotangent=g, **call)

        return self.operation.vjp(cotangent=g, **call)[name], evaluate


def spaces(*, long: bool = False) -> dict[str, CallSpace]:
    """The output and every gradient of every operation."""
    found = [CallSpace(operation.name, wrt, long) for operation in operations().values() for wrt in (None, *operation.differentiable)]
    return {space.label: space for space in found}
