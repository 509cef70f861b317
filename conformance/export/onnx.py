"""Vectors as the tests that the runner of ONNX's backends takes: `simple/test_<id>/model.onnx`, and its data beside it.

A test has one expected value, and the runner's own tolerance: of an enclosure remains the number of the dtype that is nearest to the true
value. Gradients stay behind, and so does what ONNX doesn't express. Where definitions differ, the answer is that of the dialect `onnx`.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from conformance.case import Array, Expected, Vector
from conformance.dialects import dialects
from conformance.export.extra import MissingExtra
from conformance.judge import promised
from refimpl.enclosure import Kind, Undecided

try:
    import onnx
    from onnx import helper

    from conformance.export.model import TYPES, Inexpressible, model
except ImportError as error:
    raise MissingExtra("onnx isn't installed; install lossref with its extra: pip install 'lossref[onnx]'") from error


def write(vector: Vector, folder: Path) -> str:
    """Writes the vector's test; why it was left out, or nothing."""
    case = vector.case
    try:
        made = model(case.operation, case.inputs, case.parameters, re.sub(r"\W", "_", case.id))
        expected = _expected(vector)
    except Inexpressible as reason:
        return str(reason)
    onnx.checker.check_model(made, full_check=True)
    data = folder / "simple" / f"test_{made.graph.name}" / "test_data_set_0"
    data.mkdir(parents=True, exist_ok=True)
    (data.parent / "model.onnx").write_bytes(made.SerializeToString(deterministic=True))
    for number, given in enumerate(made.graph.input):
        (data / f"input_{number}.pb").write_bytes(_tensor(given.name, case.inputs[given.name]))
    (data / "output_0.pb").write_bytes(_tensor("output", expected))
    return ""


def _tensor(name: str, array: Array) -> bytes:
    bits = np.ascontiguousarray(array).tobytes()
    serialized: bytes = helper.make_tensor(name, TYPES[array.dtype.name], array.shape, bits, raw=True).SerializeToString(deterministic=True)
    return serialized


def _expected(vector: Vector) -> Array:
    expectation = promised(vector, dialects()["onnx"].of(vector.case.operation))
    if expectation is None or expectation.kind == "error":
        raise Inexpressible("an error is expected")
    return _rounded(expectation.output, vector.case.dtype)


def _rounded(expected: Expected, dtype: str) -> Array:
    if expected.where is not None:
        raise Inexpressible("only some elements of the output are kept")
    if (expected.values.kind == Kind.UNDEFINED).any():
        raise Inexpressible("nothing is expected of some element")
    try:
        return np.asarray(expected.values.round(dtype))
    except Undecided:
        raise Inexpressible("the enclosure doesn't decide the rounding of some element") from None
