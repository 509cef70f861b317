"""What a finding on a drawn call is about: edges told from the call, clauses like those that were named by hand, causes, listed defects."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from math import inf, nan
from typing import Any

import numpy as np
import promises
import pytest
from promises import vector

from conformance.adapters.numpy import ADAPTER
from conformance.case import Case, Vector
from conformance.cases.build import case_of
from conformance.deviations import parse
from conformance.finding import Finding, Verdict
from conformance.judge import unanswered
from conformance.links.here import HereSource
from conformance.search.cause import Cause, Listed, Trace, cause, listed, rediscovered
from conformance.search.edges import clauses_of, edges_of
from conformance.search.rows import Call
from conformance.vectors import read
from refimpl.operations import operation, operations

X3 = [[1.0, 2.0, 3.0]]


def drawn(name: str, dtype: str = "float32", **call: Any) -> Case:
    """A call of an operation as a search would draw it: without clauses."""
    return case_of(operation(name), "regression/drawn", dtype, call, clauses=())


CALLS: Iterable[tuple[Case, tuple[str, ...], tuple[str, ...]]] = (
    (drawn("entropy", p=[[0.25, 0.75]]), (), ("ENT-1", "ENT-4")),
    (drawn("entropy", p=[[nan, 1.0]]), ("a nan",), ("ENT-6",)),
    (drawn("entropy", p=[[2.0**-149, 1.0]]), ("a subnormal number",), ("ENT-9",)),
    (drawn("entropy", "float16", p=[[2.0**-24, 1.0]]), ("a subnormal number",), ("ENT-9", "ENT-1", "ENT-4")),
    (drawn("entropy", p=[[2.0, 1.0]]), ("not summing to 1",), ("ENT-2", "ENT-1", "ENT-4")),
    (drawn("cross_entropy", p=[[1.0, 0.0]], q=[[0.5, 0.5]]), ("p = 0",), ("CE-3", "CE-1", "CE-5")),
    (drawn("cross_entropy", p=[[0.5, 0.5]], q=[[1.0, 0.0]]), ("p > 0 at q = 0",), ("CE-4", "CE-1", "CE-5")),
    (drawn("kl_divergence", p=[[-0.5, 1.5]], q=[[0.5, 0.5]]), ("a negative number",), ("KLD-8",)),
    (drawn("kl_divergence", p=[[0.25, 0.75]], q=[[0.25, 0.75]]), ("q near p",), ("KLD-10", "KLD-1", "KLD-5")),
    (drawn("log_softmax", logits=[[0.0, -inf]]), ("a masked class",), ("LSM-4", "LSM-1", "LSM-3")),
    (drawn("log_softmax", logits=[[-inf, -inf]]), ("all classes masked",), ("LSM-5",)),
    (drawn("entropy_with_logits", logits=[[0.0, -40.0]]), ("a gap",), ("EWL-2", "EWL-1", "EWL-3")),
    (drawn("kl_div", log_q=[-inf], p=[0.0]), ("p = 0", "p = 0 at log_q = -inf"), ("KLP-5", "KLP-8", "KLP-1", "KLP-4")),
    (drawn("kl_div", log_q=[-1.0], p=[-inf], log_target=True), ("p = 0", "log_target"), ("KLP-5", "KLP-7", "KLP-2", "KLP-1", "KLP-4")),
    (drawn("kl_div", log_q=[[]], p=[[]]), ("nothing is kept", "a mean", "no rows"), ("KLP-12", "KLP-3")),
    (drawn("nll_loss", log_p=[[nan, -1.0]], target=[1]), ("another class that isn't finite",), ("NLL-3", "NLL-1")),
    (drawn("nll_loss", log_p=[[-1.0, -1.0]], target=[2]), ("a target of V or more",), ("NLL-7",)),
    (
        drawn("nll_loss", log_p=[[-inf, -1.0]], target=[0], weight=[0.0, 1.0], reduction="sum"),
        ("a target of -inf and weight 0",),
        ("NLL-1",),
    ),
    (drawn("softmax_cross_entropy", logits=X3, target=[-1]), ("a negative target",), ("SCE-12",)),
    (drawn("softmax_cross_entropy", logits=X3, target=[-1], ignore_index=-1, reduction="sum"), ("an ignored row",), ("SCE-10",)),
    (
        drawn("softmax_cross_entropy", logits=[[nan, 0.0], [0.0, 0.0]], target=[1, 0], ignore_index=1),
        ("an ignored row", "an ignored row that isn't finite", "a mean", "a mean that leaves rows out"),
        ("SCE-10", "SCE-4", "SCE-1", "SCE-6"),
    ),
    (drawn("softmax_cross_entropy", logits=[[0.0, -inf]], target=[1]), ("a masked class with mass",), ("SCE-8", "SCE-1", "SCE-6")),
    (
        drawn("softmax_cross_entropy", logits=[[0.0, -inf]], target=[[1.0, 0.0]]),
        ("a masked class of probability 0", "a distribution"),
        ("SCE-7", "SCE-5", "SCE-1", "SCE-6"),
    ),
    (
        drawn("softmax_cross_entropy", "bfloat16", logits=np.zeros((257, 2)), target=np.zeros(257, np.int64)),
        ("a mean", "more rows than the dtype counts"),
        ("SCE-4", "SCE-1", "SCE-6"),
    ),
    (
        drawn("softmax_cross_entropy", "float16", logits=np.zeros((1, 65505)), target=[0]),
        ("more classes than the dtype counts", "more classes than the dtype holds"),
        ("SCE-1", "SCE-6"),
    ),
    (
        drawn("smoothed_attention_loss", logits=[X3], target=[[-1]], normalize_length=True),
        ("nothing is kept", "an ignored row", "a mean", "normalize_length"),
        ("SAL-8", "SAL-7", "SAL-2"),
    ),
)


@pytest.mark.parametrize(("case", "edges", "clauses"), CALLS, ids=[f"{case.operation}-{edges}" for case, edges, _ in CALLS])
def test_edges_and_clauses_are_told_from_the_call(case: Case, edges: tuple[str, ...], clauses: tuple[str, ...]) -> None:
    assert edges_of(case) == edges
    assert clauses_of(case) == clauses


def test_a_row_has_its_own_edges() -> None:
    case = drawn("softmax_cross_entropy", logits=[[0.0, -inf], [1.0, 0.0]], target=[0, 1], reduction="none")
    assert edges_of(case, 0) == ("a masked class without mass",)
    assert edges_of(case, 1) == ()


def test_a_row_is_counted_wherever_the_class_axis_is() -> None:
    case = drawn("softmax_cross_entropy", logits=np.zeros((2, 3, 4)), target=np.zeros((2, 4), np.int64), reduction="none")
    call = Call(case)
    assert [call.row(place) for place in ((0, 0), (0, 3), (1, 2), (1, 2, 3), (0, 2, 1))] == [0, 3, 6, 7, 1]
    assert call.row(()) is None
    assert call.row(None) is None


def test_a_cotangent_of_0_is_an_edge_of_gradients() -> None:
    case = drawn("kl_div", log_q=[-1.0, nan], p=[0.5, 0.5], reduction="sum", cotangent=0.0)
    assert edges_of(case, 1, "backward") == ("a nan", "a sum", "a cotangent of 0")
    assert edges_of(case, 1, "forward") == ("a nan", "a sum")


def test_a_layout_is_an_edge() -> None:
    case = replace(drawn("log_softmax", logits=X3), layouts={"logits": "strided"})
    assert clauses_of(case) == ("GEN-6", "LSM-1", "LSM-3")


# Named by hand for what a rule doesn't tell: a number that only narrower dtypes have as a subnormal one, a probability near 0, what a sum
# isn't divided by, a loss of nothing that isn't divided by nothing, a maximum of the row and not of the batch.
BY_HAND = {
    "cross_entropy/edges/near-0",
    "cross_entropy/edges/subnormal-float16",
    "cross_entropy/edges/subnormal-float32",
    "entropy/edges/subnormal-bfloat16",
    "entropy/edges/subnormal-float16",
    "entropy/edges/subnormal-float32",
    "entropy/regression/subnormal",
    "kl_div/edges/empty-sum",
    "kl_div/edges/subnormal-float16",
    "kl_div/edges/subnormal-float32",
    "kl_div/edges/sum-3d",
    "kl_div/regression/terms-70000-sum",
    "kl_divergence/edges/near-0",
    "kl_divergence/edges/subnormal-float16",
    "kl_divergence/edges/subnormal-float32",
    "kl_divergence/edges/subnormal-pair",
    "nll_loss/edges/sum",
    "smoothed_attention_loss/edges/all-padded-batch",
    "smoothed_attention_loss/ladder/all-padded-batch",
    "smoothed_attention_loss/ladder/no-tokens-batch",
    "softmax_cross_entropy/edges/sum",
    "softmax_cross_entropy/regression/maximum-of-the-row",
}


@pytest.mark.parametrize("name", operations())
def test_of_every_golden_vector_one_clause_is_told_that_was_named_by_hand(name: str) -> None:
    cases = [vector.case for vector in read(operation=name)]
    missed = {case.id.rpartition("-")[0] for case in cases if not set(case.clauses) & set(clauses_of(case))}
    assert missed == {id for id in BY_HAND if id.startswith(f"{name}/")}


def failure(v: Vector, output: Any = None, *, dialect: dict[str, str] | None = None, direction: str = "forward", **changed: Any) -> Finding:
    """The finding on the right answer but for these changes of it."""
    given = promises.answer(v)
    answer = replace(given, **({} if output is None else {"output": np.asarray(output)}), **changed)
    return next(one for one in promises.findings(v, answer, dialect or {}) if one.direction == direction)


ROW = vector("entropy", p=[[0.25, 0.75]], cotangent=[1.5])
RIGHT = np.float32(0.5623351446188083)
SURE = vector("kl_div", p=[0.5], log_q=[-inf], reduction="sum", cotangent=1.5)
REFUSED = vector("nll_loss", log_p=[[-1.0, -1.0]], target=[2], cotangent=1.5)


@pytest.mark.parametrize(
    ("finding", "symptom", "dtype"),
    [
        (failure(ROW, np.float32([nan])), "nan for a number", ""),
        (failure(ROW, np.float32([-inf])), "-inf for a number", ""),
        (failure(ROW, np.float32([0.0])), "0 for a number", ""),
        (failure(ROW, np.float32([1.0])), "another number", ""),
        (failure(ROW, [RIGHT * np.float32(1 + 1e-5)]), "out of its bound", "float32"),
        (failure(SURE, np.float32(nan)), "nan for inf", ""),
        (failure(SURE, np.float32(3.0)), "a number for inf", ""),
        (failure(ROW, promises.answer(ROW, "float64").output), "another dtype", ""),
        (failure(ROW, np.float32(RIGHT)), "another shape", ""),
        (failure(ROW, np.int32([0])), "no dtype that is known", ""),
        (failure(ROW, modified=("p",)), "an input is modified", ""),
        (failure(ROW, repeat_differs=True), "a second call differs", ""),
        (failure(ROW, error="torch.OutOfMemoryError: no", gradients={}, direction="backward"), "OutOfMemoryError", ""),
        (failure(REFUSED, np.float32(1.0), error=None), "a number for nan", ""),
        (failure(REFUSED, np.float32(nan), error=None, dialect={"refusal": "error"}), "no refusal", ""),
        (failure(REFUSED, dialect={"refusal": "nan"}), "IndexError", ""),
        (unanswered(ROW, Verdict.CRASH, "ended by SIGSEGV", {})[0], "crash", ""),
        (unanswered(ROW, Verdict.TIMEOUT, "no answer in 30 s", {})[0], "timeout", ""),
        (unanswered(ROW, Verdict.ERROR, "the answer has no output", {})[0], "an error", ""),
    ],
)
def test_the_symptom(finding: Finding, symptom: str, dtype: str) -> None:
    found = cause(finding)
    assert (found.symptom, found.dtype) == (symptom, dtype)


def test_where_terms_cancel_an_error_beyond_the_truth_may_be_one_of_accuracy() -> None:
    near = vector("kl_divergence", p=[[0.25, 0.75]], q=[[0.25, 0.75]], cotangent=[1.5])
    finding = promises.findings(near, promises.answer(near), {})[0]
    assert finding.element is not None
    found = [cause(failure(near, np.float32([times * finding.element.bound]))).symptom for times in (4.0, 20.0)]
    assert found == ["out of its bound", "another number"]


def test_a_cause_names_the_tensor_and_the_edges_of_its_row() -> None:
    two = vector("log_softmax", logits=[[0.0, 1.0], [0.0, -inf]], cotangent=[[1.0, 2.0], [0.5, 3.0]])
    wrong = promises.answer(two)
    wrong.gradients["logits"][1, 0] = nan
    (found,) = (cause(one) for one in promises.findings(two, wrong, {}) if one.verdict == Verdict.FAIL)
    assert found == Cause("log_softmax", "backward", "logits", "nan for a number", "", ("a masked class",))


def test_one_defect_has_one_cause_in_every_dtype_whatever_the_other_numbers() -> None:
    found = set()
    for dtype, other in (("float32", 0.0), ("float16", 2.0), ("float64", -3.0)):
        masked = vector("log_softmax", dtype, logits=[[other, -inf]], cotangent=[[1.0, 2.0]])
        found.add(cause(failure(masked, np.full((1, 2), nan, promises.answer(masked).output.dtype))))
    assert len(found) == 1


def test_what_a_count_beyond_the_dtype_loses_is_one_symptom() -> None:
    many = vector("nll_loss", "float16", log_p=np.full((65505, 1), -1.0), target=np.zeros(65505, np.int64))
    found = {cause(failure(many, np.float16(value))).symptom for value in (nan, inf, 0.0)}
    assert found == {"no number for a number"}
    assert cause(failure(many, np.float16(1.5))).symptom == "another number"


def test_only_a_failure_that_was_judged_has_a_cause() -> None:
    with pytest.raises(ValueError, match="has the verdict pass"):
        cause(failure(ROW))
    with pytest.raises(ValueError, match="read from a file"):
        cause(replace(failure(ROW, np.float32([nan])), subject=None))


NAN = Cause("kl_div", "forward", "output", "nan for a number", "", ("p = 0",))


def test_a_cause_explains_what_has_more_edges_and_nothing_else() -> None:
    more = replace(NAN, edges=("p = 0", "log_target"))
    assert NAN.explains(NAN)
    assert NAN.explains(more)
    assert not more.explains(NAN)
    for other in (
        {"symptom": "inf for a number"},
        {"direction": "backward"},
        {"tensor": "p"},
        {"dtype": "float16"},
        {"operation": "entropy"},
    ):
        assert not NAN.explains(replace(more, **other))


EXPECTED = """
[[deviation]]
cases = ["softmax_cross_entropy/edges/zero-probability-masked-*", "softmax_cross_entropy/regression/masked-class-probabilities-*"]
direction = "forward"
clause = "SCE-7"
reason = "0*log(0)"
defect = "The textbook is nan"

