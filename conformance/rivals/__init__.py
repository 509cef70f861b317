"""What other test suites see of the faults: each is asked about the same wrong kernels, with its own inputs or with ours.

A suite is one module here, named after the library that it comes from, and imported only when it is asked. It is asked about a
fault where it has the operation, the dtype and (a suite of losses alone) the direction. What a suite holds against the right kernel
doesn't count as a catch, so that nobody scores by accusing everyone. On our cases a suite gets every advantage: the correctly rounded
answer to compare with, nan equal to nan, no comparison where anything is permitted, and a refused target that must raise or be nan.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conformance.adapter import COTANGENT, Adapter, Array, Unsupported
from conformance.case import Case, Expected, Vector, rounded
from conformance.dialects import resolved
from conformance.faults import Fault
from conformance.judge import promised
from conformance.layouts import lay
from refimpl.enclosure import Kind
from refimpl.operations import operations

Accusations = Iterator[tuple[str, str]]  # (test or case, tensor), made as they are asked for; the tensor "" is the output
Differs = Callable[[Array, Array], bool]  # (actual, expected), flat and of one shape -> whether the suite's comparison fails


@dataclass(frozen=True)
class Suite:
    """A suite of tests: its name, whether it is asked about a fault, and what of the vectors, or of its own tests, accuses a kernel.

    `needs` names a module that it uses beside its library.
    """

    name: str
    asks: Callable[[Fault], bool]
    accusations: Callable[[Adapter, Iterable[Vector]], Accusations]
    needs: str = ""


def suites(library: str) -> tuple[Suite, ...]:
    """The suites of a library, those whose `needs` aren't installed too; raises `ModuleNotFoundError` where the library isn't."""
    found: tuple[Suite, ...] = importlib.import_module(f"{__name__}.{library}").SUITES
    return found


def usable(suite: Suite) -> bool:
    """Whether what a suite needs is installed."""
    return not suite.needs or importlib.util.find_spec(suite.needs) is not None


def libraries() -> tuple[str, ...]:
    """The libraries whose suites are known."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def right(operation: str) -> Adapter:
    """The right kernel from which the faults of an operation were made: `RIGHT` of their module."""
    found: Adapter = importlib.import_module(f"conformance.faults.{operation}").RIGHT
    return found


def scores(faults: Iterable[Fault], vectors: Iterable[Vector], asked: Iterable[Suite]) -> dict[str, dict[str, bool]]:
    """For each suite, each fault that it is asked about, and whether it catches it."""
    faults = tuple(faults)
    smallest_first = sorted(vectors, key=lambda vector: sum(array.size for array in vector.case.inputs.values()))
    of = {name: [vector for vector in smallest_first if vector.case.operation == name] for name in operations()}
    found: dict[str, dict[str, bool]] = {}
    for suite in asked:
        found[suite.name] = {}
        against_right: dict[str, frozenset[tuple[str, str]]] = {}
        for fault in faults:
            if not suite.asks(fault):
                continue
            (name,) = fault.adapter.operations
            if name not in against_right:
                against_right[name] = frozenset(suite.accusations(right(name), of[name]))
            found[suite.name][fault.name] = any(one not in against_right[name] for one in suite.accusations(fault.adapter, of[name]))
    return found


def on_our_cases(differs: Differs) -> Callable[[Adapter, Iterable[Vector]], Accusations]:
    """The accusations of a suite that is a comparison of arrays: our inputs, the reference's answers, its tolerance."""
    return partial(_accusations, differs)


def _accusations(differs: Differs, adapter: Adapter, vectors: Iterable[Vector]) -> Accusations:
    return ((vector.case.id, name) for vector in asked(adapter, vectors) for name in _wrong(differs, adapter, vector))


def asked(adapter: Adapter, vectors: Iterable[Vector]) -> Iterator[Vector]:
    """The vectors of a kernel's operation and dtypes."""
    return (vector for vector in vectors if vector.case.operation in adapter.operations and vector.case.dtype in adapter.promises)


def _wrong(differs: Differs, adapter: Adapter, vector: Vector) -> Iterator[str]:
    expectation = promised(vector, resolved(adapter.dialect, adapter.name).of(vector.case.operation))
    if expectation is None:  # a value of a choice that isn't defined for the call
        return
    answer = called(adapter, vector.case)
    if answer is None:
        if expectation.kind != "error":
            yield ""
        return
    for name, expected in {"": expectation.output, **expectation.gradients}.items():
        actual = answer.get(name)
        if actual is None or actual.shape != expected.shape:
            yield name
            continue
        where, values = expected_values(expected, vector.case.dtype)
        if differs(actual.reshape(-1)[where], values):
            yield name


def called(adapter: Adapter, case: Case) -> dict[str, Array] | None:
    """The output ("") and the gradients that a kernel gives for a case, None where it raises."""
    given = dict(case.inputs) if case.cotangent is None else {**case.inputs, COTANGENT: case.cotangent}
    laid = {name: lay(value, case.layouts.get(name, "contiguous")).array for name, value in given.items()}
    try:
        cotangent = laid.pop(COTANGENT, None)
        output, gradients = adapter.call(case.operation, "eager", laid, case.parameters, cotangent)
    except Unsupported:
        raise
    except Exception:  # whatever it raises is its answer
        return None
    return {"": output, **gradients}


def expected_values(expected: Expected, dtype: str) -> tuple[NDArray[np.int64], Array]:
    """The flat indices that can be compared and the numbers to compare with, rounded to the dtype."""
    size = int(np.prod(expected.shape))
    named = np.arange(size) if expected.where is None else expected.where
    kind, hi = expected.values.kind.reshape(-1), expected.values.hi.reshape(-1)
    values = np.where(kind == Kind.OVERFLOW, np.copysign(np.inf, hi), hi)
    judged = kind != Kind.UNDEFINED
    return named[judged], rounded(values[judged], dtype)


def table(found: Mapping[str, Mapping[str, bool]], everything: int) -> list[dict[str, Any]]:
    """One row a suite: its name, the faults that it caught, those that it was asked about, and all."""
    return [{"suite": name, "caught": sum(one.values()), "asked": len(one), "all": everything} for name, one in found.items()]
