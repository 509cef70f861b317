"""A summary in GitHub's Markdown: grades, counts, the findings to read first, what changed. However large the run, it stays small."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from conformance import changes
from conformance.record import Record
from conformance.report import grades
from conformance.report.changes import sections, shortened, summary
from conformance.report.highlights import SHOWN, counts, told, worst_of

WIDTH = 240  # characters of a line of a message, which quotes what a library raises
SPECIAL = re.compile(r"([\\`*_\[\]<>&|#~])")


def page(record: Record, earlier: Record | None = None) -> str:
    """The summary of a record; with an `earlier` one it says what changed since."""
    return "".join(f"{line}\n" for line in _lines(record, earlier))


def _lines(record: Record, earlier: Record | None) -> Iterator[str]:
    yield f"## lossref: {'as promised or as expected' if record.holds else 'fell short'}"
    yield ""
    yield f"{counts(record)}. {_escaped(record.selection.text)}; vectors `{record.digest}`; {_escaped(record.machine)}, {record.began}."
    yield ""
    shown = {label: grades.by_operation(record.cells, row) for row, label in grades.rows(record.cells).items()}
    heads = ["", *next(iter(shown.values()), {})]
    yield from _table(heads, [[label, *(grades.shown(both).plain for both in of.values())] for label, of in shown.items()])
    yield ""
    yield _escaped(grades.KEY)
    yield ""
    heads = ["backend", "versions", "tensors", "clauses"]
    yield from _table(
        heads, [[name, _versions(record, name), counts(record, name), grades.clauses(record.of(name))] for name in record.backends]
    )
    yield from _worst(record)
    stale = [sentence for comparison in record.comparisons.values() for sentence in comparison.problems]
    yield from _list("Expectations that don't hold", stale)
    yield from _list("Notes", [sentence for comparison in record.comparisons.values() for sentence in comparison.notes])
    if earlier is not None:
        found = changes.compare(earlier, record)
        yield from ("", f"### Since {earlier.began}", "", f"{summary(found)}.")
        for heading, sentences in sections(found):
            yield from _list(heading, sentences, "####")


def _worst(record: Record) -> Iterator[str]:
    heading, found = worst_of(record)
    if found:
        yield from ("", f"### {heading.removesuffix(':')}")
    for result, deviation in found[:SHOWN]:
        text = "\n".join(_cut(line) for line in told(record, result, deviation).splitlines())
        fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
        yield from ("", f"{fence}text", text, fence)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    for cells in (heads, ["---"] * len(heads), *rows):
        yield f"| {' | '.join(cell if cell == '---' else _escaped(cell) for cell in cells)} |"


def _list(heading: str, sentences: Sequence[str], level: str = "###") -> Iterator[str]:
    if sentences:
        yield from ("", f"{level} {heading}", "")
        yield from (f"- {_escaped(_cut(sentence))}" for sentence in shortened(sentences))


def _versions(record: Record, backend: str) -> str:
    return ", ".join(f"{name} {version}" for name, version in record.descriptions[backend].versions.items())


def _cut(line: str) -> str:
    return line if len(line) <= WIDTH else line[: WIDTH - 3] + "..."


def _escaped(text: str) -> str:
    """The text as Markdown shows it, on one line."""
    return SPECIAL.sub(r"\\\1", " ".join(text.split()))
