"""`conformance.check` and `assert_conforms`: a user's function judged from a user's test."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import conformance
from conformance import vectors
from conformance.adapter import Unusable
from conformance.case import Case, Vector
from conformance.checking import WIDTH
from conformance.commands.common import UsageError
from conformance.deviations import ExpectedError
from conformance.expect import expect
from conformance.finding import Verdict
from tests import markup

ROOT = Path(__file__).parents[1]
COTANGENT = np.array([[0.5, -1.25, 2.0]])
KEYWORDS: dict[str, Any] = {"operation": "log_softmax"}


def vector(name: str, logits: list[float], dtype: str) -> Vector:
    inputs = {"logits": np.array([logits], dtype)}
    return expect(Case(f"log_softmax/edges/{name}-{dtype}", "log_softmax", dtype, inputs, {}, COTANGENT.astype(dtype), ("LSM-1",)))


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two small and one large vector of each of three dtypes, in the place of those installed."""
    rows = {"plain": [1.0, 2.0, 3.0], "other": [0.0, 0.5, -1.0], "large": [1000.0, 0.0, 1.0]}
    found = [vector(name, row, dtype) for name, row in rows.items() for dtype in ("float64", "float32", "float16")]
    monkeypatch.setattr(vectors, "read", lambda folder=None, operation=None: found)


def right(logits: Any, cotangent: Any) -> Any:
    shifted = logits - logits.max(-1, keepdims=True)
    rest = np.exp(shifted).sum(-1, keepdims=True)
    output = shifted - np.log(rest)
    return output, {"logits": cotangent - np.exp(output) * cotangent.sum(-1, keepdims=True)}


def textbook(logits: Any) -> Any:
    return np.log(np.exp(logits) / np.exp(logits).sum(-1, keepdims=True))


def test_a_right_function_passes() -> None:
    report = conformance.check(right, **KEYWORDS)
    assert report.passed
    assert report.counts == {"pass": 12}
    assert str(report) == f"{__name__}:right as log_softmax: 12 pass"
    assert {result.finding.dtype for result in report.results} == {"float64", "float32"}
    assert conformance.assert_conforms(right, **KEYWORDS).counts == report.counts


def test_a_report_has_the_grades_that_were_earned() -> None:
    earned = conformance.check(right, **KEYWORDS).grades
    assert earned.keys() == {(dtype, direction) for dtype in ("float64", "float32") for direction in ("forward", "backward")}
    assert None not in earned.values()
    rough = conformance.check(lambda logits: right(logits, logits)[0] * logits.dtype.type(1.001), **KEYWORDS)
    assert rough.grades == {("float64", "forward"): None, ("float32", "forward"): None}


def test_a_wrong_one_fails_with_messages_that_stand_alone() -> None:
    report = conformance.check(textbook, **KEYWORDS)
    assert not report.passed
    assert report.counts == {"pass": 4, "fail": 2, "unsupported": 6}
    text = str(report)
    assert text.startswith(f"{__name__}:textbook as log_softmax: 2 fail, 4 pass, 6 unsupported\n\nFAIL  log_softmax  edges/large-float")
    assert "expected   0.0" in text
    assert "actual     nan" in text
    with pytest.raises(AssertionError, match=re.escape(text)):
        conformance.assert_conforms(textbook, **KEYWORDS)


def test_a_notebook_shows_the_grades_and_the_failures_escaped() -> None:
    shown = conformance.check(lambda logits: right(logits, logits)[0] * logits.dtype.type(1.001), **KEYWORDS)._repr_html_()
    assert markup.tags(shown) >= {"table", "pre"}
    assert markup.text(shown).startswith(f"failed {__name__}:<lambda> as log_softmax: ")
    assert "float64 no class -" in markup.text(shown)
    assert "FAIL  log_softmax  edges/" in markup.text(shown)
    assert "&lt;lambda&gt;" in shown
    assert "pre" not in markup.tags(conformance.check(right, **KEYWORDS)._repr_html_())


