"""An operation as an ONNX model of one node, for those that ONNX has an operator for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import onnx
import onnx.printer
from onnx import TensorProto, helper

from conformance.case import Array

OPSET = 22  # from which on NegativeLogLikelihoodLoss takes bfloat16
IR_VERSION = 10
TYPES = {
    "float64": TensorProto.DOUBLE,
    "float32": TensorProto.FLOAT,
    "bfloat16": TensorProto.BFLOAT16,
    "float16": TensorProto.FLOAT16,
    "int64": TensorProto.INT64,
}

Arrays = Mapping[str, Array]
Node = tuple[onnx.NodeProto, tuple[str, ...], tuple[int, ...]]  # the names of its inputs, and the shape of its output


class Inexpressible(Exception):
    """ONNX has no such operation, or not with that input or parameter; the message says which."""


def model(operation: str, inputs: Arrays, parameters: Mapping[str, Any], name: str = "loss") -> onnx.ModelProto:
    """The model whose inputs are named as the operation's, and whose output "output"; raises `Inexpressible`."""
    if operation not in OPERATIONS:
        raise Inexpressible(f"ONNX has no operator for {operation}")
    node, names, shape = OPERATIONS[operation](inputs, parameters)
    graph = helper.make_graph(
        [node],
        name,
        [helper.make_tensor_value_info(name, TYPES[inputs[name].dtype.name], inputs[name].shape) for name in names],
        [helper.make_tensor_value_info("output", TYPES[inputs[names[0]].dtype.name], shape)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="lossref")


def feeds(operation: str, inputs: Arrays, parameters: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of the inputs of the model."""
    return tuple(given.name for given in model(operation, inputs, parameters).graph.input)


def text(operation: str, inputs: Arrays, parameters: Mapping[str, Any]) -> str:
    """The model in ONNX's textual form, which `onnx.parser.parse_model` reads."""
    made = model(operation, inputs, parameters)
    made.ClearField("producer_name")
    return onnx.printer.to_text(made).rstrip()


def _log_softmax(inputs: Arrays, parameters: Mapping[str, Any]) -> Node:
    return helper.make_node("LogSoftmax", ["logits"], ["output"], axis=-1), ("logits",), inputs["logits"].shape


def _softmax_cross_entropy(inputs: Arrays, parameters: Mapping[str, Any]) -> Node:
    if inputs["target"].dtype.name != "int64":
        raise Inexpressible("SoftmaxCrossEntropyLoss takes no probabilities")
    if parameters.get("label_smoothing", 0.0) != 0.0:
        raise Inexpressible("SoftmaxCrossEntropyLoss has no label smoothing")
    return _loss("SoftmaxCrossEntropyLoss", "logits", inputs, parameters)


def _nll_loss(inputs: Arrays, parameters: Mapping[str, Any]) -> Node:
    return _loss("NegativeLogLikelihoodLoss", "log_p", inputs, parameters)


def _loss(operator: str, scores: str, inputs: Arrays, parameters: Mapping[str, Any]) -> Node:
    names = (scores, "target", *(("weight",) if "weight" in inputs else ()))
    attributes: dict[str, Any] = {"reduction": parameters.get("reduction", "mean")}
    if parameters.get("ignore_index") is not None:
        attributes["ignore_index"] = parameters["ignore_index"]
    unknown = parameters.keys() - {"reduction", "ignore_index", "label_smoothing"}
    if unknown:
        raise Inexpressible(f"{operator} has no parameter {min(unknown)}")
    if inputs[scores].ndim < 2:
        raise Inexpressible(f"{operator} needs a batch")
    shape = inputs["target"].shape if attributes["reduction"] == "none" else ()
    return helper.make_node(operator, names, ["output"], **attributes), names, shape


OPERATIONS: dict[str, Callable[[Arrays, Mapping[str, Any]], Node]] = {
    "log_softmax": _log_softmax,
    "nll_loss": _nll_loss,
    "softmax_cross_entropy": _softmax_cross_entropy,
}
