"""Programs behind the protocol: whatever one does is a verdict, every other case is still judged, and nothing is left behind."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import hostile_program
import numpy as np
import psutil
import pytest
from programs import asked, of, verdicts

from conformance.case import Case, Vector
from conformance.cli import main
from conformance.expect import expect
from conformance.finding import Verdict
from conformance.links.program import ProgramSource
from conformance.runner import BackendError, Result, Run
from conformance.sources import UnknownBackend, find

PROGRAM = f"{shlex.quote(sys.executable)} {shlex.quote(hostile_program.__file__)}"
CRASH, TIMEOUT, FAIL, PASS = Verdict.CRASH, Verdict.TIMEOUT, Verdict.FAIL, Verdict.PASS


BEFORE, AFTER = asked("honest", "before"), asked("honest", "after")


def run(vectors: Sequence[Vector], timeout: float | None = 5.0, *, strict: bool = False) -> list[Result]:
    with Run([ProgramSource(f"{PROGRAM} right", strict)], vectors, timeout=timeout) as running:
        return list(running.results())


LOST = {
    "no_json": (CRASH, "'the loss is 0.3\\n' is no JSON"),
    "no_object": (CRASH, "is JSON, and no object"),
    "no_number": (CRASH, "NaN is no number of JSON"),
    "deep": (CRASH, "is no JSON"),
    "no_text": (CRASH, "is no JSON"),
    "half_a_line": (TIMEOUT, "no answer within 1 seconds"),
    "half_a_line_and_exit": (CRASH, "is where the output ends, within a line"),
    "silent": (TIMEOUT, "no answer within 1 seconds"),
    "leave": (CRASH, "status 7 (out of luck)"),
    "abort": (CRASH, "SIGABRT"),
    "another_id": (CRASH, "field id: it answers request 8, and 3 was asked"),
    "nothing_said": (CRASH, "one of the fields output, error and unsupported; this one has none"),
    "both_said": (CRASH, "one of the fields output, error and unsupported"),
    "no_such_dtype": (CRASH, "field output.dtype: 'float80' is none of"),
    "short_data": (CRASH, "field gradients.logits.data: it has 32 digits, where dtype and shape make 48"),
    "no_digits": (CRASH, "field output.data: 'xyxy"),
    "no_file": (CRASH, "nowhere.bin' can't be read"),
    "device": (CRASH, "field output.file: '/dev/zero' is no file"),
    "huge": (CRASH, "field output.shape: it has 6442450944 elements, more than anything that was asked for (3)"),
    "flood": (CRASH, "goes on for more than"),
    "flood_of_lines": (CRASH, "'noise\\n' is no JSON"),
}


@pytest.mark.parametrize("behaviour", LOST)
def test_what_is_no_answer_is_a_verdict_and_the_rest_goes_on(behaviour: str) -> None:
    verdict, note = LOST[behaviour]
    bad = asked(behaviour)
    results = run([BEFORE, bad, AFTER], timeout=1.0 if verdict == TIMEOUT else 30.0)
    assert len(results) == 6
    assert verdicts(results, bad) == [verdict, verdict]
    assert all(note in result.finding.note for result in of(results, bad)), of(results, bad)[0].finding.note
    assert verdicts(results, BEFORE) == verdicts(results, AFTER) == [PASS, PASS]
    assert psutil.Process().children(recursive=True) == []


JUDGED = {
    "wrong_dtype": ("GEN-2", "the dtype is float32"),
    "wrong_shape": ("GEN-1", "the shape is [3, 1], not [1, 3]"),
    "nans": ("LSM-1", ""),
    "changed": ("GEN-3", "modified its input logits"),
    "different": ("GEN-4", "other bits"),
}


@pytest.mark.parametrize("behaviour", JUDGED)
def test_misconduct_breaks_its_clause(behaviour: str) -> None:
    clause, note = JUDGED[behaviour]
    bad = asked(behaviour)
    results = run([bad, AFTER])
    forward = of(results, bad)[0].finding
    assert forward.verdict == FAIL
    assert clause in forward.clauses
    assert note in forward.note
    assert verdicts(results, AFTER) == [PASS, PASS]


def test_an_error_is_an_error_and_its_text_does_nothing_to_a_terminal() -> None:
    bad = asked("error")
    results = run([bad, AFTER])
    assert [(result.finding.verdict, result.finding.note) for result in of(results, bad)] == [(Verdict.ERROR, "not today\ufffd[31m")] * 2
    assert verdicts(results, AFTER) == [PASS, PASS]


def test_what_it_lacks_is_unsupported() -> None:
    bad = asked("refuse")
    assert [(result.finding.verdict, result.finding.note) for result in run([bad])] == [(Verdict.UNSUPPORTED, "it lacks this value")] * 2


def test_an_answer_too_many_ends_the_program_and_not_the_run() -> None:
    bad, following = asked("twice"), [asked("honest", name) for name in "ab"]
    results = run([bad, *following])
    assert len(results) == 6
    assert all(verdicts(results, vector) in ([PASS, PASS], [CRASH, CRASH]) for vector in following)
    assert [CRASH, CRASH] in (verdicts(results, bad), verdicts(results, following[0]))


def test_a_program_that_no_longer_listens_is_replaced() -> None:
    deaf = asked("stop_listening")
    results = run([deaf, AFTER], timeout=1.0)
    assert verdicts(results, deaf) == [TIMEOUT, TIMEOUT]
    assert verdicts(results, AFTER) == [PASS, PASS]


def test_muttering_for_100_megabytes_hurts_nobody() -> None:
    resident = psutil.Process().memory_info().rss
    results = run([asked("mutter"), AFTER], timeout=60.0)
    assert [result.finding.verdict for result in results] == [PASS] * 4
    assert psutil.Process().memory_info().rss - resident < 50e6


def test_no_child_is_left_behind() -> None:
    results = run([asked("leave_a_child"), AFTER])
    assert [result.finding.verdict for result in results] == [PASS] * 4
    left = [one for one in psutil.process_iter(["cmdline"]) if one.info["cmdline"] == ["sleep", "3600"]]
    assert left == []


def test_a_field_too_many_is_a_mistake_only_for_the_strict() -> None:
    bad = asked("extra_field")
    assert verdicts(run([bad]), bad) == [PASS, PASS]
    results = run([bad], strict=True)
    assert verdicts(results, bad) == [CRASH, CRASH]
    assert "line 2 of its output: it has an unknown field 'comment'" in of(results, bad)[0].finding.note


GREETED = {
    "no_json": "line 1 of its output: 'hello to you",
    "other_protocol": "field protocol: 'lossref-protocol/9' is none of lossref-protocol/1",
    "no_operation": "field operations: 'hinge' is no operation; the operations are cross_entropy,",
    "no_accuracy": "field promises.float32.accuracy: 'Z' is none of R, S, A, B, N",
    "no_dialect": "field dialect: .* names the dialect 'klingon'",
    "no_choice": "field dialect: .* refusal .* is 'maybe'",
    "flood": "goes on for more than 1048576 bytes",
    "exit": "status 4, before its reply to hello",
}


@pytest.mark.parametrize("greeting", GREETED)
def test_a_program_that_does_not_greet_is_not_started(greeting: str) -> None:
    with pytest.raises(BackendError, match=GREETED[greeting]), Run([ProgramSource(f"{PROGRAM} {greeting}")], []):
        pass


@pytest.mark.parametrize("command", ["./there/is/no/such/program", "'unclosed"])
def test_a_program_that_is_not_there_is_said_so(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    started = time.monotonic()
    assert main(["run", f"exec:{command}", "--operation", "kl_div", "--tier", "smoke"]) == 3
    assert "could not be started" in capsys.readouterr().err
    assert time.monotonic() - started < 60


@pytest.mark.parametrize("name", ["exec:", "dir:", "exec: "])
def test_a_way_in_names_something(name: str) -> None:
    with pytest.raises(UnknownBackend, match="write exec:COMMAND or dir:FOLDER"):
        find(name)


ECHO = """
import hashlib, json, pathlib, shutil, sys
for line in sys.stdin:
    message = json.loads(line)
    if message["cmd"] == "hello":
        folder = pathlib.Path(message["folder"])
        promises = {"float64": {"accuracy": "A"}}
        reply = {"protocol": message["protocol"], "name": "echo", "operations": ["log_softmax"], "promises": promises}
    elif message["cmd"] == "run":
        logits = message["inputs"]["logits"]
        path = pathlib.Path(logits["file"])
        shutil.copy(path, folder / "answer.bin")
        right = hashlib.sha256(path.read_bytes()).hexdigest() == path.stem and "data" not in logits
        pathlib.Path(sys.argv[1]).write_text(f"{right} {folder}")
        reply = {"id": message["id"], "output": {**logits, "file": "answer.bin"}}
    else:
        break
    print(json.dumps(reply), flush=True)
"""


def test_large_tensors_go_by_file_both_ways_and_nothing_of_them_stays(tmp_path: Path) -> None:
    logits = np.zeros((1, 10_000))
    vector = expect(Case("log_softmax/edges/large-float64", "log_softmax", "float64", {"logits": logits}, {}, None, ("LSM-1",)))
    seen = tmp_path / "seen"
    with Run([ProgramSource(shlex.join([sys.executable, "-c", ECHO, str(seen)]))], [vector]) as running:
        (result,) = running.results()
    assert result.finding.verdict == FAIL, result.finding.note
    assert result.finding.told.actual == "0", "it answered its input"
    right, folder = seen.read_text().split(" ", 1)
    assert right == "True"
    assert not Path(folder).exists()


def test_validation_is_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "numpy", "--validate"]) == 2
    assert "--validate is about the messages of exec: and dir:" in capsys.readouterr().err