[[deviation]]
cases = ["softmax_cross_entropy/edges/index-*"]
clause = "SCE-1"
reason = "It was mended."
defect = "None that shows"

[[deviation]]
cases = ["kl_div/edges/none-*"]
clause = "KLP-1"
reason = "It is of another operation than those that are searched."
defect = "None that is asked"
"""


def test_a_listed_defect_leaves_the_causes_of_what_its_case_shows_now() -> None:
    vectors = [one for one in read(operation="softmax_cross_entropy") if "masked" in one.case.id or "/edges/index" in one.case.id]
    known = listed(HereSource("numpy", lambda: ADAPTER), parse(EXPECTED, "numpy.toml"), vectors)
    shown = Cause(
        "softmax_cross_entropy", "forward", "output", "nan for a number", "", ("a masked class of probability 0", "a distribution")
    )
    assert known == [
        Listed("The textbook is nan", (Trace(shown, frozenset({"a masked class of probability 0"})),)),
        Listed("None that shows", ()),
    ]
    assert rediscovered(known, [shown]) == ([known[0]], [])
    assert rediscovered(known, []) == ([], [known[0]])


@pytest.mark.parametrize(
    ("found", "is_it"),
    [
        (NAN, True),
        (replace(NAN, edges=("p = 0", "a mean")), True),
        (replace(NAN, edges=()), False),  # nan without that edge is something else
        (replace(NAN, edges=("a mean",)), False),
        (replace(NAN, edges=("p = 0", "log_target")), False),  # nor does what needs another edge
        (replace(NAN, symptom="inf for a number"), False),
        (replace(NAN, direction="backward", tensor="p"), False),
        (replace(NAN, operation="entropy"), False),
    ],
)
def test_no_rediscovery_is_claimed_that_is_none(found: Cause, is_it: bool) -> None:
    trace = Trace(replace(NAN, edges=("p = 0", "a mean")), frozenset({"p = 0"}))
    known = [Listed("kl_div is nan where p is 0", (trace,))]
    assert rediscovered(known, [found]) == ((known, []) if is_it else ([], known))
