"""The vectors' files: bit for bit there and back, sealed, closed; and no expectation without two witnesses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import squares

from conformance import storage, vectors
from conformance.case import Case, Recipe, Vector, VectorError, exactly
from conformance.cases import counter, edges, random
from conformance.cases.build import case_of
from conformance.expect import WHOLE, expect, total
from refimpl.ball import precision
from refimpl.enclosure import FORMATS, Enclosure, Kind
from refimpl.operations import operations


def small() -> Iterator[Case]:
    yield from edges.cases(squares.OPERATION)
    yield from (case for case in random.cases(squares.OPERATION) if "-V1000-" in case.id)
    call = {
        "logits": Recipe("repeat", 0, (5000, 1), "float16", values=(0.5, -0.0)),
        "target": Recipe("repeat", 0, (5000,), "int64", values=(0.0,)),
    }
    sealed = {name: counter.sealed(recipe) for name, recipe in call.items()}
    yield case_of(squares.OPERATION, "regression/many", "float16", sealed, clauses=("SQR-1",), source="a/b#1", flags=("many-rows",))


@pytest.fixture(scope="module")
def made() -> list[Vector]:
    return [expect(case, squares.OPERATION) for case in small()]


@pytest.fixture(scope="module")
def written(made: list[Vector], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vectors")
    vectors.write(made, folder)
    return folder


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "vectors"
    shutil.copytree(written, copy)
    return copy


def flat(value: Any) -> Any:
    """A value with every array and enclosure as bytes, to compare bit for bit."""
    if isinstance(value, np.ndarray):
        return value.dtype.name, value.shape, value.tobytes()
    if isinstance(value, Enclosure):
        return tuple(flat(part) for part in (value.kind, value.hi, value.lo, value.radius))
    if isinstance(value, dict):
        return {key: flat(one) for key, one in value.items()}
    if isinstance(value, tuple | list):
        return tuple(flat(one) for one in value)
    if hasattr(value, "__dataclass_fields__"):
        return {name: flat(getattr(value, name)) for name in value.__dataclass_fields__}
    return value


def test_there_and_back_bit_for_bit(made: list[Vector], written: Path) -> None:
    order = sorted(made, key=lambda vector: vector.case.group)  # the sort is stable
    assert flat(vectors.read(written)) == flat(order)
    assert flat(vectors.read(written, "squares")) == flat(order)


@pytest.mark.parametrize("dtype", FORMATS)
def test_special_values_survive(written: Path, dtype: str) -> None:
    vector = next(v for v in vectors.read(written) if v.case.id == f"squares/edges/special-{dtype}")
    logits = vector.case.inputs["logits"]
    tiny = exactly([[2.0**-24, 0.5]], dtype, "")
    expected = np.concatenate([exactly([[-0.0, np.nan], [np.inf, 3.0]], dtype, ""), tiny, exactly([[-0.0, 1.0]], dtype, "")])
    assert logits.tobytes() == expected.tobytes()
    assert [Kind(k) for k in vector.expectations[0].output.values.kind] == [Kind.NAN, Kind.POSITIVE_INFINITY, Kind.FINITE, Kind.FINITE]


def test_the_same_vectors_give_the_same_bytes(made: list[Vector], written: Path, tmp_path: Path) -> None:
    assert vectors.write(made, tmp_path) == vectors.digest(written)
    for path in written.rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (tmp_path / path.relative_to(written)).read_bytes()


def test_writing_one_operation_keeps_the_others(made: list[Vector], folder: Path) -> None:
    case = replace(made[0].case, id="cubes/edges/x-float64", operation="cubes")
    vectors.write([replace(made[0], case=case)], folder)
    assert len(vectors.read(folder)) == len(made) + 1
    assert [v.case.id for v in vectors.read(folder, "cubes")] == ["cubes/edges/x-float64"]


def test_writing_seals_nothing_damaged_and_nothing_foreign(made: list[Vector], folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    renamed = [replace(vector, case=replace(vector.case, operation="other")) for vector in made]
    readme = folder / "README.md"
    readme.write_bytes(readme.read_bytes() + b" ")
    with pytest.raises(VectorError, match=r"README\.md"):
        vectors.write(renamed, folder)
    (other / "squares" / "mine.json").write_text("{}")
    with pytest.raises(VectorError, match=r"mine\.json"):
        vectors.write(renamed, other)
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("precious")
    with pytest.raises(VectorError, match="name an empty folder"):
        vectors.write(made, mine)


def test_choices_are_listed_where_they_matter(made: list[Vector]) -> None:
    by_id = {vector.case.id: vector for vector in made}
    (only,) = by_id["squares/edges/shared-float32"].expectations
    assert only.choices == {}
    once, twice = by_id["squares/edges/doubled-float32"].expectations
    assert (once.choices, twice.choices) == ({"doubled": "no"}, {"doubled": "yes"})
    assert (once.output.values.hi[0], twice.output.values.hi[0]) == (9.0, 18.0)


def test_a_refused_target_is_expected_to_be_refused(made: list[Vector]) -> None:
    (only,) = next(v for v in made if v.case.id == "squares/edges/refused-float32").expectations
    assert only.kind == "error"
    assert only.output.shape == (1,)
    assert only.gradients["logits"].shape == (1, 2)
    assert np.isnan(only.gradients["logits"].values.hi).all()


def test_beyond_float64_is_kept_as_overflow(made: list[Vector]) -> None:
    vector = next(v for v in made if v.case.id == "squares/edges/huge-float64")
    assert vector.expectations[0].output.values.kind[0] == Kind.OVERFLOW


def test_large_tensors_are_kept_at_named_indices(made: list[Vector]) -> None:
    vector = next(v for v in made if v.case.id == "squares/random/plain-V1000-float32")
    gradient = vector.expectations[0].gradients["logits"]
    assert gradient.where is not None
    assert gradient.total is not None
    where = gradient.where.tolist()
    assert len(where) == 512
    assert {0, 1999, *(1000 * i + int(t) for i, t in enumerate(vector.case.inputs["target"]))} <= set(where)
    many = next(v for v in made if v.case.group == "regression")
    assert many.case.recipes.keys() == {"logits", "target", "cotangent"}
    output = many.expectations[0].output
    assert output.shape[0] > WHOLE
    assert output.total is not None
    assert float(output.total.hi) == 2500 * 0.25


def test_a_sum_is_enclosed() -> None:
    hi, lo, radius = np.array([1e16, 1.0, -1e16, 2.0**-60]), np.array([1.0, 2.0**-70, -1.0, 0.0]), np.full(4, 2.0**-100)
    whole = total(Enclosure(np.zeros(4, np.uint8), hi, lo, radius))
    assert whole is not None
    from flint import arb

    with precision(300):
        assert whole.contains(0, arb(1.0) + arb(2.0**-70) + arb(2.0**-60))
    assert total(Enclosure(np.zeros(2, np.uint8), np.full(2, 1.7e308), np.zeros(2), np.zeros(2))) is None


@pytest.mark.parametrize("name", ["squares/edges/shared-float32", "squares/random/plain-V1000-float64"])
@pytest.mark.parametrize("function", ["forward", "vjp"])
def test_a_kernel_off_by_a_hair_is_refused(name: str, function: str) -> None:
    def shift(e: Enclosure) -> Enclosure:
        lo = e.lo.copy()
        lo.flat[-1 if e.size < WHOLE else 0] += 2.0**-80
        return replace(e, lo=lo)

    def off(**call: Any) -> Any:
        right = getattr(squares.OPERATION, function)(**call)
        return shift(right) if function == "forward" else {key: shift(e) for key, e in right.items()}

    wrong = replace(squares.OPERATION, **{function: off})
    case = next(c for group in (edges, random) for c in group.cases(squares.OPERATION) if c.id == name)
    expect(case, squares.OPERATION)
    with pytest.raises(VectorError, match=f"{name}, .*does not contain the exact form's"):
        expect(case, wrong)


def test_a_wrong_element_that_is_not_named_spoils_the_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    case = next(c for c in random.cases(squares.OPERATION) if c.id == "squares/random/plain-V1000-float64")
    kept = expect(case, squares.OPERATION).expectations[0].gradients["logits"].where
    assert kept is not None
    free = int(np.setdiff1d(np.arange(2000), kept)[0])
    monkeypatch.setattr("conformance.expect._named", lambda *given: kept)  # as large an element would be named for its size

    def off(**call: Any) -> Any:
        right = squares.vjp(**call)["logits"]
        hi = right.hi.copy()
        hi.flat[free] += 2.0**-40
        return {"logits": replace(right, hi=hi)}

    with pytest.raises(VectorError, match="the sum's enclosure"):
        expect(case, replace(squares.OPERATION, vjp=off))


def test_an_undetermined_value_makes_no_vector() -> None:
    def off(**call: Any) -> Enclosure:
        right = squares.forward(**call)
        return replace(right, radius=np.full(right.shape, np.inf))

    case = next(edges.cases(squares.OPERATION))
    with pytest.raises(VectorError, match="doesn't determine element 0"):
        expect(case, replace(squares.OPERATION, forward=off))


def test_an_exact_form_that_accepts_a_refused_target_makes_no_vector() -> None:
    case = next(c for c in edges.cases(squares.OPERATION) if "refused" in c.id)
    with pytest.raises(VectorError, match="refuses the target"):
        expect(case, replace(squares.OPERATION, exact=lambda where, bits, **call: []))


def files_of(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file() and path.stat().st_size)


def test_one_flipped_bit_anywhere_is_refused_by_name(folder: Path) -> None:
    names = files_of(folder)
    assert {"README.md", "manifest.json", "squares/edges.json", "squares/edges.safetensors"} <= set(names)
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


def reseal(folder: Path) -> None:
    """Seals whatever is there, as a forger would."""
    present = {name: (folder / name).read_bytes() for name in files_of(folder) if name != "manifest.json"}
    (folder / "manifest.json").write_bytes(storage.manifest(present))


Change = Callable[[dict[str, Any]], Any]

FORGED: list[tuple[Change, str]] = [
    (lambda index: index.update(extra=1), "the file has an unknown field 'extra'"),
    (lambda index: index.pop("group"), "the file has no field 'group'"),
    (lambda index: index.update(format=2), "format is 2, not 1"),
    (lambda index: index.update(operation="cubes"), "operation is 'cubes'"),
    (lambda index: index["vectors"][0].update(rtol=1), r"field vectors\[0\] has an unknown field 'rtol'"),
    (lambda index: index["vectors"][0].update(dtype="float8"), r"field vectors\[0\]: id"),
    (lambda index: index["vectors"][0].update(id="cubes/edges/x"), r"field vectors\[0\]: id"),
    (lambda index: index["vectors"][0].update(flags="small"), r"vectors\[0\].flags has the wrong type"),
    (lambda index: index["vectors"][0].update(clauses=[1]), r"vectors\[0\].clauses: it holds something that is no text"),
    (lambda index: index["vectors"][0]["parameters"].update(x=[1]), r"vectors\[0\].parameters.x: it is neither"),
    (lambda index: index["vectors"][0]["arrays"]["logits"].update(shape=[2, 1]), r"tensor 'shared-float64/logits' is float64\(1, 2\)"),
    (lambda index: index["vectors"][0]["arrays"]["logits"].update(shape=[True, 2]), r"arrays.logits.shape: it isn't a list of sizes"),
    (lambda index: index["vectors"][0]["arrays"]["logits"].update(dtype="float32"), "not float32"),
    (lambda index: index["vectors"][0]["arrays"].update(p={"dtype": "float64", "shape": []}), "tensor 'shared-float64/p' is missing"),
    (lambda index: index["vectors"].pop(), "belongs to no vector"),
    (lambda index: index["vectors"][0]["expectations"].clear(), r"expectations: it is empty"),
    (lambda index: index["vectors"][0]["expectations"][0].update(kind="maybe"), "its kind is neither"),
    (lambda index: index["vectors"][0]["expectations"][0]["tensors"].pop("output"), "or no output"),
]


@pytest.mark.parametrize(("change", "message"), FORGED, ids=[message[:30] for _, message in FORGED])
def test_a_forged_index_is_refused(folder: Path, change: Change, message: str) -> None:
    path = folder / "squares" / "edges.json"
    index = json.loads(path.read_text())
    change(index)
    path.write_text(json.dumps(index))
    reseal(folder)
    with pytest.raises(VectorError, match=message) as caught:
        vectors.read(folder)
    assert str(caught.value).startswith(("squares/edges.json: ", "squares/edges.safetensors: "))
    assert "lossref generate" in str(caught.value)


def test_a_changed_recipe_in_the_index_is_refused(folder: Path) -> None:
    path = folder / "squares" / "regression.json"
    index = json.loads(path.read_text())
    index["vectors"][0]["arrays"]["logits"]["recipe"]["values"] = ["0.5", "0.25"]
    path.write_text(json.dumps(index))
    reseal(folder)
    with pytest.raises(VectorError, match=r"squares/regression.json: field vectors\[0\].arrays.logits.recipe: .*checksum"):
        vectors.read(folder)


def test_foreign_files_are_refused(folder: Path) -> None:
    (folder / "squares" / "edges.safetensors").write_bytes(b"PK\3\4 not at all")
    reseal(folder)
    with pytest.raises(VectorError, match=r"squares/edges.safetensors: no valid safetensors file"):
        vectors.read(folder)
    safetensors.numpy.save_file({"x": np.zeros(1, np.int32)}, folder / "squares" / "edges.safetensors")
    reseal(folder)
    with pytest.raises(VectorError, match="tensor 'x' of dtype I32 isn't part of the format"):
        vectors.read(folder)
    (folder / "squares" / "edges.json").write_bytes(b'{"format": 1, "format": 1}')
    reseal(folder)
    with pytest.raises(VectorError, match=r"squares/edges.json: no valid JSON \(a field is given twice\)"):
        vectors.read(folder)


@pytest.mark.parametrize("name", ["../squares.json", "/etc/passwd", "a/../../b.json", "C:\\x", "a//b"])
def test_no_path_leaves_the_folder(folder: Path, name: str) -> None:
    (folder / "manifest.json").write_bytes(storage.manifest({name: b""}))
    with pytest.raises(VectorError, match=r"manifest.json: files.* leads out of the folder"):
        vectors.read(folder)


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


@pytest.fixture
def only_squares(monkeypatch: pytest.MonkeyPatch, made: list[Vector]) -> None:
    monkeypatch.setattr(vectors, "generate", lambda jobs=None: made)


@pytest.mark.usefixtures("only_squares")
def test_check_compares_with_a_fresh_generation(folder: Path, made: list[Vector]) -> None:
    assert vectors.check(folder) == vectors.digest(folder)
    (folder / "squares" / "stray.json").write_text("{}")
    with pytest.raises(VectorError, match=r"squares/stray.json: the manifest doesn't list it"):
        vectors.check(folder)
    (folder / "squares" / "stray.json").unlink()
    vectors.write([replace(v, case=replace(v.case, flags=("other",))) for v in made], folder)
    with pytest.raises(VectorError, match=r"squares/edges.json: differs from what this release generates, first in line 2"):
        vectors.check(folder)
    vectors.write([v for v in made if v.case.group == "edges"], folder)
    with pytest.raises(VectorError, match=r"squares/random.json: this release makes it"):
        vectors.check(folder)
    vectors.write([*made, replace(made[0], case=replace(made[0].case, id="cubes/edges/x", operation="cubes"))], folder)
    with pytest.raises(VectorError, match=r"cubes/edges.json: the folder has it and this release doesn't make it"):
        vectors.check(folder)


def test_the_installed_vectors_are_whole() -> None:
    by_operation: dict[str, set[str]] = {}
    for vector in vectors.read():
        by_operation.setdefault(vector.case.operation, set()).add(vector.case.group)
    assert set(by_operation) == set(operations())
    assert all({"edges", "random"} <= groups for groups in by_operation.values())
