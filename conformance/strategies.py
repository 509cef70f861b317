"""Hypothesis strategies: calls of any operation, for property tests of a user's own.

    @given(strategies.inputs("log_softmax", dtype="float32"))
    def test_no_log_probability_is_positive(call):
        assert not (log_softmax(**call) > 0).any()

A call is a mapping of the operation's inputs, as numpy arrays, and all of its parameters; `refimpl.log_softmax(**call)` takes it. What is
drawn follows from the operation's declaration: its axes, its parameters, and what its variations say that each input holds. It is small,
and near the edges: ties, gaps at which an exponential underflows or overflows in the dtype, masked classes, subnormal numbers, zeros and
subnormals among probabilities, whole batches ignored, one class, no rows. An array is a pattern of few numbers, repeated. A failure
shrinks to few small whole numbers.

A call may also be large, along one axis: about a power of two, and about the counts that the dtype can't hold any more. And it may be
hostile: nan and infinities among the numbers, targets that name no class.

Needs the package hypothesis: pip install 'lossref[hypothesis]'.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache, lru_cache
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
except ModuleNotFoundError as error:
    needed = "conformance.strategies needs hypothesis, which isn't installed; pip install 'lossref[hypothesis]'"
    raise ModuleNotFoundError(needed, name=error.name) from error

Float = NDArray[np.float64]
Sizes = Mapping[str, tuple[int, ...]]

WHOLE = (0.0, 1.0, -1.0, 2.0, -2.0, 3.0, -3.0, 8.0, -8.0)  # what a failure shrinks to, where it can
PATTERN = 8  # numbers that an array is made of
NEAR = 16.0  # logits of which every dtype holds the exponentials
GAP = 1000  # beyond it every exponential is lost, in any dtype
SMALL = 2.0**-6
BLOCK = 12  # the power of two of the largest block that a kernel takes at once
AMOUNTS = ("few",) * 7 + ("none",) + ("many",) * 2  # of what lies along an axis
HOSTILE = ("",) * 6 + ("numbers", "targets")
INDICES = ("index", "some_ignored")
ONE_OF_THREE = st.sampled_from((False, False, True))


class UnknownParameter(Complaint):
    """A keyword is no parameter of the operation; the message lists them."""


@dataclass(frozen=True)
class Reach:
    """How far calls go: rows along an axis, classes, elements of an array that is large (0: none is), and whether they are hostile."""

    rows: int
    classes: int
    large: int
    hostile: bool


@dataclass(frozen=True)
class Numbers:
    """What an array holds: its content, as a variation names it, in a format; far from the edges (`plain`), or hostile in one of two ways.

    Indices are below `classes`, or `ignored`.
    """

    content: str
    target: Format
    plain: bool
    hostile: str
    classes: int
    ignored: int | None


Elements = tuple[st.SearchStrategy[float], st.SearchStrategy[float]]  # far from the edges of a format, and near them


def inputs(
    name: str,
    *,
    dtype: str | None = None,
    rows: int = 3,
    classes: int = 5,
    choices: bool = False,
    large: int = 0,
    hostile: bool = False,
    **fixed: Any,
) -> st.SearchStrategy[dict[str, Any]]:
    """Calls of the operation of that name, in a dtype (without one, in any), with at most so many rows on an axis and so many classes.

    Every fifth call has one axis of more, so that its arrays have at most `large` elements, where that isn't 0. With `hostile` there are
    nan and infinities, and targets out of range, for which the operation raises `OutOfRange`. `fixed` gives parameters a value:
    reduction="none". With `choices` a call also names a value of each choice, one that it permits.
    Raises `InvalidInput` for an unknown operation, `TypeError` for an unknown dtype, `UnknownParameter`.
    """
    stated = operation(name)
    for given in fixed:
        if given not in stated.parameters:
            raise UnknownParameter(f"{name} has no parameter {given!r}; its parameters are {', '.join(stated.parameters) or 'none'}")
    dtypes = tuple(FORMATS) if dtype is None else (format_of(dtype).name,)
    return _calls(name, dtypes, Reach(rows, classes, large, hostile), choices, fixed)


@st.composite
def _calls(draw: st.DrawFn, /, name: str, dtypes: tuple[str, ...], reach: Reach, choices: bool, fixed: Mapping[str, Any]) -> dict[str, Any]:
    stated = operation(name)
    variation = draw(st.sampled_from([one for one in stated.variations if _agrees(stated, one, fixed)]))
    holds = {**variation.holds, **draw(_optional(name))}
    target = FORMATS[draw(st.sampled_from(dtypes))]
    sizes = _sizes(draw, _axes(stated), target, reach)
    given: dict[str, Any] = {}
    for key, kind in stated.parameters.items():
        free = _parameter(kind, _stated(stated, variation, key), "some_ignored" in holds.values(), sizes["V"][0])
        given[key] = fixed[key] if key in fixed else draw(free)
    ignored = next((given[key] for key, kind in stated.parameters.items() if isinstance(kind, Whole)), None)
    plain = not draw(st.booleans())
    hostile = draw(st.sampled_from(HOSTILE)) if reach.hostile else ""
    call: dict[str, Any] = {}
    drawn: dict[str, Array] = {}
    for key in filter(holds.__contains__, stated.inputs):
        content = holds[key].removeprefix("positive_")  # zeros too are valid
        if content in drawn and draw(ONE_OF_THREE):
            call[key] = drawn[content].copy()  # where a divergence cancels
        else:
            real = stated.inputs[key]
            defined = hostile == "targets" or (isinstance(real, Real) and real.differentiable)  # weights and their like are finite
            stray = hostile if defined else ""
            numbers = Numbers(content, target, plain, stray, sizes["V"][0], ignored if content == "some_ignored" else None)
            call[key] = drawn[content] = _content(draw, numbers, axes_of(stated.inputs[key], holds[key]), sizes)
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


@cache
def _optional(name: str) -> st.SearchStrategy[dict[str, str]]:
    """Optional inputs, or not: each with what it holds in the variations that pass it."""
    stated = operation(name)
    known = {name: content for variation in stated.variations for name, content in variation.holds.items()}
    optional = {name: st.just(known[name]) for name, kind in stated.inputs.items() if isinstance(kind, Real) and kind.optional}
    return st.fixed_dictionaries({}, optional=optional)


def _axes(stated: Operation) -> tuple[str, ...]:
    """The names of all axes that the operation's inputs have."""
    axes = (axis for kind in stated.inputs.values() for axis in kind.axes.split())
    return tuple(dict.fromkeys(("V", *axes)))


