"""Expectations of known deviations are strict: what isn't covered fails, and so does what covers too much."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from conformance.deviations import Comparison, ExpectedError, compare, packaged, parse, read, refuse_unknown
from conformance.draft import draft, patterns
from conformance.judge import Finding, Verdict
from conformance.runner import Result

CASE = "kl_div/edges/masked-float32"
OTHER = "kl_div/edges/plain-float32"


def result(case: str = CASE, direction: str = "forward", output: str = "output", verdict: str = "fail", mode: str = "eager") -> Result:
    finding = Finding(case, case.split("/")[0], direction, output, "float32", Verdict(verdict), 2.0, 3.0, {}, None, ("KLD-3", "GEN-5"), ())
    return Result("torch", mode, "A", False, 0.0, finding)


def expectations(entry: str = "", cases: str = f'"{CASE}"', clause: str = "KLD-3", versions: str = 'torch = "2.13.*"') -> str:
    return f'[versions]\n{versions}\n[[deviation]]\ncases = [{cases}]\nclause = "{clause}"\nreason = "0 * -inf"\n{entry}\n'


def held(results: list[Result], text: str, version: str = "2.13.0+cpu") -> Comparison:
    return compare(results, parse(text, "torch.toml"), {"torch": version})


def test_an_entry_of_a_mode_that_was_not_asked_is_let_be() -> None:
    entry = parse(expectations('mode = "compile"'), "torch.toml")
    assert "covers no result" in compare([result()], entry, {}).problems[0]
    assert not compare([result()], entry, {}, idle=("compile",)).problems


def test_a_failure_that_is_expected_holds() -> None:
    comparison = held([result(), result(OTHER, verdict="pass")], expectations())
    assert comparison.holds
    assert [deviation.reason for _, deviation in comparison.expected] == ["0 * -inf"]
    assert not comparison.notes


@pytest.mark.parametrize("verdict", ["fail", "error", "crash", "timeout"])
def test_every_failing_verdict_must_be_expected(verdict: str) -> None:
    assert held([result(verdict=verdict)], expectations()).holds
    assert not compare([result(verdict=verdict)], None, {}).holds


@pytest.mark.parametrize("verdict", ["pass", "skip", "unsupported"])
def test_what_does_not_fail_needs_no_expectation(verdict: str) -> None:
    assert compare([result(verdict=verdict)], None, {}).holds


def test_a_failure_that_is_not_expected_falls_short() -> None:
    comparison = held([result(), result(OTHER)], expectations())
    assert not comparison.holds
    assert [there.finding.case for there in comparison.unexpected] == [OTHER]


@pytest.mark.parametrize("verdict", ["pass", "unsupported"])
def test_a_deviation_of_which_a_part_no_longer_fails_is_an_error(verdict: str) -> None:
    comparison = held([result(), result(mode="jit", verdict=verdict)], expectations())
    assert not comparison.holds
    assert "no longer needed" in comparison.problems[0]
    assert held([result(), result(mode="jit", verdict=verdict)], expectations('mode = "eager"')).holds


def test_a_deviation_that_varies_may_pass_and_excuses_no_more() -> None:
    varying = expectations("varies = true")
    passing = result(mode="jit", verdict="pass")
    assert held([result(), passing], varying).holds
    assert held([passing], varying).holds
    assert held([result(OTHER)], varying).unexpected
    assert held([result()], expectations("varies = true", clause="KLD-4")).problems


def test_another_clause_than_expected_is_unexpected() -> None:
    assert not held([result()], expectations(clause="KLD-4")).holds
    assert held([result()], expectations(clause="GEN-5")).holds


def test_an_entry_that_excuses_nothing_of_its_own_is_an_error() -> None:
    twice = expectations() + expectations().partition("\n[[")[2].join(("[[", ""))
    comparison = held([result()], twice)
    assert not comparison.unexpected
    assert "excuses nothing" in comparison.problems[0]
    assert "excuses nothing" in held([result()], expectations(clause="KLD-4")).problems[0]


@pytest.mark.parametrize("entry", ['direction = "backward"', 'output = "p"', 'mode = "jit"'])
def test_a_narrower_deviation_covers_no_more(entry: str) -> None:
    comparison = held([result()], expectations(entry))
    assert comparison.unexpected
    assert "covers no result" in comparison.problems[0]


def test_only_what_ran_is_compared() -> None:
    assert held([result(OTHER, verdict="pass")], expectations()).holds


def test_an_entry_of_which_a_part_ran_may_be_there_for_the_rest() -> None:
    above = expectations() + expectations(cases=f'"{CASE}", "{OTHER}"').partition("\n[[")[2].join(("[[", ""))
    known = parse(above, "torch.toml")
    assert "excuses nothing" in compare([result()], known, {}, ids={CASE}).problems[0]
    for part in ({CASE, OTHER}, None):
        assert not compare([result()], known, {}, ids=part).problems
    elsewhere = parse(expectations('mode = "jit"', cases=f'"{CASE}", "{OTHER}"'), "torch.toml")
    assert "covers no result" in compare([result()], elsewhere, {}, ids={CASE}).problems[0]
    for part in ({CASE, OTHER}, None):
        assert not compare([result()], elsewhere, {}, ids=part).problems


def test_a_deviation_ends_with_its_version() -> None:
    text = expectations('until = "2.14"')
    assert held([result()], text).holds
    assert held([result()], text, "2.13.9").holds
    ended = held([result()], text, "2.14.0")
    assert ended.unexpected
    assert "was to end with version 2.14" in ended.problems[0]


def test_another_release_is_noted() -> None:
    comparison = held([result()], expectations(), "2.14.1")
    assert comparison.holds
    assert comparison.notes == ("torch.toml was measured with torch 2.13.*; this is torch 2.14.1",)


def test_cases_that_do_not_exist_are_refused() -> None:
    known = parse(expectations(cases='"kl_div/edges/*", "kl_div/edges/nowhere"'), "torch.toml")
    with pytest.raises(ExpectedError, match="no case is named 'kl_div/edges/nowhere'; delete it"):
        refuse_unknown(known, [CASE])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[versions", "is no TOML"),
        ("speed = 1", "unknown key 'speed'"),
        ("versions = 3", "must map packages to globs"),
        ("deviation = 3", "begin each with"),
        (expectations("colour = 'red'"), "deviation 1 has an unknown key 'colour'"),
        (expectations("until = 2.14"), "write it as a string"),
        (expectations("until = 'soon'"), "write a version"),
        (expectations("varies = 'yes'"), "write true, or leave it out"),
        (expectations("varies = false"), "write true, or leave it out"),
        (expectations("until = '2.14'", versions=""), "there is none; add it"),
        (expectations("direction = 'sideways'"), "write forward or backward"),
        (expectations(cases=""), "has no `cases`"),
        (expectations(cases="3"), "must be a list of case ids"),
        (expectations(clause=""), "has no `clause`"),
    ],
)
def test_a_file_that_is_not_what_it_should_be_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(ExpectedError, match=r"^torch\.toml") as caught:
        parse(text, "torch.toml")
    assert sentence in str(caught.value)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExpectedError, match="can't be read"):
        read(tmp_path / "none.toml")
    assert packaged("no-such-backend") is None


def test_a_name_of_a_program_is_no_name_of_a_file() -> None:
    assert packaged("numpy") is not None
    assert packaged(f"exec:python3 -c '{'x' * 300}'") is None
    assert packaged("../expected/numpy") is None


def test_a_draft_is_met_by_the_results_that_it_was_drafted_from() -> None:
    stems = [f"kl_div/edges/{name}" for name in "abcdef"]
    tensors = [("forward", "output"), ("backward", "p"), ("backward", "log_q")]
    results = []
    for number, (stem, dtype) in enumerate(itertools.product(stems, ("float32", "float16"))):
        for mode, (direction, output) in itertools.product(("eager", "jit"), tensors):
            bad = (number * 7 + len(mode) * 3 + len(output)) % (2 + number % 3) == 0
            results.append(result(f"{stem}-{dtype}", direction, output, "fail" if bad else "pass", mode))
    text = draft(results, {"torch": "2.13.0+cpu", "other-package": "1.2"})
    comparison = held(results, text)
    assert comparison.expected
    assert comparison.holds
    assert parse(text, "draft").versions == {"torch": "2.13.*", "other-package": "1.2.*"}


def test_a_draft_of_nothing_expects_nothing() -> None:
    assert not parse(draft([result(verdict="pass")], {"torch": "2.13.0"}), "draft").deviations


def test_a_glob_stands_for_the_dtypes_of_one_case_and_for_no_other() -> None:
    ids = ["o/edges/a-float32", "o/edges/a-float16", "o/edges/b-float32", "o/edges/b-float16", "o/edges/b-c-float16"]
    assert patterns(ids[:2], ids) == ["o/edges/a-*"]
    assert patterns(ids[2:4], ids) == ["o/edges/b-float16", "o/edges/b-float32"]
    assert patterns(ids[:1], ids) == ["o/edges/a-float32"]
