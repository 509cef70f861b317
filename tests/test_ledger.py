"""Ids keep their meaning, lint finds what the seal can't, and a proof is one."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conformance import storage, vectors
from conformance.case import Case, Vector, VectorError
from conformance.storage import ledger, merkle, seal
from tests.squares_files import forge, reseal


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "vectors"))


@pytest.fixture(autouse=True)
def clauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("conformance.spec.sections", lambda: {"SQR-1": None, "SQR-2": None, "SQR-3": None})


def changed(vector: Vector, **fields: Any) -> Vector:
    return replace(vector, case=replace(vector.case, **fields))


def other_inputs(case: Case) -> dict[str, Any]:
    return {**case.inputs, "logits": case.inputs["logits"] + np.ones((), case.inputs["logits"].dtype)}


MEANINGS: list[tuple[str, Callable[[Case], dict[str, Any]]]] = [
    ("inputs", lambda case: {"inputs": other_inputs(case)}),
    ("shape", lambda case: {"inputs": {name: array[None] for name, array in case.inputs.items()}}),
    ("parameters", lambda case: {"parameters": {**case.parameters, "doubling": True}}),
    ("cotangent", lambda case: {"cotangent": None}),
    ("layouts", lambda case: {"layouts": {"logits": "strided"}}),
]


@pytest.mark.parametrize(("what", "change"), MEANINGS, ids=[what for what, _ in MEANINGS])
def test_an_id_never_changes_its_meaning(folder: Path, made: list[Vector], what: str, change: Any) -> None:
    other = changed(made[0], **change(made[0].case))
    before = vectors.digest(folder)
    with pytest.raises(VectorError, match=f"^{made[0].case.id}: in version 2026.11 this id stands for another case.*supersedes"):
        vectors.write([other, *made[1:]], folder)
    assert vectors.digest(folder) == before
    assert vectors.write([other, *made[1:]], folder, afresh=True) != before
    vectors.read(folder)


def test_words_about_a_case_may_change(folder: Path, made: list[Vector]) -> None:
    vectors.write([changed(made[0], tier="full", flags=(), clauses=("SQR-2",), source="a/b#2"), *made[1:]], folder)
    vectors.lint(folder)


def test_an_id_stays_in_the_ledger_and_can_be_superseded(folder: Path, made: list[Vector]) -> None:
    old = made[0].case.id
    new = old.replace("shared", "shared-again")
    vectors.write([changed(made[0], id=new, supersedes=old), *made[1:]], folder)
    vectors.lint(folder)
    known = ledger.read((folder / storage.LEDGER).read_bytes())
    assert {old, new} <= known.keys()
    with pytest.raises(VectorError, match="stands for another case"):
        vectors.write([changed(made[0], inputs=other_inputs(made[0].case))], folder)


def test_a_new_folder_goes_on_with_the_ledger_that_came_with_the_release(
    folder: Path, made: list[Vector], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vectors, "installed", lambda: folder)
    with pytest.raises(VectorError, match="stands for another case"):
        vectors.write([changed(made[0], inputs=other_inputs(made[0].case))], tmp_path / "new")
    vectors.write(made[1:], tmp_path / "new")
    assert made[0].case.id in ledger.read((tmp_path / "new" / storage.LEDGER).read_bytes())


def test_since_is_what_the_ledger_says(folder: Path, made: list[Vector], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(VectorError, match=r"since is 2027\.01, and the ledger has it since 2026\.11"):
        vectors.write([changed(made[0], since="2027.01")], folder)
    monkeypatch.setattr(storage, "VERSION", "2027.01")
    new = changed(made[0], id="squares/edges/new-float64", since="2027.01")
    vectors.write([*made, new], folder)
    text = (folder / storage.LEDGER).read_text()
    assert text.index('"2026.11":{') < text.index('"2027.01":{\n"squares/edges/new-float64":')


def lint_refuses(folder: Path, message: str) -> None:
    with pytest.raises(VectorError, match=message):
        vectors.lint(folder)


def test_lint_holds_the_vectors_to_the_spec_and_the_ledger(folder: Path, made: list[Vector], tmp_path: Path) -> None:
    assert vectors.lint(folder) == vectors.digest(folder)
    vectors.write([changed(made[0], clauses=("SQR-9",)), *made[1:]], folder)
    lint_refuses(folder, f"{made[0].case.id}: clauses: .*SQR-9.* isn't in the spec")
    vectors.write([changed(made[0], supersedes="squares/edges/never-float64"), *made[1:]], folder)
    lint_refuses(folder, "supersedes: 'squares/edges/never-float64' isn't a former id")
    vectors.write([changed(made[0], supersedes=made[1].case.id), *made[1:]], folder)
    lint_refuses(folder, "isn't a former id")
    vectors.write(made, folder)
    (folder / "squares" / "stray.json").write_text("{}")
    lint_refuses(folder, r"squares/stray.json: the manifest doesn't list it")
    (folder / "squares" / "stray.json").unlink()
    path = folder / storage.LEDGER
    known = ledger.read(path.read_bytes())
    path.write_bytes(ledger.write({id: entry for id, entry in known.items() if id != made[0].case.id}))
    reseal(folder)
    lint_refuses(folder, f"history.json: it doesn't have {made[0].case.id}")
    path.write_bytes(ledger.write({**known, made[0].case.id: ("2026.11", 32 * "0")}))
    reseal(folder)
    lint_refuses(folder, "stands for another case")


def test_lint_holds_notes_to_their_sentences(folder: Path) -> None:
    def reword(index: dict[str, Any]) -> None:
        index["notes"]["many-rows"] = "rows"

    forge(folder, "edges", reword)
    vectors.read(folder)
    lint_refuses(folder, r"squares/edges.json: its bytes aren't the canonical ones, first in line 1")


def test_lint_holds_the_schemas_and_the_size(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seal, "ALL", 1000)
    lint_refuses(folder, "1000 are too many")
    schema = folder / "schema" / "index.json"
    schema.write_bytes(schema.read_bytes() + b" ")
    reseal(folder)
    lint_refuses(folder, r"schema/index.json: it isn't the schema of this release")


ID, ZEROS = '"squares/edges/x-float64"', f'"{32 * "0"}"'


@pytest.mark.parametrize(
    "text",
    [
        f'{{"format":1,"versions":{{"2026.11":{{\n{ID}:"0"\n}}}}}}\n',
        f'{{"format":1,"versions":{{"2026.11":{{{ID}:{ZEROS}}}}}}}\n',
        f'{{"format":1,"versions":{{"2026.10":{{\n{ID}:{ZEROS}\n}},\n"2026.11":{{\n{ID}:{ZEROS}\n}}}}}}\n',
        "[]",
    ],
    ids=["digest", "lines", "twice", "list"],
)
def test_a_ledger_that_is_not_one_is_refused(text: str) -> None:
    with pytest.raises(VectorError, match=r"^history.json: "):
        ledger.read(text.encode())


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 9, 33])
def test_a_proof_proves_its_record_and_no_other(count: int) -> None:
    records = [bytes([n]) for n in range(count)]
    root = merkle.root(records)
    for at in range(count):
        path = merkle.path(records, at)
        assert merkle.climb(records[at], at, count, path) == root
        assert merkle.climb(b"other", at, count, path) != root
        if path:
            with pytest.raises(ValueError, match="too short"):
                merkle.climb(records[at], at, count, path[:-1])
    with pytest.raises(ValueError, match="too long"):
        merkle.climb(records[0], 0, count, [*merkle.path(records, 0), root])


def test_no_link_and_no_device_is_read(folder: Path, tmp_path: Path) -> None:
    name = "squares/edges.json"
    shutil.copy(folder / name, tmp_path / "outside.json")
    (folder / name).unlink()
    (folder / name).symlink_to(tmp_path / "outside.json")
    with pytest.raises(VectorError, match=f"^{name}: it is a link"):
        vectors.read(folder)
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(VectorError, match=f"^{name}: it is no regular file"):
        vectors.read(folder)
    shutil.move(folder / "squares", tmp_path / "moved")
    (folder / "squares").symlink_to(tmp_path / "moved")
    with pytest.raises(VectorError, match=r"^squares/.*: it is a link, or lies behind one"):
        vectors.read(folder)


def test_a_proof_needs_a_vector(folder: Path) -> None:
    proof = vectors.prove("squares/edges/shared-float64", folder)
    inner = merkle.climb(proof["record"].encode(), proof["index"]["position"], proof["index"]["count"], nodes(proof["index"]))
    leaf = f"vectors {proof['name']} {proof['index']['count']} {inner.hex()}".encode()
    above = proof["manifest"]
    assert merkle.climb(leaf, above["position"], above["count"], nodes(above)).hex() == vectors.digest(folder)
    assert json.loads(proof["record"].split("\n")[1])["id"] == "squares/edges/shared-float64"
    for id in ("squares/edges/none-float64", "x", "../manifest"):
        with pytest.raises(VectorError, match="no vector has this id"):
            vectors.prove(id, folder)


def nodes(path: dict[str, Any]) -> list[bytes]:
    return [bytes.fromhex(node) for node in path["path"]]
