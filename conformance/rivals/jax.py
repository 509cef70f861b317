"""JAX: what its own tests compare with, on our cases.

Values and gradients by `numpy.testing.assert_allclose` with JAX's default tolerance for the dtype, absolute and relative, and
`jax.test_util.check_vjp`, which needs no answers: it compares a derivative in one random direction with a finite difference of the loss.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np
from jax._src.public_test_util import tolerance  # no public name has the defaults
from jax.test_util import check_vjp

from conformance.adapter import Adapter, Array, differentiable
from conformance.case import Case, Vector
from conformance.rivals import Accusations, Suite, asked, on_our_cases

LARGEST = 4096  # elements; a finite difference in one direction says less and less of more


def differs(actual: Array, expected: Array) -> bool:
    """Whether the dtypes are unequal, or assert_allclose fails; bfloat16 is compared as float32, as JAX does."""
    if actual.dtype != expected.dtype:
        return True
    with jax.enable_x64(True):  # else float64 has float32's tolerance
        allowed = tolerance(expected.dtype)
    wide = np.float64 if expected.dtype == np.float64 else np.float32
    try:
        with np.errstate(invalid="ignore"):
            np.testing.assert_allclose(actual.astype(wide), expected.astype(wide), rtol=allowed, atol=allowed)
    except AssertionError:
        return True
    return False


def inconsistent(adapter: Adapter, vectors: Iterable[Vector]) -> Accusations:
    """The cases on which check_vjp fails, or the kernel raises."""
    cases = (vector.case for vector in asked(adapter, vectors))
    chosen = (case for case in cases if sum(value.size for value in case.inputs.values()) <= LARGEST)
    return ((case.id, "") for case in chosen if not _consistent(adapter, case))


def _consistent(adapter: Adapter, case: Case) -> bool:
    if case.cotangent is None:
        return True
    names = differentiable(case.inputs)

    def call(values: tuple[Array, ...], cotangent: Array | None) -> tuple[Array, dict[str, Array]]:
        inputs = {**case.inputs, **{name: np.asarray(value) for name, value in zip(names, values, strict=True)}}
        return adapter.call(case.operation, "eager", inputs, case.parameters, cotangent)

    def loss(*values: Array) -> Array:
        return call(values, None)[0]

    def vjp(*values: Array) -> tuple[Array, Callable[[Any], tuple[Array, ...]]]:
        def back(cotangent: Any) -> tuple[Array, ...]:
            gradients = call(values, np.asarray(cotangent))[1]
            return tuple(gradients[name] for name in names)

        return loss(*values), back

    try:
        with np.errstate(all="ignore"), jax.enable_x64(True):
            check_vjp(loss, vjp, tuple(case.inputs[name] for name in names))
    except Exception:  # a failed comparison, or whatever the kernel or the checker raises
        return False
    return True


SUITES = (
    Suite("JAX's default tolerances on our cases", lambda fault: True, on_our_cases(differs)),
    Suite("jax.test_util.check_vjp on our cases", lambda fault: True, inconsistent),
)
