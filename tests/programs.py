"""Cases that tell the hostile program what to do, and what became of each."""

from __future__ import annotations

from collections.abc import Sequence

import hostile_program
import numpy as np

from conformance.case import Case, Vector
from conformance.expect import expect
from conformance.finding import Verdict
from conformance.runner import Result

COTANGENT = np.array([[0.5, -1.25, 2.0]])


def asked(behaviour: str, name: str = "asked", logit: float = 1.0) -> Vector:
    """A case whose first logit tells the program what to do; `logit` is the second."""
    logits = np.array([[float(list(hostile_program.BEHAVIOURS).index(behaviour)), logit, 0.5]])
    case = Case(f"log_softmax/edges/{name}-{behaviour}-float64", "log_softmax", "float64", {"logits": logits}, {}, COTANGENT, ("LSM-1",))
    return expect(case)


def of(results: Sequence[Result], vector: Vector) -> list[Result]:
    """The results on output and gradient of one vector."""
    return [result for result in results if result.finding.case == vector.case.id]


def verdicts(results: Sequence[Result], vector: Vector) -> list[Verdict]:
    """Their verdicts."""
    return [result.finding.verdict for result in of(results, vector)]
