"""SciPy: scipy.special. It has no derivatives, and documents no half-precision types."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from scipy import special

from conformance.adapter import Adapter, Array, Arrays, Idiom, installed
from conformance.bound import Promise


def entropy(p: Array) -> Array:
    return np.asarray(special.entr(p).sum(-1))


def entropy_with_logits(logits: Array) -> Array:
    return np.asarray(special.entr(special.softmax(logits, axis=-1)).sum(-1))


def log_softmax(logits: Array) -> Array:
    return np.asarray(special.log_softmax(logits, axis=-1))


def cross_entropy(p: Array, q: Array) -> Array:
    return np.asarray(-special.xlogy(p, q).sum(-1))


def kl_divergence(p: Array, q: Array) -> Array:
    return np.asarray(special.rel_entr(p, q).sum(-1))


OPERATIONS: Mapping[str, Callable[..., Array]] = {
    "entropy": entropy,
    "entropy_with_logits": entropy_with_logits,
    "log_softmax": log_softmax,
    "cross_entropy": cross_entropy,
    "kl_divergence": kl_divergence,
}


def call(
    operation: str, mode: str, inputs: Arrays, parameters: Mapping[str, Any], cotangent: Array | None
) -> tuple[Array, dict[str, Array]]:
    return OPERATIONS[operation](**inputs, **parameters), {}


ADAPTER = Adapter(
    name="scipy",
    operations=OPERATIONS,
    promises={
        "float64": Promise("A", compute="float64", store=None),
        "float32": Promise("A", compute="float32", store=None),
    },
    dialect="scipy",
    composed=frozenset({"entropy", "entropy_with_logits", "cross_entropy", "kl_divergence"}),
    call=call,
    versions=lambda: installed("scipy", "numpy"),
    idiom=Idiom(tensor="np.array({values}, dtype=np.{dtype})", number="float({})", total="{}.sum(dtype=np.float64)"),
)
