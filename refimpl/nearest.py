"""Correctly rounded answers of any operation, by its name: what a test of an implementation in float32 or narrower compares with.

The results are those of the operation's enclosures, rounded; where the operation has a quick phase (`refimpl.phases`), they come at about
the cost of reading the logits twice.
"""

from __future__ import annotations

from functools import cache
from inspect import Signature, signature
from typing import Any

from numpy.typing import NDArray

from refimpl.enclosure import ROUNDINGS, format_of
from refimpl.operation import Operation
from refimpl.operations import operation as find


def rounded(operation: str, *, dtype: Any = "float32", **call: Any) -> NDArray[Any]:
    """The output of an operation, rounded once, to nearest with ties to even, to `dtype`.

    `call` holds the operation's inputs and parameters, as the function `refimpl.<operation>` takes them; `dtype` is one that
    `Enclosure.round` takes. The same as `refimpl.<operation>(**call).round(dtype)`, and raises what that raises.
    """
    of, target = _found(operation, call), format_of(dtype, ROUNDINGS)
    quick = None if of.quick is None else of.quick(target, **call)
    return of.forward(**call).round(target.name) if quick is None else quick


def rounded_with_gradient(
    operation: str, *, dtype: Any = "float32", cotangent: Any, **call: Any
) -> tuple[NDArray[Any], dict[str, NDArray[Any]]]:
    """The output and {input: gradient}, each rounded once to `dtype`, for a `cotangent` of the output's shape.

    The same as `refimpl.<operation>(**call).round(dtype)` and `refimpl.<operation>_vjp(cotangent=cotangent, **call)[input].round(dtype)`.
    """
    of, target = _found(operation, call), format_of(dtype, ROUNDINGS)
    quick = None if of.quick_vjp is None else of.quick_vjp(target, cotangent=cotangent, **call)
    if quick is not None:
        return quick
    gradients = of.vjp(cotangent=cotangent, **call)
    return of.forward(**call).round(target.name), {name: e.round(target.name) for name, e in gradients.items()}


def _found(name: str, call: dict[str, Any]) -> Operation:
    """The operation; raises `TypeError` where it takes no such call."""
    _signature(name).bind(**call)
    return find(name)


@cache
def _signature(name: str) -> Signature:
    return signature(find(name).forward)
