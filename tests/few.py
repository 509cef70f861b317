"""Three vectors in the place of those installed, for tests of what surrounds a run."""

from __future__ import annotations

import numpy as np

from conformance.case import Case, Vector
from conformance.expect import expect

COTANGENT = np.array([[0.5, -1.25, 2.0]])


def few() -> list[Vector]:
    """Numpy's textbook formula fails the second (exp(1000) is inf)."""
    return [_vector("plain", [1.0, 2.0, 3.0]), _vector("large", [1000.0, 0.0, 1.0]), _vector("plain", [1.0, 2.0, 3.0], "float32")]


def _vector(name: str, logits: list[float], dtype: str = "float64") -> Vector:
    inputs = {"logits": np.array([logits], dtype)}
    return expect(Case(f"log_softmax/edges/{name}-{dtype}", "log_softmax", dtype, inputs, {}, COTANGENT.astype(dtype), ("LSM-1",)))
