"""Hypothesis strategies: calls of any operation, for property tests of a user's own.

    @given(strategies.inputs("log_softmax", dtype="float32"))
    def test_no_log_probability_is_positive(call):
        assert not (log_softmax(**call) > 0).any()

A call is a mapping of the operation's inputs, as numpy arrays, and all of its parameters; `refimpl.log_softmax(**call)` takes it. What is
drawn follows from the operation's declaration: its axes, its parameters, and what its variations say that each input holds. It is small,
and near the edges: ties, gaps at which an exponential underflows or overflows in the dtype, masked classes, subnormal numbers, zeros and
subnormals among probabilities, whole batches ignored, one class, no rows. A failure shrinks to few small whole numbers.

Needs the package hypothesis: pip install 'lossref[hypothesis]'.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conformance.case import Array, rounded
from conformance.cases.random import axes_of
from conformance.complaint import Complaint
from refimpl.choices import permitted
from refimpl.enclosure import FORMATS, Format, format_of
from refimpl.operation import Number, OneOf, Operation, Parameter, Real, Switch, Variation, Whole
from refimpl.operations import operation

try:
    from hypothesis import strategies as st
    from hypothesis.extra import numpy as arrays_of
except ModuleNotFoundError as error:
    needed = "conformance.strategies needs hypothesis, which isn't installed; pip install 'lossref[hypothesis]'"
    raise ModuleNotFoundError(needed, name=error.name) from error

Float = NDArray[np.float64]
Sizes = Mapping[str, tuple[int, ...]]

WHOLE = (0.0, 1.0, -1.0, 2.0, -2.0, 3.0, -3.0, 8.0, -8.0)  # what a failure shrinks to, where it can


class UnknownParameter(Complaint):
    """A keyword is no parameter of the operation; the message lists them."""


def inputs(
    name: str, *, dtype: str | None = None, rows: int = 3, classes: int = 5, choices: bool = False, **fixed: Any
) -> st.SearchStrategy[dict[str, Any]]:
    """Calls of the operation of that name, in a dtype (without one, in any), with at most so many rows on an axis and so many classes.

    `fixed` gives parameters a value: reduction="none". With `choices` a call also names a value of each choice, one that it permits.
    Raises `InvalidInput` for an unknown operation, `TypeError` for an unknown dtype, `UnknownParameter`.
    """
    stated = operation(name)
    for given in fixed:
        if given not in stated.parameters:
            raise UnknownParameter(f"{name} has no parameter {given!r}; its parameters are {', '.join(stated.parameters) or 'none'}")
    dtypes = tuple(FORMATS) if dtype is None else (format_of(dtype).name,)
    return _calls(name, dtypes, rows, classes, choices, fixed)


@st.composite
def _calls(
    draw: st.DrawFn, name: str, dtypes: tuple[str, ...], rows: int, classes: int, choices: bool, fixed: Mapping[str, Any]
) -> dict[str, Any]:
    stated = operation(name)
    variation = draw(st.sampled_from([one for one in stated.variations if _agrees(stated, one, fixed)]))
    holds = {**variation.holds, **draw(_optional(stated))}
    target, sizes = FORMATS[draw(st.sampled_from(dtypes))], draw(_sizes(_axes(stated), rows, classes))
    given: dict[str, Any] = {}
    for key, kind in stated.parameters.items():
        free = _parameter(kind, _stated(stated, variation, key), "some_ignored" in holds.values(), sizes["V"][0])
        given[key] = fixed[key] if key in fixed else draw(free)
    ignored = next((given[key] for key, kind in stated.parameters.items() if isinstance(kind, Whole)), None)
    call: dict[str, Any] = {}
    drawn: dict[str, Array] = {}
    for key in filter(holds.__contains__, stated.inputs):
        content = holds[key].removeprefix("positive_")  # zeros too are valid
        if content in drawn and draw(st.sampled_from([False, False, True])):
            call[key] = drawn[content].copy()  # where a divergence cancels
        else:
            call[key] = draw(_content(content, target, axes_of(stated.inputs[key], holds[key]), sizes, ignored))
            drawn[content] = call[key]
    call |= given
    if choices:
        call |= {choice.name: draw(st.sampled_from(list(choice.values))) for choice in stated.choices}
    return permitted(stated, call)


def _agrees(stated: Operation, variation: Variation, fixed: Mapping[str, Any]) -> bool:
    """Whether what a variation's inputs hold goes with fixed parameters: no index is ignored where the target is no index."""
    kinds = {name: stated.parameters[name] for name in fixed}
    if any(isinstance(kind, Switch) and fixed[name] != _stated(stated, variation, name) for name, kind in kinds.items()):
        return False
    indices = {"index", "some_ignored"} & set(variation.holds.values())
    return bool(indices) or not any(isinstance(kind, Whole) and fixed[name] is not None for name, kind in kinds.items())


def _stated(stated: Operation, variation: Variation, name: str) -> Any:
    """What a variation has for a parameter."""
    return variation.parameters.get(name, stated.parameters[name].default)


def _optional(stated: Operation) -> st.SearchStrategy[dict[str, str]]:
    """Optional inputs, or not: each with what it holds in the variations that pass it."""
    known = {name: content for variation in stated.variations for name, content in variation.holds.items()}
    optional = {name: st.just(known[name]) for name, kind in stated.inputs.items() if isinstance(kind, Real) and kind.optional}
    return st.fixed_dictionaries({}, optional=optional)


