"""What becomes of a test, given the findings on its vector: a pass, a failure with their messages, an expected failure, or a skip."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from conformance.adapter import Description
from conformance.deviations import Expectations, compare
from conformance.finding import Verdict
from conformance.plugin.names import UNJUDGED
from conformance.report.highlights import worst
from conformance.report.message import message
from conformance.runner import Result


class Fallen(AssertionError):
    """An answer that fell short, or an expectation that doesn't hold; the text is the messages."""


def settle(test: pytest.Item, results: Sequence[Result], known: Expectations | None, about: Description, again: str) -> None:
    """End the test as the results on one vector in one mode say; `again` is the line that asks for them again.

    Any unexpected failure, and any expectation that no longer holds, fails it; else any failure, which is then expected, makes it an
    expected failure (with --runxfail it fails); without a tensor that was judged it is skipped.
    """
    __tracebackhide__ = True
    comparison = compare(results, known, about.versions, ids=None)
    failing = list(comparison.unexpected)
    if test.config.option.runxfail:
        failing += [result for result, _ in comparison.expected]
    if failing or comparison.problems:
        texts = [message(one.finding, about.name, about.version, one.mode, again) for one in worst(failing)]
        raise Fallen("\n\n".join([*texts, *comparison.problems]))
    if comparison.expected:
        deviations = dict.fromkeys(deviation for _, deviation in comparison.expected)
        pytest.xfail("; ".join(f"{one.clause}: {one.reason}" + (f" ({one.issue})" if one.issue else "") for one in deviations))
    unjudged = [one.finding for one in results if one.finding.verdict in (Verdict.SKIP, Verdict.UNSUPPORTED)]
    if len(unjudged) == len(results):
        pytest.skip("; ".join(dict.fromkeys(finding.note for finding in unjudged)))
    test.user_properties += [(UNJUDGED, f"{finding.place}: {finding.note}") for finding in unjudged]