def test_the_line_that_asks_again_asks_again() -> None:
    def local(logits: Any) -> Any:
        return np.zeros_like(logits)

    report = conformance.check(
        local, **KEYWORDS, promises={"float32": "A,summation=lanes:4"}, dialect={"refusal": "nan"}, cases="*/plain-*"
    )
    (line,) = (line.split("again", 1)[1].strip() for line in str(report).splitlines() if line.lstrip().startswith("again"))
    assert line == (
        "print(conformance.check(local, operation='log_softmax', promises={'float32': 'A,summation=lanes:4'}, "
        "dialect={'refusal': 'nan'}, cases='log_softmax/edges/plain-float32'))"
    )
    again = conformance.check(
        local,
        operation="log_softmax",
        promises={"float32": "A,summation=lanes:4"},
        dialect={"refusal": "nan"},
        cases="log_softmax/edges/plain-float32",
    )
    assert [result.finding.case for result in again.results] == ["log_softmax/edges/plain-float32"] * 2
    assert again.results[0].finding == report.results[0].finding


class Stubborn(Exception):
    """Has more to say than anyone wants to read."""

    def __str__(self) -> str:
        return "x" * 100000


@pytest.mark.parametrize("error", [ValueError("no"), Stubborn(), SystemExit(2), RecursionError(), UserWarning("as an error")])
def test_whatever_it_does_nothing_is_raised(error: BaseException) -> None:
    def raises(logits: Any) -> Any:
        raise error

    report = conformance.check(raises, **KEYWORDS)
    assert report.counts == {"error": 12}
    assert not report.passed
    assert len(str(report)) < 50 * WIDTH
    assert "... and 7 more" in str(report)


def test_a_warning_is_no_error_here_whatever_the_test_makes_of_them() -> None:
    def warns(logits: Any, cotangent: Any) -> Any:
        warnings.warn("careful", UserWarning, stacklevel=1)
        return right(logits, cotangent)

    assert conformance.check(warns, **KEYWORDS).passed
    with pytest.raises(UserWarning):
        warns(COTANGENT, COTANGENT)


def test_misconduct_is_seen() -> None:
    def overwrites(logits: Any) -> Any:
        output = right(logits.copy(), logits)[0]
        logits[...] = 0.0
        return output

    report = conformance.check(overwrites, **KEYWORDS, dtypes=["float32"])
    assert {result.finding.clauses for result in report.results if result.finding.verdict == Verdict.FAIL} == {("GEN-3",)}


def test_dtypes_and_promises() -> None:
    assert conformance.check(right, **KEYWORDS, dtypes=["float64"]).counts == {"pass": 6}
    half = conformance.check(right, **KEYWORDS, promises={"float16": conformance.Promise("A", "float16")}).counts
    assert half == {"pass": 6}
    strict = conformance.check(right, **KEYWORDS, dtypes=["float16"])  # computed in float16, and promised of float32
    assert not strict.passed
    assert conformance.check(right, **KEYWORDS, promises={"float64": "A", "float32": "R"}, dtypes=["float64"]).passed


def test_an_answer_to_nothing_is_no_pass() -> None:
    def lacks(logits: Any) -> Any:
        if logits.dtype == np.float32:
            raise NotImplementedError("only float64")
        return right(logits, logits)[0]

    report = conformance.check(lacks, **KEYWORDS)
    assert report.counts == {"pass": 3, "unsupported": 9}
    assert not report.passed
    assert str(report).endswith(":lacks promises float32 and answers none of its cases: only float64")
    assert conformance.check(lacks, **KEYWORDS, cases="*-float32").passed  # whoever names cases knows


def expecting(folder: Path, case: str) -> Path:
    file = folder / "ours.toml"
    file.write_text(f'[[deviation]]\ncases = ["{case}"]\ndirection = "forward"\nclause = "LSM-1"\nreason = "exp overflows"\n')
    return file


def test_known_deviations_are_expected_and_must_stay_needed(tmp_path: Path) -> None:
    report = conformance.assert_conforms(textbook, **KEYWORDS, expect=expecting(tmp_path, "log_softmax/edges/large-*"))
    assert str(report) == f"{__name__}:textbook as log_softmax: 2 fail, 4 pass, 6 unsupported; 2 as expected"
    with pytest.raises(AssertionError, match="is no longer needed"):
        conformance.assert_conforms(right, **KEYWORDS, expect=expecting(tmp_path, "log_softmax/edges/large-*"))
    with pytest.raises(ExpectedError, match="no case is named 'log_softmax/edges/larger-"):
        conformance.check(textbook, **KEYWORDS, expect=expecting(tmp_path, "log_softmax/edges/larger-*"))