def _sizes(draw: st.DrawFn, names: tuple[str, ...], target: Format, reach: Reach) -> dict[str, tuple[int, ...]]:
    """The sizes that the names of axes stand for; now and then there are no rows, or very many along one axis."""
    known = _small(reach.rows, reach.classes)
    sizes: dict[str, tuple[int, ...]] = {name: draw(known[name]) for name in names}
    amount = draw(st.sampled_from(AMOUNTS))
    if amount == "none":
        sizes |= {name: (0, *sizes[name][1:]) for name in ("N", "B", "...", "any") if sizes.get(name)}
    if amount == "many" and reach.large:
        name = draw(st.sampled_from([name for name, size in sizes.items() if size and name != "*"]))
        room = reach.large * sizes[name][0] // math.prod(size for others in sizes.values() for size in others)
        sizes[name] = (_large(draw, target, max(room, 1)), *sizes[name][1:])
    return sizes


@cache
def _small(rows: int, classes: int) -> dict[str, st.SearchStrategy[tuple[int, ...]]]:
    """The few rows and classes that the names of axes stand for."""
    count, several = st.integers(1, rows), st.integers(1, classes)
    return {
        "V": st.tuples(several),
        "N": st.tuples(count),
        "B": st.tuples(count),
        "T": st.tuples(count),
        "*": st.lists(st.integers(1, 2), max_size=2).map(tuple),
        "...": st.lists(count, max_size=2).map(tuple),
        "any": st.lists(several, min_size=1, max_size=3).map(tuple),
    }


def _large(draw: st.DrawFn, target: Format, most: int) -> int:
    """A size: any, or about a power of two. What shrinks it goes on from any size with the same number."""
    return draw(st.integers(*draw(st.sampled_from(_about(target, most)))))


