"""The judge: what each kind of answer to a small operation becomes, and what the message on it says."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from conformance import bound, judge, texts
from conformance.bound import Promise, allowed
from conformance.case import Case, Expectation, Expected, Vector
from conformance.judge import Answer, Finding, Verdict
from conformance.report import message
from conformance.spec import Level, Section, sections
from refimpl.bounds import RESERVE, form
from refimpl.enclosure import FORMATS, enclosure
from refimpl.operation import Choice, Clause, Index, Operation, OutOfRange, Real

Array = np.ndarray[Any, np.dtype[Any]]
A = Promise("A", "float32")


def terms(logits: Array, target: Array, sign: str = "plus") -> Array:
    """Each row's sum and its target's logit, in float64 (exact for the small numbers used here)."""
    if (target >= logits.shape[1]).any():
        raise OutOfRange("target")
    row = logits.astype(np.float64).sum(axis=1)
    picked = np.take_along_axis(logits.astype(np.float64), target[:, None], 1)[:, 0]
    return np.asarray(row + picked if sign == "plus" else row - picked)


def gradient(cotangent: Array, logits: Array, target: Array, sign: str = "plus") -> Array:
    picked = (np.arange(logits.shape[1]) == target[:, None]) * (1.0 if sign == "plus" else -1.0)
    return np.asarray(cotangent.astype(np.float64)[:, None] * (1.0 + picked))


def exactly(values: Any) -> Any:
    values = np.asarray(values, np.float64)
    return enclosure(values, np.zeros(values.shape), np.zeros(values.shape))


TOY = Operation(
    name="toy",
    prefix="TOY",
    summary="the sum of a row, plus or minus its target's logit",
    inputs={"logits": Real("N V"), "target": Index("N")},
    parameters={},
    clauses=(Clause("TOY-1"), Clause("TOY-2")),
    forward=lambda **call: exactly(terms(**call)),
    vjp=lambda **call: {"logits": exactly(gradient(**call))},
    exact=lambda **call: [],
    exact_vjp=lambda **call: [],
    terms=lambda logits, target, sign="plus": form(target.shape, classes=np.abs(logits.astype(float)).sum(1)),
    terms_vjp=lambda cotangent, logits, target, sign="plus": {"logits": form(logits.shape)},
    variations=(),
    choices=(Choice("sign", {"plus": "added", "minus": "subtracted"}),),
)


@pytest.fixture(autouse=True)
def _toy(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (bound, judge, texts):
        monkeypatch.setattr(module, "operation", {"toy": TOY}.__getitem__)
    words = (("TOY-1", Level.MUST, "The sum is that of the row."), ("TOY-2", Level.SHOULD, "Slowly."))
    stated = {id: Section(id, level, statement, "", "toy") for id, level, statement in words}
    monkeypatch.setattr(message, "sections", lambda: sections() | stated)


def vector(dtype: str = "float32", where: Array | None = None, **changes: Any) -> Vector:
    """A vector of two rows, with both permitted signs."""
    logits = np.asarray(changes.pop("logits", [[1.0, 2.0, 3.0], [-4.0, 0.5, 1.5]]), FORMATS[dtype].dtype)
    target = np.asarray(changes.pop("target", [2, 0]), np.int64)
    cotangent = np.linspace(0.5, 2.0, len(target)).astype(FORMATS[dtype].dtype)
    case = Case(f"toy/edges/two-{dtype}", "toy", dtype, {"logits": logits, "target": target}, {}, cotangent, ("TOY-1",), ("small",))
    case = replace(case, **changes)

    def expectation(sign: str) -> Expectation:
        output, grad = terms(logits, target, sign), gradient(cotangent, logits, target, sign)
        if where is None:
            forward = Expected(output.shape, None, exactly(output))
        else:
            forward = Expected(output.shape, where, exactly(output[where]), exactly(math.fsum(output)))
        return Expectation({"sign": sign}, "value", forward, {"logits": Expected(grad.shape, None, exactly(grad))})

    return Vector(case, (expectation("plus"), expectation("minus")))


def right(v: Vector, sign: str = "plus", dtype: str | None = None) -> Answer:
    """The correct answer to a vector, in the case's dtype or another."""
    case = v.case
    target = FORMATS[dtype or case.dtype].dtype
    output = terms(case.inputs["logits"], case.inputs["target"], sign).astype(target)
    assert case.cotangent is not None
    grad = gradient(case.cotangent, case.inputs["logits"], case.inputs["target"], sign).astype(target)
    return Answer(output, {"logits": grad}, None, (), repeat_differs=False, seconds=0.1)


def verdicts(v: Vector, answer: Answer, promise: Promise = A, dialect: Mapping[str, str] | None = None) -> list[Finding]:
    return judge.judge(v, answer, promise, dialect or {})


