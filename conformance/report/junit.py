"""JUnit XML: a suite for each backend and mode, a test case for each vector.

The format has no standard; this keeps to what GitLab, Jenkins and GitHub's actions agree on. A case is told from others by its class and
name, so the class is backend and operation (`torch.kl_div`, which Jenkins groups by backend) and the name the id of the vector, with its
mode unless that is eager. Failing findings that nothing excuses make a case a failure, or an error where one is an error, a crash or a
timeout. A known deviation is skipped, with its reason, as there is no word for an expected failure; so is what is unsupported. What a
passing case leaves unsupported stands in its output. An expectation that no longer holds is a failure of the suite `expectations`.
A document has a failure or an error exactly where the run fell short.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from conformance.backend import Result
from conformance.deviations import Deviation
from conformance.finding import Verdict
from conformance.record import Record
from conformance.report.grades import by_operation, rows, shown
from conformance.report.highlights import told
from refimpl.enclosure import FORMATS

ENDED = (Verdict.ERROR, Verdict.CRASH, Verdict.TIMEOUT)
ILLEGAL = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # what XML 1.0 has no way to write
TALLIES = {"failures": "failure", "errors": "error", "skipped": "skipped"}


def document(record: Record) -> str:
    """The document, indented."""
    excused = {id(result): deviation for comparison in record.comparisons.values() for result, deviation in comparison.expected}
    top = Element("testsuites", name="lossref")
    for (backend, mode), name in rows(record.cells).items():
        suite = SubElement(top, "testsuite", name=_legal(name), timestamp=record.began.partition("+")[0])
        _properties(suite, record, backend, mode)
        for calls in _calls([result for result in record.of(backend) if result.mode == mode]):
            _case(suite, record, calls, excused)
        _count(suite)
    broken = [(name, sentence) for name, comparison in record.comparisons.items() for sentence in comparison.problems]
    if broken:
        suite = SubElement(top, "testsuite", name="expectations", timestamp=record.began.partition("+")[0])
        for backend, sentence in broken:
            case = SubElement(suite, "testcase", classname=_legal(f"{backend}.expectations"), name=_legal(sentence), time="0")
            SubElement(case, "failure", type="expectation", message=_legal(sentence)).text = _legal(sentence)
        _count(suite)
    for name in ("tests", *TALLIES):
        top.set(name, str(sum(int(suite.attrib[name]) for suite in top)))
    top.set("time", f"{record.seconds:.3f}")
    indent(top)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + tostring(top, encoding="unicode") + "\n"


def _properties(suite: Element, record: Record, backend: str, mode: str) -> None:
    """What the suite is of: versions, vectors, selection, machine; and the grade of each operation and dtype."""
    stated = {f"version of {package}": version for package, version in record.descriptions[backend].versions.items()}
    stated |= {"vectors": record.digest, "selection": record.selection.text, "machine": record.machine}
    for dtype in FORMATS:
        there = {place: cell for place, cell in record.cells.items() if place.dtype == dtype}
        for operation, both in by_operation(there, (backend, mode)).items():
            stated[f"grade of {operation} {dtype}"] = shown(both).plain
    of = SubElement(suite, "properties")
    for name, value in stated.items():
        SubElement(of, "property", name=_legal(name), value=_legal(value))


def _calls(results: Sequence[Result]) -> Iterator[list[Result]]:
    """The results of each call."""
    calls: dict[str, list[Result]] = {}
    for result in results:
        calls.setdefault(result.finding.case, []).append(result)
    return iter(calls.values())


def _case(suite: Element, record: Record, results: Sequence[Result], excused: dict[int, Deviation]) -> None:
    """A test case of the results of one call."""
    first = results[0]
    name = first.finding.case + (f" [{first.mode}]" if first.mode != "eager" else "")
    seconds = 0.0 if math.isnan(first.seconds) else first.seconds
    classname = f"{first.backend}.{first.finding.operation}"
    case = SubElement(suite, "testcase", classname=_legal(classname), name=_legal(name), time=f"{seconds:.6f}")
    failing = [result for result in results if result.finding.verdict in (Verdict.FAIL, *ENDED)]
    unexpected = [result for result in failing if id(result) not in excused]
    passed = any(result.finding.verdict == Verdict.PASS for result in results)
    lacking = "\n".join(dict.fromkeys(_lack(result) for result in results if result not in failing and not _passes(result)))
    if unexpected:
        ended = next((result for result in unexpected if result.finding.verdict in ENDED), None)
        worst = ended or unexpected[0]
        text = "\n\n".join(told(record, result) for result in unexpected)
        what = " ".join((worst.finding.verdict, *worst.finding.clauses))
        _note(case, "failure" if ended is None else "error", what, f"{what}: {worst.finding.place}", text)
    elif failing:
        reasons = dict.fromkeys(_reason(excused[id(result)]) for result in failing)
        _note(case, "skipped", "known deviation", "; ".join(reasons), "\n\n".join(told(record, one, excused[id(one)]) for one in failing))
    elif not passed:
        _note(case, "skipped", "unsupported", lacking, lacking)
    elif lacking:
        SubElement(case, "system-out").text = _legal(lacking)


def _passes(result: Result) -> bool:
    return result.finding.verdict == Verdict.PASS


def _lack(result: Result) -> str:
    return f"{result.finding.verdict}: {result.finding.place}: {result.finding.note}"


def _reason(deviation: Deviation) -> str:
    return f"known deviation from {deviation.clause}: {deviation.reason}" + (f" ({deviation.issue})" if deviation.issue else "")


def _note(case: Element, kind: str, what: str, message: str, text: str) -> None:
    SubElement(case, kind, type=_legal(what), message=_legal(message)).text = _legal(text)


def _count(suite: Element) -> None:
    cases = suite.findall("testcase")
    suite.set("tests", str(len(cases)))
    for name, kind in TALLIES.items():
        suite.set(name, str(sum(case.find(kind) is not None for case in cases)))
    suite.set("time", f"{sum(float(case.attrib['time']) for case in cases):.3f}")


def _legal(text: str) -> str:
    r"""The text with what XML can't hold spelled out: an escape becomes "\x1b"."""
    return ILLEGAL.sub(lambda found: repr(found.group())[1:-1], text)
