"""Exported vectors, read back with the libraries that they are for."""

from __future__ import annotations

import json
import unittest
from collections import Counter
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from conformance import vectors
from conformance.case import Expected, Vector
from conformance.cli import main
from conformance.export import export
from refimpl.enclosure import Kind

# Not the ladders, in whose empty batches and half-precision sums the reference evaluator of ONNX makes more mistakes.
KEPT = (
    "nll_loss/[!l]*/*",
    "kl_div/edges/*",
    "softmax_cross_entropy/random/index-V[123]*-*",
    "*/regression/rows-70000-float16",
)


@pytest.fixture(scope="module")
def chosen() -> list[Vector]:
    found = [vector for vector in vectors.read() if any(fnmatchcase(vector.case.id, glob) for glob in KEPT)]
    assert {"error", "value"} == {one.kind for vector in found for one in vector.expectations}
    assert any(vector.case.recipes for vector in found)
    return found


def arrays(vector: Vector) -> dict[str, np.ndarray]:
    case = vector.case
    return {**case.inputs, **({} if case.cotangent is None else {"cotangent": case.cotangent})}


def test_npz_comes_back_bit_for_bit(chosen: list[Vector], tmp_path: Path) -> None:
    assert export("npz", chosen, tmp_path) == (len(chosen), {})
    for vector in chosen:
        with np.load(tmp_path / f"{vector.case.id}.npz", allow_pickle=False) as found:
            about = json.loads(str(found["about"]))
            assert (about["id"], about["parameters"]) == (vector.case.id, dict(vector.case.parameters))
            for name, array in arrays(vector).items():
                back = found[name if name == "cotangent" else f"input.{name}"]
                if array.dtype == ml_dtypes.bfloat16:
                    assert back.dtype == np.float32
                    back = back.astype(ml_dtypes.bfloat16)
                assert (back.dtype, back.shape, back.tobytes()) == (array.dtype, array.shape, array.tobytes())
            for number, expectation in enumerate(vector.expectations):
                assert about["expectations"][number]["choices"] == dict(expectation.choices)
                named = {"output": expectation.output, **{f"gradient.{k}": e for k, e in expectation.gradients.items()}}
                for name, expected in named.items():
                    for part in ("kind", "hi", "lo", "radius"):
                        assert found[f"expected.{number}.{name}.{part}"].tobytes() == getattr(expected.values, part).tobytes()
                    if expected.where is not None:
                        assert found[f"expected.{number}.{name}.where"].tobytes() == expected.where.tobytes()


def number(value: Any) -> float:
    return float(value)  # of a text: nan, inf, -inf


def same(found: list[Any], array: np.ndarray) -> bool:
    wide = array.ravel().astype(np.float64) if array.dtype.kind not in "iu" else array.ravel()
    back = np.array([value if isinstance(value, int) else number(value) for value in found], wide.dtype)
    return back.tobytes() == np.where(np.isnan(wide), np.nan, wide).astype(wide.dtype).tobytes()


def test_json_stands_alone(chosen: list[Vector], tmp_path: Path) -> None:
    assert export("json", chosen, tmp_path) == (len(chosen), {})
    for vector in chosen:
        body = json.loads((tmp_path / f"{vector.case.id}.json").read_bytes(), parse_constant=pytest.fail)
        for name, array in arrays(vector).items():
            assert tuple(body["arrays"][name]["shape"]) == array.shape
            assert same(body["arrays"][name]["values"], array)
        for entry, expectation in zip(body["expectations"], vector.expectations, strict=True):
            assert_same(entry["output"], expectation.output)
            for name, expected in expectation.gradients.items():
                assert_same(entry["gradients"][name], expected)


def assert_same(entry: dict[str, Any], expected: Expected) -> None:
    values = expected.values
    assert tuple(entry["shape"]) == expected.shape
    assert entry["kind"] == [Kind(kind).label for kind in values.kind.ravel()]
    assert all(same(entry[part], getattr(values, part)) for part in ("hi", "lo", "radius"))
    assert entry["where"] == (None if expected.where is None else expected.where.tolist())
    assert (entry["total"] is None) == (expected.total is None)
    if expected.total is not None:
        assert entry["total"]["hi"] == float(expected.total.hi)


