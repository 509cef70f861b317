"""The page of findings: each defect by its shortest case, asked again, and an error where it doesn't show."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from conformance.adapter import backends
from conformance.cli import main
from conformance.deviations import packaged, parse, read
from conformance.findings import DefectError, defects, shown
from conformance.vectors import read as vectors

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/findings.md").read_text(encoding="utf-8")
CASES = '"softmax_cross_entropy/edges/zero-probability-masked-*", "softmax_cross_entropy/regression/masked-class-probabilities-*"'
ENTRY = """
[[deviation]]
cases = [{cases}]
direction = "forward"
clause = "{clause}"
reason = "0*log(0) is nan."
defect = "{title}"
{more}
"""


def entry(title: str = "The textbook is nan", clause: str = "SCE-7", cases: str = CASES, more: str = "") -> str:
    return ENTRY.format(title=title, clause=clause, cases=cases, more=more)


def titles(text: str) -> list[str]:
    return [line.removeprefix("### ") for line in text.splitlines() if line.startswith("### ")]


def section(name: str) -> str:
    return PAGE.partition(f"<!-- {name}: made by")[2].partition(f"<!-- end of {name} -->")[0]


@pytest.mark.parametrize("backend", [*backends(), "tfjs"])
def test_the_page_has_every_defect_that_is_named(backend: str) -> None:
    known = read(ROOT / "docs/examples/tfjs/expected.toml") if backend == "tfjs" else packaged(backend)
    named = [] if known is None else [one.defect for one in known.deviations if one.defect is not None]
    assert titles(section(backend)) == list(dict.fromkeys(named))


def test_the_shortest_case_in_the_usual_dtype_stands_for_a_defect() -> None:
    known = parse(entry() + entry("Another"), "numpy.toml")
    found = defects(known, vectors(operation="softmax_cross_entropy"))
    assert [one.title for one in found] == ["The textbook is nan", "Another"]
    assert found[0].vector.case.id == "softmax_cross_entropy/edges/zero-probability-masked-float32"


def test_entries_of_one_title_are_one_defect() -> None:
    (found,) = defects(parse(entry() + entry(clause="SCE-1"), "numpy.toml"), vectors(operation="softmax_cross_entropy"))
    assert [one.clause for one in found.deviations] == ["SCE-7", "SCE-1"]


def test_a_defect_without_a_case_or_a_failure_is_an_error() -> None:
    of = vectors(operation="softmax_cross_entropy")
    with pytest.raises(DefectError, match="'The textbook is nan' names no case"):
        defects(parse(entry(cases='"softmax_cross_entropy/nowhere"'), "numpy.toml"), of)
    with pytest.raises(DefectError, match="doesn't show in softmax_cross_entropy/edges/zero-probability-masked-float32"):
        shown(defects(parse(entry(), "numpy.toml"), of), [], "numpy.toml")


@pytest.fixture
def expect(tmp_path: Path) -> Callable[[str], list[str]]:
    def write(text: str) -> list[str]:
        (tmp_path / "expected.toml").write_text(text, encoding="utf-8")
        return ["findings", "numpy", "--expect", str(tmp_path / "expected.toml")]

    return write


def test_the_command_asks_again_and_fills_the_page(expect: Callable[[str], list[str]], tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Head\n\n<!-- numpy: made by `lossref findings` -->\nold\n<!-- end of numpy -->\n", encoding="utf-8")
    assert main([*expect(entry(more='issue = "owner/name#7"')), "--write", str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    assert "old" not in text
    assert titles(text) == ["The textbook is nan"]
    assert "[owner/name#7](https://github.com/owner/name/issues/7)" in text
    assert "FAIL  softmax_cross_entropy  edges/zero-probability-masked-float32" in text
    assert "logits = np.array([[0.0, -inf]], dtype=np.float32)" in text
    assert 'print("expected", "0.0")' in text


def test_of_a_long_script_the_page_has_the_command(
    expect: Callable[[str], list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("conformance.findings.LONG", 10)
    assert main(expect(entry())) == 0
    out = capsys.readouterr().out
    assert "`lossref show softmax_cross_entropy/edges/zero-probability-masked-float32 --backend numpy --script` prints the script." in out
    assert "```python" not in out


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        (["findings", "--expect", "f.toml"], 2, "--expect is about one backend"),
        (["findings", "scipy"], 2, "name no defect; leave scipy out"),
    ],
)
def test_wrong_usage_is_said(arguments: list[str], status: int, sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == status
    assert sentence in capsys.readouterr().err


def test_a_defect_that_does_not_show_falls_short(expect: Callable[[str], list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(expect(entry(clause="SCE-1"))) == 1
    assert "if it is mended, delete its deviations" in capsys.readouterr().err


def test_a_page_without_the_place_is_refused(
    expect: Callable[[str], list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "page.md").write_text("# Nothing\n", encoding="utf-8")
    assert main([*expect(entry()), "--write", str(tmp_path / "page.md")]) == 2
    assert "has no place for the table 'numpy'" in capsys.readouterr().err
