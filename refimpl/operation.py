"""The nouns of an operation: its inputs, parameters, choices, clauses, and the functions that know its values.

An operation's file in `refimpl/operations` ends with one `Operation`; everything else (the generator, the judge, the
adapters, the reports) reads what it needs from there.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refimpl.ball import Ball
from refimpl.enclosure import FORMATS, Enclosure

Array = NDArray[Any]


class InvalidInput(ValueError):
    """An input or a parameter that the operation isn't defined for; the message names it, its value and the remedy."""


class OutOfRange(InvalidInput):
    """A target that names no class and isn't ignored: the one bad input that backends are asked about (error or nan)."""


class NotPermitted(InvalidInput):
    """A value of the choice named `choice` that isn't defined for this call; every call permits at least one value of each."""

    def __init__(self, choice: str, message: str) -> None:
        super().__init__(message)
        self.choice = choice


@dataclass(frozen=True)
class Example:
    """A small input that a clause speaks of: the arguments of the call as plain numbers and lists.

    It becomes one vector for each of `dtypes`; a number that such a dtype can't hold is an error of the example.
    """

    name: str
    call: Mapping[str, Any]
    dtypes: tuple[str, ...] = tuple(FORMATS)
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Clause:
    """One numbered sentence of the spec; its words, level and reasons stand in `docs/spec`.

    `edge` is the label (E1, E2, ...) under which the operation's file speaks of it; `backward` says that it is about gradients
    alone.
    """

    id: str
    edge: str | None = None
    examples: tuple[Example, ...] = ()
    backward: bool = False


@dataclass(frozen=True)
class Variation:
    """A way to call the operation, for seeded random vectors: fixed `parameters`, and what each input that is passed holds.

    `holds` maps an input to "logits", "probability" (rows that sum to about 1, a few zeros among them),
    "positive_probability" (without zeros, which make most sums of p ln q infinite), "log_probability", "weight", "index" (a class)
    or "some_ignored" (a class, or here and there `ignore_index` or `padding_idx`). `extra` are the sizes of the dimensions that
    the axes write as "*". `clauses` are the ids that such vectors are evidence for.
    """

    name: str
    holds: Mapping[str, str]
    clauses: tuple[str, ...]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    extra: tuple[int, ...] = ()


@dataclass(frozen=True)
class Choice:
    """A freedom between equally defensible published definitions; `values` maps each to its definition, the default first.

    A choice is also a keyword parameter, of the same name, of the operation's functions. A call may not permit every value
    (`NotPermitted`).
    """

    name: str
    values: Mapping[str, str]

    @property
    def default(self) -> str:
        return next(iter(self.values))

    def starting_with(self, value: str) -> Choice:
        """The same choice with another default."""
        return Choice(self.name, {value: self.values[value]} | dict(self.values))


@dataclass(frozen=True)
class Real:
    """A floating-point array. `axes` names its shape ("N V *": rows, classes, any further dimensions)."""

    axes: str
    differentiable: bool = True
    optional: bool = False


@dataclass(frozen=True)
class Index:
    """An array of class indices (int64)."""

    axes: str


@dataclass(frozen=True)
class IndexOrReal:
    """Class indices of shape `axes`, or a floating-point array of shape `real_axes` (not differentiated)."""

    axes: str
    real_axes: str


Input = Real | Index | IndexOrReal


@dataclass(frozen=True)
class Number:
    """A binary64 parameter in the closed interval [low, high]."""

    low: float
    high: float
    default: float


@dataclass(frozen=True)
class Whole:
    """An integer parameter; None means absent."""

    default: int | None


@dataclass(frozen=True)
class Switch:
    """A parameter that is true or false."""

    default: bool


@dataclass(frozen=True)
class OneOf:
    """A parameter that is one of a few names, the default first."""

    options: tuple[str, ...]

    @property
    def default(self) -> str:
        return self.options[0]


Parameter = Number | Whole | Switch | OneOf


@dataclass(frozen=True)
class Operation:
    """One loss as mathematics, and the functions that evaluate it.

    Every function takes the operation's inputs, parameters and choices as keywords; those on gradients also take
    `cotangent`, an array of the output's shape. `where` lists flat indices.

        forward(**call) -> Enclosure                             the output
        vjp(cotangent=..., **call) -> {input: Enclosure}         the gradient of each differentiable input
        exact(where, bits, **call) -> [Ball]                     the output in ball arithmetic, at `bits` bits
        exact_vjp(name, where, bits, cotangent=..., **call) -> [Ball]
        terms(**call) -> float64 array (*output's shape, K)      the largest error that correct code makes in each element of the
                                                                 output, before its rounding to the output dtype, as a linear
                                                                 form in the numbers of `refimpl.bounds.TERMS`
        terms_vjp(cotangent=..., **call) -> {input: float64 array (*its shape, K)}
        quick(format, **call) -> array or None                   the output, rounded, by way of float64; None where there
                                                                 is no such way; as is quick_vjp(format, cotangent=...,
                                                                 **call) -> (output, {input: gradient}) or None
        meaning(**call) -> anything hashable                     what the choices come to in this call: combinations of choices
                                                                 with one meaning have one answer. Where there is no such
                                                                 function, every combination has its own

    A target that names no class raises `OutOfRange`, any other bad input `InvalidInput` or `TypeError`.
    """

    name: str
    prefix: str
    summary: str
    inputs: Mapping[str, Input]
    parameters: Mapping[str, Parameter]
    clauses: tuple[Clause, ...]
    forward: Callable[..., Enclosure]
    vjp: Callable[..., dict[str, Enclosure]]
    exact: Callable[..., list[Ball]]
    exact_vjp: Callable[..., list[Ball]]
    terms: Callable[..., Array]
    terms_vjp: Callable[..., dict[str, Array]]
    variations: tuple[Variation, ...]
    choices: tuple[Choice, ...] = ()
    quick: Callable[..., Array | None] | None = None
    quick_vjp: Callable[..., tuple[Array, dict[str, Array]] | None] | None = None
    meaning: Callable[..., Hashable] | None = None

    @property
    def differentiable(self) -> tuple[str, ...]:
        """The inputs that have a gradient."""
        return tuple(name for name, kind in self.inputs.items() if isinstance(kind, Real) and kind.differentiable)

    def defaults(self) -> dict[str, Any]:
        """The default of every parameter and choice."""
        parameters = {name: parameter.default for name, parameter in self.parameters.items()}
        return parameters | {choice.name: choice.default for choice in self.choices}

    def clause(self, id: str) -> Clause:
        """The clause with that id; raises `KeyError` for an unknown one."""
        return {clause.id: clause for clause in self.clauses}[id]


