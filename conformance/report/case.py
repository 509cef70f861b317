"""A case in words: its inputs, its parameters, the clauses that it is evidence for, and what is expected."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from conformance.case import Array, Expected, Vector
from conformance.spec import sections
from conformance.texts import decimal_text, element_text, hex_text
from refimpl.enclosure import format_of

SHOWN = 12  # elements of an array that are shown


def describe(vector: Vector) -> str:
    """All that there is to say about a vector, in lines."""
    return "\n".join(_lines(vector))


def _lines(vector: Vector) -> Iterator[str]:
    case = vector.case
    yield case.id + (f"  ({case.source})" if case.source else "")
    known = sections()
    for id in case.clauses:
        yield f"  {known[id].level} {id}  {known[id].statement}" if id in known else f"  {id}"
    if case.flags:
        yield f"  flags: {', '.join(case.flags)}"
    arrays = {**case.inputs, **({} if case.cotangent is None else {"cotangent": case.cotangent})}
    yield "  inputs"
    for name, array in arrays.items():
        yield f"    {name}  {array.dtype}{list(array.shape)}  {_elements(array)}"
    for name, value in case.parameters.items():
        yield f"    {name} = {value!r}"
    for expectation in vector.expectations:
        under = f" under {_choices(expectation.choices)}" if expectation.choices else ""
        yield f"  expected{under}" + (": an error, or nan throughout" if expectation.kind == "error" else "")
        if expectation.kind != "error":
            for name, expected in {"output": expectation.output, **expectation.gradients}.items():
                yield from _expected(name if name == "output" else f"d{name}", expected, case.dtype)


def _expected(name: str, expected: Expected, dtype: str) -> Iterator[str]:
    kept = "" if expected.where is None else f", {len(expected.where)} elements kept"
    yield f"    {name}  {list(expected.shape)}{kept}"
    values = expected.values
    positions = range(values.size) if expected.where is None else expected.where
    for i, position in list(enumerate(positions))[:SHOWN]:
        element = values if not values.shape else values[tuple(int(k) for k in _unravel(i, values.shape))]
        radius = float(element.radius.item())
        digits = decimal_text(element, format_of(dtype))
        yield f"      [{int(position)}]  {digits}  {hex_text(element)}" + (f"  +/- {radius:.2g}" if radius else "")
    if values.size > SHOWN:
        yield f"      ... {values.size - SHOWN} more"


def _unravel(index: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    places = []
    for size in reversed(shape):
        index, place = divmod(index, size)
        places.append(place)
    return tuple(reversed(places))


def _elements(array: Array) -> str:
    shown = " ".join(element_text(x) for x in array.reshape(-1)[:SHOWN])
    return f"{shown} ..." if array.size > SHOWN else shown


def _choices(choices: Mapping[str, str]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in choices.items())
