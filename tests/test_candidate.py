"""Candidates: files that hold a vector whole, and what they are refused for; taken, they are golden vectors like any other."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from dataclasses import replace
from math import inf, nan
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conformance import candidate, vectors
from conformance.accept import accept
from conformance.candidate import CandidateError, Origin
from conformance.case import Case, Vector, VectorError
from conformance.cases import cases, edges, regressions
from conformance.cases.build import case_of
from conformance.cli import main
from conformance.expect import expect
from conformance.storage import ledger, tensors
from refimpl.operation import Operation
from refimpl.operations import operation
from tests.squares_files import files_of, flat

ORIGIN = Origin("torch", "2.13.0+cpu", "eager", "fail", 'FAIL  kl_div\n      "output"')


def found(name: str, dtype: str = "float32", clauses: tuple[str, ...] = ("ENT-1",), **call: Any) -> Case:
    """A call as a search keeps it."""
    return candidate.named(case_of(operation(name), "drawn/call", dtype, call, clauses=clauses))


ROW = found("entropy", p=[[0.25, 0.75]], cotangent=[1.5])
MASKED = found("kl_div", clauses=("KLP-5",), log_q=[-inf, -0.0], p=[0.0, nan], reduction="sum")
LARGE = found("nll_loss", "float16", ("NLL-2",), log_p=np.full((1500, 2), -0.5), target=np.arange(1500) % 2)
CASES = (
    ROW,
    MASKED,
    LARGE,
    replace(MASKED, flags=("layout",), layouts={"p": "strided"}, source="owner/name#7", tier="smoke"),
    found(
        "entropy", "bfloat16", p=np.linspace(0.0, 1.0, 33).reshape(3, 11).astype(np.float16).round(2).astype(np.float32) // 0.125 * 0.125
    ),
    found("nll_loss", clauses=("NLL-7",), log_p=[[-1.0, -2.0]], target=[2], weight=[0.5, 2.0]),
    found("softmax_cross_entropy", clauses=("SCE-3",), logits=[[1.0, 2.0, 0.5]], target=[0], label_smoothing=0.1),
    replace(ROW, cotangent=None),
)


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is taken goes nowhere else."""
    monkeypatch.setattr("conformance.candidate.FOUND", tmp_path / "found")


def written(path: Path, case: Case) -> Path:
    candidate.write(path, expect(case), ORIGIN)
    return path


@pytest.mark.parametrize("case", CASES, ids=[f"{case.operation}-{case.dtype}" for case in CASES])
def test_there_and_back_bit_for_bit(case: Case, tmp_path: Path) -> None:
    vector = expect(case)
    path = tmp_path / "some" / "folder" / "found.json"
    candidate.write(path, vector, ORIGIN)
    back = candidate.read(path)
    assert back.origin == ORIGIN
    assert flat(replace(back.vector.case, inputs=dict(back.vector.case.inputs))) == flat(case)
    again = tmp_path / "again.json"
    candidate.write(again, back.vector, back.origin)
    assert again.read_bytes() == path.read_bytes()
    shapes = [(one.output.shape, dict(one.choices), one.kind) for one in back.vector.expectations]
    assert shapes == [(one.output.shape, dict(one.choices), one.kind) for one in vector.expectations]


def test_a_candidate_is_named_by_what_it_asks() -> None:
    assert ROW.id == f"entropy/regression/found-{ledger.meaning(ROW)[:8]}-float32"
    assert candidate.named(replace(ROW, cotangent=np.float32([2.0]))).id != ROW.id
    assert candidate.named(ROW, "sure").id == "entropy/regression/sure-float32"


def test_a_file_is_named_by_the_case_and_whose_it_is() -> None:
    stem = ROW.id.replace("/", "-")
    assert candidate.file_name(ROW, "torch", "eager") == f"{stem}-torch-eager.json"
    others = [("exec:a b", "eager"), ("exec:a-b", "eager"), ("a", "b-c"), ("a-b", "c"), ("x" * 400, "eager"), ("x" * 400, "jit")]
    names = {candidate.file_name(ROW, *other) for other in others}
    assert len(names) == len(others)
    assert all(re.fullmatch(r"[\w.+-]{1,150}", name) for name in names)


