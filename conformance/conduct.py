"""The choices of conduct: they change which answers are accepted, not the value, so operations know nothing of them.

A backend's dialect promises a value of each, as of the choices that change a value, and the judge holds it to that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refimpl.enclosure import FORMATS
from refimpl.operation import Choice

Array = NDArray[Any]

REFUSAL = Choice(
    "refusal",
    {
        "either": "nothing is promised: an exception and nan are both taken",
        "error": "a target that names no class and isn't ignored is an error (PyTorch, Paddle; TensorFlow on a CPU)",
        "nan": "such a target gives nan, in the loss and in the gradient alike (optax; TensorFlow on a GPU)",
    },
)
HALF_OUTPUT = Choice(
    "half_output",
    {
        "either": "nothing is promised: the input's dtype and float32 are both taken",
        "same": "the output for half-precision inputs has their dtype (PyTorch, ONNX, TensorFlow)",
        "float32": "it is float32 (Keras' loss classes, SciPy)",
    },
)
SUBNORMALS = Choice(
    "subnormals",
    {
        "kept": "subnormal numbers are numbers like others (IEEE 754)",
        "flushed": "those of float64, float32 and bfloat16 may count as 0, as inputs, on the way and as results (XLA, Metal)",
    },
)
CONDUCT = (REFUSAL, HALF_OUTPUT, SUBNORMALS)


@dataclass(frozen=True)
class Conduct:
    """What a backend promises of its conduct: a value of each choice above. Whoever promises nothing is asked for no more than the spec."""

    refusal: str = REFUSAL.default
    half_output: str = HALF_OUTPUT.default
    subnormals: str = SUBNORMALS.default

    def __post_init__(self) -> None:
        for choice in CONDUCT:
            value = getattr(self, choice.name)
            if value not in choice.values:
                raise ValueError(f"{choice.name} is {value!r}; promise one of {', '.join(map(repr, choice.values))}")

    @staticmethod
    def of(dialect: Mapping[str, str]) -> Conduct:
        """The conduct that a dialect promises."""
        return Conduct(**{field.name: dialect[field.name] for field in fields(Conduct) if field.name in dialect})

    def output_dtypes(self, dtype: str) -> tuple[str, ...]:
        """The dtypes that the output for inputs of `dtype` may have."""
        if FORMATS[dtype].precision >= FORMATS["float32"].precision or self.half_output == "same":
            return (dtype,)
        return ("float32",) if self.half_output == "float32" else (dtype, "float32")

    def gradient_dtypes(self, dtype: str) -> tuple[str, ...]:
        """The dtypes that a gradient may have: its input's, or the output's."""
        return tuple(dict.fromkeys((dtype, *self.output_dtypes(dtype))))

    def flushes(self, dtype: str) -> bool:
        """Whether subnormal numbers may count as 0 in calls on inputs of `dtype`: float16's are normal in float32, where it is computed."""
        return self.subnormals == "flushed" and dtype != "float16"

    def others(self) -> Iterator[tuple[Choice, Conduct]]:
        """Each promise of conduct that differs in the value of one choice, with that choice."""
        for choice in CONDUCT:
            for value in choice.values:
                if value not in (getattr(self, choice.name), "either"):
                    yield choice, replace(self, **{choice.name: value})


def without_subnormals(inputs: Mapping[str, Array], dtype: str) -> dict[str, Array]:
    """The inputs, of which the floating-point ones have that dtype, with 0 for each subnormal number."""
    found = dict(inputs)
    for name, array in inputs.items():
        if array.dtype.kind not in "iu":
            subnormal = np.abs(array.astype(np.float64)) < FORMATS[dtype].normal
            found[name] = np.where(subnormal, np.zeros_like(array), array)
    return found