def _axes(stated: Operation) -> tuple[str, ...]:
    """The names of all axes that the operation's inputs have."""
    axes = (axis for kind in stated.inputs.values() for axis in kind.axes.split())
    return tuple(dict.fromkeys(("V", *axes)))


@st.composite
def _sizes(draw: st.DrawFn, names: tuple[str, ...], rows: int, classes: int) -> dict[str, tuple[int, ...]]:
    """The sizes that the names of axes stand for; now and then there are no rows."""
    count = st.integers(1, rows)
    known = {
        "V": st.tuples(st.integers(1, classes)),
        "N": st.tuples(count),
        "B": st.tuples(count),
        "T": st.tuples(count),
        "*": st.lists(st.integers(1, 2), max_size=2).map(tuple),
        "...": st.lists(count, max_size=2).map(tuple),
        "any": st.lists(st.integers(1, classes), min_size=1, max_size=3).map(tuple),
    }
    sizes: dict[str, tuple[int, ...]] = {name: draw(known[name]) for name in names}
    if draw(st.sampled_from([False] * 9 + [True])):
        sizes |= {name: (0, *sizes[name][1:]) for name in ("N", "B", "...", "any") if sizes.get(name)}
    return sizes


def _parameter(kind: Parameter, stated: Any, ignores: bool, classes: int) -> st.SearchStrategy[Any]:
    """Values of a parameter. A switch is as the variation has it, as it may decide what an input holds."""
    if isinstance(kind, Number):
        ends = dict.fromkeys((kind.default, kind.low, kind.high, (kind.low + kind.high) / 2))
        return st.sampled_from(list(ends)) | st.floats(kind.low, kind.high)
    if isinstance(kind, OneOf):
        return st.sampled_from(kind.options)
    if isinstance(kind, Whole) and ignores:
        return st.sampled_from(list(dict.fromkeys((-100, -1, 0, classes - 1))))
    return st.just(kind.default if isinstance(kind, Whole) else stated)


def _content(content: str, target: Format, axes: str, sizes: Sizes, ignored: int | None) -> st.SearchStrategy[Array]:
    """Arrays of those axes that hold that, as `refimpl.operation.Variation` names it."""
    before, _, _ = axes.partition("V")
    axis = sum(len(sizes[one]) for one in before.split()) if "V" in axes else -1
    shape = shape_of(axes, sizes)
    if content in ("index", "some_ignored"):
        index = st.integers(0, sizes["V"][0] - 1)
        whole = index if content == "index" or ignored is None else index | st.just(ignored)
        return arrays_of.arrays(np.int64, shape, elements=whole)
    wide = {"logits": _logits, "probability": _probability, "log_probability": _log_probability, "weight": _weight}[content]
    return wide(target, shape, axis).map(lambda array: rounded(array, target.name))


def shape_of(axes: str, sizes: Sizes) -> tuple[int, ...]:
    """The shape that axes name."""
    return tuple(size for axis in axes.split() for size in sizes[axis])


def _logits(target: Format, shape: tuple[int, ...], _: int) -> st.SearchStrategy[Float]:
    """Whole numbers, masks, the ends of the format, the gaps at which an exponential is lost, and whatever else is finite."""
    gaps = [math.log(size) for size in (target.unit, target.normal, target.tiny)]
    edges = [-math.inf, *gaps, math.log(target.largest), target.tiny, -target.tiny, target.normal, target.largest, -target.largest]
    return _array(shape, st.sampled_from(WHOLE) | st.sampled_from(edges) | st.floats(-target.largest, target.largest))


@st.composite
def _probability(draw: st.DrawFn, target: Format, shape: tuple[int, ...], axis: int) -> Float:
    """Non-negative numbers, mostly with rows that sum to 1, but for their rounding."""
    edges = st.sampled_from([target.tiny, target.normal, target.unit, 1.0 - target.unit])
    given = draw(_array(shape, st.sampled_from([0.0, 1.0, 2.0, 3.0]) | edges | st.floats(0.0, 1.0)))
    if draw(st.sampled_from([False, False, True])):
        return given  # taken as given
    total = given.sum(axis, keepdims=True)
    return np.divide(given, total, out=given.copy(), where=total > 0.0)


@st.composite
def _log_probability(draw: st.DrawFn, target: Format, shape: tuple[int, ...], axis: int) -> Float:
    """Logarithms of such rows, or whatever isn't positive."""
    if draw(st.booleans()):
        with np.errstate(divide="ignore"):
            return np.log(np.minimum(draw(_probability(target, shape, axis)), 1.0))
    edges = [-math.inf, -target.tiny, -target.normal, -target.largest, math.log(target.normal), math.log(target.tiny)]
    whole = [-size for size in WHOLE if size >= 0.0]
    return draw(_array(shape, st.sampled_from(whole) | st.sampled_from(edges) | st.floats(-target.largest, 0.0)))


def _weight(target: Format, shape: tuple[int, ...], _: int) -> st.SearchStrategy[Float]:
    return _array(shape, st.sampled_from([1.0, 0.0, 2.0, 0.5]) | st.sampled_from([target.tiny, target.normal]) | st.floats(0.0, 8.0))


def _array(shape: tuple[int, ...], elements: st.SearchStrategy[float]) -> st.SearchStrategy[Float]:
    return arrays_of.arrays(np.float64, shape, elements=elements)
