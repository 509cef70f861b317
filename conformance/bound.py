"""The error that a promise allows: what correct code makes in the promised arithmetic, plus one rounding of the result.

Let t be the true value of an element and c what correct code has before it rounds to the output format. The operation's
own `bound` says |c - t| <= e, in units that follow from the promise (`arithmetic`). The answer is RN(c), so

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
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from conformance.case import Case, Expectation, Expected
from conformance.metric import magnitude, spacing_at
from refimpl.enclosure import FORMATS, Enclosure, Float, Format, format_of
from refimpl.operation import Arithmetic, IndexOrReal, Input, Operation
from refimpl.operations import operation

Accuracy = Literal["A", "B", "N"]

VOID = 0.25  # the relative error of a sum from which a bound says nothing


@dataclass(frozen=True)
class Promise:
    """What a backend declares for a dtype: the arithmetic that its error is derived from.

    `accuracy` is "A", "B" (subtracts the target's logit from the full log-sum-exp) or "N" (sums over the classes in the input
    dtype); `compute` and `store` are the dtypes of the computation and of its intermediates (None: the same); `lanes` the
    independent accumulators of a sum; `flush` says that subnormal numbers may become zero.
    """

    accuracy: Accuracy
    compute: str
    store: str | None = None
    lanes: int = 1
    flush: bool = False

    def __post_init__(self) -> None:
        if self.accuracy not in get_args(Accuracy):
            raise ValueError(f"accuracy {self.accuracy!r} is no class that can be promised; use one of {', '.join(get_args(Accuracy))}")
        for name in (self.compute, self.store):
            if name is not None:
                format_of(name)
        if self.lanes < 1:
            raise ValueError(f"lanes is {self.lanes}; promise at least one accumulator")


def arithmetic(promise: Promise, dtype: str, classes: int = 1) -> Arithmetic:
    """The arithmetic of a promise on inputs of `dtype`, with sums over `classes`; a void promise sums in a wider format."""
    compute, inputs = format_of(promise.compute), format_of(dtype)
    store = compute if promise.store is None else format_of(promise.store)
    in_use = [compute] if store.unit <= compute.unit else [compute, store]
    promised = Arithmetic(
        unit=compute.unit,
        store=store.unit if store in in_use[1:] else 0.0,
        accumulate=max(compute.unit, inputs.unit) if promise.accuracy == "N" else compute.unit,
        tiny=max(used.normal if promise.flush else used.tiny for used in in_use),
        lanes=promise.lanes,
        subtracts_lse=promise.accuracy == "B",
    )
    for wider in ("float32", "float64"):
        if float(promised.sum_error(classes)) < VOID:
            break
        promised = replace(promised, accumulate=min(promised.accumulate, FORMATS[wider].unit))
    return promised


def forward_error(case: Case, choices: Mapping[str, str], promise: Promise) -> Float:
    """The largest error of each element of the output, absolute and before it is rounded to the output dtype."""
    stated, found = _prepare(case, promise)
    with np.errstate(all="ignore"):
        return np.asarray(stated.bound(found, **case.inputs, **case.parameters, **choices), np.float64)


def backward_error(case: Case, choices: Mapping[str, str], promise: Promise) -> dict[str, Float]:
    """The same for each gradient; {} for a case without a cotangent."""
    if case.cotangent is None:
        return {}
    stated, found = _prepare(case, promise)
    with np.errstate(all="ignore"):
        errors = stated.bound_vjp(found, cotangent=case.cotangent, **case.inputs, **case.parameters, **choices)
    return {name: np.asarray(error, np.float64) for name, error in errors.items()}


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
        size = magnitude(expected)
        lost = half_ulp(np.where(error > 0, _up(size + error), size), target)
        if flush:
            lost = np.where(np.abs(expected.hi) - error - expected.radius < target.normal, _up(lost + target.normal), lost)
        return np.asarray(np.where(error > 0, _up(error + lost), lost + error), np.float64)


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


def _prepare(case: Case, promise: Promise) -> tuple[Operation, Arithmetic]:
    stated = operation(case.operation)
    return stated, arithmetic(promise, case.dtype, _classes(stated, case.inputs))


def _classes(stated: Operation, inputs: Mapping[str, NDArray[Any]]) -> int:
    """The number of classes V, 1 where no input has a class axis."""
    for name, array in inputs.items():
        axis = class_axis(stated.inputs[name], array)
        if axis is not None:
            return int(array.shape[axis])
    return 1


def _up(x: Float) -> Float:
    return np.nextafter(x, np.inf)