@lru_cache(maxsize=2**10)
def _about(target: Format, most: int) -> tuple[tuple[int, int], ...]:
    """The ranges of sizes: all; those of blocks; as often, those that the format can't count to, in its significand or as it overflows."""
    counts = [2**power for power in (target.precision, target.emax + 1) if 2**power <= most]
    blocks = [2**power for power in range(1, BLOCK + 1) if 2**power <= most]
    often = counts * (len(blocks) // max(len(counts), 1))
    sizes = [range_ for size in (*blocks, *often) for range_ in ((size - 1, size + 1), (size, 2 * size - 1))]
    return ((1, most), *((max(1, low), min(high, most)) for low, high in sizes))


def _parameter(kind: Parameter, stated: Any, ignores: bool, classes: int) -> st.SearchStrategy[Any]:
    """Values of a parameter, those first that leave most out: a failure shrinks to them. A switch is as the variation has it."""
    if isinstance(kind, Number):
        ends = dict.fromkeys((kind.default, kind.low, kind.high, (kind.low + kind.high) / 2))
        return st.sampled_from(tuple(ends)) | st.floats(kind.low, kind.high)
    if isinstance(kind, OneOf):
        return st.sampled_from(sorted(kind.options, key=lambda option: option != "none"))
    if isinstance(kind, Whole) and ignores:
        return st.sampled_from(tuple(dict.fromkeys((-100, -1, 0, classes - 1))))
    return st.just(kind.default if isinstance(kind, Whole) else stated)


def _content(draw: st.DrawFn, numbers: Numbers, axes: str, sizes: Sizes) -> Array:
    """An array of those axes that holds such numbers, as `refimpl.operation.Variation` names them."""
    before, _, _ = axes.partition("V")
    axis = sum(len(sizes[one]) for one in before.split()) if "V" in axes else -1
    shape = shape_of(axes, sizes)
    if numbers.content in INDICES:
        return _array(draw, numbers, shape).astype(np.int64)
    if numbers.content == "probability":
        wide = _probability(draw, numbers, shape, axis)
    elif numbers.content == "log_probability":
        wide = _log_probability(draw, numbers, shape, axis)
    else:
        wide = _array(draw, numbers, shape)
    return rounded(wide, numbers.target.name)


def shape_of(axes: str, sizes: Sizes) -> tuple[int, ...]:
    """The shape that axes name."""
    return tuple(size for axis in axes.split() for size in sizes[axis])


def _probability(draw: st.DrawFn, numbers: Numbers, shape: tuple[int, ...], axis: int) -> Float:
    """Non-negative numbers, mostly with rows that sum to 1, but for their rounding."""
    given = _array(draw, replace(numbers, content="probability"), shape)
    if draw(ONE_OF_THREE):
        return given  # taken as given
    with np.errstate(invalid="ignore"):
        total = given.sum(axis, keepdims=True)
        return np.divide(given, total, out=given.copy(), where=total > 0.0)


def _log_probability(draw: st.DrawFn, numbers: Numbers, shape: tuple[int, ...], axis: int) -> Float:
    """Logarithms of such rows, or whatever isn't positive."""
    if draw(st.booleans()):
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.log(np.minimum(_probability(draw, numbers, shape, axis), 1.0))
    return _array(draw, numbers, shape)


def _array(draw: st.DrawFn, numbers: Numbers, shape: tuple[int, ...]) -> Array:
    """Few numbers that fill the shape: over and over, or each for a stretch."""
    size = math.prod(shape)
    if size == 0:
        return np.zeros(shape)
    pattern = np.array(draw(_pattern(numbers, min(size, PATTERN))))
    if 1 < pattern.size < size and draw(ONE_OF_THREE):
        pattern = np.repeat(pattern, -(-size // pattern.size))
    return np.resize(pattern, shape)


@lru_cache(maxsize=2**12)  # what is drawn from a strategy is validated once
def _pattern(numbers: Numbers, most: int) -> st.SearchStrategy[list[Any]]:
    if numbers.content in INDICES:
        return st.lists(_index(numbers), min_size=1, max_size=most)
    plain, edges = {"logits": _logits, "probability": _probabilities, "log_probability": _logarithms, "weight": _weights}[numbers.content](
        numbers.target
    )
    elements = plain if numbers.plain else plain | edges
    if numbers.hostile == "numbers":
        elements = elements | st.sampled_from((math.nan, math.inf, -math.inf))
    return st.lists(elements, min_size=1, max_size=most)


def _index(numbers: Numbers) -> st.SearchStrategy[int]:
    """Classes, here and there what is ignored; in hostile calls what names none, also where it is cut to 32 or 16 bits."""
    classes, index = numbers.classes, st.integers(0, numbers.classes - 1)
    if numbers.ignored is not None:
        index = index | st.just(numbers.ignored)
    if numbers.hostile == "targets":
        cut = (sign * 2**bits for bits in (15, 31, 32, 62) for sign in (1, -1))
        index = index | st.sampled_from((-1, classes, -classes, -classes - 1, -100, *cut, 2**32 + 1))
    return index


def _logits(target: Format) -> Elements:
    """Whole numbers and gaps that no exponential survives; masks, the ends of the format, the gaps at which an exponential is lost."""
    gaps = (math.log(size) for size in (target.unit, target.normal, target.tiny))
    ends = (target.tiny, -target.tiny, target.normal, target.largest, -target.largest)
    wide = st.floats(-target.largest, target.largest)
    plain = st.sampled_from(WHOLE) | st.floats(-NEAR, NEAR) | st.integers(-GAP, GAP).map(float)
    return plain, st.sampled_from((-math.inf, *gaps, math.log(target.largest), *ends)) | wide


def _probabilities(target: Format) -> Elements:
    edges = (0.0, target.tiny, target.normal, target.unit, 1.0 - target.unit)
    return st.sampled_from((1.0, 2.0, 3.0)) | st.floats(SMALL, 1.0), st.sampled_from(edges) | st.floats(0.0, 1.0)


def _logarithms(target: Format) -> Elements:
    edges = (-math.inf, -target.tiny, -target.normal, -target.largest, math.log(target.normal), math.log(target.tiny))
    whole = st.sampled_from(tuple(0.0 - size for size in WHOLE if size >= 0.0))
    return whole | st.floats(-NEAR, 0.0) | st.integers(-GAP, 0).map(float), st.sampled_from(edges) | st.floats(-target.largest, 0.0)


def _weights(target: Format) -> Elements:
    return st.sampled_from((1.0, 2.0, 0.5)) | st.floats(SMALL, 8.0), st.sampled_from((0.0, target.tiny, target.normal)) | st.floats(
        0.0, 8.0
    )
