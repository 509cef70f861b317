"""The spec is traceable: each clause has its sentences and its evidence, each vector its clauses, and no statement changes unseen."""

from __future__ import annotations

import ast
import importlib
import re
from functools import cache
from itertools import groupby
from pathlib import Path

import pytest

from conformance import spec
from conformance.case import Vector
from conformance.spec import Level, Section, SpecError, sections, sections_of
from refimpl.operation import GENERAL, Operation
from refimpl.operations import operations
from tests import ledger
from tests.pages import without_code

ROOT = Path(__file__).parents[1]
CHAPTERS = ROOT / "docs" / "spec"
PREFIXES = {section.prefix for section in sections().values()}
LABELS = {"Mathematics", "Reason", "Today", "Applied by", "No vectors", "Shown by", "Withdrawn"}
SPEAKING = [  # what may mention clauses
    *(ROOT / "docs").rglob("*.md"),
    *(ROOT / "conformance" / "expected").glob("*.toml"),
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "vectors/README.md")),
]

EACH = pytest.mark.parametrize("section", sections().values(), ids=lambda section: section.id)
EACH_OPERATION = pytest.mark.parametrize("operation", operations().values(), ids=lambda operation: operation.name)


@cache
def installed() -> tuple[Vector, ...]:
    from conformance.vectors import read

    return tuple(read())


def mentioned(text: str) -> set[str]:
    """The ids in a text that have the prefix of a chapter."""
    return {id for id in spec.CLAUSE.findall(text) if id.rpartition("-")[0] in PREFIXES}


# The clauses.


@EACH
def test_a_statement_is_one_sentence(section: Section) -> None:
    assert section.statement.endswith("."), section.statement
    assert not re.search(r"[.!?] ", section.statement), f"{section.id} has more than one sentence: {section.statement}"


@EACH
def test_a_clause_says_why_and_what_libraries_do(section: Section) -> None:
    assert set(section.parts) <= LABELS, f"{section.id} has paragraphs that no reader expects: {set(section.parts) - LABELS}"
    assert section.parts.get("Reason"), f"{section.id} has no **Reason.**"
    assert section.parts.get("Today"), f"{section.id} has no **Today.**"


@pytest.mark.parametrize("prefix", sorted(PREFIXES))
def test_numbers_have_no_gaps(prefix: str) -> None:
    numbers = [int(section.id.rpartition("-")[2]) for section in sections().values() if section.prefix == prefix]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len({section.chapter for section in sections().values() if section.prefix == prefix}) == 1, "a prefix belongs to one chapter"


def test_a_chapter_has_one_prefix() -> None:
    for chapter, group in groupby(sections().values(), key=lambda section: section.chapter):
        assert len({section.prefix for section in group}) == 1, chapter


@EACH_OPERATION
def test_an_operation_and_its_chapter_have_the_same_clauses(operation: Operation) -> None:
    declared = {clause.id for clause in operation.clauses}
    stated = {section.id for section in sections().values() if section.chapter == operation.name}
    assert declared == stated


def test_what_is_judged_of_every_operation_is_stated() -> None:
    assert {clause.id for clause in GENERAL} <= {section.id for section in sections().values() if section.chapter == "general"}


@EACH_OPERATION
def test_an_edge_is_one_clause_and_is_documented(operation: Operation) -> None:
    module = importlib.import_module(f"refimpl.operations.{operation.name}")
    documented = re.findall(r"^\s+(E\d+)\b", module.__doc__ or "", flags=re.MULTILINE)
    assert documented, "the docstring has no edges"
    assert documented == [f"E{number}" for number in range(1, len(documented) + 1)]
    assert sorted(documented) == sorted(clause.edge for clause in operation.clauses if clause.edge is not None)
    source = Path(str(module.__file__)).read_text(encoding="utf-8")
    assert set(re.findall(r"\bE\d+\b", source)) <= set(documented)


# The evidence.


@EACH
def test_a_clause_has_vectors_or_says_why_not(section: Section) -> None:
    shown = any(section.shown_by(vector.case.clauses) for vector in installed())
    if "No vectors" in section.parts:
        assert section.parts["No vectors"]
        assert not shown, f"vectors are evidence for {section.id}; take its **No vectors.** out"
    else:
        assert shown, f"no vector is evidence for {section.id}: give it an example, an **Applied by.** or a **No vectors.** with the reason"


@EACH
def test_a_rule_is_applied_by_clauses_of_operations(section: Section) -> None:
    assert not (section.of_every_vector and section.applied_by)
    for id in section.applied_by:
        assert id in sections(), f"{section.id} is applied by {id}, which doesn't exist"
        assert sections()[id].chapter in operations(), f"{section.id} is applied by {id}, which is no clause of an operation"
        assert not sections()[id].applied_by


def test_a_vector_names_clauses_that_exist() -> None:
    for vector in installed():
        assert vector.case.clauses, vector.case.id
        for id in vector.case.clauses:
            assert id in sections(), f"{vector.case.id} names {id}, which doesn't exist"
            assert sections()[id].chapter in (vector.case.operation, "general"), f"{vector.case.id} names {id}, of another operation"


