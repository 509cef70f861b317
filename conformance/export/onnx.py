"""Vectors as the tests that the runner of ONNX's backends takes: `simple/test_<id>/model.onnx`, and its data beside it.

A test has one expected value, and the runner's own tolerance: of an enclosure remains the number of the dtype that is nearest to the true
value. Gradients stay behind, and so does what ONNX doesn't express. Where definitions differ, the answer is that of the dialect `onnx`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from conformance.case import Array, Case, Expected, Vector
from conformance.dialects import dialects
from conformance.export.extra import MissingExtra
from conformance.judge import promised
from refimpl.enclosure import Kind, Undecided

try:
    import onnx
    from onnx import TensorProto, helper
except ImportError as error:
    raise MissingExtra("onnx isn't installed; install lossref with its extra: pip install 'lossref[onnx]'") from error

OPSET = 22  # from which on NegativeLogLikelihoodLoss takes bfloat16
IR_VERSION = 10
TYPES = {
    "float64": TensorProto.DOUBLE,
    "float32": TensorProto.FLOAT,
    "bfloat16": TensorProto.BFLOAT16,
    "float16": TensorProto.FLOAT16,
    "int64": TensorProto.INT64,
}

Nodes = list[onnx.NodeProto]


class _Inexpressible(Exception):
    """Why ONNX has no such test."""


def write(vector: Vector, folder: Path) -> str:
    """Writes the vector's test; why it was left out, or nothing."""
    case = vector.case
    try:
        nodes, used = _nodes(case)
        expected = _expected(vector)
    except _Inexpressible as reason:
        return str(reason)
    graph = helper.make_graph(
        nodes,
        re.sub(r"\W", "_", case.id),
        [helper.make_tensor_value_info(name, TYPES[array.dtype.name], array.shape) for name, array in used.items()],
        [helper.make_tensor_value_info("output", TYPES[case.dtype], expected.shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="lossref")
    onnx.checker.check_model(model, full_check=True)
    data = folder / "simple" / f"test_{graph.name}" / "test_data_set_0"
    data.mkdir(parents=True, exist_ok=True)
    (data.parent / "model.onnx").write_bytes(model.SerializeToString(deterministic=True))
    for number, (name, array) in enumerate(used.items()):
        (data / f"input_{number}.pb").write_bytes(_tensor(name, array))
    (data / "output_0.pb").write_bytes(_tensor("output", expected))
    return ""


def _tensor(name: str, array: Array) -> bytes:
    bits = np.ascontiguousarray(array).tobytes()
    serialized: bytes = helper.make_tensor(name, TYPES[array.dtype.name], array.shape, bits, raw=True).SerializeToString(deterministic=True)
    return serialized


def _expected(vector: Vector) -> Array:
    expectation = promised(vector, dialects()["onnx"].of(vector.case.operation))
    if expectation is None or expectation.kind == "error":
        raise _Inexpressible("an error is expected")
    return _rounded(expectation.output, vector.case.dtype)


def _rounded(expected: Expected, dtype: str) -> Array:
    if expected.where is not None:
        raise _Inexpressible("only some elements of the output are kept")
    if (expected.values.kind == Kind.UNDEFINED).any():
        raise _Inexpressible("nothing is expected of some element")
    try:
        return np.asarray(expected.values.round(dtype))
    except Undecided:
        raise _Inexpressible("the enclosure doesn't decide the rounding of some element") from None


def _nodes(case: Case) -> tuple[Nodes, Mapping[str, Array]]:
    if case.operation not in OPERATIONS:
        raise _Inexpressible(f"ONNX has no operator for {case.operation}")
    return OPERATIONS[case.operation](case)


def _log_softmax(case: Case) -> tuple[Nodes, Mapping[str, Array]]:
    return [helper.make_node("LogSoftmax", ["logits"], ["output"], axis=-1)], case.inputs


def _softmax_cross_entropy(case: Case) -> tuple[Nodes, Mapping[str, Array]]:
    if case.inputs["target"].dtype != np.int64:
        raise _Inexpressible("SoftmaxCrossEntropyLoss takes no probabilities")
    if case.parameters.get("label_smoothing", 0.0) != 0.0:
        raise _Inexpressible("SoftmaxCrossEntropyLoss has no label smoothing")
    return _loss("SoftmaxCrossEntropyLoss", "logits", case)


def _nll_loss(case: Case) -> tuple[Nodes, Mapping[str, Array]]:
    return _loss("NegativeLogLikelihoodLoss", "log_p", case)


def _loss(operator: str, scores: str, case: Case) -> tuple[Nodes, Mapping[str, Array]]:
    names = [scores, "target", *(["weight"] if "weight" in case.inputs else [])]
    attributes: dict[str, Any] = {"reduction": case.parameters.get("reduction", "mean")}
    if case.parameters.get("ignore_index") is not None:
        attributes["ignore_index"] = case.parameters["ignore_index"]
    unknown = case.parameters.keys() - {"reduction", "ignore_index", "label_smoothing"}
    if unknown:
        raise _Inexpressible(f"{operator} has no parameter {min(unknown)}")
    if case.inputs[scores].ndim < 2:
        raise _Inexpressible(f"{operator} needs a batch")
    return [helper.make_node(operator, names, ["output"], **attributes)], {name: case.inputs[name] for name in names}


OPERATIONS: dict[str, Callable[[Case], tuple[Nodes, Mapping[str, Array]]]] = {
    "log_softmax": _log_softmax,
    "nll_loss": _nll_loss,
    "softmax_cross_entropy": _softmax_cross_entropy,
}
