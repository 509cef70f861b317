"""Merging shards: what comes out is the record of the run without shards, and what isn't the whole of one is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from conformance import vectors
from conformance.case import Vector
from conformance.cli import main
from conformance.deviations import Expectations, parse
from conformance.merge import MergeError, merge
from conformance.record import Record, Selection
from conformance.report import jsonlines
from tests.records import DIGEST, IDS, KNOWN, TWO_MODES, VECTORS, ran, without_time, wrong

# Of the failures of cases 1 and 4 under jit the first entry has both, so that where case 2 is absent the second excuses nothing.
SCATTERED = parse(
    """
[[deviation]]
cases = ["log_softmax/edges/case-[14]-float64"]
mode = "jit"
clause = "LSM-1"
reason = "the first"
[[deviation]]
cases = ["log_softmax/edges/case-*"]
mode = "jit"
clause = "LSM-1"
reason = "the second"
varies = true
[[deviation]]
cases = ["log_softmax/edges/case-[124]-float64"]
mode = "eager"
clause = "LSM-1"
reason = "the third"
""",
    "scattered.toml",
)


def shards(count: int, known: Expectations | None = KNOWN, *failing: int) -> dict[str, Record]:
    """The records of the shards of a run in which some cases fail."""
    found = {}
    for index in range(1, count + 1):
        selection = Selection(index=index, count=count)
        found[f"{index}.jsonl"] = ran(wrong(*failing), VECTORS[index - 1 :: count], known, selection)
    return found


def merged(there: dict[str, Record], known: Expectations | None = KNOWN) -> Record:
    return merge(there, VECTORS, IDS, {"scripted": known})


@pytest.mark.parametrize("known", [None, KNOWN, SCATTERED])
@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_shards_merge_into_the_run_without_them(count: int, known: Expectations | None) -> None:
    there = shards(count, known, 1, 2, 4)
    backwards = dict(reversed(there.items()))
    assert list(without_time(merged(backwards, known))) == list(without_time(ran(wrong(1, 2, 4), known=known)))


def test_a_shard_says_nothing_of_entries_that_only_the_whole_can_judge() -> None:
    """In the second of six shards the first entry has all that the second would excuse."""
    for record in shards(6, SCATTERED, 1, 2, 4).values():
        assert record.comparisons["scripted"].problems == ()
    useless = replace(SCATTERED, deviations=(*SCATTERED.deviations, replace(SCATTERED.deviations[0], output="weight")))
    there = shards(2, useless, 1, 2, 4)
    assert all(record.holds for record in there.values())
    (problem,) = merged(there, useless).comparisons["scripted"].problems
    assert "covers no result" in problem


def test_what_a_shard_can_judge_it_does() -> None:
    first, second = shards(2, KNOWN, 1).values()
    assert first.comparisons["scripted"].problems, "case 2, which is expected to fail, is in the first and passes"
    assert not second.comparisons["scripted"].problems


def test_a_shard_that_is_missing_or_there_twice_is_named() -> None:
    there = shards(3)
    with pytest.raises(MergeError, match=r"of 3 shards 2/3 is missing: run --shard 2/3, with --json F"):
        merged({name: record for name, record in there.items() if name != "2.jsonl"})
    with pytest.raises(MergeError, match=r"2\.jsonl and again\.jsonl are both shard 2 of 3"):
        merged({**there, "again.jsonl": there["2.jsonl"]})


def of(record: Record, **changed: Any) -> Record:
    return replace(record, descriptions={"scripted": replace(TWO_MODES, command="scripted", **changed)})


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda record: replace(record, digest="another"), r"2\.jsonl is of the vectors another, 1\.jsonl of 20c5"),
        (
            lambda record: replace(record, selection=replace(record.selection, tier="core")),
            r"2\.jsonl asked tier core, shard 2 of 2, 1\.jsonl",
        ),
        (lambda record: replace(record, selection=replace(record.selection, count=3)), r"2\.jsonl asked tier full, shard 2 of 3, 1\.jsonl"),
        (lambda record: replace(record, descriptions={"other": TWO_MODES}), r"2\.jsonl is of other, 1\.jsonl of scripted"),
        (
            lambda record: of(record, versions={"scripted": "2.0"}),
            r"scripted of 2\.jsonl is not that of 1\.jsonl: versions scripted 2\.0 and",
        ),
        (lambda record: of(record, device="cuda"), r"scripted of 2\.jsonl is not that of 1\.jsonl: its device differ"),
        (
            lambda record: replace(record, results=record.results[1:]),
            r"no shard has log_softmax/edges/case-1-float64 of scripted, mode eager",
        ),
        (
            lambda record: replace(record, results=tuple(replace(one, mode="scan") for one in record.results)),
            r"2\.jsonl has .* of scripted, mode scan \(and 2 more\), which tier full, shard 2 of 2 doesn't ask",
        ),
    ],
)
def test_what_is_no_shard_of_the_same_run_is_refused(change: Callable[[Record], Record], sentence: str) -> None:
    first, second = shards(2).values()
    with pytest.raises(MergeError, match=sentence):
        merged({"1.jsonl": first, "2.jsonl": change(second)})


def test_shards_that_overlap_are_refused() -> None:
    first, second = shards(2).values()
    both = replace(second, results=second.results + first.results[:1])
    with pytest.raises(
        MergeError, match=r"two shards have log_softmax/edges/case-0-float64 of scripted, mode eager: they are not disjoint"
    ):
        merged({"1.jsonl": first, "2.jsonl": both})


def test_other_expectations_than_those_of_the_shards_are_refused() -> None:
    there = shards(2, KNOWN, 1, 2)
    with pytest.raises(MergeError, match=r'case-2-float64 is excused there by "0 \* -inf\."; name the same file with --expect'):
        merged(there, None)
    with pytest.raises(MergeError, match="case-2-float64 isn't excused there; name the same file with --expect"):
        merged(shards(2, None, 1, 2), KNOWN)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scripted cases in the place of the installed vectors."""

    def read(folder: object = None, operation: str | None = None) -> list[Vector]:
        return [one for one in VECTORS if operation in (None, one.case.operation)]

    monkeypatch.setattr(vectors, "read", read)
    monkeypatch.setattr(vectors, "digest", lambda: DIGEST)
    monkeypatch.setattr("conformance.deviations.packaged", lambda backend: None)


