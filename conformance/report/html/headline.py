"""What the page begins with: what came of the run, which backend is wrong where and by how much, and what was run.

It needs no program. Every string is escaped here: names, notes and answers come from whoever made the backend.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from html import escape

from conformance.backend import Result
from conformance.case import TIERS
from conformance.finding import Verdict
from conformance.record import Record
from conformance.report.html.addresses import finding_link, link
from conformance.report.html.failures import Failure, first
from conformance.report.message import figure

COLUMNS = ("Backend", "Wrong in (findings)", "At worst", "Expected", "Came", "Error / allowed", "")
SHOWN = 60  # characters of a number that are shown


def headline(record: Record, failures: Sequence[Failure]) -> str:
    """What came of the run, in four numbers."""
    verdicts = Counter(result.finding.verdict for result in record.results)
    unexpected = sum(deviation is None for _, deviation in failures)
    counts = (
        ("pass", verdicts[Verdict.PASS], "pass", "answers within their bound"),
        ("known", len(failures) - unexpected, "known deviations", "wrong, understood and listed for this release"),
        ("unexpected", unexpected, "unexpected failures", "wrong, and nobody has looked into it yet"),
        ("", verdicts[Verdict.UNSUPPORTED], "unsupported", "no such operation, dtype or parameter: neither pass nor failure"),
    )
    return f'<ul class="counts" aria-label="What came of the run">{"".join(_count(*one) for one in counts)}</ul>'


def _count(status: str, count: int, name: str, meaning: str) -> str:
    text = f"<b>{count}</b> <span>{name}</span><small>{meaning}</small>"
    if status:
        text = f'<a href="{link(view="findings", verdict=status)}">{text}</a>'
    return f'<li class="count {status}{"" if count else " zero"}">{text}</li>'


def looks(record: Record, failures: Sequence[Failure]) -> str:
    """A row for each backend: where it is wrong, by how much at worst, and the way to that finding."""
    rows = "".join(_look(record, name, [one for one in failures if one[0].backend == name]) for name in record.backends)
    heads = "".join(f'<th scope="col" role="columnheader">{head}</th>' for head in COLUMNS)
    return (
        '<table class="looks" role="table"><caption>Which backend is wrong where, and by how much</caption>'
        f'<thead role="rowgroup"><tr role="row">{heads}</tr></thead><tbody role="rowgroup">{rows}</tbody></table>'
    )


def _look(record: Record, name: str, failures: Sequence[Failure]) -> str:
    version = record.descriptions[name].version
    head = f'<th scope="row" role="rowheader">{escape(name)} <small>{escape(version)}</small></th>'
    if not failures:
        passed = sum(result.finding.verdict == Verdict.PASS for result in record.of(name))
        words = f'class="good">nothing wrong in {passed} answers' if passed else ">it answered nothing"
        return f'<tr role="row">{head}<td role="cell" colspan="6" {words}</td></tr>'
    result, deviation = first(failures)
    cells = "".join(f'<td role="cell">{cell}</td>' for cell in (_where(name, failures), _example(result.finding.told.inputs, result)))
    expected, came, error = _numbers(result)
    beside = _farthest([result for result, _ in failures])
    for label, text, kind, more in zip(COLUMNS[3:6], (expected, came, error), ("", " wrong", ""), ("", "", beside), strict=True):
        cells += f'<td role="cell" class="number{kind}"><span class="label">{label}</span>{escape(_cut(text))}{more}</td>'
    go = f'<a class="go" href="{finding_link(result)}">see it<span class="hidden"> of {escape(name)}</span>&nbsp;→</a>'
    return f'<tr role="row" class="{"known" if deviation else "unexpected"}">{head}{cells}<td role="cell">{go}</td></tr>'


def _where(name: str, failures: Sequence[Failure]) -> str:
    """The operations with the number of their findings, most first."""
    counts = Counter(result.finding.operation for result, _ in failures)
    links = {operation: link(view="findings", backend=name, operation=operation, verdict="wrong") for operation in counts}
    return ", ".join(f'<a href="{links[one]}">{escape(one)}</a>&nbsp;<small>×{count}</small>' for one, count in counts.most_common())


def _example(inputs: str, result: Result) -> str:
    finding = result.finding
    words = [finding.dtype, finding.direction, *([] if result.mode in ("", "eager") else [result.mode])]
    text = f"{' '.join(words)}: {_cut(inputs)}" if inputs else " ".join(words)
    return f"{escape(finding.operation)}<br><small>{escape(text)}</small>"


def _numbers(result: Result) -> tuple[str, str, str]:
    """What was expected, what came, and how far off that is, in words."""
    finding = result.finding
    came = finding.told.actual or (finding.note if finding.verdict == Verdict.FAIL else f"{finding.verdict}: {finding.note}")
    if finding.ratio is None:
        return finding.told.expected, came, ""
    return finding.told.expected, came, f"{figure(finding.ratio)} ×" if math.isfinite(finding.ratio) else "∞"


def _farthest(results: Sequence[Result]) -> str:
    """By how much numbers differ at most, where an infinity or a nan is worse still."""
    ratios = [result.finding.ratio for result in results if result.finding.ratio is not None]
    finite = [ratio for ratio in ratios if 1.0 < ratio < math.inf]
    return f" <small>numbers: up to {figure(max(finite))} ×</small>" if finite and len(finite) < len(ratios) else ""


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"


def facts(record: Record) -> str:
    """What was run, when and where."""
    return "".join(f"<div><dt>{term}</dt><dd>{escape(text)}</dd></div>" for term, text in _facts(record))


def _facts(record: Record) -> Iterator[tuple[str, str]]:
    yield "Tier", f"{record.selection.text.removeprefix('tier ')} (tiers, by how much is asked: {', '.join(TIERS)})"
    if record.began:
        yield "Run", f"{record.began.replace('T', ' ').removesuffix('+00:00')} UTC, {record.seconds:.0f} s"
    if record.machine:
        yield "Machine", record.machine
    yield "Vectors", record.digest