def test_a_layout_is_flagged_once() -> None:
    laid = replace(ROW, layouts={"p": "strided"})
    assert candidate.named(laid).flags == candidate.named(replace(laid, flags=("layout",))).flags == ("layout",)
    assert candidate.named(ROW).flags == ()


def test_large_arrays_that_repeat_are_recipes() -> None:
    assert LARGE.recipes["log_p"].values == (-0.5,)
    assert LARGE.recipes["target"].values == (0.0, 1.0)
    irregular = np.arange(1500) % 2
    irregular[701] = 0
    case = candidate.named(replace(LARGE, recipes={}, inputs={**LARGE.inputs, "target": irregular}))
    assert set(case.recipes) == {"log_p"}
    beyond = np.full(1500, 2**53 + 1)  # which no number of a recipe is
    assert set(candidate.named(replace(LARGE, recipes={}, inputs={**LARGE.inputs, "target": beyond})).recipes) == {"log_p"}
    signed = np.zeros((1500, 1), np.float16)
    signed[1::2] = -0.0
    assert candidate.named(replace(LARGE, recipes={}, inputs={**LARGE.inputs, "log_p": signed})).recipes["log_p"].values == (0.0, -0.0)


LONG = np.arange(17.0)
ORPHAN = base64.b64encode(tensors.write({tensors.name_of(LONG): LONG})).decode()

Change = Callable[[dict[str, Any]], Any]

FORGED: dict[str, tuple[Change, str]] = {
    "unknown": (lambda d: d.update(note="x"), "it has an unknown field 'note'"),
    "format": (lambda d: d.update(format=2), "field format: 2 is none of 1"),
    "origin": (lambda d: d["origin"].pop("mode"), "field origin: it has no field 'mode'"),
    "verdict": (lambda d: d["origin"].update(verdict="pass"), "field origin.verdict: 'pass' is none of fail"),
    "no expectations": (lambda d: d.pop("expectations"), "field expectations: there are none"),
    "expectations": (lambda d: d["case"].update(expectations=[]), "field case: it has an unknown field 'expectations'"),
    "id": (lambda d: d["case"].update(id="kl_div/regression/x-float32"), "field case.id: 'kl_div/regression/x-float32' isn't one of this"),
    "dtype": (lambda d: d["case"].update(dtype="float16"), "field case.id: .* isn't one of this operation and dtype"),
    "number": (lambda d: d["case"]["arrays"]["p"]["values"].__setitem__(0, "0.25"), r"field case.arrays.p.values\[0\]: "),
    "range": (
        lambda d: d["case"]["arrays"]["p"]["values"].__setitem__(0, "0x1p+1000"),
        "field case.arrays.p.values: float32 can't hold one",
    ),
    "shape": (lambda d: d["case"]["arrays"]["p"].update(shape=[1, 3]), "field case.arrays.p.values: it has 2 elements, not 3"),
    "operation": (lambda d: d.update(operation="entropie"), "isn't one of this operation"),
    "input": (lambda d: d["case"]["arrays"].update(q=d["case"]["arrays"]["p"]), "field case: entropy has no input or parameter 'q'"),
    "missing": (lambda d: d["case"]["arrays"].pop("p"), "field case: .*missing"),
    "parameter": (lambda d: d["parameters"].update(base=2), "field case: entropy has no input or parameter 'base'"),
    "cotangent": (
        lambda d: d["case"]["arrays"]["cotangent"].update(shape=[1, 1]),
        r"field case.arrays.cotangent: its shape is \[1, 1\], and that of the output \[1\]",
    ),
    "choice": (
        lambda d: d["expectations"][0]["choices"].update(base="2"),
        r"field expectations\[0\].choices.base: entropy has no such choice",
    ),
    "gradients": (lambda d: d["expectations"][0]["gradients"].clear(), r"field expectations\[0\].gradients: they are of \[\], not \['p'\]"),
    "output": (
        lambda d: d["expectations"][0]["output"].update(shape=[1, 1]),
        r"field expectations\[0\].output.shape: it is \[1, 1\], and the call's \[1\]",
    ),
    "hi": (lambda d: d["expectations"][0]["output"].update(hi=["inf"]), r"field expectations\[0\].output: hi, lo and radius aren't what"),
    "tensors": (lambda d: d.update(tensors="AAA"), "field tensors: it is no base64"),
    "a tensor of no one's": (lambda d: d.update(tensors=ORPHAN), "tensor .*: it belongs to no vector"),
    "empty tensors": (lambda d: d.update(tensors="AAAA"), "tensors: its header"),
}


