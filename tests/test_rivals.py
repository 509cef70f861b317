"""The scores of other suites: a right kernel is caught by nobody, a grossly wrong one by all that are asked about it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from conformance.case import Array, Expected
from conformance.faults import Fault
from conformance.faults.log_softmax import FAULTS as LOG_SOFTMAX
from conformance.faults.nll_loss import FAULTS as NLL_LOSS
from conformance.rivals import Suite, called, expected_values, libraries, right, scores, suites, table, usable
from conformance.vectors import Vector, read
from refimpl.enclosure import Enclosure, Kind

ASKED = ("log_softmax", "nll_loss")


def everyone() -> Iterator[Suite]:
    for library in libraries():
        try:
            yield from (suite for suite in suites(library) if usable(suite))
        except ModuleNotFoundError:
            continue


@pytest.fixture(params=list(everyone()), ids=lambda suite: suite.name)
def suite(request: pytest.FixtureRequest) -> Suite:
    return request.param


@cache
def vectors() -> tuple[Vector, ...]:
    return tuple(vector for name in ASKED for vector in read(operation=name) if sum(a.size for a in vector.case.inputs.values()) <= 64)


def as_fault(operation: str, off_by: float) -> Fault:
    """The right kernel, with all that it gives moved by a number."""
    kernel = right(operation)

    def call(*given: Any) -> tuple[Array, dict[str, Array]]:
        output, gradients = kernel.call(*given)
        return moved(output), {name: moved(gradient) for name, gradient in gradients.items()}

    def moved(value: Array) -> Array:
        return np.asarray(value + np.asarray(off_by, value.dtype))

    return Fault(replace(kernel, name=f"{operation}/off-by-{off_by}", call=call), "GEN-5", "forward", "a constant is added")


def test_the_suites_of_torch_and_jax_are_asked() -> None:
    names = {suite.name for suite in everyone()}
    assert {"torch.testing.assert_close on our cases", "JAX's default tolerances on our cases"} <= names


def test_a_right_kernel_is_caught_by_nobody_and_a_gross_one_by_all(suite: Suite) -> None:
    found = scores([as_fault(name, off_by) for name in ASKED for off_by in (0.0, 1.0)], vectors(), [suite])[suite.name]
    assert {name for name, caught in found.items() if caught} == {f"{name}/off-by-1.0" for name in ASKED}
    assert len(found) == 2 * len(ASKED)


@pytest.mark.parametrize("operation", ASKED)
def test_comparing_with_the_reference_accuses_no_right_kernel(operation: str) -> None:
    kernel = right(operation)
    assert not list(suites("torch")[0].accusations(kernel, vectors()))


def test_a_suite_scores_no_fault_that_it_isnt_asked_about() -> None:
    nobody = Suite("nobody", lambda fault: fault.direction == "backward", lambda adapter, vectors: iter([(adapter.name, "")]))
    found = scores([*LOG_SOFTMAX, *NLL_LOSS], vectors(), [nobody])["nobody"]
    assert set(found) == {fault.name for fault in (*LOG_SOFTMAX, *NLL_LOSS) if fault.direction == "backward"}
    assert all(found.values())
    assert table({"nobody": found}, 100) == [{"suite": "nobody", "caught": len(found), "asked": len(found), "all": 100}]


def test_what_is_held_against_the_right_kernel_is_no_catch() -> None:
    strict = Suite("strict", lambda fault: True, lambda adapter, vectors: iter([("every kernel", "")]))
    assert not any(scores(LOG_SOFTMAX, vectors(), [strict])["strict"].values())


def test_a_suite_without_what_it_needs_is_not_usable() -> None:
    assert not usable(Suite("lost", lambda fault: True, lambda adapter, vectors: iter(()), needs="no_module_has_this_name"))


def test_only_what_is_defined_is_compared() -> None:
    kinds = np.asarray([Kind.FINITE, Kind.UNDEFINED, Kind.OVERFLOW, Kind.NAN])
    hi = np.asarray([1.5, 0.0, -1.7e308, np.nan])
    where, values = expected_values(Expected((4,), None, Enclosure(kinds, hi, np.zeros(4), np.zeros(4))), "float32")
    assert where.tolist() == [0, 2, 3]
    assert np.array_equal(values, np.asarray([1.5, -np.inf, np.nan], np.float32), equal_nan=True)


def test_a_kernel_that_raises_has_no_answer() -> None:
    kernel, refused = right("nll_loss"), read(operation="nll_loss")
    assert any(called(kernel, vector.case) is None for vector in refused if vector.expectations[0].kind == "error")