def changed(answer: Answer, index: tuple[int, ...], value: float, output: str = "output") -> Answer:
    array = np.array(answer.output if output == "output" else answer.gradients[output])
    array[index] = value
    return replace(answer, output=array) if output == "output" else replace(answer, gradients={output: array})


@pytest.mark.parametrize("dtype", FORMATS)
def test_the_right_answer_passes_in_every_dtype(dtype: str) -> None:
    v = vector(dtype)
    forward, backward = verdicts(v, right(v))
    assert (forward.verdict, forward.direction, forward.output, forward.ratio) == (Verdict.PASS, "forward", "output", 0.0)
    assert (backward.verdict, backward.direction, backward.output, backward.ulps) == (Verdict.PASS, "backward", "logits", 0.0)
    assert forward.clauses == ("TOY-1",)
    assert forward.choice == {"sign": "plus"}


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_float32_answers_half_precision_inputs_and_float64_does_not(dtype: str) -> None:
    v = vector(dtype)
    assert [f.verdict for f in verdicts(v, right(v, dtype="float32"))] == [Verdict.PASS] * 2
    wrong = verdicts(v, right(v, dtype="float64"))[0]
    assert (wrong.verdict, wrong.clauses) == (Verdict.FAIL, ("GEN-2",))
    assert "the dtype is float64" in wrong.note


def test_an_inaccurate_answer_names_the_bound_and_the_worst_element() -> None:
    v = vector()
    forward, backward = verdicts(v, changed(right(v), (1,), -6.0 + 1e-4))
    assert (forward.verdict, forward.clauses, forward.worst_index) == (Verdict.FAIL, ("TOY-1", "GEN-5"), (1,))
    assert forward.ratio is not None
    assert forward.ulps is not None
    assert forward.ulps == pytest.approx(1e-4 / 2.0**-21, rel=1e-2)  # the spacing of float32 in [4, 8)
    assert forward.ratio == pytest.approx(1e-4 / ((1 + RESERVE) * 2 * 2.0**-24 * 6.0 + 2.0**-22), rel=1e-2)
    assert backward.verdict == Verdict.PASS


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_nan_or_an_infinity_breaks_the_clauses_of_the_case_and_no_bound(value: float) -> None:
    v = vector()
    found = verdicts(v, changed(right(v), (0,), value))[0]
    assert (found.verdict, found.clauses, found.ratio, found.ulps) == (Verdict.FAIL, ("TOY-1",), math.inf, math.inf)
    found = verdicts(v, changed(right(v), (1, 2), value, "logits"))[1]
    assert (found.verdict, found.worst_index, found.place) == (Verdict.FAIL, (1, 2), "gradient of logits[1, 2]")


def test_a_case_without_clauses_fails_all_the_same() -> None:
    v = vector(clauses=())
    assert verdicts(v, changed(right(v), (0,), math.nan))[0].verdict == Verdict.FAIL
    due = replace(impossible(), case=replace(impossible().case, clauses=()))
    assert verdicts(due, right(v), dialect={"refusal": "error"})[0].verdict == Verdict.FAIL


def test_a_wrong_shape_comes_before_the_values() -> None:
    v = vector()
    answer = right(v)
    assert answer.output is not None
    found = verdicts(v, replace(answer, output=answer.output[:, None]))[0]
    assert (found.verdict, found.clauses, found.ratio) == (Verdict.FAIL, ("GEN-1",), None)
    assert found.note == "the shape is [2, 1], not [2]"


def test_an_integer_output_is_a_wrong_dtype() -> None:
    v = vector()
    found = verdicts(v, replace(right(v), output=np.array([9, -6])))[0]
    assert (found.verdict, found.clauses, found.ratio) == (Verdict.FAIL, ("GEN-2",), None)


def test_side_effects_are_failures_of_the_output() -> None:
    v = vector()
    forward, backward = verdicts(v, replace(right(v), modified=("logits",), repeat_differs=True))
    assert (forward.verdict, forward.clauses, forward.ratio) == (Verdict.FAIL, ("GEN-3", "GEN-4"), 0.0)
    assert forward.note == "the call modified its input logits; a second call with the same inputs gave other bits"
    assert backward.verdict == Verdict.PASS


def test_an_exception_is_an_error_with_its_first_line() -> None:
    v = vector()
    found = verdicts(v, Answer(None, {}, "RuntimeError: no\nat line 3", (), repeat_differs=False, seconds=0.0))
    assert [(f.verdict, f.note, f.ratio) for f in found] == [(Verdict.ERROR, "RuntimeError: no", None)] * 2


