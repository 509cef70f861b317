"""Random and adversarial calls of any operation, drawn from its declaration: what the sweeps of the numerics are fed with.

A call is a mapping of keywords. `calls` yields them until enough inputs (rows; elements, for an operation without a class axis) have
been drawn. Every input is adversarial in its own way: see `logits` and `distribution` for what they hold.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refimpl.choices import permitted
from refimpl.enclosure import FORMATS
from refimpl.operation import Index, IndexOrReal, Number, OneOf, Operation, Switch, Whole

Array = NDArray[Any]
Rng = np.random.Generator

INF = math.inf
DTYPES = ("float64", "float64", "float64", "float32", "bfloat16", "float16")
SCALES = (2.0**-1000, 2.0**-60, 1e-5, 0.1, 1.0, 10.0, 50.0, 300.0, 1e3, 1e4)
STYLES: dict[str, Callable[[Rng, int], Array]] = {
    "normal": lambda rng, V: rng.normal(size=V) * rng.choice(SCALES),
    "offset": lambda rng, V: rng.normal(size=V) + rng.choice([-1e8, 1e4, 1e15, 1e300]),
    "ties": lambda rng, V: rng.integers(-2, 3, V) * rng.choice([2.0**-1074, 0.5, 1.0, 400.0]),
    "neighbours": lambda rng, V: rng.choice([0.25, 1.0, -8.0, 1e4]) * (1.0 + rng.integers(-3, 4, V) * 2.0**-52),
    "subnormal": lambda rng, V: rng.integers(-9, 10, V) * 2.0**-1074 * rng.choice([1.0, 2.0**30, 2.0**51], V),
    "mixed": lambda rng, V: rng.choice([-1.0, 1.0], V) * 2.0 ** rng.uniform(-1074, 14, V),
    "far": lambda rng, V: -rng.choice([0.0, 36.7, 104.0, 708.4, 745.2, 1339.9, 1340.0, 1340.1, 5000.0], V) - rng.uniform(0, 1, V),
    "peaked": lambda rng, V: np.where(np.arange(V) == rng.integers(V), rng.choice([30.0, 75.0, 650.0]), 0.0) + rng.normal(size=V),
    "steps": lambda rng, V: -rng.integers(0, 2**13, V) * (math.log(2.0) / 512) * (1.0 + rng.integers(-2, 3, V) * 2.0**-52),
    "lanes": lambda rng, V: np.sort(rng.normal(size=V) * 20.0)[:: rng.choice([1, -1])],
}
HUGE_STYLES: dict[str, Callable[[Rng, int], Array]] = {
    "huge": lambda rng, V: rng.choice([1e308, -1e308, 1.7e308, -1.7e308, 1.7976931348623157e308, -1.7976931348623157e308, 0.0], V),
    "spread": lambda rng, V: rng.choice([-1.0, 1.0], V) * 2.0 ** rng.uniform(-1074, 1023.9, V),
    "near": lambda rng, V: 2.0**961 * (1.0 + rng.integers(0, 3, V) * 2.0**-52),
}
ROW_NAMES = {"log_p": "log_probability", "log_q": "log_probability", "p": "probability", "q": "probability", "logits": "logits"}


def logits(rng: Rng, rows: int, classes: int, *, ordinary: bool = False) -> Array:
    """Rows of logits (rows, classes) as float64: one style a row, some classes masked, here and there a row without a softmax.

    About one call in eight has rows up to the ends of float64. `ordinary` ones lie within +-50 and hold nothing special.
    """
    if ordinary:
        return np.clip(rng.normal(size=(rows, classes)) * rng.choice([0.1, 1.0, 10.0], (rows, 1)), -50.0, 50.0)
    styles = list(STYLES.values()) + (list(HUGE_STYLES.values()) * 2 if rng.random() < 0.125 else [])
    result = np.array([styles[rng.integers(len(styles))](rng, classes) for _ in range(rows)]).reshape(rows, classes)
    masked = rng.random((rows, classes)) < rng.choice([0.0, 0.0, 0.0, 0.4, 0.95], (rows, 1))
    result[masked] = -INF
    for bad in (np.nan, INF):
        special = np.flatnonzero(rng.random(rows) < 0.01)
        result[special, rng.integers(classes, size=special.size)] = bad
    return result


def distribution(rng: Rng, rows: int, classes: int, *, ordinary: bool = False) -> Array:
    """Rows of non-negative numbers: softmaxes, rows that sum to what they like, one-hot rows, zeros, subnormals, values above 1."""
    x = rng.normal(size=(rows, classes)) * rng.choice([0.1, 1.0, 8.0, 300.0][: 3 if ordinary else 4], (rows, 1))
    with np.errstate(under="ignore"):
        p = np.exp(x - x.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
    if ordinary:
        return p
    kind = rng.integers(0, 8, rows)[:, None]
    p = np.where(kind == 1, np.eye(classes)[rng.integers(classes, size=rows)], p)
    p = np.where(kind == 2, rng.integers(0, 9, (rows, classes)) * 2.0**-1074, p)
    p = np.where(kind == 3, 2.0 ** rng.uniform(-1074, 20, (rows, classes)), p)
    p = np.where(kind == 4, 1.0 + rng.integers(-3, 4, (rows, classes)) * 2.0**-53, p)
    return np.where((kind > 4) & (rng.random((rows, classes)) < 0.3), 0.0, p)


def log_probabilities(rng: Rng, rows: int, classes: int, *, ordinary: bool = False) -> Array:
    """Rows of log-probabilities as a backend would make them, and here and there what is none: positive, huge, nan or infinite."""
    x = logits(rng, rows, classes, ordinary=ordinary)
    with np.errstate(all="ignore"):
        usual = x - x.max(axis=1, keepdims=True)
        usual = usual - np.log(np.exp(usual).sum(axis=1, keepdims=True))
    return usual if ordinary else np.where(rng.random((rows, 1)) < 0.75, usual, x)


def cotangent(rng: Rng, shape: tuple[int, ...], *, ordinary: bool = False) -> Array:
    """Float64 numbers of mixed sign and size, zeros and subnormals among them."""
    if ordinary:
        return rng.normal(size=shape)
    size = 2.0 ** rng.uniform(-40, 40, shape) * rng.choice([1.0, 1.0, 1.0, 2.0**-1000, 2.0**-1034, 2.0**300], shape)
    return np.where(rng.random(shape) < 0.1, 0.0, rng.normal(size=shape) * size)


def cast(array: Array, dtype: str) -> Array:
    """The array rounded to a dtype; what lies beyond its range becomes its largest number, but infinities stay."""
    limit = FORMATS[dtype].largest
    with np.errstate(all="ignore"):
        return np.where(np.isfinite(array), np.clip(array, -limit, limit), array).astype(FORMATS[dtype].dtype)


MAKERS = {"logits": logits, "probability": distribution, "log_probability": log_probabilities}


def call(rng: Rng, operation: Operation, rows: int, classes: int, *, ordinary: bool = False, **fixed: Any) -> dict[str, Any]:
    """One call with about `rows` rows of `classes` classes; parameters and choices at random but for the `fixed` ones."""
    given = {name: _parameter(rng, kind) for name, kind in operation.parameters.items()}
    given |= {choice.name: str(rng.choice(list(choice.values))) for choice in operation.choices} | fixed
    sizes = _sizes(rng, rows, classes)
    dtype = str(rng.choice(DTYPES)) if not ordinary else "float64"
    inputs: dict[str, Any] = {}
    for name, kind in operation.inputs.items():
        if name in ROW_NAMES:
            content = "log_probability" if given.get("log_target") and name == "p" else ROW_NAMES[name]
            inputs[name] = cast(_shaped(rng, kind.axes, sizes, MAKERS[content], ordinary), dtype)
        elif name == "weight":
            if rng.random() < 0.4:
                inputs[name] = cast(_weight(rng, classes, ordinary), dtype)
        elif isinstance(kind, IndexOrReal) and rng.random() < 0.4:
            inputs[name] = cast(_shaped(rng, kind.real_axes, sizes, distribution, ordinary), dtype)
            given["ignore_index"] = None
        elif isinstance(kind, Index | IndexOrReal):
            inputs[name] = _indices(rng, _shape(kind.axes, sizes), classes, given)
        else:
            raise NotImplementedError(f"{operation.name}: say in tests/inputs.py what {name} holds")
    if {"p", "q"} <= inputs.keys() and rng.random() < 0.2:  # neighbours: where a divergence cancels
        near = inputs["p"].astype(np.float64)
        inputs["q"] = cast(near * (1.0 + rng.integers(-2, 3, near.shape) * 2.0 ** -float(rng.integers(3, 52))), dtype)
    return permitted(operation, inputs | given)


def calls(rng: Rng, operation: Operation, wanted: int, *, ordinary: bool = False) -> Iterator[tuple[dict[str, Any], int]]:
    """(call, its number of inputs) until `wanted` inputs have been drawn: mostly many short rows a call, unreduced.

    An operation that always reduces has one output a call, so there a call is one input.
    """
    reduces = "reduction" not in operation.parameters and "normalize_length" in operation.parameters
    drawn = 0
    while drawn < wanted:
        classes = int(rng.choice([1, 2, 3, 4, 5, 6, 7, 8, 12])) if rng.random() < 0.97 else int(rng.integers(13, 70))
        fixed: dict[str, Any] = {}
        if reduces:
            rows = int(rng.choice([1, 1, 1, 2, 3])) if classes < 13 else 1
        else:
            rows = 96 if classes < 13 else 12
            if "reduction" in operation.parameters:
                options = [option for option in operation.parameters["reduction"].options if option != "none"]
                fixed["reduction"] = "none" if rng.random() < 0.7 else str(rng.choice(options))
                rows = rows if fixed["reduction"] == "none" else int(rng.integers(0, 8))
        arguments = call(rng, operation, rows, classes, ordinary=ordinary, **fixed)
        main = arguments[next(iter(operation.inputs))]
        count = 1 if reduces or fixed.get("reduction", "none") != "none" else main.size // main.shape[_class_axis(operation)]
        drawn += count
        yield arguments, count


def _class_axis(operation: Operation) -> int:
    axes = next(iter(operation.inputs.values())).axes.split()
    return axes.index("V") if axes[0] == "N" and "V" in axes else -1


def _parameter(rng: Rng, kind: Any) -> Any:
    if isinstance(kind, Number):
        simple = [kind.low, kind.default, 0.1, 0.25, 0.5, kind.high]
        odd = [2.0**-1074, 1e-300, 2.0**-60, 1.0 - 2.0**-53, float(rng.uniform(kind.low, kind.high))]
        return float(rng.choice(simple if rng.random() < 0.6 else odd))
    if isinstance(kind, OneOf):
        return str(rng.choice(kind.options))
    if isinstance(kind, Switch):
        return bool(rng.integers(2))
    assert isinstance(kind, Whole)
    values = [-100, -1, 0, 1] + ([None, None] if kind.default is None else [])
    value = values[rng.integers(len(values))]
    return None if value is None else int(value)


def _sizes(rng: Rng, rows: int, classes: int) -> dict[str, tuple[int, ...]]:
    """The sizes that the names of axes stand for: the rows are spread over a leading and some further dimensions."""
    extra = [(), (), (2,), (2, 3), (1,)][rng.integers(5)]
    rest = max(rows // math.prod(extra), 1) if rows else 0
    batch = int(rng.integers(1, min(rows, 3) + 1)) if rows else 0
    return {
        "N": (rest,),
        "*": extra,
        "V": (classes,),
        "...": (*extra, rest),
        "any": (*extra, rest),
        "B": (batch,),
        "T": (max(rows // batch, 1) if rows else 0,),
    }


def _shape(axes: str, sizes: dict[str, tuple[int, ...]]) -> tuple[int, ...]:
    return tuple(size for axis in axes.split() for size in sizes[axis])


def _shaped(rng: Rng, axes: str, sizes: dict[str, tuple[int, ...]], make: Callable[..., Array], ordinary: bool) -> Array:
    """Rows in the layout that `axes` names; without a class axis, rows of whatever is there."""
    names = axes.split() + ([] if "V" in axes.split() else ["V"])
    others = [size for axis in names if axis != "V" for size in sizes[axis]]
    rows = make(rng, math.prod(others), sizes["V"][0], ordinary=ordinary).reshape(*others, sizes["V"][0])
    position = len(_shape(" ".join(names[: names.index("V")]), sizes))
    return np.moveaxis(rows, -1, position)


def _weight(rng: Rng, classes: int, ordinary: bool) -> Array:
    weight = rng.uniform(0.1, 4.0, classes)
    if ordinary:
        return weight
    weight *= 2.0 ** np.where(rng.random(classes) < 0.2, rng.uniform(-1074, 60, classes), 0.0)
    if rng.random() < 0.15:
        weight = rng.integers(1, 12, classes) * 2.0 ** -float(rng.choice([1074, 1070, 1000]))
    return np.where(rng.random(classes) < 0.25, 0.0, weight)


def _indices(rng: Rng, shape: tuple[int, ...], classes: int, given: dict[str, Any]) -> Array:
    target = rng.integers(0, classes, shape)
    ignored = given.get("ignore_index", given.get("padding_idx"))
    if ignored is not None:
        target = np.where(rng.random(shape) < rng.choice([0.0, 0.2, 1.0], p=[0.3, 0.6, 0.1]), ignored, target)
    return target.astype(rng.choice([np.int64, np.int64, np.int32]))