@EACH_OPERATION
def test_an_example_is_a_vector(operation: Operation) -> None:
    shown = {id for vector in installed() if vector.case.operation == operation.name for id in vector.case.clauses}
    missing = [clause.id for clause in operation.clauses if clause.examples and clause.id not in shown]
    assert not missing, f"no vector shows {missing}: run `lossref generate`"


@EACH
def test_what_is_shown_by_a_test_is_shown_by_one_that_exists(section: Section) -> None:
    listed = section.parts.get("Shown by", "")
    named = re.findall(r"`(tests/\w+\.py)::(test_\w+)`", listed)
    assert len(named) == listed.count("`") // 2
    for file, test in named:
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        assert test in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, f"{section.id}: {file} has no {test}"


# The ledger.


def test_no_statement_changed_its_words_unrecorded() -> None:
    recorded = ledger.read(ledger.PATH.read_text(encoding="utf-8"))
    assert not ledger.changed(recorded, sections()), "a clause never changes its meaning; for its wording alone see CONTRIBUTING.md"
    assert list(recorded) == list(sections()), "run `python -m tests.ledger`"


def test_the_ledger_refuses_what_changes_a_meaning() -> None:
    def section(statement: str, level: Level = Level.MUST) -> dict[str, Section]:
        return {"TOY-1": Section("TOY-1", level, statement, "", "toy")}

    first = ledger.updated({}, section("The loss is 1."), (), "1.0.0")
    assert ledger.updated(first, section("The  loss\nis 1."), (), "1.1.0") == first
    reworded, gone, weaker = section("The loss is one."), dict[str, Section](), section("The loss is 1.", Level.MAY)
    for now, named in ((reworded, ()), (gone, ()), (gone, ("TOY-1",)), (weaker, ()), (weaker, ("TOY-1",))):
        assert ledger.changed(first, now) == ["TOY-1"]
        with pytest.raises(ValueError, match="TOY-1: restore"):
            ledger.updated(first, now, named, "1.1.0")
    corrected = ledger.updated(first, reworded, ("TOY-1",), "1.1.0")["TOY-1"]
    assert corrected.since == "1.0.0"
    assert corrected.digest != first["TOY-1"].digest


# The pages.


def test_every_chapter_is_among_the_contents_and_states_its_clauses() -> None:
    rows = re.findall(r"^\| \[[^\]]+\]\((\w+)\.md\) \| (\w*) ?\|", (CHAPTERS / "README.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert [chapter for chapter, _ in rows] == [path.stem for path in spec.chapters()[1:]]
    assert {chapter: prefix for chapter, prefix in rows if prefix} == {section.chapter: section.prefix for section in sections().values()}


@pytest.mark.parametrize("path", SPEAKING, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_clause_that_is_mentioned_exists(path: Path) -> None:
    unknown = sorted(mentioned(path.read_text(encoding="utf-8")) - sections().keys())
    assert not unknown, f"{path.name} speaks of {unknown}"


@pytest.mark.parametrize("path", sorted(CHAPTERS.glob("*.md")), ids=lambda path: path.stem)
def test_a_chapter_reads_as_it_stands_on_any_forge(path: Path) -> None:
    text = without_code(path.read_text(encoding="utf-8"))
    assert not re.search(r"<(?:/|[a-z]+(?!\w*:))", text), "HTML"
    lines = text.splitlines()
    for before, line in zip(["", *lines], lines, strict=False):
        inside = before.strip() and not re.match(r"(?:[-*+] |\d+\. |  )", before)
        assert not (inside and re.match(r"[-*+] ", line)), f"a paragraph's line begins like a list: {line!r}"
    unmarked = re.sub(r"(?<!\S)\*[^*\s][^*]*\*|\*\*[^*]+\*\*|(?<=\s)\*(?=\s)", "", text)
    assert "*" not in unmarked, "a single * may become emphasis: write ·, or a code span"


def test_a_heading_that_is_almost_a_clause_is_refused() -> None:
    with pytest.raises(SpecError, match=r"toy\.md: the heading '### TOY-1 MUST' isn't like"):
        sections_of("toy", "# toy\n\n### TOY-1 MUST\n\nIt is.\n")


def test_the_parts_of_a_clause_are_found_by_their_leading_words() -> None:
    text = "### TOY-1 (MUST)\n\nIt is,\nso it is.\n\n**Mathematics.** One:\n\n```\n**no part**\n```\n\n**Applied by.** SCE-4, CE-1, SCE-4\n"
    (section,) = sections_of("toy", text)
    assert section.statement == "It is, so it is."
    assert section.parts == {"Mathematics": "One:\n\n```\n**no part**\n```", "Applied by": "SCE-4, CE-1, SCE-4"}
    assert section.applied_by == ("SCE-4", "CE-1")
    assert section.shown_by(("CE-1",))
    assert section.shown_by(("TOY-1",))
    assert not section.shown_by(("CE-10",))
    (every,) = sections_of("toy", "### TOY-1 (MUST)\n\nIt is.\n\n**Applied by.** every vector\n")
    assert every.shown_by(())
