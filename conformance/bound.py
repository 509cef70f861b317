"""The error that a promise allows: what correct code makes in the promised arithmetic, plus one rounding of the result.

Let t be the true value of an element and c what correct code has before it rounds to the output format. The operation's
own `terms` say |c - t| <= e: coefficients times the numbers that follow from the promise (`numbers`). The answer is RN(c), so

    |RN(c) - t| <= e + |RN(c) - c| <= e + ulp(c)/2 <= e + ulp(|t| + e)/2

because half the spacing bounds a rounding to nearest and the spacing grows with the magnitude. Among the subnormals the
spacing is the smallest of them, so gradual underflow is in that term already. Code that flushes subnormal results to zero
loses less than the smallest normal number, and only where |c| may lie below it: |t| - e < normal. Beyond the largest finite
number the spacing is that of the top binade, and an infinity stands for 2^(emax + 1): |2^(emax + 1) - t| <= e + ulp/2 says
precisely that some c within e of t rounds to the infinity. Each sum here is rounded upwards, so that the bound holds as
computed.

Void promises. A sum of h sequential roundings in a format of unit u is off by up to h*u of its magnitude. Where
h*u >= 1/4 the bound would excuse any answer, so such a promise can't be made: it is judged as if it accumulated in float32, and
if that is void too, in float64.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from conformance.case import Case, Expectation, Expected
from conformance.metric import magnitude, spacing_at
from conformance.summation import SEQUENTIAL, Summation
from refimpl.bounds import Arithmetic
from refimpl.enclosure import FORMATS, Enclosure, Float, Format, format_of
from refimpl.operation import IndexOrReal, Input, Operation
from refimpl.operations import operation

__all__ = ["SEQUENTIAL", "Accuracy", "Promise", "Summation", "allowed", "arithmetic", "backward_error", "forward_error"]

Accuracy = Literal["R", "S", "A", "B", "N"]
CLASSES: tuple[Accuracy, ...] = get_args(Accuracy)  # tightest first; B and N both hold A, and neither the other

VOID = 0.25  # the relative error of a sum from which a bound says nothing


@dataclass(frozen=True)
class Promise:
    """What a backend declares for a dtype: the arithmetic that its error is derived from.

    `accuracy` is "R" (correctly rounded), "S" (a small relative error even where the loss goes to 0), "A", "B" (subtracts logits from
    the full log-sum-exp) or "N" (sums over the classes in the input dtype); `compute` and `store` are the dtypes of the computation and
    of its intermediates (None: the same); `summation` is how a sum is ordered; `flush` says that subnormal numbers may become
    zero. `exp` and `log` are the errors of those functions in units of the unit roundoff, and `gap` says how often the error of a gap
    enters an exponential: once in exp(x - max), twice in exp(log_softmax), three times in exp2((x - max) log2 e).
    """

    accuracy: Accuracy
    compute: str
    store: str | None = None
    summation: Summation = SEQUENTIAL
    flush: bool = False
    exp: float = 2.0
    log: float = 2.0
    gap: float = 3.0

    def __post_init__(self) -> None:
        if self.accuracy not in CLASSES:
            raise ValueError(f"accuracy {self.accuracy!r} is no class that can be promised; use one of {', '.join(CLASSES)}")
        for name in (self.compute, self.store):
            if name is not None:
                format_of(name)
        for name in ("exp", "log", "gap"):
            if not 0.5 <= getattr(self, name) <= 4.0:
                raise ValueError(f"{name} is {getattr(self, name)}; promise an error between 0.5 and 4 unit roundoffs")


def arithmetic(promise: Promise, dtype: str, classes: int = 1, rows: int = 1) -> Arithmetic:
    """The arithmetic of a promise on inputs of `dtype`, with sums over `classes` and over `rows`.

    A void promise sums in a wider format; no promise sums over rows in less than float32.
    """
    compute, inputs, single = format_of(promise.compute), format_of(dtype), FORMATS["float32"].unit
    store = compute if promise.store is None else format_of(promise.store)
    in_use = [compute] if store.unit <= compute.unit else [compute, store]
    depth = promise.summation.depth(classes)
    summed = _sum_error(depth, compute.unit)
    if promise.accuracy == "N":  # never tighter than A, also where the sum in the input dtype would be void
        summed = max(summed, _sum_error(depth, max(compute.unit, inputs.unit)))
    return Arithmetic(
        unit=compute.unit,
        classes=summed,
        rows=_sum_error(promise.summation.depth(rows), min(compute.unit, single)),
        store=store.unit if store in in_use[1:] else 0.0,
        tiny=max(used.normal if promise.flush else used.tiny for used in in_use),
        exp=promise.exp,
        log=promise.log,
        gap=promise.gap,
        reach=_reach(compute),
        subtracts_lse=promise.accuracy == "B",
        keeps_rest=promise.accuracy == "S",
        exact=promise.accuracy == "R",
    )


def numbers(promise: Promise, case: Case) -> Float:
    """The K numbers, in the order of `refimpl.bounds.TERMS`, that a promise means for a case."""
    return numbers_of_classes(promise, case)[CLASSES.index(promise.accuracy)]


def numbers_of_classes(promise: Promise, case: Case) -> Float:
    """(classes, K): the same for every accuracy class, in the order of `CLASSES`, the rest of the promise being as it is."""
    return _numbers(promise, case.dtype, *_sizes(case))


@lru_cache(maxsize=2)  # each tensor of a case asks for them
def _sizes(case: Case) -> tuple[int, int]:
    return sizes(operation(case.operation), case.inputs)


@lru_cache(maxsize=2**10)  # a run has few promises and sizes, and asks for them with every tensor
def _numbers(promise: Promise, dtype: str, classes: int, rows: int) -> Float:
    of = [arithmetic(replace(promise, accuracy=accuracy), dtype, classes, rows).numbers() for accuracy in CLASSES]
    found = np.stack(of)
    found.flags.writeable = False
    return found


def _sum_error(depth: int, unit: float) -> float:
    for narrowest in (1.0, FORMATS["float32"].unit, FORMATS["float64"].unit):
        if depth * min(unit, narrowest) < VOID:
            break
    return depth * min(unit, narrowest)


def _reach(format: Format) -> float:
    """The largest gap whose exponential isn't rounded to 0."""
    return float((format.precision - format.emin) * np.log(2.0))