def run_with_onnx(folder: Path, monkeypatch: pytest.MonkeyPatch) -> unittest.TestResult:
    """The exported tests, loaded and run by ONNX's own runner with its reference evaluator."""
    from onnx.backend.base import Backend, Device
    from onnx.backend.test import loader, runner
    from onnx.reference import ReferenceEvaluator

    class Prepared:
        def __init__(self, model: Any) -> None:
            self.session = ReferenceEvaluator(model)

        def run(self, given: Any) -> Any:
            return self.session.run(None, dict(zip(self.session.input_names, given, strict=True)))

    class Reference(Backend):
        @classmethod
        def prepare(cls, model: Any, device: str = "CPU", **_: Any) -> Any:
            return Prepared(model)

        @classmethod
        def supports_device(cls, device: str) -> bool:
            return Device(device).type == 0

    def ours(kind: str) -> Any:
        return loader.load_model_tests(str(folder), kind) if kind == "simple" else []

    monkeypatch.setattr(runner, "load_model_tests", ours)
    result = unittest.TestResult()
    runner.Runner(Reference, __name__).test_suite.run(result)
    return result


@pytest.fixture
def onnx_tests(chosen: list[Vector], tmp_path: Path) -> Path:
    written, left = export("onnx", chosen, tmp_path)
    assert written + sum(left.values()) == len(chosen)
    assert left["ONNX has no operator for kl_div"] == Counter(vector.case.operation for vector in chosen)["kl_div"]
    assert written == len(list(tmp_path.glob("simple/test_*/model.onnx")))
    assert written > 50
    return tmp_path


# Where onnx 1.23's reference evaluator isn't right, or warns on its way, which is an error here.
WRONG = {
    "nll_loss_edges_all_ignored_*": "the quotient 0/0 warns",
    "nll_loss_edges_mean_ignored_*": "an ignore_index of -1 counts in the mean",
    "nll_loss_regression_ignore_minus_1_*": "the same",
    "nll_loss_regression_masked_target_weight_zero_*": "0*inf is nan",
    "nll_loss_regression_rows_70000_float16": "the sum of the rows overflows in float16",
    "softmax_cross_entropy_random_*_float16": "the softmax is rounded, and underflows, before the logarithm",
}


def test_onnx_runs_them_with_its_own_runner(onnx_tests: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = run_with_onnx(onnx_tests, monkeypatch)
    assert result.testsRun - len(result.skipped) == len(list(onnx_tests.glob("simple/*")))  # skipped: the same on CUDA
    failed = [case.id().rpartition(".test_")[2].removesuffix("_cpu") for case, _ in (*result.failures, *result.errors)]
    unexplained = [name for name in failed if not any(fnmatchcase(name, glob) for glob in WRONG)]
    assert not unexplained, unexplained
    assert not [glob for glob in WRONG if not any(fnmatchcase(name, glob) for name in failed)], "it is right here by now"


def test_a_wrong_expectation_fails_in_onnx(onnx_tests: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = len(run_with_onnx(onnx_tests, monkeypatch).failures)
    path = onnx_tests / "simple" / "test_nll_loss_edges_none_float64" / "test_data_set_0" / "output_0.pb"
    path.write_bytes(path.read_bytes()[:-8] + np.float64(123.0).tobytes())  # the last element
    assert len(run_with_onnx(onnx_tests, monkeypatch).failures) == right + 1


def test_the_command_exports_what_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--operation", "entropy", "--dtype", "float16", "--case", "entropy/edges/h*"]
    assert main(["vectors", "export", "--format", "json", "--out", str(tmp_path), *asked]) == 0
    written = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.json")]
    assert "entropy/edges/halves-float16.json" in written
    assert capsys.readouterr().out.startswith(f"{len(written)} vectors written to ")
    assert main(["vectors", "export", "--format", "onnx", "--out", str(tmp_path), *asked]) == 0
    assert "ONNX has no operator for entropy" in capsys.readouterr().out
