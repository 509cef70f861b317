"""The format of the vectors' files: sealed, closed, canonical, and read as they say or refused by name."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.numpy

from conformance import storage, vectors
from conformance.case import Vector, VectorError
from conformance.storage.seal import digest_of
from conformance.storage.tensors import name_of, write
from conformance.storage.tensors import read as read_tensors
from tests.squares_files import Change, answer, files_of, first, forge, reseal


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "vectors"))


def test_one_flipped_bit_anywhere_is_refused_by_name(folder: Path) -> None:
    names = files_of(folder)
    assert {"README.md", "history.json", "manifest.json", "schema/index.json", "squares/edges.json"} <= set(names)
    for name in names:
        data = (folder / name).read_bytes()
        for at in {0, 9, len(data) // 2, len(data) - 2, len(data) - 1}:
            for bit in (1, 32):
                (folder / name).write_bytes(data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :])
                with pytest.raises(VectorError, match=f"^{name}: "):
                    vectors.read(folder)
        (folder / name).write_bytes(data)
    vectors.read(folder)


def test_truncated_or_missing_files_are_refused_by_name(folder: Path) -> None:
    for name in files_of(folder):
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: len(data) // 2])
        with pytest.raises(VectorError, match=f"^{name}: "):
            vectors.read(folder)
        (folder / name).unlink()
        with pytest.raises(VectorError, match=f"^{name}: can't be read"):
            vectors.read(folder)
        (folder / name).write_bytes(data)


FORGED: list[tuple[Change, str]] = [
    (lambda index: index.update(extra=1), "it has an unknown field 'extra'"),
    (lambda index: index.pop("group"), "it has no field 'group'"),
    (lambda index: index.update(format=2), "field format: 2 is none of 1"),
    (lambda index: index.update(operation="cubes"), "operation: it is 'cubes'"),
    (lambda index: index.update(notes={}), "notes: 'many-rows' is explained without"),
    (lambda index: index["sets"].append(index["sets"][0]), "sets: two have the same parameters"),
    (lambda index: index["sets"][0]["vectors"].append(first(index)), "the id squares/edges/shared-float64 is there twice"),
    (lambda index: first(index).update(rtol=1), r"field sets\[0\].vectors\[0\]: it has an unknown field 'rtol'"),
    (lambda index: first(index).update(dtype="float8"), r"vectors\[0\].dtype: 'float8' is none of"),
    (lambda index: first(index).update(id="cubes/edges/x-float64"), r"vectors\[0\].id: 'cubes/edges/x-float64' isn't one of this file"),
    (lambda index: first(index).update(id="squares/edges/x-float32"), r"isn't one of this file and dtype"),
    (lambda index: first(index).update(flags="small"), r"vectors\[0\].flags: it is not of type array"),
    (lambda index: first(index).update(clauses=[1]), r"vectors\[0\].clauses\[0\]: it is not of type string"),
    (lambda index: first(index).update(source=""), r"vectors\[0\].source: '' is not what"),
    (lambda index: first(index).update(layouts={"p": "strided"}), r"layouts: it names an array that isn't there"),
    (lambda index: index["sets"][0]["parameters"].update(x=[1]), r"parameters.x: it is not of type boolean or number or string or null"),
    (lambda index: index["sets"][0]["parameters"].update(x=10**300), r"parameters.x: it is above 9223372036854775807"),
    (lambda index: first(index)["arrays"]["logits"].update(shape=[2, 2]), r"arrays.logits.values: it has 2 elements, not 4"),
    (lambda index: first(index)["arrays"]["logits"].update(shape=[2**40, 2**40]), r"arrays.logits.shape: a tensor has no more than"),
    (lambda index: first(index)["arrays"]["logits"].update(shape=[True, 2]), r"arrays.logits.shape\[0\]: it is not of type integer"),
    (lambda index: first(index)["arrays"]["logits"].update(dtype="float32"), "float32 is neither int64 nor the vector's"),
    (lambda index: first(index)["arrays"]["logits"].update(values=[1, 2]), "its numbers aren't written as those of float64"),
    (lambda index: first(index)["arrays"]["logits"].update(values=["0x1p+0", "0x1p+1024"]), r"values: '0x1p\+1024' is beyond float64"),
    (lambda index: first(index)["arrays"]["logits"].update(values=["0x1p+0", "0x1.8p-1074"]), r"values: '0x1.8p-1074' is no float64"),
    (lambda index: first(index)["arrays"]["target"].update(values=["0x1p+0"]), "aren't written as those of int64"),
    (lambda index: first(index)["arrays"]["target"].update(values=[2**63]), "it is above"),
    (lambda index: first(index)["arrays"]["logits"].update(values="F64." + 32 * "0"), "squares/edges.safetensors has no tensor F64.000"),
    (lambda index: first(index)["arrays"]["logits"].update(values="F32." + 32 * "0"), "isn't of dtype F64"),
    (lambda index: first(index)["arrays"]["logits"].update(recipe={}), r"arrays.logits: its fields are more than 3"),
    (lambda index: first(index)["expectations"].clear(), r"expectations: its items are fewer than 1"),
    (lambda index: first(index)["expectations"][0].update(kind="maybe"), "'maybe' is none of value, error"),
    (lambda index: first(index)["expectations"][0].pop("output"), "it has no field 'output'"),
    (lambda index: first(index)["expectations"][0].update(kind="error"), "an error has a shape, perhaps a where"),
    (lambda index: answer(index).pop("hi"), "a value has no hi"),
    (lambda index: answer(index).update(hi=["inf"]), "aren't what its kinds allow"),
    (lambda index: answer(index).update(kind=["nan"]), "aren't what its kinds allow"),
    (lambda index: answer(index).update(kind=["finite"]), "kind: all are finite, and would be left out"),
    (lambda index: answer(index).update(lo=["0x0p+0"]), "a part that is zero throughout would be left out"),
    (lambda index: answer(index).update(radius=["-0x1p-60"]), "radius: it holds a number that is negative"),
    (lambda index: answer(index).update(radius=["0x1.04p-60"]), "has more than six significant bits"),
    (lambda index: answer(index).update(where=[1]), "where: its indices don't ascend within the tensor"),
    (lambda index: answer(index).update(terms=["7fe07fe0"]), r"terms\[0\]: it has 2 elements, not 1"),
    (lambda index: answer(index).update(terms=["ffff"]), r"terms: it holds nan"),
    (lambda index: answer(index).update(terms=["0000"]), r"terms\[0\]: a column of zeros would be null"),
]


@pytest.mark.parametrize(("change", "message"), FORGED, ids=[message[:30] for _, message in FORGED])
def test_a_forged_index_is_refused(folder: Path, change: Change, message: str) -> None:
    forge(folder, "edges", change)
    with pytest.raises(VectorError, match=message) as caught:
        vectors.read(folder)
    assert str(caught.value).startswith("squares/edges.json: ")
    assert "lossref generate" in str(caught.value)


def test_a_changed_recipe_in_the_index_is_refused(folder: Path) -> None:
    def change(index: dict[str, Any]) -> None:
        index["sets"][0]["vectors"][0]["arrays"]["logits"]["recipe"]["values"] = ["0x1p-1", "0x1p-2"]

    forge(folder, "regression", change)
    (vector,) = (vector for vector in vectors.read(folder) if vector.case.group == "regression")
    message = r"squares/regression.json: field sets\[0\].vectors\[0\].arrays.logits.recipe: .*checksum"
    with pytest.raises(VectorError, match=message):
        vector.case.inputs["logits"]
    with pytest.raises(VectorError, match=message):
        vectors.lint(folder)
    assert vector.case.inputs["target"].shape == (5000,)


def test_bytes_that_are_not_canonical_are_refused(folder: Path) -> None:
    path = folder / "squares" / "edges.json"
    data = path.read_bytes()
    for other in (data.replace(b'"tier":', b'"tier": ', 1), data.replace(b'{"format":1,', b'{"format":1,"format":1,', 1)):
        path.write_bytes(other)
        reseal(folder)
        with pytest.raises(VectorError, match=r"squares/edges.json: its bytes aren't the canonical ones"):
            vectors.read(folder)
    path.write_bytes(json.dumps(json.loads(data)).encode())
    with pytest.raises(VectorError, match="its lines aren't those of an index"):
        reseal(folder)


def test_foreign_and_damaged_tensors_are_refused(folder: Path) -> None:
    path = folder / "squares" / "random.safetensors"
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    tensor = next(name for name in json.loads(data[8 : 8 + size]) if name.startswith("F64"))

    def refused(other: bytes, message: str) -> None:
        path.write_bytes(other)
        reseal(folder)
        with pytest.raises(VectorError, match=f"^squares/random.safetensors: .*{message}"):
            vectors.read(folder)

    refused(b"PK\3\4 not at all", "doesn't fit")
    refused(b"\0", "doesn't fit")
    refused(data[:-1], "ends beyond the file")
    refused(data + b"\0", "1 bytes after its tensors belong to none")
    refused(data[:-1] + bytes([data[-1] ^ 1]), "its contents aren't those that its name states")
    refused(data[:8] + data[8:].replace(b'"F64"', b'"I64"', 1), "its bytes aren't the canonical ones")
    refused(data[:8] + data[8:].replace(b'"shape":[', b'"shape":{', 1), "no valid JSON")
    refused(data[:8] + data[8:].replace(tensor.encode(), tensor.replace("F64.", "F99.").encode(), 1), "isn't part of the format")
    refused(safetensors.numpy.save({"x": np.zeros(1, np.int32)}), "isn't part of the format")
    name = name_of(np.full(17, 0.5))
    refused(write({name: np.full(17, 0.5), **read_tensors("x", data)}), "belongs to no vector")


def test_the_real_library_reads_the_tensors(written: Path) -> None:
    data = (written / "squares" / "random.safetensors").read_bytes()
    ours = read_tensors("x", data)
    theirs = dict(safetensors.deserialize(data))
    assert theirs.keys() == ours.keys()
    assert {name: (entry["dtype"], bytes(entry["data"])) for name, entry in theirs.items()} == {
        name: (name.partition(".")[0], array.tobytes()) for name, array in ours.items()
    }


@pytest.mark.parametrize("name", ["../squares.json", "/etc/passwd", "a/../../b.json", "C:\\x", "a//b"])
def test_no_path_leaves_the_folder(folder: Path, name: str) -> None:
    (folder / "manifest.json").write_bytes(storage.manifest({name: b""}))
    with pytest.raises(VectorError, match=r"manifest.json: field files.*is not what it may be"):
        vectors.read(folder)


def test_a_forged_root_is_refused(folder: Path) -> None:
    body = json.loads((folder / "manifest.json").read_bytes())
    body["files"]["squares/edges.json"]["vectors"] += 1
    body["digest"] = digest_of(body)
    (folder / "manifest.json").write_text(json.dumps(body, sort_keys=True, indent=1) + "\n")
    with pytest.raises(VectorError, match=r"manifest.json: field files.squares/edges.json.root: it isn't the root"):
        vectors.read(folder)


def test_kept_elements_ascend(folder: Path) -> None:
    def swap(index: dict[str, Any]) -> None:
        output = index["sets"][0]["vectors"][0]["expectations"][0]["output"]
        output |= {"where": [1, 0], "hi": ["0x1p+0", "0x1p+0"]}
        for part in ("lo", "radius", "total", "kind"):
            output.pop(part, None)

    forge(folder, "regression", swap)
    with pytest.raises(VectorError, match="where: its indices don't ascend within the tensor"):
        vectors.read(folder)


def test_terms_and_radii_are_rounded_up_and_little(made: list[Vector]) -> None:
    vector = next(vector for vector in made if vector.case.id == "squares/random/plain-V33-float64")
    output = vector.expectations[0].output
    terms = np.outer(np.geomspace(1e-300, 1e300, output.values.size), [1.0, 0.0, 0.1])
    terms[0, 2] = 5e-324
    given = replace(vector, expectations=(replace(vector.expectations[0], output=replace(output, terms=terms)),))
    index, data = storage.encode("squares", "random", [given]).values()
    (back,) = storage.decode("squares", "random", index, data)
    found = back.expectations[0].output.terms
    assert found is not None
    assert found[0, 2] == 2.0**-1022, "a subnormal term becomes the smallest normal number"
    terms[0, 2] = found[0, 2]
    assert (terms <= found).all()
    assert (found <= terms * (1.0 + 2.0**-5)).all()
    assert (found[:, 1] == 0.0).all()
    radius, wide = back.expectations[0].output.values.radius, output.values.radius
    assert (wide <= radius).all()
    assert (radius <= wide * (1.0 + 2.0**-5)).all()


def test_another_format_is_refused(folder: Path) -> None:
    text = (folder / "manifest.json").read_text().replace('"format": 1', '"format": 2')
    (folder / "manifest.json").write_text(text)
    with pytest.raises(VectorError, match="format 2 isn't 1, the one that this release reads"):
        vectors.read(folder)


def test_a_folder_or_operation_that_is_not_there_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(VectorError, match="no vectors of operation 'cubes' are here"):
        vectors.read(folder, "cubes")
    with pytest.raises(VectorError, match=r"manifest.json: can't be read"):
        vectors.read(tmp_path / "nowhere")
