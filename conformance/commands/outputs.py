"""The reports that `lossref run` and `lossref report` write: their options, a look whether they can be written, and the writing."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from conformance.commands.common import UsageError, say, writable

if TYPE_CHECKING:
    from conformance.record import Record

BADGES = (".svg", ".json")


def add(command: argparse.ArgumentParser) -> None:
    """The options."""
    group = command.add_argument_group("reports", "docs/reports.md shows each of them")
    group.add_argument("--html", metavar="F", type=Path, help="write a page for a browser: grades, findings, plots")
    group.add_argument("--junit", metavar="F", type=Path, help="write JUnit XML, which GitLab, Jenkins and GitHub's actions read")
    group.add_argument("--markdown", metavar="F", type=Path, help="write a summary in Markdown")
    group.add_argument("--badge", metavar="F", type=Path, help="write a badge: F.svg, or F.json for shields' endpoint")
    group.add_argument(
        "--github", action="store_true", help="print annotations for GitHub Actions, and add the summary to $GITHUB_STEP_SUMMARY"
    )
    group.add_argument("--since", metavar="OLD", type=Path, help="results of an earlier run: the summary in Markdown says what changed")


def asked(given: argparse.Namespace) -> bool:
    """Whether any report is to be written."""
    return bool(given.github or _files(given))


def check(given: argparse.Namespace) -> Record | None:
    """Refuse what can't be written, before minutes are spent on what goes there; the record of the earlier run, if one is named."""
    if given.badge is not None and given.badge.suffix not in BADGES:
        raise UsageError(f"{given.badge} says by its ending what it is to be; name a file that ends in {' or '.join(BADGES)}")
    if given.since is not None and not (given.markdown or given.github):
        raise UsageError("--since is about the summary in Markdown; add --markdown F or --github, or use `lossref compare`")
    _refuse_one_file_for_two(given)
    for path in _files(given):
        writable(path)
    if given.since is None:
        return None
    from conformance.report.jsonlines import read

    return read(given.since)


def empty(given: argparse.Namespace) -> None:
    """Empty the files, so that a run that is cut short leaves no older reports."""
    for path in _files(given):
        path.write_bytes(b"")


def write(given: argparse.Namespace, record: Record, earlier: Record | None) -> None:
    """Write what was asked for, and say what is where; raises `ReportError` for what can't be written, after all the rest."""
    from conformance.report import badge, github, junit, markdown
    from conformance.report.jsonlines import ReportError

    def html() -> str:
        from conformance.report.html import page

        return page(record)

    makers: list[tuple[Path | None, Callable[[], str]]] = [
        (given.html, html),
        (given.junit, lambda: junit.document(record)),
        (given.markdown, lambda: markdown.page(record, earlier)),
        (given.badge, lambda: badge.svg(record) if given.badge.suffix == ".svg" else badge.endpoint(record)),
    ]
    failures = []
    for path, make in makers:
        if path is None:
            continue
        try:
            path.write_text(make(), encoding="utf-8")
            say(f"written: {path}")
        except OSError as error:
            failures.append(f"{path} can't be written ({error.strerror}); make room, or name another file")
        except ReportError as error:
            failures.append(str(error))
    if given.github:
        for line in github.commands(record):
            say(line)
        if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
            github.summarise(record, earlier, Path(summary))
    if failures:
        raise ReportError("\n".join(failures))


def _refuse_one_file_for_two(given: argparse.Namespace) -> None:
    """Refuse a file that would be written twice, or read and written."""
    others = (getattr(given, name, None) for name in ("json", "write_expect", "expect", "results", "since"))
    seen: set[Path] = set()
    for path in (*_files(given), *filter(None, others)):
        if path.resolve() in seen:
            raise UsageError(f"{path} can't be two of this command's files; name one for each")
        seen.add(path.resolve())


def _files(given: argparse.Namespace) -> list[Path]:
    return [path for path in (given.html, given.junit, given.markdown, given.badge) if path is not None]
