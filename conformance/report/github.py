"""What GitHub Actions shows of a run: annotations, by commands on the standard output, and the summary of the step."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from conformance.record import Record
from conformance.report import markdown
from conformance.report.highlights import counts, told, worst
from conformance.report.jsonlines import ReportError

MOST = 10  # annotations of a kind that GitHub shows of a step
ROOM = 2**20  # bytes of a step's summary


def commands(record: Record) -> Iterator[str]:
    """Commands that annotate, at most `MOST` of a kind.

    An error is an unexpected failure, the worst first, or an expectation that doesn't hold; a warning a note; a notice has the counts.
    """
    unexpected = worst([result for comparison in record.comparisons.values() for result in comparison.unexpected])
    stale = [sentence for comparison in record.comparisons.values() for sentence in comparison.problems]
    errors = [(f"{one.backend} {one.finding.case}", told(record, one)) for one in unexpected]
    errors += [("an expectation that does not hold", sentence) for sentence in stale]
    notes = [("other versions", sentence) for comparison in record.comparisons.values() for sentence in comparison.notes]
    for kind, found in (("error", errors), ("warning", notes), ("notice", [("lossref", counts(record))])):
        kept = found if len(found) <= MOST else found[: MOST - 1]
        for title, text in kept:
            yield _command(kind, title, text)
        if len(found) > len(kept):
            yield _command(kind, "lossref", f"and {len(found) - len(kept)} more: `lossref run --json FILE` keeps them all")


def summarise(record: Record, earlier: Record | None, path: Path) -> None:
    """Add the summary to the file that GitHub names in GITHUB_STEP_SUMMARY; raises `ReportError` where that can't be."""
    text = markdown.page(record, earlier)
    try:
        there = path.stat().st_size if path.exists() else 0
        if there + len(text.encode()) > ROOM:
            raise ReportError(
                f"{path} holds {there} bytes, and GitHub takes no summary of more than {ROOM}; call lossref in a step of its own"
            )
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise ReportError(f"{path} can't be written ({error.strerror}); mend GITHUB_STEP_SUMMARY, or leave out --github") from error


def _command(kind: str, title: str, text: str) -> str:
    return f"::{kind} title={_property(title)}::{_data(text)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