def forward_error(case: Case, choices: Mapping[str, str], promise: Promise) -> Float:
    """The largest error of each element of the output, absolute and before it is rounded to the output dtype."""
    return worth(forward_terms(case, choices), promise, case)


def backward_error(case: Case, choices: Mapping[str, str], promise: Promise) -> dict[str, Float]:
    """The same for each gradient; {} for a case without a cotangent."""
    return {name: worth(terms, promise, case) for name, terms in backward_terms(case, choices).items()}


def forward_terms(case: Case, choices: Mapping[str, str]) -> Float:
    """The coefficients of each element's bound, (*output's shape, K)."""
    return _forward_terms(case, tuple(sorted(choices.items())))


@lru_cache(maxsize=2)  # many answers to one case are judged in turn, and the terms of a large one cost more than an answer
def _forward_terms(case: Case, choices: tuple[tuple[str, str], ...]) -> Float:
    return np.asarray(operation(case.operation).terms(**case.call, **dict(choices)), np.float64)


def backward_terms(case: Case, choices: Mapping[str, str]) -> dict[str, Float]:
    """The same for each gradient; {} for a case without a cotangent."""
    return {} if case.cotangent is None else dict(_backward_terms(case, tuple(sorted(choices.items()))))


@lru_cache(maxsize=2)
def _backward_terms(case: Case, choices: tuple[tuple[str, str], ...]) -> dict[str, Float]:
    found = operation(case.operation).terms_vjp(cotangent=case.cotangent, **case.call, **dict(choices))
    return {name: np.asarray(terms, np.float64) for name, terms in found.items()}


def worth(terms: Float, promise: Promise, case: Case) -> Float:
    """The bounds that coefficients (..., K) come to under a promise."""
    return np.asarray(terms @ numbers(promise, case), np.float64)


def allowed(case: Case, expectation: Expectation, promise: Promise, output_dtype: str) -> tuple[Float, dict[str, Float]]:
    """The allowed error of every element that `expectation` judges, in the output and in each gradient.

    Absolute, rounding to `output_dtype` included, in the shape of each `Expected.values`. Not finite where the operation
    states no bound: there only the kinds are compared.
    """
    target = format_of(output_dtype)
    errors = backward_error(case, expectation.choices, promise)
    return (
        element_bound(forward_error(case, expectation.choices, promise), expectation.output, target, promise.flush),
        {name: element_bound(errors[name], gradient, target, promise.flush) for name, gradient in expectation.gradients.items()},
    )


def element_bound(error: Float, expected: Expected, target: Format, flush: bool) -> Float:
    """The allowed error of the elements that `expected` names, from the computing error of the whole tensor."""
    judged = error if expected.where is None else error.reshape(-1)[expected.where]
    return with_rounding(judged, expected.values, target, flush)


def with_rounding(error: Float, expected: Enclosure, target: Format, flush: bool) -> Float:
    """`error` plus the rounding of the computed value to `target`: e + ulp(|t| + e)/2, and what a flush to zero loses."""
    with np.errstate(all="ignore"):
        size, erring = magnitude(expected), error > 0
        lost = half_ulp(np.where(erring, _up(size + error), size), target)
        if flush:
            lost = np.where(np.abs(expected.hi) - error - expected.radius < target.normal, _up(lost + target.normal), lost)
        return np.asarray(np.where(erring, _up(error + lost), lost + error), np.float64)


def half_ulp(size: Float, target: Format) -> Float:
    """The largest error of a rounding to nearest at `size`; not below the smallest float64, which can't be halved."""
    return np.maximum(spacing_at(size, target) / 2, FORMATS["float64"].tiny)


def class_axis(kind: Input, array: NDArray[Any]) -> int | None:
    """The axis of an input that runs over the classes, or None where it has none."""
    axes = kind.real_axes if isinstance(kind, IndexOrReal) and array.dtype.kind not in "iu" else kind.axes
    names = axes.split()
    if "V" not in names:
        return None
    position = names.index("V")
    elastic = any(name in ("*", "...") for name in names[:position])
    return array.ndim - (len(names) - position) if elastic else position


def sizes(stated: Operation, inputs: Mapping[str, NDArray[Any]]) -> tuple[int, int]:
    """The number of classes V, 1 without a class axis, and of rows: the elements of the first input, divided by V."""
    name = next(iter(stated.inputs))
    first = inputs[name]
    axis = class_axis(stated.inputs[name], first)
    classes = 1 if axis is None else int(first.shape[axis])
    return classes, first.size // max(classes, 1)


def _up(x: Float) -> Float:
    return np.nextafter(x, np.inf)
