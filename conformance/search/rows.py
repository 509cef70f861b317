"""A call as rows: its inputs in float64 with their classes last, and what its targets name.

A row is what one loss is made from: an element of `kl_div`, a row of classes of the other operations.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conformance.bound import class_axis
from conformance.case import Case
from refimpl.operation import Whole
from refimpl.operations import operation

Rows = NDArray[np.bool_]  # (rows,)
Classes = NDArray[np.bool_]  # (rows, V)
Wide = NDArray[np.float64]  # (rows, V)


@dataclass(frozen=True)
class Call:
    """A case as the rules see it: every input in float64 with its classes last, (rows, V)."""

    case: Case

    def axis(self, name: str) -> int | None:
        """The axis of an input that runs over the classes, None where it has none."""
        return class_axis(operation(self.case.operation).inputs[name], self.case.inputs[name])

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """That of the rows."""
        name, first = next(iter(self.case.inputs.items()))
        axis = self.axis(name)
        return first.shape if axis is None else (*first.shape[:axis], *first.shape[axis + 1 :])

    def row(self, place: tuple[int, ...] | None) -> int | None:
        """The number of the row that an element of the output or of a gradient is of, in C order; None where it is of all."""
        axis = self.axis(next(iter(self.case.inputs)))
        if place is None or len(place) < len(self.shape):
            return None
        if axis is not None and len(place) > len(self.shape):
            place = (*place[:axis], *place[axis + 1 :])
        return int(np.ravel_multi_index(place, self.shape)) if self.shape else 0

    def wide(self, name: str) -> Wide:
        """An input, (rows, V); of `kl_div` (elements, 1)."""
        array, axis = self.case.inputs[name], self.axis(name)
        last = array.reshape(-1, 1) if axis is None else np.moveaxis(array, axis, -1).reshape(-1, array.shape[axis])
        return last.astype(np.float64)

    def parameter(self, name: str) -> Any:
        """A parameter as given, or its default."""
        return self.case.parameters.get(name, operation(self.case.operation).parameters[name].default)

    @cached_property
    def p(self) -> Wide:
        """The input of that name: probabilities, or with the `log_target` of `kl_div` their logarithms."""
        return self.wide("p")

    @cached_property
    def q(self) -> Wide:
        """The input of that name: probabilities."""
        return self.wide("q")

    @cached_property
    def log_q(self) -> Wide:
        """The input of that name: logarithms of probabilities."""
        return self.wide("log_q")

    @cached_property
    def scores(self) -> Wide:
        """Logits or log-probabilities: the first input."""
        return self.wide(next(iter(self.case.inputs)))

    @cached_property
    def masked(self) -> NDArray[np.bool_]:
        """(rows, V): the classes of score -inf."""
        return self.scores == -np.inf

    @cached_property
    def strange(self) -> Rows:
        """Rows without a softmax."""
        return np.isnan(self.scores).any(1) | (self.scores == np.inf).any(1) | self.masked.all(1)

    @cached_property
    def distribution(self) -> bool:
        """Whether the target is one, and no index."""
        return "target" in self.case.inputs and self.case.inputs["target"].dtype.kind not in "iu"

    @cached_property
    def indices(self) -> NDArray[np.int64]:
        """The target of each row; where there is none, or a distribution, its first class."""
        target = self.case.inputs.get("target")
        return np.zeros(len(self.scores), np.int64) if target is None or self.distribution else target.reshape(-1)

    @cached_property
    def ignored(self) -> Rows:
        """The rows that don't count."""
        marks = [self.parameter(name) for name, kind in operation(self.case.operation).parameters.items() if isinstance(kind, Whole)]
        if self.distribution or marks in ([], [None]):
            return np.zeros(len(self.scores), bool)
        return self.indices == marks[0]

    @cached_property
    def below(self) -> Rows:
        """The rows whose target is negative, and counts."""
        return (self.indices < 0) & ~self.ignored

    @cached_property
    def beyond(self) -> Rows:
        """The rows whose target is V or more, and counts."""
        return (self.indices >= self.scores.shape[1]) & ~self.ignored

    @cached_property
    def own(self) -> NDArray[np.bool_]:
        """(rows, V): the class that an index names, or all of a distribution."""
        found: NDArray[np.bool_] = (np.arange(self.scores.shape[1]) == self.indices[:, None]) | self.distribution
        return found

    @cached_property
    def weight(self) -> NDArray[np.float64]:
        """(V,)."""
        given = self.case.inputs.get("weight")
        return np.ones(self.scores.shape[1]) if given is None else given.astype(np.float64)

    @cached_property
    def smoothing(self) -> float:
        """How much of the target is spread over all classes."""
        return float(self.parameter("label_smoothing" if "label_smoothing" in operation(self.case.operation).parameters else "smoothing"))

    @cached_property
    def mass(self) -> NDArray[np.bool_]:
        """(rows, V): the classes with mass in the target and a weight."""
        unsmoothed = self.wide("target") > 0.0 if self.distribution else self.own & (self.smoothing < 1.0)
        return (unsmoothed | (self.smoothing > 0.0)) & (self.weight > 0.0)

    @cached_property
    def gaps(self) -> Wide:
        """From the top of each row with a softmax down to each class that isn't masked, else 0."""
        seen = np.where(self.strange[:, None], 0.0, self.scores)
        top = seen.max(1, initial=-np.inf, keepdims=True)
        with np.errstate(over="ignore"):
            return np.where(seen == -np.inf, 0.0, top - np.where(seen == -np.inf, 0.0, seen))

    @cached_property
    def kept_weight(self) -> float:
        """What a mean over class indices divides by; of a target that names no class 1, as it is not what is left out."""
        named = (self.indices >= 0) & (self.indices < len(self.weight))
        return float(np.where(named, self.weight[np.where(named, self.indices, 0)], 1.0)[~self.ignored].sum())

    @cached_property
    def cotangents(self) -> NDArray[np.float64]:
        """Those of each row."""
        given = self.case.cotangent
        return np.ones(1) if given is None else given.astype(np.float64).reshape(-1)