WIDE = ("float64", "float32")  # the dtypes that hold integers beyond 65504


def regular(name: str, value: Any, dtype: Any = None) -> Array:
    """`value` as an array; raises `TypeError` where it is no regular array, or not one of that dtype."""
    try:
        return np.asarray(value, dtype)
    except (TypeError, ValueError):
        text = repr(value)
        text = text if len(text) <= 60 else text[:57] + "..."
        raise TypeError(f"{name} is {text}; pass an array of numbers, regular in shape") from None


def real(name: str, value: Any, ndim: int | None = None) -> Array:
    """`value` as a floating-point array; Python numbers and lists are taken as float64. Raises `TypeError` or `InvalidInput`."""
    array = regular(name, value, None if hasattr(value, "dtype") else np.float64)
    if array.dtype.name not in FORMATS:
        raise TypeError(f"{name} has dtype {array.dtype}; convert it to one of {', '.join(FORMATS)}")
    if ndim is not None and array.ndim != ndim:
        raise InvalidInput(f"{name} has {array.ndim} dimensions, shape {array.shape}; pass {ndim}")
    return array.astype(FORMATS[array.dtype.name].dtype, copy=False)  # in the machine's byte order


def classes_last(name: str, value: Any) -> Array:
    """`value` as a floating-point array (..., V) with at least one class; raises `TypeError` or `InvalidInput`."""
    array = real(name, value)
    if array.ndim < 1 or array.shape[-1] == 0:
        raise InvalidInput(f"{name} has shape {array.shape}; pass (..., V) with at least one class")
    return array


def indices(name: str, value: Any) -> NDArray[np.integer[Any]]:
    """`value` as int64 indices, or uint64 where it is such; raises `TypeError` where it doesn't hold integers."""
    array = regular(name, value)
    if array.size == 0 and not hasattr(value, "dtype"):
        array = array.astype(np.int64)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name} has dtype {array.dtype}; class indices are integers: convert them with .astype('int64')")
    return array.astype(np.uint64 if array.dtype == np.uint64 else np.int64, copy=False)


def same_shape(first: str, a: Array, second: str, b: Array) -> None:
    """Raises `InvalidInput` where two arrays that must agree in shape don't; nothing broadcasts."""
    if a.shape != b.shape:
        raise InvalidInput(f"{first} has shape {a.shape} and {second} {b.shape}; pass them in one shape (nothing broadcasts)")


def cotangent_of(value: Any, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """The cotangent as finite float64 values in the output's shape; raises `TypeError` or `InvalidInput`."""
    array = real("cotangent", value).astype(np.float64)
    if array.shape != shape:
        raise InvalidInput(f"cotangent has shape {array.shape}; pass one in the output's shape, {shape}")
    if not np.isfinite(array).all():
        raise InvalidInput("cotangent holds a nan or an infinity; pass finite numbers")
    return array


def check_parameters(parameters: Mapping[str, Parameter], choices: Sequence[Choice], given: Mapping[str, Any]) -> None:
    """Raises `InvalidInput` for the first parameter or choice whose value isn't allowed."""
    for name, parameter in parameters.items():
        value = given[name]
        if isinstance(parameter, Number):
            number = isinstance(value, (int, float, np.floating, np.integer)) and not isinstance(value, bool)
            if not number or not parameter.low <= value <= parameter.high:
                raise InvalidInput(f"{name} is {value!r}; pass a number from {parameter.low} to {parameter.high}")
        elif isinstance(parameter, OneOf):
            _one_of(name, value, parameter.options)
        elif isinstance(parameter, Whole):
            whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
            if not whole and not (value is None and parameter.default is None):
                raise InvalidInput(f"{name} is {value!r}; pass an integer" + (" or None" if parameter.default is None else ""))
        elif not isinstance(value, (bool, np.bool_)):
            raise InvalidInput(f"{name} is {value!r}; pass True or False")
    for choice in choices:
        _one_of(choice.name, given[choice.name], tuple(choice.values))


def _one_of(name: str, value: Any, options: tuple[str, ...]) -> None:
    if value not in options:
        raise InvalidInput(f"{name} is {value!r}; pass one of {', '.join(map(repr, options))}")


GENERAL = tuple(Clause(f"GEN-{number}") for number in range(1, 7))  # of every operation
