"""PyTorch: `torch.testing.assert_close` with its default tolerance for the dtype, on our cases and on its own.

Its own are the samples of its operator database (OpInfo), with which its tests compare devices, compilers and derivatives. The answers
are those of PyTorch's own function, for half precision of its float32; the cotangents are drawn, so that a uniform one hides nothing.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch

from conformance.adapter import Adapter, Array, Arrays, Unsupported
from conformance.adapters.torch import OPERATIONS, apply, to_numpy, to_tensor
from conformance.case import Vector
from conformance.faults import Fault
from conformance.rivals import Accusations, Suite, on_our_cases

SAMPLED = {
    "log_softmax": ("log_softmax", ("logits",)),
    "nn.functional.kl_div": ("kl_div", ("log_q", "p")),
    "nn.functional.nll_loss": ("nll_loss", ("log_p", "target")),
    "nn.functional.cross_entropy": ("softmax_cross_entropy", ("logits", "target")),
}


def differs(actual: Array, expected: Array) -> bool:
    """Whether assert_close fails; a dtype that isn't the expected one fails too."""
    try:
        torch.testing.assert_close(to_tensor(actual), to_tensor(expected), equal_nan=True)
    except AssertionError:
        return True
    return False


@dataclass(frozen=True, eq=False)
class Sample:
    """One call of an operation with the samples of PyTorch's database, and PyTorch's answers."""

    name: str
    inputs: Arrays
    parameters: Mapping[str, Any]
    cotangent: Array
    answers: Mapping[str, Array]


@cache
def samples(operation: str, dtype: str) -> tuple[Sample, ...]:
    """The samples of an operation in a dtype that have our shapes: a first axis of rows, and the class axis where ours is."""
    from torch.testing._internal.common_methods_invocations import op_db

    found = []
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # kl_div's about its mean
        torch.manual_seed(0)
        for info in op_db:
            ours, names = SAMPLED.get(info.name, ("", ()))
            if ours == operation and not info.variant_test_name and getattr(torch, dtype) in info.supported_dtypes("cpu"):
                drawn = info.sample_inputs("cpu", getattr(torch, dtype))
                found += [_sample(operation, names, f"{info.name}-{number}", one) for number, one in enumerate(drawn)]
    return tuple(sample for sample in found if sample is not None)


def _sample(operation: str, names: tuple[str, ...], name: str, given: Any) -> Sample | None:
    tensors, parameters = [given.input, *given.args], dict(given.kwargs)
    if operation == "log_softmax":
        axis = parameters.pop("dim", None)
        axis = tensors.pop() if axis is None else axis
        if parameters or given.input.ndim == 0:
            return None
        tensors = [given.input.movedim(axis, -1)]
    elif operation != "kl_div" and given.input.ndim < 2:
        return None
    inputs = dict(zip(names, (to_numpy(tensor) for tensor in tensors), strict=True))
    if "weight" in parameters:
        inputs["weight"] = to_numpy(parameters.pop("weight"))
    wide = {key: value.astype(np.float32) if value.dtype.itemsize == 2 else value for key, value in inputs.items()}
    shape = apply(OPERATIONS[operation], wide, parameters, None)[0].shape
    cotangent = to_numpy(torch.randn(shape).to(given.input.dtype))
    output, gradients = apply(OPERATIONS[operation], wide, parameters, cotangent.astype(wide[names[0]].dtype))
    answers = {"": output, **gradients}
    return Sample(name, inputs, parameters, cotangent, {key: value.astype(cotangent.dtype) for key, value in answers.items()})


def on_samples(adapter: Adapter, vectors: Iterable[Vector]) -> Accusations:
    """The samples on which a kernel's output or a gradient isn't PyTorch's."""
    (operation,) = adapter.operations
    chosen = (sample for dtype in adapter.promises for sample in samples(operation, dtype))
    return ((f"{sample.name}-{sample.cotangent.dtype}", name) for sample in chosen for name in _wrong(adapter, sample))


def _wrong(adapter: Adapter, sample: Sample) -> list[str]:
    (operation,) = adapter.operations
    inputs = {name: value.copy() for name, value in sample.inputs.items()}
    try:
        output, gradients = adapter.call(operation, "eager", inputs, sample.parameters, sample.cotangent)
    except Unsupported:
        raise
    except Exception:  # whatever the kernel raises, PyTorch has an answer
        return [""]
    found = {"": output, **gradients}
    return [name for name, expected in sample.answers.items() if name not in found or differs(found[name], expected)]


def sampled(fault: Fault) -> bool:
    """Whether PyTorch's database has the operation of a fault."""
    return any(operation in fault.adapter.operations for operation, _ in SAMPLED.values())


SUITES = (
    Suite("torch.testing.assert_close on our cases", lambda fault: True, on_our_cases(differs)),
    Suite("torch.testing.assert_close on OpInfo's samples", sampled, on_samples, needs="expecttest"),
)
