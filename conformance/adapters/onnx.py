"""ONNX's reference evaluator: models of one node, as its operators are defined. It has no derivatives.

Promises. The operators are defined for all four dtypes, and the evaluator computes each in the dtype of its input.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from onnx.reference import ReferenceEvaluator

from conformance.adapter import Adapter, Array, Arrays, Idiom, Unsupported, installed
from conformance.bound import Promise
from conformance.export.model import OPERATIONS, Inexpressible, model


def call(
    operation: str, mode: str, inputs: Arrays, parameters: Mapping[str, Any], cotangent: Array | None
) -> tuple[Array, dict[str, Array]]:
    try:
        evaluator = ReferenceEvaluator(model(operation, inputs, parameters))
    except Inexpressible as reason:
        raise Unsupported(str(reason)) from None
    with np.errstate(all="ignore"):
        (output,) = evaluator.run(None, {name: inputs[name] for name in evaluator.input_names})
    return np.asarray(output), {}


ADAPTER = Adapter(
    name="onnx",
    operations=OPERATIONS,
    promises={
        "float64": Promise("A", compute="float64", store=None),
        "float32": Promise("A", compute="float32", store=None),
        "bfloat16": Promise("A", compute="bfloat16", store=None),
        "float16": Promise("A", compute="float16", store=None),
    },
    dialect="onnx",
    call=call,
    versions=lambda: installed("onnx", "numpy"),
    idiom=Idiom(
        setup="import onnx.parser",
        tensor="np.array({values}, dtype='{dtype}')",
        number="float({})",
        total="{}.sum(dtype=np.float64)",
        forward='model = onnx.parser.parse_model("""{model}""")\noutput, = ReferenceEvaluator(model).run(None, {feeds})',
    ),
)
