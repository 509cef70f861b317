"""Dialects: what the named ones say, what a file may state, and the ways to name one."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import needs
import numpy as np
import pytest

from conformance import dialects as module
from conformance.adapter import backends
from conformance.cli import main
from conformance.conduct import CONDUCT
from conformance.dialects import Dialect, DialectError, choices, dialects, named, parse_many, read, resolved
from conformance.judge import Verdict, promised
from conformance.kernel import judged, kernel
from conformance.page import filled
from conformance.report import jsonlines
from conformance.report.choices import tables
from conformance.runner import Run
from conformance.sources import find
from conformance.vectors import read as read_vectors
from refimpl.operations import operation, operations
from tests.promises import X2, X3, A, vector

ROOT = Path(__file__).parents[1]


# The named dialects


@pytest.mark.parametrize(
    ("name", "value"),
    [("torch", 2.3076060), ("optax", 2.3076060), ("fairseq", 2.2576060), ("wenet", 1.8632081), ("espnet", 1.8632081)],
)
def test_a_dialect_picks_the_published_number_of_a_smoothed_row(name: str, value: float) -> None:
    """Logits 1, 2, 3, target 0, smoothing 0.1: as the libraries give it in float32."""
    v = vector("smoothed_attention_loss", logits=[X3], target=[[0]])
    expected = promised(v, dialects()[name].of("smoothed_attention_loss"))
    assert expected is not None
    assert abs(float(expected.output.values.hi) - value) < 4 * np.spacing(np.float32(value))


@pytest.mark.parametrize(
    ("name", "index", "one_hot"), [("torch", 0.922677, 2.306692), ("paddle", 0.922677, 0.922677), ("mlx", 2.306692, 2.306692)]
)
def test_a_dialect_picks_the_published_weighted_means(name: str, index: float, one_hot: float) -> None:
    weight = [1.0, 2.0, 4.0]
    for target, value in (([0, 2], index), (np.eye(3)[[0, 2]], one_hot)):
        v = vector("softmax_cross_entropy", logits=X2, target=target, weight=weight)
        expected = promised(v, dialects()[name].of("softmax_cross_entropy"))
        assert expected is not None
        assert abs(float(expected.output.values.hi) - value) < 1e-6


@pytest.mark.parametrize(("name", "value"), [("torch", math.nan), ("keras", 0.0), ("onnx", math.nan), ("mlx", 0.0)])
def test_a_dialect_picks_the_mean_over_no_rows(name: str, value: float) -> None:
    v = vector("softmax_cross_entropy", logits=X3, target=[-1], ignore_index=-1)
    expected = promised(v, dialects()[name].of("softmax_cross_entropy"))
    assert expected is not None
    np.testing.assert_array_equal(expected.output.values.hi, value)


def test_every_named_dialect_says_something_of_every_choice() -> None:
    wanted = {"torch", "optax", "jax", "keras", "tensorflow", "onnx", "mlx", "paddle", "tinygrad", "scipy", "wenet", "espnet", "fairseq"}
    assert wanted <= dialects().keys()
    for dialect in dialects().values():
        assert {*dialect.choices, *dialect.silent} == choices().keys()
        assert dialect.summary.endswith(".")
        assert all(source.startswith("https://") for source in dialect.source)
    for choice in choices().values():
        taken = {dialect.choices[choice.name] for dialect in dialects().values() if choice.name in dialect.choices}
        assert taken >= choice.values.keys() - {"either", "batch"}, f"no dialect takes every value of {choice.name}"


def test_the_choices_are_those_of_the_operations() -> None:
    declared = {choice.name: set(choice.values) for op in operations().values() for choice in op.choices}
    assert declared == {name: set(choice.values) for name, choice in choices().items() if choice not in CONDUCT}
    for op in operations().values():
        assert all(set(choice.values) == declared[choice.name] for choice in op.choices)
        assert not {choice.name for choice in CONDUCT} & {*op.parameters, *op.inputs}


@pytest.mark.parametrize("name", backends())
def test_an_adapters_dialect_is_known(name: str) -> None:
    needs.library(name)
    with Run([find(name)], []) as run:
        about = run.descriptions[name].dialect
    assert about.name in (*dialects(), name)


# Files


GOOD = """
summary = "ours"
source = ["docs/losses.md"]
silent = ["subnormals"]

[choices]
smoothing_mass = "V-1"
refusal = "nan"

