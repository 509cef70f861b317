"""The vectors' files: bit for bit there and back, sealed, closed; and no expectation without two witnesses."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conformance import vectors
from conformance.case import Vector, VectorError, exactly
from conformance.cases import edges, random
from conformance.expect import NAMED, WHOLE, expect, total
from refimpl.ball import precision
from refimpl.enclosure import FORMATS, Enclosure, Kind
from refimpl.operations import operations
from tests import squares
from tests.squares_files import flat


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "vectors"))


def in_order(made: list[Vector]) -> list[Vector]:
    """By group, and in a group by the first vector that has the same parameters."""
    keys: dict[tuple[str, str], int] = {}
    for vector in made:
        keys.setdefault((vector.case.group, json.dumps(vector.case.parameters)), len(keys))
    return sorted(made, key=lambda vector: (vector.case.group, keys[vector.case.group, json.dumps(vector.case.parameters)]))


def test_there_and_back_bit_for_bit(made: list[Vector], written: Path) -> None:
    order = in_order(made)
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
    assert len(where) == NAMED
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
    vectors.write([replace(v, case=replace(v.case, tier="full")) for v in made], folder)
    with pytest.raises(VectorError, match=r"squares/edges.json: differs from what this release generates, first in line 3"):
        vectors.check(folder)
    vectors.write([v for v in made if v.case.group == "edges"], folder)
    with pytest.raises(VectorError, match=r"squares/random.json: this release makes it"):
        vectors.check(folder)
    vectors.write([*made, replace(made[0], case=replace(made[0].case, id="cubes/edges/x-float64", operation="cubes"))], folder)
    with pytest.raises(VectorError, match=r"cubes/edges.json: the folder has it and this release doesn't make it"):
        vectors.check(folder)


def test_the_installed_vectors_are_whole() -> None:
    by_operation: dict[str, set[str]] = {}
    for vector in vectors.read():
        by_operation.setdefault(vector.case.operation, set()).add(vector.case.group)
    assert set(by_operation) == set(operations())
    assert all({"edges", "random"} <= groups for groups in by_operation.values())
