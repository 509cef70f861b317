"""Backends made for the tests of campaigns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from conformance.adapter import Adapter, describe
from conformance.bound import Promise
from conformance.campaign.asking import Asked, asked_of
from conformance.campaign.space import Campaign
from conformance.kernel import kernel

Array = np.ndarray[Any, Any]
PROMISES = {
    "float32": Promise("A", compute="float32"),
    "float16": Promise("A", compute="float32", store="float16"),
    "bfloat16": Promise("A", compute="float32", store="bfloat16"),
}


@np.errstate(all="ignore")
def accurate(logits: Array, **_: Any) -> Array:
    """The right log-softmax of pairs, rounded once."""
    x = logits.astype(np.float64)
    gap = x.max(axis=1, keepdims=True) - x
    output = -(gap + np.log1p(np.exp(-gap.max(axis=1, keepdims=True))))
    return np.asarray(output.astype(logits.dtype))


def backend(function: Callable[..., Array], operation: str = "log_softmax", dialect: str | Mapping[str, str] = "torch") -> Adapter:
    """A function without gradients as a backend of one operation."""

    def call(*, cotangent: Array | None, **arguments: Any) -> tuple[Array, dict[str, Array]]:
        return function(**arguments), {}

    return kernel("planted", operation, call, PROMISES, dialect)


def asking_of(adapter: Adapter, space: str, dtype: str, **fields: Any) -> Asked:
    """A campaign of it."""
    return asked_of(Campaign(adapter.name, space, dtype, mode="eager", **fields), adapter, describe(adapter))