[operations.kl_div]
mean_over = "rows"
half_output = "float32"
"""


def test_a_file_of_ones_own_states_a_dialect(tmp_path: Path) -> None:
    path = tmp_path / "ours.toml"
    path.write_text(GOOD, encoding="utf-8")
    found = named(str(path))
    assert found == read(path)
    assert (found.name, found.summary, found.source) == ("ours", "ours", ("docs/losses.md",))
    assert found.of("softmax_cross_entropy") == {"smoothing_mass": "V-1", "refusal": "nan"}
    assert found.of("kl_div") == {"smoothing_mass": "V-1", "refusal": "nan", "mean_over": "rows", "half_output": "float32"}
    assert named("torch") is dialects()["torch"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("choices", "is no TOML: .*; correct it there"),
        ("sumary = 'x'", "`sumary` is no key of a dialect; the keys are summary, source, choices"),
        ("summary = 1", "`summary` is 1; write a sentence"),
        ("source = 'x'", "`source` is 'x'; write a list of strings"),
        ("choices = 1", "`choices` is 1; write it as a table"),
        ("[choices]\nmass = 'V'", "`choices` names 'mass'; the choices are all_ignored, smoothing_mass"),
        ("[choices]\nsmoothing_mass = 'V-3'", "smoothing_mass of `choices` is 'V-3'; write one of 'V', 'V-1', 'V-2'"),
        ("[choices]\nsmoothing_mass = 1", "smoothing_mass of `choices` is 1; write one of"),
        ("[choices]\nsmoothing_mass = ['V']", r"smoothing_mass of `choices` is \['V'\]; write one of"),
        ("[operations.kl]\n", "`operations` names 'kl'; the operations are cross_entropy"),
        ("operations.kl_div = 1", "`operations.kl_div` is 1; map choices to values"),
        ("[operations.kl_div]\nsmoothing_mass = 'V'", "`operations.kl_div` names 'smoothing_mass'; the choices are mean_over, refusal"),
        ("silent = ['mass']", "`silent` names 'mass'; the choices are"),
        ("silent = ['refusal']\n[choices]\nrefusal = 'nan'", "`silent` names 'refusal', which `choices` gives a value; delete one of them"),
    ],
)
def test_a_file_that_is_wrong_is_refused_with_field_value_and_remedy(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "ours.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DialectError, match=words) as error:
        read(path)
    assert str(path) in str(error.value)


def test_what_is_no_dialect_and_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DialectError, match="'pytorch' is no dialect and no file; name one of torch, optax"):
        named("pytorch")
    with pytest.raises(DialectError, match="can't be read"):
        read(tmp_path)
    with pytest.raises(DialectError, match=r"the adapter x names the dialect 'pytorch'; name one of"):
        resolved("pytorch", "x")
    with pytest.raises(DialectError, match=r"the adapter x: refusal of `its dialect` is 'no'; write one of 'either', 'error', 'nan'"):
        resolved({"refusal": "no"}, "x")
    assert resolved({"refusal": "nan"}, "x") == Dialect("x", {"refusal": "nan"})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a = 1", "a is 1; a dialect is a table: write \\[a\\]"),
        ("[a]\nsource = ['x']", "\\[a\\]: `summary` is missing"),
        ("[a]\nsummary = 'x'", "\\[a\\]: `source` is missing"),
        ("[a]\nsummary = 'x'\nsource = ['x']\n[a.choices]\nrefusal = 'nan'", "nothing is said of all_ignored, smoothing_mass.*add a value"),
    ],
)
def test_a_dialect_of_the_package_is_whole(text: str, words: str) -> None:
    with pytest.raises(DialectError, match=words):
        parse_many(text, "many.toml")


# The ways in


def smoothing_by_others(cotangent: Any, logits: Any, target: Any, **options: Any) -> Any:
    """fairseq's loss, by our own reference."""
    choices = {"smoothing_mass": "V-1", "target_entropy": "dropped"}
    op = operation("smoothed_attention_loss")
    loss = op.forward(logits=logits, target=target, **options, **choices).round("float32")
    gradient = op.vjp(logits=logits, target=target, cotangent=cotangent, **options, **choices)["logits"].round("float32")
    return loss, {"logits": gradient}


@pytest.mark.parametrize("dialect", ["fairseq", {"target_entropy": "dropped"}])
def test_a_kernel_names_a_dialect_or_maps_choices(dialect: Any) -> None:
    v = vector("smoothed_attention_loss", logits=[X3], target=[[0]])
    right = kernel("x", "smoothed_attention_loss", smoothing_by_others, {"float32": A["float32"]}, dialect)
    wrong = replace(right, dialect="wenet")
    assert [f.verdict for _, _, found in judged(right, [v]) for f in found] == [Verdict.PASS] * 2
    assert [f.verdict for _, _, found in judged(wrong, [v]) for f in found] == [Verdict.FAIL, Verdict.PASS]


def test_a_run_by_another_dialect(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    glob = "kl_div/edges/mean-3d-float64"
    assert main(["run", "numpy", "--case", glob, "--dialect", "torch"]) == 0
    path = tmp_path / "ours.toml"
    path.write_text("[choices]\nrefusal = 'often'", encoding="utf-8")
    assert main(["run", "numpy", "--case", glob, "--dialect", str(path)]) == 2
    assert "refusal of `choices` is 'often'" in capsys.readouterr().err
    path.write_text("[choices]\nrefusal = 'error'", encoding="utf-8")  # numpy's textbook gives 0, which no refusal permits
    assert main(["run", "numpy", "--case", "nll_loss/edges/target-V-float64", "--dialect", str(path), "--json", str(tmp_path / "f")]) == 0
    record = jsonlines.read(tmp_path / "f")
    assert (record.descriptions["numpy"].dialect.name, record.descriptions["numpy"].dialect.choices) == ("ours", {"refusal": "error"})
    assert any("no exception was raised" in result.finding.note for result in record.results)


def test_dialects_are_shown_and_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dialects"]) == 0
    assert all(f"{name}: " in capsys.readouterr().out for name in ("torch",))
    path = tmp_path / "ours.toml"
    path.write_text(GOOD, encoding="utf-8")
    assert main(["dialects", str(path)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "ours: ours",
        "    smoothing_mass V-1, refusal nan",
        "    kl_div: mean_over rows, half_output float32",
        "    docs/losses.md",
    ]
    assert main(["dialects", "pytorch"]) == 2
    assert main(["dialects", "--write", str(tmp_path / "none.md")]) == 2
    assert "name the chapter" in capsys.readouterr().err


def test_the_chapters_tables_are_what_the_dialects_and_the_vectors_say() -> None:
    page = (ROOT / "docs/spec/choices.md").read_text(encoding="utf-8")
    assert page == filled(page, "make spec", tables(read_vectors())), "make them anew: make spec"


def test_the_chapter_has_a_section_for_every_choice() -> None:
    page = (ROOT / "docs/spec/choices.md").read_text(encoding="utf-8")
    assert [name for name in choices() if f"\n### {name}\n" not in page] == []
    assert module.KEYS == ("summary", "source", "choices", "operations", "silent")
