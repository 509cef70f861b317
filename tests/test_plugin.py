"""The pytest plugin: a test a vector, chosen, judged, expected and ended as pytest's own are."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

import conformance.plugin.fixture
import conformance.plugin.nodes  # noqa: F401  (a session in this process finds them there)
from conformance.adapter import Mode
from conformance.finding import Answer
from conformance.link import Failure, Refusal
from conformance.plugin import plan as planning
from conformance.report.message import message
from conformance.runner import Run
from tests.guide import PLUGIN, ROOT
from tests.scripted import DESCRIPTION, DIES, Script, vector

pytest_plugins = ["pytester"]

WRONG = Answer(np.array([[0.0, 0.0, 0.0]]), {}, None, (), False, 0.0)
VECTORS = [vector(number) for number in range(1, 5)]
IDS = [f"lossref::scripted::{one.case.id}[eager]" for one in VECTORS]
Session = Callable[..., pytest.RunResult]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    """A backend in the place of any that is named: of its four vectors it is wrong on 2 and refuses 3."""
    script = Script({2: [WRONG], 3: [Refusal("it has no threes")]})
    monkeypatch.setattr(planning, "find", lambda name, options: script)
    monkeypatch.setattr(planning, "select", lambda *given: (VECTORS, {one.case.id for one in VECTORS}))
    return script


@pytest.fixture
def session(pytester: pytest.Pytester, script: Script) -> Session:
    """Runs a session on that backend, in this process."""

    def run(*arguments: str) -> pytest.RunResult:
        return pytester.runpytest_inprocess(*PLUGIN, "--strict-markers", *arguments)

    return run


def outcomes(result: pytest.RunResult) -> dict[str, int]:
    return {name: number for name, number in result.parseoutcomes().items() if name not in ("warnings", "seconds")}


def test_each_vector_is_a_test_of_one_process(session: Session, script: Script) -> None:
    result = session("--lossref=scripted", "-v")
    assert outcomes(result) == {"passed": 2, "failed": 1, "skipped": 1}
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    ends = ("PASSED", "FAILED", "SKIPPED", "PASSED")
    result.stdout.fnmatch_lines([f"{id.replace('[', '[[]')} {end}*" for id, end in zip(IDS, ends, strict=True)])
    assert script.asked == [[1, 2, 3, 4]]
    assert script.ended == ["stopped"]


def test_a_failure_is_said_as_elsewhere(session: Session, script: Script) -> None:
    printed = session("--lossref=scripted", "--lossref-dialect=torch").stdout.str()
    with Run([script], VECTORS[1:2], waits=True) as run:
        (result,) = run.ask("scripted", *run.calls("scripted"))
    again = f"lossref run scripted --dialect torch --case {VECTORS[1].case.id}"
    assert message(result.finding, "scripted", "", "eager", again) in printed
    assert "Traceback" not in printed


def test_a_skip_says_why(session: Session) -> None:
    session("--lossref=scripted", "-rs").stdout.fnmatch_lines(["SKIPPED [[]1[]] *: it has no threes"])


def test_k_x_and_lf(session: Session, script: Script) -> None:
    assert outcomes(session("--lossref=scripted", "-k", "case-1 or case-3")) == {"passed": 1, "skipped": 1, "deselected": 2}
    assert outcomes(session("--lossref=scripted", "-x")) == {"passed": 1, "failed": 1}
    assert script.asked[-1] == [1, 2]
    assert script.ended[-1] == "stopped"
    assert outcomes(session("--lossref=scripted", "--lf")) == {"failed": 1, "deselected": 3}
    assert script.asked[-1] == [2]
    assert outcomes(session("--lossref=scripted", "--deselect", IDS[1])) == {"passed": 2, "skipped": 1, "deselected": 1}


@pytest.mark.parametrize(
    ("expression", "chosen"),
    [
        ("lossref", 4),
        ("lossref(dtype='float64', clause='LSM-1')", 4),
        ("lossref(backend='scripted', mode='eager', operation='log_softmax', tier='core')", 4),
        ("float64 and LSM-1 and log_softmax and core", 4),
        ("lossref(dtype='float32')", 0),
        ("float32 or LSM-2 or kl_div or smoke", 0),
    ],
)
def test_marks_choose(session: Session, expression: str, chosen: int) -> None:
    result = session("--lossref=scripted", "--collect-only", "-q", "-m", expression)
    assert [line for line in result.outlines if line.startswith("lossref::")] == (IDS if chosen else [])


@pytest.mark.parametrize("id", [IDS[2], IDS[2].removesuffix("[eager]")])
def test_an_id_names_a_test(session: Session, script: Script, id: str) -> None:
    assert outcomes(session("--lossref=scripted", id)) == {"skipped": 1}
    assert script.asked == [[3]]


def test_an_id_names_a_backend_and_files_are_tested_beside_it(session: Session, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_other="def test_other(): pass")
    assert outcomes(session("--lossref=scripted")) == {"passed": 3, "failed": 1, "skipped": 1}
    assert outcomes(session("--lossref=scripted", "lossref::scripted")) == {"passed": 2, "failed": 1, "skipped": 1}
    assert outcomes(session("--lossref=scripted", IDS[0], "test_other.py")) == {"passed": 2}


def test_an_id_that_names_nothing_is_refused(session: Session) -> None:
    result = session("--lossref=scripted", IDS[0].replace("case-1-", "case-9-"))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: no test of a vector is named lossref::scripted::log_softmax/edges/case-9-*; --collect-only *"])
    result = session(IDS[0])
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*no backend is named; add --lossref=BACKEND"])


EXPECTED = """
[[deviation]]
cases = ["log_softmax/edges/case-{number}-*"]
clause = "LSM-1"
reason = "zeros"
issue = "owner/name#1"
{more}
"""


def expect(pytester: pytest.Pytester, number: int, more: str = "") -> str:
    return f"--lossref-expect={pytester.maketxtfile(EXPECTED.format(number=number, more=more))}"


def test_an_expected_failure_is_one(session: Session, pytester: pytest.Pytester) -> None:
    result = session("--lossref=scripted", "-rx", expect(pytester, 2))
    assert outcomes(result) == {"passed": 2, "xfailed": 1, "skipped": 1}
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines([f"XFAIL {IDS[1].replace('[', '[[]')} - LSM-1: zeros (owner/name#1)"])


def test_an_expected_failure_that_passes_fails(session: Session, pytester: pytest.Pytester) -> None:
    result = session("--lossref=scripted", "-k", "case-1", expect(pytester, 1))
    assert outcomes(result) == {"failed": 1, "deselected": 3}
    result.stdout.fnmatch_lines(["*case-1-* is no longer needed as it stands*"])
    assert outcomes(session("--lossref=scripted", "-k", "case-1", expect(pytester, 1, "varies = true"))) == {"passed": 1, "deselected": 3}


def test_a_failure_for_another_reason_fails(session: Session, pytester: pytest.Pytester) -> None:
    other = expect(pytester, 2).removeprefix("--lossref-expect=")
    Path(other).write_text(Path(other).read_text().replace("LSM-1", "LSM-5"))
    assert outcomes(session("--lossref=scripted", "-k", "case-2", f"--lossref-expect={other}")) == {"failed": 1, "deselected": 3}


def test_an_entry_of_another_mode_or_output_is_let_be(session: Session, pytester: pytest.Pytester, script: Script) -> None:
    script.starts[0] = replace(DESCRIPTION, modes=(Mode("eager"), Mode("jit")))
    result = session("--lossref=scripted", "-k", "case-2", expect(pytester, 2, 'mode = "jit"'))
    assert outcomes(result) == {"failed": 1, "xfailed": 1, "deselected": 6}


def test_with_runxfail_an_expected_failure_fails(session: Session, pytester: pytest.Pytester) -> None:
    result = session("--lossref=scripted", "--runxfail", "-k", "case-2", expect(pytester, 2))
    assert outcomes(result) == {"failed": 1, "deselected": 3}
    result.stdout.fnmatch_lines(["FAIL  log_softmax  edges/case-2-float64 *"])


def test_a_process_that_is_lost_fails_one_test(session: Session, script: Script) -> None:
    script.replies = {2: [DIES]}
    result = session("--lossref=scripted")
    assert outcomes(result) == {"passed": 3, "failed": 1}
    result.stdout.fnmatch_lines(["CRASH  log_softmax *", "*it died; asked again alone in a new process: it died*"])
    assert script.asked == [[1, 2], [2], [3, 4]]
    assert script.ended == ["killed", "killed", "stopped"]


def test_a_backend_that_cannot_be_started_is_an_error_of_collection(session: Session, script: Script) -> None:
    script.starts = [Failure("no module", missing="acme")]
    for ids in ((), (IDS[0],)):
        result = session("--lossref=scripted", *ids)
        assert outcomes(result) == {"errors": 1}
        assert result.ret == pytest.ExitCode.INTERRUPTED
        result.stdout.fnmatch_lines(["backend 'scripted' is not installed (no module 'acme'); install what has that module"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--lossref=troch"], "*no backend*troch*"),
        (["--lossref=numpy", "--lossref-dtype=float8"], "no dtype is named 'float8'; the dtypes are *"),
        (["--lossref=numpy", "--lossref-operation=nll"], "no operation is named 'nll'; the operations are *"),
        (["--lossref=a.b:c"], "*--operation*"),
        (["--lossref=numpy", "--lossref=scipy", "--lossref-expect=f.toml"], "--lossref-expect is about one backend, and 2 are named*"),
        (["--lossref=numpy", "--lossref-expect=f.toml"], "f.toml can't be read *"),
        (["--lossref=numpy", "--lossref-dialect=f"], "*dialect*"),
        (["--lossref=numpy", "--lossref-promise=float16=N", "--collect-only"], "--promise and --tensors are about functions; name one *"),
        (["--lossref=numpy", "--lossref-tensors=torch", "--collect-only"], "--promise and --tensors are about functions; name one *"),
        (["--lossref-promise=float16=N"], "--lossref-promise is about a backend, and none is named; add --lossref=BACKEND, or *"),
        (["--lossref-tier=core"], "--lossref-tier is about a backend, and none is named; add --lossref=BACKEND, or *"),
        (["--lossref=numpy", "--lossref-tier=all"], "*invalid choice: 'all'*"),
    ],
)
def test_what_does_not_exist_is_a_usage_error(pytester: pytest.Pytester, arguments: list[str], said: str) -> None:
    result = pytester.runpytest_inprocess(*PLUGIN, *arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*{said}"])


WHOLE = ["--lossref=numpy", "--lossref-operation=log_softmax", "--lossref-dtype=float32", "--lossref-tier=smoke", "-v"]


def alone(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> pytest.RunResult:
    """A session in a process of its own, with whatever it starts marked; nothing of that may outlive it."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    mark = str(pytester.path)
    monkeypatch.setenv("LOSSREF_TEST_OF_PLUGIN", mark)
    result = pytester.runpytest_subprocess(*PLUGIN, "-p", "no:cacheprovider", *arguments)
    monkeypatch.delenv("LOSSREF_TEST_OF_PLUGIN")
    assert not [process for process in psutil.process_iter() if marked(process, mark)]
    return result