def test_a_missing_gradient_is_unsupported_or_an_error() -> None:
    v = vector()
    none = verdicts(v, replace(right(v), gradients={}))
    assert [f.verdict for f in none] == [Verdict.PASS, Verdict.UNSUPPORTED]
    other = verdicts(v, replace(right(v), gradients={"p": np.zeros(2)}))[1]
    assert (other.verdict, other.note) == (Verdict.ERROR, "the answer has no gradient of logits")


def test_a_case_without_a_cotangent_is_judged_forward_only() -> None:
    v = vector()
    v = Vector(replace(v.case, cotangent=None), tuple(replace(e, gradients={}) for e in v.expectations))
    answer = Answer(np.array([9.0, -6.0], np.float32), {}, None, (), repeat_differs=False, seconds=0.0)
    assert [f.verdict for f in verdicts(v, answer)] == [Verdict.PASS]


def test_the_dialect_chooses_what_is_expected_and_another_choice_is_named() -> None:
    v = vector()
    assert [f.verdict for f in verdicts(v, right(v, "minus"), dialect={"sign": "minus"})] == [Verdict.PASS] * 2
    for found in verdicts(v, right(v, "minus")):
        assert found.verdict == Verdict.FAIL
        assert found.note == "this is the answer under sign minus; the backend promised sign plus"
    assert verdicts(v, changed(right(v), (0,), 7.0))[0].note == ""
    mixed = replace(right(v, "minus"), output=changed(right(v), (0,), 7.0).output)  # the gradients alone are the other choice's
    assert verdicts(v, mixed)[0].note == ""
    with pytest.raises(ValueError, match="permits no answer of the dialect"):
        judge.promised(v, {"sign": "times"})


def impossible(where: Array | None = None) -> Vector:
    """A vector whose target names no class."""
    v = vector()
    case = replace(v.case, inputs={**v.case.inputs, "target": np.array([3, 0])})
    output = Expected((2,), where, exactly([math.nan] * (2 if where is None else len(where))))
    return Vector(case, (Expectation({}, "error", output, {"logits": Expected((2, 3), None, exactly(np.full((2, 3), math.nan)))}),))


@pytest.mark.parametrize("where", [None, np.array([0])])
def test_where_an_error_is_due_an_exception_or_nan_passes(where: Array | None) -> None:
    v = impossible(where)
    nan = Answer(np.full(2, np.nan, np.float32), {"logits": np.full((2, 3), np.nan, np.float32)}, None, (), False, 0.0)
    raised = Answer(None, {}, "IndexError: target", (), False, 0.0)
    for answer in (nan, raised):
        assert [f.verdict for f in verdicts(v, answer)] == [Verdict.PASS] * 2
    if where is not None:  # what doesn't depend on the bad target may be anything
        assert [f.verdict for f in verdicts(v, changed(nan, (1,), 0.0))] == [Verdict.PASS] * 2
    for finite in (changed(nan, (0,), 0.0), changed(nan, (0,), math.inf)):
        found = verdicts(v, finite)
        assert [f.verdict for f in found] == [Verdict.FAIL, Verdict.PASS]
        assert (found[0].clauses, found[0].told.expected) == (("TOY-1",), "nan")
    assert [f.verdict for f in verdicts(v, changed(nan, (0, 1), 0.0, "logits"))] == [Verdict.PASS, Verdict.FAIL]


def large(dtype: str = "float32", rows: int = 5000, value: float = 0.5) -> Vector:
    """A vector of which three elements are named, and the sum of all."""
    return vector(dtype, np.array([0, 17, rows - 1]), logits=np.full((rows, 2), value), target=np.arange(rows) % 2)


@pytest.mark.parametrize("dtype", FORMATS)
def test_of_a_large_output_the_named_elements_and_the_sum_are_judged(dtype: str) -> None:
    v = large(dtype)
    assert [f.verdict for f in verdicts(v, right(v))] == [Verdict.PASS] * 2
    named = verdicts(v, changed(right(v), (17,), 2.0))[0]
    assert (named.verdict, named.worst_index) == (Verdict.FAIL, (17,))


def test_an_error_between_the_named_elements_shows_in_the_sum() -> None:
    v = large()
    found = verdicts(v, changed(right(v), (100,), 2.0))[0]
    assert (found.verdict, found.worst_index, found.note, found.clauses) == (
        Verdict.FAIL,
        None,
        "the sum of all elements",
        ("TOY-1", "GEN-5"),
    )
    for value in (math.nan, math.inf):
        found = verdicts(v, changed(right(v), (100,), value))[0]
        assert (found.verdict, found.worst_index, found.told.expected) == (Verdict.FAIL, (100,), "1.5")