@pytest.mark.usefixtures("installed")
def test_the_command_writes_the_whole_and_has_its_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    there = shards(2, None, 1)
    names = [str(tmp_path / name) for name in there]
    for name, record in zip(names, there.values(), strict=True):
        jsonlines.write(Path(name), record)
    out = tmp_path / "whole.jsonl"
    assert main(["merge", *names, "--json", str(out)]) == 1
    said = capsys.readouterr().out.splitlines()
    assert said == [
        f"the 2 shards are disjoint and the whole (tier full): 12 results in {out}",
        "10 passed, 0 failed as expected, 2 failed unexpectedly, 0 unsupported",
    ]
    assert list(without_time(jsonlines.read(out))) == list(without_time(ran(wrong(1))))
    known = tmp_path / "known.toml"
    known.write_text(text := '[[deviation]]\ncases = ["*/case-1-*"]\nclause = "LSM-1"\nreason = "r"\n')
    for name, record in zip(names, shards(2, parse(text, str(known)), 1).values(), strict=True):
        jsonlines.write(Path(name), record)
    assert main(["merge", *names, "--json", str(out), "--expect", str(known)]) == 0


@pytest.mark.usefixtures("installed")
def test_the_command_refuses_what_it_cannot_merge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name, out = str(tmp_path / "1.jsonl"), str(tmp_path / "whole.jsonl")
    jsonlines.write(Path(name), shards(2)["1.jsonl"])
    for arguments, sentence in (
        ([name, "--json", out], "2/2 is missing"),
        ([name, name, "--json", out], "one file can't be two shards"),
        ([name, "--json", name], "one file can't be two shards"),
    ):
        assert main(["merge", *arguments]) == 2
        assert sentence in capsys.readouterr().err
    monkeypatch.setattr(vectors, "digest", lambda: "another")
    assert main(["merge", name, "--json", out]) == 2
    assert "those installed here are another; merge where it was run" in capsys.readouterr().err
    assert not Path(out).exists()


@pytest.mark.usefixtures("installed")
def test_the_whole_must_have_a_place_to_go_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jsonlines.write(tmp_path / "whole.jsonl", ran(wrong()))
    assert main(["merge", str(tmp_path / "whole.jsonl"), "--json", "/dev/null/x"]) == 2
    assert "/dev/null/x can't be written" in capsys.readouterr().err
