"""ONNX: the node tests of the losses, with the inputs, outputs and tolerances that the package has, and its own comparison."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from onnx.backend.test.runner import Runner
from onnx.helper import get_attribute_value

from conformance.adapter import Adapter, Array, Arrays, Unsupported
from conformance.case import Vector
from conformance.faults import Fault
from conformance.rivals import Accusations, Suite

OPERATIONS = {
    "LogSoftmax": ("log_softmax", ("logits",)),
    "NegativeLogLikelihoodLoss": ("nll_loss", ("log_p", "target", "weight")),
    "SoftmaxCrossEntropyLoss": ("softmax_cross_entropy", ("logits", "target", "weight")),
}


@dataclass(frozen=True, eq=False)
class NodeTest:
    """One test, translated: the call of our operation, the first output expected, and the tolerances."""

    name: str
    operation: str
    inputs: Arrays
    parameters: Mapping[str, Any]
    axis: int
    expected: Array
    rtol: float
    atol: float


@cache
def node_tests() -> tuple[NodeTest, ...]:
    """The tests of a single node of those operators; collecting them makes all of ONNX's, which takes some seconds."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases

        collected = {test.name: test for test in collect_testcases(None)}
    return tuple(_translated(test) for test in collected.values() if _node(test) is not None)


def _node(test: Any) -> Any:
    """The node of a test of one node of those operators."""
    nodes = test.model.graph.node
    return nodes[0] if len(nodes) == 1 and nodes[0].op_type in OPERATIONS else None


def _translated(test: Any) -> NodeTest:
    node = _node(test)
    operation, names = OPERATIONS[node.op_type]
    ((inputs, outputs),) = test.data_sets
    attributes = {one.name: get_attribute_value(one) for one in node.attribute}
    axis = attributes.pop("axis", -1)
    parameters = {name: value.decode() if isinstance(value, bytes) else value for name, value in attributes.items()}
    named = dict(zip(names, inputs, strict=False))
    if "target" in named:
        named["target"] = named["target"].astype(np.int64)
    return NodeTest(test.name, operation, named, parameters, axis, outputs[0], test.rtol, test.atol)


def fails(adapter: Adapter, test: NodeTest) -> bool:
    """Whether ONNX's runner finds the kernel's output wrong."""
    inputs = {name: value.copy() for name, value in test.inputs.items()}
    if test.operation == "log_softmax":
        inputs["logits"] = np.moveaxis(inputs["logits"], test.axis, -1)
    try:
        output = adapter.call(test.operation, "eager", inputs, test.parameters, None)[0]
        if test.operation == "log_softmax":
            output = np.moveaxis(output, -1, test.axis)
        Runner.assert_similar_outputs([test.expected], [output], test.rtol, test.atol)
    except Unsupported:
        raise
    except Exception:  # a failed comparison, or whatever the kernel raises
        return True
    return False


def failed(adapter: Adapter, vectors: Iterable[Vector]) -> Accusations:
    """The node tests of the kernel's operation that it fails."""
    return ((test.name, "") for test in node_tests() if test.operation in adapter.operations and fails(adapter, test))


def asks(fault: Fault) -> bool:
    """The node tests are in float32, and of losses without gradients."""
    (operation,) = fault.adapter.operations
    known = operation in {test.operation for test in node_tests()}
    return known and "float32" in fault.adapter.promises and fault.direction == "forward"


SUITES = (Suite("ONNX's node tests", asks, failed),)
