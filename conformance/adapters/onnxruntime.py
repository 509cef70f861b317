"""ONNX Runtime on a CPU: models of one node in an InferenceSession. Only its builds for training have derivatives.

Promises. The CPU provider has kernels of these operators, or of what they are made of, for float64 and float32. float16 is
converted to float32 for them, and bfloat16 has none. Sums of float32 keep at least four lanes, the 128 bits of the smallest
vector register that it ships for.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from onnxruntime import InferenceSession, SessionOptions

from conformance.adapter import Adapter, Array, Arrays, Idiom, Unsupported, installed
from conformance.bound import Promise, Summation
from conformance.export.model import OPERATIONS, Inexpressible, model

FATAL = 4  # the level of messages: what a session raises is the answer, and needn't be logged too


@lru_cache(maxsize=1)  # each case is asked twice in turn
def session(model: bytes) -> InferenceSession:
    options = SessionOptions()
    options.log_severity_level = FATAL
    return InferenceSession(model, options, providers=["CPUExecutionProvider"])


def call(
    operation: str, mode: str, inputs: Arrays, parameters: Mapping[str, Any], cotangent: Array | None
) -> tuple[Array, dict[str, Array]]:
    try:
        made = model(operation, inputs, parameters)
    except Inexpressible as reason:
        raise Unsupported(str(reason)) from None
    given = {one.name: inputs[one.name] for one in made.graph.input}
    (output,) = session(made.SerializeToString(deterministic=True)).run(None, given)
    return np.asarray(output), {}


ADAPTER = Adapter(
    name="onnxruntime",
    operations=OPERATIONS,
    promises={
        "float64": Promise("A", compute="float64", store=None),
        "float32": Promise("A", compute="float32", store=None, summation=Summation("lanes", 4)),
        "float16": Promise("A", compute="float32", store="float16", summation=Summation("lanes", 4)),
    },
    dialect="onnx",
    call=call,
    versions=lambda: installed("onnxruntime", "onnx"),
    idiom=Idiom(
        setup="import onnx.parser",
        tensor="np.array({values}, dtype='{dtype}')",
        number="float({})",
        total="{}.sum(dtype=np.float64)",
        forward='model = onnx.parser.parse_model("""{model}""")\n'
        "session = InferenceSession(model.SerializeToString(), providers=['CPUExecutionProvider'])\n"
        "output, = session.run(None, {feeds})",
    ),
)