@pytest.mark.parametrize("change", FORGED)
def test_what_is_no_candidate_is_refused_by_field(change: str, tmp_path: Path) -> None:
    path = written(tmp_path / "found.json", ROW)
    document = json.loads(path.read_text())
    forge, message = FORGED[change]
    forge(document)
    path.write_text(json.dumps(document))
    with pytest.raises(CandidateError, match=message) as error:
        candidate.read(path)
    assert str(error.value).startswith(f"{path}")
    assert str(error.value).endswith(candidate.REMEDY)


def test_what_is_no_file_or_no_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CandidateError, match=r"can't be read .*; name the file of a candidate"):
        candidate.read(tmp_path / "nowhere.json")
    (tmp_path / "text.json").write_text("found")
    with pytest.raises(CandidateError, match=f"no valid JSON .*; {candidate.REMEDY}"):
        candidate.read(tmp_path / "text.json")


def some(stated: Operation, more: Any = ()) -> list[Case]:
    """A generator of fewer cases than the whole one makes."""
    return [*(case for case in edges.cases(stated) if case.dtype == "float32"), *regressions.cases(stated), *more]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The vectors that `some` makes of one operation."""
    monkeypatch.setattr(vectors, "cases", some)
    monkeypatch.setattr(vectors, "operations", lambda: {"entropy": operation("entropy")})
    vectors.write(vectors.generate(jobs=1), tmp_path / "vectors")
    return tmp_path / "vectors"


B = found("entropy", "float64", ("ENT-2",), p=[[0.5, 0.5, 2.0]])
WIDE = found("entropy", p=np.full((3, 7), 0.125))


def test_what_was_taken_is_generated_sealed_and_in_the_ledger(folder: Path, tmp_path: Path) -> None:
    before = len(vectors.read(folder))
    paths = [written(tmp_path / f"{case.dtype}{case.inputs['p'].size}.json", case) for case in (ROW, B, WIDE)]
    assert accept(paths[1:2], folder, name="zz") == (["entropy/regression/zz-float64"], vectors.digest(folder))
    ids, digest = accept([paths[0], paths[2]], folder)
    assert ids == [ROW.id, WIDE.id]
    assert vectors.check(folder, jobs=1) == vectors.lint(folder) == digest
    there = {vector.case.id: vector.case for vector in vectors.read(folder)}
    assert len(there) == before + 3
    assert flat(dict(there[WIDE.id].inputs)) == flat(WIDE.inputs)
    assert there["entropy/regression/zz-float64"].clauses == ("ENT-2",)
    assert vectors.history(folder)[ROW.id] == ("2026.11", ledger.meaning(ROW))
    assert candidate.taken("kl_div") == []


def test_the_generator_makes_only_what_it_did_where_nothing_was_taken() -> None:
    stated = operation("entropy")
    assert candidate.taken("entropy") == []
    assert [case.id for case in cases(stated, candidate.taken("entropy"))] == [case.id for case in cases(stated)]


def test_an_id_that_a_case_has_already_is_not_generated_twice(tmp_path: Path) -> None:
    first = next(regressions.cases(operation("entropy")))
    candidate.keep(first, ORIGIN)
    with pytest.raises(VectorError, match=f"{first.id}: two cases have this id"):
        cases(operation("entropy"), candidate.taken("entropy"))
    path = tmp_path / "found" / "entropy" / f"{first.id.rpartition('/')[2]}.json"
    path.rename(path.with_name("other-float32.json"))
    with pytest.raises(CandidateError, match=r"field case.id: it is .*, not that of the file's name"):
        candidate.taken("entropy")


def weaker(vector: Vector) -> Vector:
    """The same, with another expectation of the output."""
    first = vector.expectations[0]
    values = replace(first.output.values, hi=first.output.values.hi * 2.0)
    return Vector(vector.case, (replace(first, output=replace(first.output, values=values)),))


def test_what_cannot_be_taken_is_refused_and_nothing_written(folder: Path, tmp_path: Path) -> None:
    known = next(case for case in some(operation("entropy")) if case.id == "entropy/edges/halves-float32")
    good, same, other = (written(tmp_path / f"{n}.json", case) for n, case in enumerate((ROW, candidate.named(known), B)))
    taken = next(case.id for case in regressions.cases(operation("entropy")) if case.dtype == "float64").rpartition("/")[2]
    wrong = tmp_path / "wrong.json"
    candidate.write(wrong, weaker(expect(B)), ORIGIN)
    elsewhere = written(tmp_path / "elsewhere.json", replace(ROW, id="entropy/edges/mine-float32"))
    unnamed = written(tmp_path / "unnamed.json", replace(B, clauses=()))
    before = [(name, (folder / name).read_bytes()) for name in files_of(folder)]
    for paths, given, message in (
        ([good, same], {}, "1.json: entropy/edges/halves-float32 asks the same; leave it out"),
        ([good, good], {}, f"0.json: {ROW.id} asks the same"),
        ([good, wrong], {}, "wrong.json: field expectations: they aren't those that both witnesses prove"),
        ([good, unnamed], {}, "unnamed.json: it names no clause; name one with --clause"),
        ([good, elsewhere], {}, "elsewhere.json: field case.id: entropy/edges/mine-float32 isn't in the group regression; name this one"),
        ([good], {"name": "a b"}, "--name 'a b' can't be part of an id; write letters"),
        ([good], {"clauses": ["ENT-77"]}, "0.json: no clause is named ENT-77; name one with --clause"),
        ([other], {"name": taken.removesuffix("-float64")}, f"2.json: another case has the id entropy/regression/{taken}; name this one"),
    ):
        with pytest.raises(CandidateError, match=message):
            accept(paths, folder, **given)
    assert [(name, (folder / name).read_bytes()) for name in files_of(folder)] == before
    assert not (tmp_path / "found").exists()


def test_the_command_takes_a_candidate(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(written(tmp_path / "found.json", replace(ROW, clauses=())))
    assert main(["vectors", "add", path, "--out", str(folder)]) == 2
    assert "it names no clause" in capsys.readouterr().err
    assert not candidate.FOUND.exists(), "what takes nothing leaves nothing"
    assert main(["vectors", "add", path, "--name", "sure", "--clause", "ENT-1", "--clause", "ENT-4", "--out", str(folder)]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "taken: entropy/regression/sure-float32"
    (kept,) = candidate.taken("entropy")
    assert kept.clauses == ("ENT-1", "ENT-4")
    assert main(["vectors", "add", path, path, "--name", "twice", "--out", str(folder)]) == 2
    assert "--name is about one candidate, and 2 are given" in capsys.readouterr().err
    assert main(["vectors", "add", path, "--out", str(folder)]) == 2
    assert "entropy/regression/sure-float32 asks the same" in capsys.readouterr().err


def test_a_candidate_is_shown_and_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(written(tmp_path / "found.json", found("kl_div", clauses=("KLP-5",), log_q=[-inf, -1.0], p=[0.0, 1.0], reduction="sum")))
    assert main(["show", path]) == 0
    assert "log_q  float32[2]  -inf -1" in capsys.readouterr().out
    assert main(["run", "numpy", "--candidate", path, "--in-process"]) == 1
    out = capsys.readouterr().out
    assert "FAIL  kl_div  regression/found-" in out
    assert f"again        lossref run numpy --candidate {path}\n" in out
    assert out.endswith("2 passed, 1 failed, 0 unsupported\n")
    assert main(["run", "numpy", "--candidate", str(written(tmp_path / "right.json", ROW)), "--in-process"]) == 0


def test_two_candidates_of_one_id_are_not_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = (str(written(tmp_path / f"{name}.json", ROW)) for name in ("first", "second"))
    assert main(["run", "numpy", "--candidate", first, "--candidate", second, "--in-process"]) == 2
    assert f"{second} and {first} are both entropy/regression/" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--tier", "smoke"], "--tier is about the golden vectors, and --candidate asks what is none yet"),
        (["--html", "page.html"], "a report is about the golden vectors"),
        (["--operation", "kl_div"], "is of entropy; leave out --operation kl_div, or the file"),
        (["--dtype", "float64"], "is of float32; leave out --dtype float64, or the file"),
    ],
)
def test_what_does_not_go_with_a_candidate_is_said(
    more: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["run", "numpy", "--candidate", str(written(tmp_path / "found.json", ROW)), *more]) == 2
    assert sentence in capsys.readouterr().err
