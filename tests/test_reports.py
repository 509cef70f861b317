"""The reports on a run: the summary on a terminal, JUnit, GitHub, Markdown, a badge."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import junitparser
import pytest
from markdown_it import MarkdownIt
from rich.console import Console

from conformance.backend import Result
from conformance.cli import main
from conformance.deviations import parse
from conformance.record import Record, Selection
from conformance.report import badge, github, grades, jsonlines, junit, markdown, terminal
from conformance.report.highlights import SHOWN, worst
from conformance.runner import Run
from refimpl.operations import operations
from tests.records import DIGEST, KNOWN, VECTORS, crashed, made, printed, ran, result, wrong

HOSTILE = "an \x1b[31mescape\x00, a | pipe, `ticks`,\n```\n::error::<script>alert(1)</script> *stars* [link](x) 100%"

BROKEN = ("LSM-1", "LSM-2", "SCE-4")


def many() -> Record:
    """A dozen backends, some with long names, that have every operation, with failures everywhere."""
    names = [f"backend{number}" for number in range(10)] + ["kernels_of_ours.losses:smoothed", "exec:./losses --device cuda:0 --verbose"]
    return made(
        {
            name: [
                replace(
                    result(name, "fail", f"{operation}/edges/one-{dtype}", dtype=dtype, direction=direction, clauses=BROKEN, kept=kept),
                    composed=True,
                )
                for operation in operations()
                for dtype in ("float64", "float16")
                for direction, kept in (("forward", ("S", "A", "B", "N")), ("backward", ("A", "B", "N")))
            ]
            for name in names
        }
    )


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("width", [80, 100, 140])
def test_nothing_is_cut_off(width: int, apart: bool) -> None:
    record = many()
    text = printed(record, width, apart=apart, color_system=None)
    assert "\u2026" not in text
    lines = [line for line in text.splitlines() if "again " not in line]
    assert max(map(len, lines)) <= width
    cells = re.findall(r"[A-Z?x-](?:/[A-Z?x-])?\*? 3", text)
    assert len(cells) == len(record.backends) * len(operations()) * (2 if apart else 1)
    together = re.sub(r"\s+", "", text)
    for operation in operations().values():
        assert operation.prefix + operation.name in together
    assert "kernels_of_ours.losses:smo" in text, "a third of the columns is for names"
    for name in record.backends:
        for part in name.split():
            assert part[:20] in text.replace("\n", " ")


def test_a_summary_fits_a_screen() -> None:
    text = printed(ran(wrong(1, 4)), 100)
    assert text.count("\n") <= 40


def test_without_a_terminal_it_is_plain_text_and_no_line_is_folded() -> None:
    noted = made({"mine": [result(note="so " * 200)]})
    text = printed(noted, None)
    assert "\x1b" not in text
    assert "so " * 199 in text
    folded = printed(noted, 100, color_system=None)
    assert "so " * 60 not in folded
    assert "\n" + " " * 19 + "so so " in folded, "a line goes on below its text"


def test_a_name_is_no_markup() -> None:
    names = ["exec:./losses [fast]", "exec:./run [/x]", "dir:a:bomb:b"]
    stream = io.StringIO()
    terminal.summary(terminal.console(stream), made({name: [result(name)] for name in names}))
    assert all(name in stream.getvalue() for name in names)


def test_a_pipe_is_no_terminal_whatever_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    stream = io.StringIO()
    out = terminal.console(stream)
    terminal.summary(out, many())
    assert not out.is_terminal
    assert "\x1b" not in stream.getvalue()


def test_what_is_read_is_what_was_written_whatever_a_backend_says(tmp_path: Path) -> None:
    record = made({"mine": [result("mine", "error", note="one\u2028two\x85three")]})
    jsonlines.write(tmp_path / "results.jsonl", record)
    assert list(jsonlines.lines(jsonlines.read(tmp_path / "results.jsonl"))) == list(jsonlines.lines(record))


def test_no_color_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[3" in printed(many(), 100, color_system="standard")
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[3" not in printed(many(), 100, color_system="standard")


def test_a_cell_has_the_loosest_grade_of_all_dtypes() -> None:
    def passing(backend: str, *dtypes: str) -> list[Result]:
        kept = {"float64": ("R", "S", "A", "B", "N"), "float16": ("B", "N"), "float32": ()}
        return [result(backend, "pass", dtype=dtype, kept=kept[dtype]) for dtype in dtypes]

    unmeasured = result("c", "pass", kept=None, ratio=None)
    record = made(
        {
            "a": passing("a", "float64", "float16"),
            "b": passing("b", "float64", "float32"),
            "c": [unmeasured],
            "d": [*passing("d", "float64"), replace(unmeasured, backend="d"), result("d", direction="backward", kept=("S", "A", "B", "N"))],
        }
    )
    assert [grades.shown(grades.by_operation(record.cells, row)["log_softmax"]).plain for row in grades.rows(record.cells)] == [
        "B/-",
        "x/-",
        "?/-",
        "R/S 1",
    ]


def test_the_worst_of_each_backend_comes_first() -> None:
    there = [result("a", ratio=9.0), result("a", ratio=8.0, operation="kl_div"), result("b", ratio=2.0), result("a", ratio=float("nan"))]
    assert [(one.backend, str(one.finding.ratio)) for one in worst(there)] == [("a", "nan"), ("b", "2.0"), ("a", "8.0"), ("a", "9.0")]


def test_the_summary_shows_the_worst_unexpected_failures_or_else_known_deviations_with_their_reasons() -> None:
    text = printed(ran(wrong(1, 2)), None)
    assert f"The {SHOWN} worst of 4 unexpected failures:" in text
    assert text.count("\nFAIL  ") == SHOWN
    assert "lossref run scripted --case log_softmax/edges/case-1-float64\n" in text
    known = parse('[[deviation]]\ncases = ["*"]\nclause = "LSM-1"\nreason = "0 * -inf."\nissue = "owner/name#1"\n', "x.toml")
    expected = printed(ran(wrong(1, 2), VECTORS[1:3], known), None)
    assert "Nothing failed unexpectedly. The 3 worst of 4 known deviations:" in expected
    assert "known: 0 * -inf (owner/name#1)" in expected
    assert "FAIL" not in printed(ran(wrong()), None)


def test_progress_counts_and_says_how_much_time_is_left() -> None:
    stream = io.StringIO()
    out = Console(file=stream, width=80, force_terminal=True, color_system=None)
    with Run([wrong(1, 4)], VECTORS) as run, terminal.progress(out, run.total) as bar:
        assert bar is not None
        (task,) = bar.tasks
        kinds = {"pass": "passed", "fail": "unexpected"}
        for _ in terminal.follow(run.results(), bar, lambda one: kinds.get(one.finding.verdict, "")):
            pass
        assert (task.completed, task.total) == (12, 12)
        assert (task.fields["passed"], task.fields["expected"], task.fields["unexpected"]) == (8, 0, 4)
        bar.refresh()
        shown = stream.getvalue()
    assert "12/12 8 passed 0 expected 4 unexpected" in shown
    assert re.search(r"unexpected \d+:\d\d", shown)
    with terminal.progress(out, 1) as bar:
        assert bar is not None
        list(terminal.follow([result(), result(direction="backward")], bar, lambda _: "unexpected"))
        assert (bar.tasks[0].completed, bar.tasks[0].fields["unexpected"]) == (1, 2), "one call, two tensors"


def suites(record: Record) -> list[junitparser.TestSuite]:
    return list(junitparser.JUnitXml.fromstring(junit.document(record).encode()))


def test_junit_has_a_suite_for_each_mode_and_a_case_for_each_vector() -> None:
    record = ran(wrong(1, 4), known=KNOWN)
    eager, jit, expectations = suites(record)
    assert [suite.name for suite in (eager, jit)] == ["scripted", "scripted jit"]
    assert [(suite.tests, suite.failures, suite.errors, suite.skipped) for suite in (eager, jit)] == [(6, 2, 0, 0), (6, 1, 0, 1)]
    assert (expectations.name, expectations.failures) == ("expectations", 1), "one deviation covers a case that passes"
    failed = [case for case in eager if case.result]
    assert [case.name for case in failed] == ["log_softmax/edges/case-1-float64", "log_softmax/edges/case-4-float64"]
    assert failed[0].classname == "scripted.log_softmax"
    assert isinstance(failed[0].result[0], junitparser.Failure)
    assert "again        lossref run scripted --case log_softmax/edges/case-1-float64" in failed[0].result[0].text
    (skipped,) = [case for case in jit if isinstance(next(iter(case.result), None), junitparser.Skipped)]
    assert skipped.name == "log_softmax/edges/case-1-float64 [jit]"
    assert skipped.result[0].message == "known deviation from LSM-1: 0 * -inf. (owner/name#1)"
    stated = {one.name: one.value for one in jit.properties()}
    assert stated["version of scripted"] == "1.0"
    assert stated["vectors"] == DIGEST
    assert stated["selection"] == "tier full"
    assert stated["grade of log_softmax float64"].endswith(" 1")
    names = [(case.classname, case.name) for suite in suites(record) for case in suite]
    assert len(set(names)) == len(names), "GitLab tells cases apart by these"


def test_junit_fails_exactly_where_the_run_falls_short() -> None:
    everything = parse('[[deviation]]\ncases = ["*"]\nclause = "LSM-1"\nreason = "r"\n', "x.toml")
    known, stale = ran(wrong(1), VECTORS[1:2], everything), ran(wrong(), VECTORS[:2], everything)
    for record, holds in ((ran(wrong()), True), (ran(wrong(1)), False), (crashed(), False), (known, True), (stale, False)):
        assert record.holds == holds
        top = ElementTree.fromstring(junit.document(record))
        assert (int(top.attrib["failures"]) + int(top.attrib["errors"]) == 0) == holds
        assert int(top.attrib["tests"]) == len(top.findall(".//testcase"))


def test_junit_calls_a_crash_an_error_and_skips_what_is_unsupported() -> None:
    (eager, _) = suites(crashed())
    assert (eager.failures, eager.errors) == (0, 1)
    partly = [result(verdict="pass"), result(verdict="unsupported", direction="backward", note="it has no derivatives")]
    (suite,) = suites(made({"mine": [*partly, result(verdict="unsupported", case="log_softmax/edges/two-float64", note="no")]}))
    passed, skipped = suite
    assert (suite.tests, suite.failures, suite.skipped) == (2, 0, 1)
    assert passed.is_passed
    assert passed.system_out == "unsupported: gradient of output: it has no derivatives"
    assert skipped.result[0].message == "unsupported: output: no"
    assert passed.time == 0.25


def test_junit_spells_what_xml_cannot_hold() -> None:
    (suite,) = suites(made({"mine": [result(note=HOSTILE + "\ud800")]}))
    (case,) = suite
    assert r"an \x1b[31mescape\x00, a | pipe" in case.result[0].text
    assert "<script>" in case.result[0].text
    assert r"\ud800" in case.result[0].text


def test_github_is_told_on_lines_of_their_own_and_no_more_than_it_shows() -> None:
    record = made({"mine": [result(note=HOSTILE, case=f"log_softmax/edges/a:b,{number}-float64") for number in range(25)]})
    lines = list(github.commands(record))
    errors = [line for line in lines if line.startswith("::error ")]
    assert len(errors) == github.MOST
    assert lines == [*errors, f"::notice title=lossref::{'0 passed, 0 failed as expected, 25 failed unexpectedly, 0 unsupported'}"]
    assert errors[0].startswith("::error title=mine log_softmax/edges/a%3Ab%2C0-float64::FAIL  log_softmax")
    assert "\n" not in errors[0]
    assert "```%0A::error::<script>" in errors[0]
    assert "100%25" in errors[0]
    assert errors[-1] == "::error title=lossref::and 16 more: `lossref run --json FILE` keeps them all"
    assert len([line for line in github.commands(made({"mine": [result()] * 10})) if line.startswith("::error ")]) == github.MOST


def test_the_summary_of_a_step_is_added_to_what_is_there(
    kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = tmp_path / "summary.md"
    summary.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    assert main(["report", str(kept), "--github"]) == 1
    assert summary.read_text() == "before\n" + markdown.page(jsonlines.read(kept))
    assert capsys.readouterr().out.count("::error ") == 4
    summary.write_text("x" * 2**20)
    assert main(["report", str(kept), "--github"]) == 2
    assert "GitHub takes no summary of more than 1048576" in capsys.readouterr().err
    monkeypatch.delenv("GITHUB_STEP_SUMMARY")
    assert main(["report", str(kept), "--github"]) == 1


def tokens(text: str) -> list[str]:
    return [token.type for token in MarkdownIt("commonmark").enable("table").parse(text)]


def test_markdown_is_well_formed_whatever_a_backend_says() -> None:
    plain = markdown.page(made({"mine": [result(note="plain")]}))
    strange = markdown.page(made({"mine": [result(note=HOSTILE)]}))
    assert tokens(plain) == tokens(strange)
    assert tokens(plain).count("table_open") == 2
    assert tokens(plain).count("fence") == 1
    named = made({HOSTILE: [result(HOSTILE)]})
    assert tokens(markdown.page(named)).count("td_open") == tokens(plain).count("td_open")
    assert "html_block" not in tokens(strange) + tokens(markdown.page(named))
    assert "<script>" not in MarkdownIt("commonmark").enable("table").render(markdown.page(named))


def test_markdown_stays_small() -> None:
    loud = made({f"backend{number}": [result(f"backend{number}", note="x" * 10**6)] * 3 for number in range(12)})
    stale = {name: replace(one, problems=("y" * 10**5,) * 100) for name, one in loud.comparisons.items()}
    assert len(markdown.page(replace(loud, comparisons=stale)).encode()) < 50_000


def test_markdown_says_what_changed() -> None:
    text = markdown.page(ran(wrong(1, 4)), ran(wrong(1)))
    assert "\n#### Worse\n" in text
    assert "scripted log\\_softmax/edges/case-4-float64 output: pass -\\> fail" in text
    assert "Since" not in markdown.page(ran(wrong(1, 4)))


@pytest.mark.parametrize(
    ("record", "message", "colour"),
    [
        (made({"mine": [result(verdict="pass", kept=("A", "B", "N"))]}), "grade A/- | full | 20c54164", "green"),
        (made({"mine": [result(verdict="pass", kept=("N",))]}), "grade N/- | full | 20c54164", "yellow"),
        (made({"mine": [result()]}), "grade A/-, 1 broken | full | 20c54164", "red"),
        (made({"mine": [result(verdict="unsupported")]}), "grade - | full | 20c54164", "lightgrey"),
        (
            made({"mine": [result(verdict="pass")]}, selection=Selection("core", "log_softmax", "float64", ("*/one-*",))),
            "grade A/- | core float64 a part | 20c54164",
            "green",
        ),
    ],
)
def test_a_badge_carries_grade_tier_and_digest(record: Record, message: str, colour: str) -> None:
    label = "lossref mine" + (" log_softmax" if record.selection.operation else "")
    assert json.loads(badge.endpoint(record)) == {"schemaVersion": 1, "label": label, "message": message, "color": colour}
    top = ElementTree.fromstring(badge.svg(record))
    assert top.attrib["aria-label"] == f"{label}: {message}"
    assert badge.COLOURS[colour] in badge.svg(record)
    space = "{http://www.w3.org/2000/svg}"
    texts = top.findall(f".//{space}text")
    assert [text.text for text in texts] == [label, message]
    ends = [float(text.attrib["x"]) + float(text.attrib["textLength"]) for text in texts]
    assert ends[0] < float(texts[1].attrib["x"])
    assert ends[1] < float(top.attrib["width"])


def test_a_badge_of_known_deviations_is_orange_and_spells_names() -> None:
    everything = parse('[[deviation]]\ncases = ["*"]\nclause = "LSM-1"\nreason = "r"\n', "x.toml")
    record = ran(wrong(1), VECTORS[1:2], everything)
    assert badge.parts(record)[2] == "orange"
    named = made({"a<b&c": [result("a<b&c", verdict="pass")]})
    assert ElementTree.fromstring(badge.svg(named)).attrib["aria-label"].startswith("lossref a<b&c: ")