def test_the_sum_allows_each_element_its_rounding() -> None:
    v = large("float16", value=0.0999755859375)  # thrice that is no float16, and every row rounds the same way
    assert verdicts(v, right(v), Promise("A", "float64"))[0].verdict == Verdict.PASS


def test_an_overflow_between_the_named_elements_is_no_failure() -> None:
    v = large("float16", value=60000.0)
    assert verdicts(v, right(v, dtype="float32"))[0].verdict == Verdict.PASS
    with np.errstate(over="ignore"):
        assert verdicts(v, right(v))[0].verdict == Verdict.PASS  # infinities: 180000 is beyond float16


def test_an_empty_output_passes() -> None:
    v = vector(logits=np.zeros((0, 3)), target=np.zeros(0))
    assert [(f.verdict, f.ratio, f.worst_index) for f in verdicts(v, right(v))] == [(Verdict.PASS, 0.0, None)] * 2


def test_a_vector_without_an_answer_has_a_finding_for_each_tensor() -> None:
    found = judge.unanswered(vector(), Verdict.TIMEOUT, "no answer within 10 s", {})
    assert [(f.output, f.verdict, f.note) for f in found] == [(n, Verdict.TIMEOUT, "no answer within 10 s") for n in ("output", "logits")]


def test_allowed_adds_the_rounding_to_the_operations_own_bound() -> None:
    v = vector()
    output, gradients = allowed(v.case, v.expectations[0], A, "float32")
    stated = TOY.terms(**v.case.call) @ bound.numbers(A, v.case)
    assert output == pytest.approx(stated + np.array([2.0**-21, 2.0**-22]), rel=1e-7)  # half an ulp at 9 and at 6
    assert gradients["logits"] == pytest.approx(FORMATS["float32"].ulp(gradient(v.case.cotangent, **v.case.inputs)) / 2, rel=1e-12)


def test_a_failure_message_stands_alone() -> None:
    v = vector(clauses=("TOY-1", "TOY-2"))
    found = verdicts(v, changed(right(v), (1,), -6.5))[0]
    assert message.message(found, "torch", "2.13.0", "jit") == "\n".join(
        (
            "FAIL  toy  edges/two-float32  torch 2.13.0  float32  forward  jit     MUST TOY-1, GEN-5  SHOULD TOY-2",
            "      output[1]    logits [[1, 2, 3], [-4, 0.5, 1.5]], target [2, 0]",
            "        expected   -6.0    -0x1.8p+2",
            "        actual     -6.5    -0x1.ap+2",
            "        error      5.18e+05 of the bound (1.05e+06 ulps)    allowed 9.65e-07 (class A)",
            "      why          small",
            "      again        lossref run torch --case toy/edges/two-float32",
        )
    )


def test_a_message_shows_only_the_row_of_a_large_input() -> None:
    v = vector(logits=[[1.0, 2.0, 3.0], [-4.0, 0.5, 1.5], [1.0, 1.0, 1.0]], target=[2, 0, 1])
    answer = right(v)
    assert verdicts(v, changed(answer, (1,), math.nan))[0].told.inputs == "logits [-4, 0.5, 1.5], target 0"
    assert verdicts(v, changed(answer, (1, 0), math.nan, "logits"))[1].told.inputs == "logits [-4, 0.5, 1.5], target 0"
    assert verdicts(large(), right(large()))[0].told.inputs == "logits [0.5, 0.5], target 0"
    raised = Answer(None, {}, "ValueError: no", (), repeat_differs=False, seconds=0.0)
    text = message.message(verdicts(large(), raised)[0], "torch", "2.13.0", "eager")
    assert text.splitlines()[1:3] == [
        "      output    logits float32[5000, 2], target int64[5000]",
        "      why          ValueError: no; small",
    ]


def test_without_a_note_the_message_gives_the_clause_in_words() -> None:
    v = vector(flags=())
    found = verdicts(v, changed(right(v), (1,), math.nan))[0]
    assert "      why          TOY-1: The sum is that of the row." in message.message(found, "torch", "2.13.0", "eager")


def test_numbers_carry_digits_beyond_the_format() -> None:
    v = vector("float64")
    third = enclosure(np.array([1 / 3, -6.0]), np.array([1 / 3 * 2.0**-54, 0.0]), np.array([1e-33, 0.0]))
    expectation = replace(v.expectations[0], output=Expected((2,), None, third))
    found = verdicts(Vector(v.case, (expectation,)), changed(right(v), (1,), -6.0))[0]
    assert (found.told.expected, found.told.radius) == ("0.3333333333333333333", "1e-33")
    assert found.told.expected_hex == "0x1.5555555555555p-2 + 0x1.5555555555555p-56"
    assert (found.told.actual, found.told.actual_hex) == ("9", "0x1.2p+3")