def marked(process: psutil.Process, mark: str) -> bool:
    try:
        return process.environ().get("LOSSREF_TEST_OF_PLUGIN") == mark
    except (psutil.Error, OSError):
        return False


def test_workers_share_the_tests(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    one = alone(pytester, monkeypatch, *WHOLE, "-W", "error")
    two = alone(pytester, monkeypatch, *WHOLE, "-W", "error", "-n", "2")
    assert outcomes(one) == outcomes(two)
    assert one.ret == two.ret == pytest.ExitCode.OK, one.stdout.str() + two.stdout.str()
    ids, of_workers = (set(re.findall(r"lossref::numpy::\S+\[eager\]", run.stdout.str())) for run in (one, two))
    assert ids == of_workers
    assert len(ids) == sum(outcomes(one).values())


TESTS = """
import numpy as np
import pytest
import conformance

def textbook(logits):
    return np.log(np.exp(logits) / np.exp(logits).sum(-1, keepdims=True))

@pytest.mark.lossref(operation="log_softmax", dtypes=["float32"], tier="smoke")
def test_loss(lossref):
    assert lossref.case.dtype == "float32"
    lossref.assert_conforms(textbook)

def test_all():
    conformance.assert_conforms(textbook, operation="log_softmax", dtypes=["float32"], tier="smoke")
"""


def test_the_fixture_makes_a_test_of_each_vector(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(TESTS)
    result = pytester.runpytest_inprocess(*PLUGIN, "--strict-markers", "-v", "-k", "test_loss")
    found = outcomes(result)
    assert found.keys() == {"passed", "failed", "deselected"}
    result.stdout.fnmatch_lines(
        [
            "*::test_loss[[]log_softmax/ladder/gaps-float32[]] FAILED*",
            ">*lossref.assert_conforms(textbook)",
            "E  *FAIL  log_softmax  ladder/gaps-float32 *",
            "*again        print(conformance.check(textbook, operation='log_softmax', *",
            "*not judged in tests that passed*",
            f"{found['passed']} times gradient of logits: the backend gives no gradients",
        ]
    )
    assert "conformance/plugin" not in result.stdout.str(), "no line of ours is shown"


def test_assert_conforms_shows_the_line_of_the_test(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(TESTS)
    result = pytester.runpytest_inprocess(*PLUGIN, "-k", "test_all")
    result.stdout.fnmatch_lines(
        [">*conformance.assert_conforms(textbook, *", "E  *: 2 fail, 10 pass, 12 unsupported", "E *FAIL  log_softmax *"]
    )
    assert "checking.py" not in result.stdout.str()


@pytest.mark.parametrize(
    ("mark", "said"),
    [
        ("", "*takes the fixture lossref and doesn't say of which operation; mark it with @pytest.mark.lossref(operation=...)*"),
        ("@pytest.mark.lossref(operation='nll')", "*no operation is named 'nll'*"),
        ("@pytest.mark.lossref(operation='kl_div', dtypes=['float8'])", "*float8*"),
        (
            "@pytest.mark.lossref(operation='log_softmax', dtype='float32')",
            "*::test_loss: the marker lossref takes no 'dtype' here; it takes operation, dtypes, promises, dialect, *, cases, expect",
        ),
        (
            "@pytest.mark.lossref(operation='log_softmax', cases='*-float16')",
            "*nothing is asked: what is promised is float64, float32, and the chosen cases are of float16; name a dtype *",
        ),
    ],
)
def test_a_marker_must_say_what_exists(pytester: pytest.Pytester, mark: str, said: str) -> None:
    pytester.makepyfile(f"import pytest\n{mark}\ndef test_loss(lossref): pass")
    result = pytester.runpytest_inprocess(*PLUGIN)
    assert outcomes(result) == {"errors": 1}
    result.stdout.fnmatch_lines([said])


def test_who_does_not_use_it_pays_nothing() -> None:
    program = "import json, sys, pytest; before = set(sys.modules); import conformance.plugin; "
    program += "print(json.dumps(sorted(set(sys.modules) - before)))"
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(run.stdout) == ["conformance", "conformance.plugin", "conformance.plugin.names"]


def test_it_is_found_where_it_is_installed(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]["pytest11"]
    record = pytester.mkdir("lossref-0.dist-info")
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: lossref\nVersion: 0\n")
    (record / "entry_points.txt").write_text("[pytest11]\n" + "".join(f"{name} = {place}\n" for name, place in declared.items()))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(pytester.path), str(ROOT))))
    result = pytester.runpytest_subprocess("--markers")
    result.stdout.fnmatch_lines(["@pytest.mark.lossref(*"])
    assert "float32" not in result.stdout.str(), "simple names are markers only where they are used"