@pytest.mark.parametrize(
    ("keywords", "error", "sentence"),
    [
        ({"operation": "no_loss"}, ValueError, "no_loss"),
        ({"operation": "entropy"}, Unusable, "right doesn't take p by name and needs logits"),
        ({**KEYWORDS, "dtypes": ["int8"]}, ValueError, "int8"),
        ({**KEYWORDS, "promises": {"float32": "Z"}}, ValueError, "'Z'"),
        ({**KEYWORDS, "tensors": "cupy"}, Unusable, "cupy"),
        ({**KEYWORDS, "cases": "nothing/*"}, UsageError, "no case is named 'nothing/*'"),
        (
            {**KEYWORDS, "cases": "*-float16"},
            UsageError,
            "nothing is asked: what is promised is float64, float32, and the chosen cases are of float16; name a dtype of theirs",
        ),
        ({**KEYWORDS, "dtypes": ["bfloat16"]}, UsageError, "promised is bfloat16, and the chosen cases are of float64, float32, float16;"),
        ({**KEYWORDS, "tier": "tiny"}, UsageError, "no tier is named 'tiny'; the tiers are smoke, core, full"),
        ({**KEYWORDS, "expect": "no_such_file.toml"}, ExpectedError, "no_such_file.toml"),
        ({**KEYWORDS, "dialect": "klingon"}, Exception, "'klingon' is no dialect"),
    ],
)
def test_wrong_usage_is_an_error(keywords: dict[str, Any], error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=re.escape(sentence)):
        conformance.check(right, **keywords)


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "kernels_of_a_test.py").write_text(
        "import os\nimport numpy as np\n\n"
        "def zeros(logits):\n    return np.zeros_like(logits)\n\n"
        "def leaves(logits):\n    if logits[0, 0] == 1000.0:\n        os._exit(9)\n    return np.zeros_like(logits)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return "kernels_of_a_test"


def test_a_function_by_its_name_runs_in_a_process_of_its_own(module: str) -> None:
    report = conformance.check(f"{module}:leaves", **KEYWORDS, dtypes=["float32"])
    assert report.counts == {"fail": 2, "crash": 2, "unsupported": 2}
    line = "lossref run kernels_of_a_test:leaves --operation log_softmax --promise float32=A --case log_softmax/edges/large-float32"
    assert re.search(rf"^ +again +{re.escape(line)}$", str(report), flags=re.MULTILINE)
    assert module not in sys.modules
    with pytest.raises(Unusable, match=r"kernels_of_a_test has no 'zeroes'; did you mean zeros\?"):
        conformance.check(f"{module}:zeroes", **KEYWORDS)


def test_a_report_says_the_worst_first() -> None:
    def off(logits: Any) -> Any:
        by = {1.0: 1e-9, 0.0: math.nan, 1000.0: 1e-3}[float(logits[0, 0])]
        return right(logits, logits)[0] + by

    text = str(conformance.check(off, **KEYWORDS, dtypes=["float64"]))
    assert re.findall(r"^FAIL  log_softmax  edges/(\w+)-", text, flags=re.MULTILINE) == ["other", "large", "plain"]


def test_a_users_test_fails_with_the_report(tmp_path: Path) -> None:
    """A real pytest, with the real vectors: one line of a test, and the text of the failure."""
    test = tmp_path / "test_ours.py"
    test.write_text(
        "import conformance\nimport numpy as np\n\n\ndef entropy(p):\n    return -(p * np.log(p)).sum(-1)\n\n\n"
        'def test_entropy():\n    conformance.assert_conforms(entropy, operation="entropy", dtypes=["float64"], tier="smoke")\n'
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(test)]
    run = subprocess.run(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False)
    assert run.returncode == 1, run.stdout
    assert "AssertionError: test_ours:entropy as entropy: " in run.stdout
    assert re.search(r"FAIL  entropy  \S+  test_ours:entropy  float64", run.stdout)
    assert "checking.py" not in run.stdout.partition("short test summary")[0], "the traceback ends in the user's test"
