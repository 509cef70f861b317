"""Numbers and small inputs as the judge's findings spell them: enough digits to tell, and the exact bits in hexadecimal."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conformance.bound import class_axis
from conformance.case import Case
from refimpl.enclosure import Enclosure, Format, Kind
from refimpl.operation import Operation
from refimpl.operations import operation

Array = NDArray[Any]

SMALL = 8  # numbers of an input that are still worth showing


def number_text(x: float) -> str:
    """A float64 in the fewest digits that determine it; an infinity or a nan by its name."""
    return repr(float(x))


def element_text(x: Any) -> str:
    """One element of an array in the fewest digits that determine it in its own dtype, without a point where it is whole."""
    return str(x).removesuffix(".0")


def decimal_text(expected: Enclosure, target: Format) -> str:
    """The centre of a single enclosure, with some digits more than `target` has; the name of another kind."""
    kind = Kind(int(expected.kind.item()))
    if kind == Kind.OVERFLOW:
        return f"{'' if expected.hi.item() > 0 else '-'}overflow (a real number beyond float64)"
    if kind != Kind.FINITE:
        return kind.label if kind == Kind.UNDEFINED else number_text(expected.hi.item())
    digits = 3 + math.ceil(target.precision * math.log10(2.0))
    text = format(Decimal(expected.hi.item()) + Decimal(expected.lo.item()), f".{digits}g")
    if "e" in text:
        mantissa, power = text.split("e")
        return (mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa) + "e" + power
    text = text.rstrip("0") if "." in text else text
    return text + "0" if text.endswith(".") else text if "." in text else text + ".0"


def hex_text(expected: Enclosure) -> str:
    """The centre of a single enclosure exactly: its `hi`, and its `lo` where that isn't zero; "" where it isn't a real number."""
    if expected.kind.item() != Kind.FINITE:
        return ""
    hi, lo = expected.hi.item(), expected.lo.item()
    if lo == 0.0:
        return short_hex(hi)
    return f"{short_hex(hi)} {'-' if lo < 0 else '+'} {short_hex(abs(lo))}"


def short_hex(x: float) -> str:
    """`float.hex` without the zeros at the end; "" where x isn't finite."""
    if not math.isfinite(x):
        return ""
    mantissa, power = float(x).hex().split("p")
    return (mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa) + "p" + power


def inputs_text(case: Case, place: tuple[int, ...] | None) -> str:
    """What an element of the output was made from: all inputs where they are small, else of each what stands at `place`.

    That is a row of classes, an element, or where it isn't to be seen the whole; what is long is given by its dtype and shape.
    """
    stated = operation(case.operation)
    small = all(array.size <= SMALL for array in case.inputs.values())
    shown = {name: array if small else _part(stated, name, array, place) for name, array in case.inputs.items()}
    parts = [f"{name} {_array_text(array)}" for name, array in shown.items()]
    parts += [f"{name} {value!r}" for name, value in case.parameters.items()]
    return ", ".join(parts)


def _part(stated: Operation, name: str, array: Array, place: tuple[int, ...] | None) -> Array:
    """The row or the element of an input that stands at `place` of the output; all of it where that isn't to be seen."""
    if place is None:
        return array
    axis = class_axis(stated.inputs[name], array)
    index: tuple[Any, ...] = place
    if axis is not None and array.ndim == len(place) + 1:
        index = (*place[:axis], slice(None), *place[axis:])
    elif axis is not None and array.ndim == len(place):
        index = (*place[:axis], slice(None), *place[axis + 1 :])
    elif axis is None and array.ndim == len(place) - 1:  # a target, seen from an element of the logits' gradient
        index = _without_classes(stated, place)
    elif array.ndim != len(place):
        return array
    inside = all(isinstance(i, slice) or i < size for i, size in zip(index, array.shape, strict=True))
    return np.asarray(array[index]) if inside else array


def _without_classes(stated: Operation, place: tuple[int, ...]) -> tuple[int, ...]:
    first = next(iter(stated.inputs.values()))
    axis = class_axis(first, np.empty((1,) * len(place)))
    return place[1:] if axis is None else (*place[:axis], *place[axis + 1 :])


def _array_text(array: Array) -> str:
    if array.size > SMALL:
        return f"{array.dtype.name}{list(array.shape)}"
    return nested_text(array)


def nested_text(array: Array) -> str:
    """The numbers of an array as nested lists."""
    if array.ndim == 0:
        return element_text(array[()])
    return "[" + ", ".join(nested_text(np.asarray(part)) for part in array) + "]"


def place_text(output: str, direction: str, place: tuple[int, ...] | None) -> str:
    """The element that is spoken of: "output[3]", "gradient of logits[0, 1]"."""
    name = output if direction == "forward" else f"gradient of {output}"
    return name if not place else f"{name}[{', '.join(map(str, place))}]"
