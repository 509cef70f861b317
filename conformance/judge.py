"""The judge: a backend's answer, held against the expectations of a vector, becomes one finding for each tensor.

What is promised is the expectation whose choices agree with the backend's dialect, and the conduct that the dialect states. The shape
comes first, then the dtype, then what the call did to its inputs and whether a second one repeats it, then the values
(`conformance.measure`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conformance.bound import Promise, backward_terms, forward_terms
from conformance.case import Case, Expectation, Expected, Vector
from conformance.conduct import HALF_OUTPUT, REFUSAL, SUBNORMALS, Conduct, without_subnormals
from conformance.dialects import dialects
from conformance.finding import Answer, Explained, Finding, Verdict
from conformance.measure import Question, measure
from conformance.statistics import statistics
from refimpl.bounds import K
from refimpl.enclosure import FORMATS, Enclosure, Float
from refimpl.operations import operation

__all__ = ["UNDEFINED", "Answer", "Finding", "Verdict", "defined", "judge", "promised", "unanswered"]

UNDEFINED = "the dialect's choices are not defined for this call"
NAMED = 4  # dialects that are named as those that define it as an answer does

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class _Tensor:
    """One tensor of a vector as it is judged."""

    direction: str
    name: str
    conduct: Conduct
    expectation: Expectation
    question: Question

    @property
    def case(self) -> Case:
        return self.question.case

    @property
    def expected(self) -> Expected:
        return self.question.expected

    def finding(self, verdict: Verdict, note: str = "", **measured: Any) -> Finding:
        """The finding on it."""
        return _finding_on(self.case, self.expectation, self.direction, self.name, verdict, note, **measured)


def judge(vector: Vector, answer: Answer, promise: Promise, dialect: Mapping[str, str], explain: bool = False) -> list[Finding]:
    """One finding for the output and one for each gradient that the vector expects; with what explains the answer, where that is asked."""
    case, expectation, conduct = vector.case, promised(vector, dialect), Conduct.of(dialect)
    if expectation is None:
        return unanswered(vector, Verdict.UNSUPPORTED, UNDEFINED, dialect)
    findings = []
    for tensor in _tensors(case, expectation, promise, conduct):
        finding = _finding(tensor, answer)
        findings.append(_under_other_choices(vector, tensor, answer, finding) if finding.verdict == Verdict.FAIL else finding)
    if explain:
        permitted: dict[str, set[str]] = {}
        for choices in vector.choices:
            for name, value in choices.items():
                permitted.setdefault(name, set()).add(value)
        by = tuple(_explanations(vector, answer, promise))
        explained = Explained({name: frozenset(values) for name, values in permitted.items()}, by)
        findings = [replace(finding, explained=explained) for finding in findings]
    return findings


def _explanations(vector: Vector, answer: Answer, promise: Promise) -> Iterator[Mapping[str, str]]:
    """The choices of every expectation under which the whole answer is right, with the conduct that it shows.

    Of conduct, `refusal` shows where a target names no class, `half_output` in an output for half-precision inputs, and `subnormals`
    where the answer is right only if they may count as 0.
    """
    case = vector.case
    for expectation in vector.expectations:
        for subnormals in SUBNORMALS.values:
            conduct = Conduct(subnormals=subnormals)
            found = [_finding(tensor, answer).verdict for tensor in _tensors(case, expectation, promise, conduct)]
            if Verdict.PASS not in found or not {Verdict.PASS, Verdict.UNSUPPORTED}.issuperset(found):
                continue
            shown = {SUBNORMALS.name: subnormals} if subnormals != SUBNORMALS.default else {}
            if expectation.kind == "error":
                shown[REFUSAL.name] = "nan" if answer.error is None else "error"
            if answer.output is not None and len(conduct.output_dtypes(case.dtype)) > 1:
                shown[HALF_OUTPUT.name] = "same" if answer.output.dtype.name == case.dtype else answer.output.dtype.name
            yield {**expectation.choices, **shown}
            break


def promised(vector: Vector, dialect: Mapping[str, str]) -> Expectation | None:
    """The expectation whose choices all agree with the dialect (an absent choice has its default); None if none does.

    There is none where a choice's value isn't defined for the call: smoothing over V - 2 classes without one for padding. Raises
    `ValueError` for a value that the operation doesn't have.
    """
    position = _position(vector, dialect)
    return None if position is None else vector.expectations[position]


def defined(vector: Vector, dialect: Mapping[str, str]) -> bool:
    """Whether there is one, for which it isn't read. Raises as `promised` does."""
    return _position(vector, dialect) is not None


def _position(vector: Vector, dialect: Mapping[str, str]) -> int | None:
    stated = {}
    for choice in operation(vector.case.operation).choices:
        stated[choice.name] = value = dialect.get(choice.name, choice.default)
        if value not in choice.values:
            raise ValueError(
                f"{vector.case.id} permits no answer of the dialect {dict(dialect)}; {choice.name} is one of {list(choice.values)}"
            )
    agreeing = (
        position for position, choices in enumerate(vector.choices) if all(stated.get(name) == value for name, value in choices.items())
    )
    return next(agreeing, None)


def unanswered(vector: Vector, verdict: Verdict, note: str, dialect: Mapping[str, str]) -> list[Finding]:
    """The findings on a vector that has no answer: a crash, a timeout, an operation that the backend lacks."""
    expectation = promised(vector, dialect) or replace(vector.expectations[0], choices={})
    names = [("forward", "output"), *(("backward", name) for name in expectation.gradients)]
    return [_finding_on(vector.case, expectation, direction, name, verdict, note) for direction, name in names]


def _tensors(case: Case, expectation: Expectation, promise: Promise, conduct: Conduct) -> list[_Tensor]:
    """The output and the gradients of an expectation."""
    if conduct.flushes(case.dtype):
        promise = replace(promise, flush=True)
    choices, stated = expectation.choices, operation(case.operation)

    def tensor(direction: str, name: str, expected: Expected, terms: Callable[[], Float], truth: Callable[[], Enclosure]) -> _Tensor:
        if expectation.kind == "error":  # only kinds are compared, and of elements that aren't named nothing is known
            nothing = np.broadcast_to(0.0, (expected.values.kind.size, K))
            return _Tensor(direction, name, conduct, expectation, Question(case, replace(expected, terms=nothing), promise, terms, None))
        return _Tensor(direction, name, conduct, expectation, Question(case, expected, promise, terms, truth))

    def of_output() -> Float:
        return _rows(forward_terms(case, choices), expectation.output)

    found = [tensor("forward", "output", expectation.output, of_output, lambda: stated.forward(**case.call, **choices))]
    for name, expected in expectation.gradients.items():

        def of_gradient(name: str = name, expected: Expected = expected) -> Float:
            return _rows(backward_terms(case, choices)[name], expected)

        def truth(name: str = name) -> Enclosure:
            return stated.vjp(cotangent=case.cotangent, **case.call, **choices)[name]

        found.append(tensor("backward", name, expected, of_gradient, truth))
    return found


def _rows(terms: Float, expected: Expected) -> Float:
    """The coefficients of every element of a tensor, (elements, K), from an operation's, which may say the same of several."""
    return np.broadcast_to(terms, (*expected.shape, K)).reshape(-1, K)


def _finding_on(
    case: Case, expectation: Expectation, direction: str, name: str, verdict: Verdict, note: str = "", **measured: Any
) -> Finding:
    """The finding with what is known without an answer, and what was `measured` of one."""
    nothing = {"ratio": None, "ulps": None, "worst_index": None, "clauses": _spoken(case, direction)}
    return Finding(
        case=case.id,
        operation=case.operation,
        direction=direction,
        output=name,
        dtype=case.dtype,
        verdict=verdict,
        choice=dict(expectation.choices),
        flags=case.flags,
        subject=case,
        note=note,
        **(nothing | measured),
    )


def _spoken(case: Case, direction: str) -> tuple[str, ...]:
    """The clauses of a case that speak of that direction."""
    if direction == "backward":
        return case.clauses
    of_gradients = _of_gradients(case.operation)
    return tuple(id for id in case.clauses if id not in of_gradients) or case.clauses


@cache
def _of_gradients(name: str) -> frozenset[str]:
    """The clauses of an operation that speak of gradients alone."""
    return frozenset(clause.id for clause in operation(name).clauses if clause.backward)


def _finding(tensor: _Tensor, answer: Answer) -> Finding:
    """The finding on one tensor; where subnormal inputs may count as 0, the answer to the call with zeros is right too."""
    finding, case = _judge(tensor, answer), tensor.case
    if finding.verdict == Verdict.FAIL and tensor.expectation.kind == "value" and tensor.conduct.flushes(case.dtype):
        zeros = replace(case, inputs=without_subnormals(case.inputs, case.dtype))
        if all(np.array_equal(zeros.inputs[name], value, equal_nan=True) for name, value in case.inputs.items()):
            return finding  # no input is subnormal
        for other in _tensors(zeros, tensor.expectation, tensor.question.promise, tensor.conduct):
            if (other.direction, other.name) == (tensor.direction, tensor.name) and other.question.truth is not None:
                expected = Expected(other.expected.shape, None, other.question.truth())
                found = _judge(replace(other, question=replace(other.question, expected=expected)), answer)
                finding = found if found.verdict == Verdict.PASS else finding
    return finding


def _judge(tensor: _Tensor, answer: Answer) -> Finding:
    """The finding on one tensor under one expectation."""
    actual = answer.output if tensor.direction == "forward" else answer.gradients.get(tensor.name)
    if actual is None:
        return _absent(tensor, answer)
    broken, notes = _conduct(tensor, answer, actual)
    if "GEN-1" in broken or actual.dtype.name not in FORMATS:
        shapes = _form(tensor), _described(actual)
        return tensor.finding(Verdict.FAIL, "; ".join(notes), clauses=broken, shapes=shapes)
    found, spoken = measure(tensor.question, actual), _spoken(tensor.case, tensor.direction)
    if found.ratio > 1.0:
        broken += spoken + (("GEN-5",) if found.accuracy else ())
        notes += ["the sum of all elements"] if found.of_all else []
    return tensor.finding(
        Verdict.FAIL if notes or found.ratio > 1.0 else Verdict.PASS,  # also of a case of one's own, without clauses
        "; ".join(notes),
        clauses=tuple(dict.fromkeys(broken)) or spoken,
        ratio=found.ratio,
        ulps=found.ulps,
        worst_index=found.place,
        element=found.element,
        kept=found.kept,
        accuracy=tensor.question.promise.accuracy,
        statistics=None if found.ratio > 1.0 else statistics(tensor.question, actual),
    )


def _absent(tensor: _Tensor, answer: Answer) -> Finding:
    """Where a tensor is missing: it raised, has no derivatives, or left one out."""
    if answer.error is not None:
        message = (answer.error.strip().splitlines() or ["an exception without a message"])[0]
        if tensor.expectation.kind == "error":
            return tensor.finding(Verdict.FAIL, message) if tensor.conduct.refusal == "nan" else tensor.finding(Verdict.PASS)
        return tensor.finding(Verdict.ERROR, message)
    if tensor.direction == "backward" and not answer.gradients and answer.output is not None:
        return tensor.finding(Verdict.UNSUPPORTED, "the backend gives no gradients")
    if tensor.name in answer.constants:
        return tensor.finding(Verdict.UNSUPPORTED, f"the backend doesn't differentiate by {tensor.name}")
    missing = tensor.finding(Verdict.ERROR)
    return replace(missing, note=f"the answer has no {missing.place}")


def _conduct(tensor: _Tensor, answer: Answer, actual: Array) -> tuple[tuple[str, ...], list[str]]:
    """The general clauses that the answer breaks apart from its values, each with what happened."""
    broken, notes = [], []
    if actual.shape != tensor.expected.shape:
        broken.append("GEN-1")
        notes.append(f"the shape is {list(actual.shape)}, not {list(tensor.expected.shape)}")
    dtypes = tensor.conduct.output_dtypes if tensor.direction == "forward" else tensor.conduct.gradient_dtypes
    permitted = dtypes(tensor.case.dtype)
    if tensor.expectation.kind == "error" and tensor.conduct.refusal == "error":
        broken += _spoken(tensor.case, tensor.direction)
        notes.append("no exception was raised")
    if actual.dtype.name not in permitted:
        broken.append("GEN-2")
        notes.append(f"the dtype is {actual.dtype.name}, not {' or '.join(permitted)}")
    if tensor.direction == "forward" and answer.modified:
        broken.append("GEN-3")
        notes.append(f"the call modified its input {' and '.join(answer.modified)}")
    if tensor.direction == "forward" and answer.repeat_differs:
        broken.append("GEN-4")
        notes.append("a second call with the same inputs gave other bits")
    return tuple(broken), notes


def _form(tensor: _Tensor) -> str:
    return f"{tensor.case.dtype}{list(tensor.expected.shape)}"


def _described(array: Array) -> str:
    return f"{array.dtype.name}{list(array.shape)}"


def _under_other_choices(vector: Vector, tensor: _Tensor, answer: Answer, failed: Finding) -> Finding:
    """The finding on a failure, with the choices under which the answer is right, where there are some that weren't promised.

    Then it is the definition that differs and not the accuracy: the classes it keeps are those that it keeps under its own choices.
    """
    own = tensor.expectation
    for other in vector.expectations:
        passed = None if other is own else _passed(vector.case, other, tensor, tensor.conduct, answer)
        if passed is not None:
            different = {name: value for name, value in other.choices.items() if own.choices[name] != value}
            return _told(replace(failed, kept=passed.kept), different, own.choices)
    for choice, conduct in tensor.conduct.others():
        if _passed(vector.case, own, tensor, conduct, answer) is not None:
            return _told(failed, *({choice.name: getattr(one, choice.name)} for one in (conduct, tensor.conduct)))
    return failed


def _passed(case: Case, expectation: Expectation, tensor: _Tensor, conduct: Conduct, answer: Answer) -> Finding | None:
    """The finding on the answer's part that `tensor` is about under another expectation or conduct, where it is right."""
    for candidate in _tensors(case, expectation, tensor.question.promise, conduct):
        if (candidate.direction, candidate.name) == (tensor.direction, tensor.name):
            finding = _finding(candidate, answer)
            return finding if finding.verdict == Verdict.PASS else None
    return None


def _told(failed: Finding, answered: Mapping[str, str], promised: Mapping[str, str]) -> Finding:
    spelled = [" and ".join(f"{name} {choices[name]}" for name in answered) for choices in (answered, promised)]
    known = [one.name for one in dialects().values() if answered.items() <= one.of(failed.operation).items()]
    whose = f" (so define it {', '.join(known[:NAMED])}{', ...' if len(known) > NAMED else ''})" if known else ""
    note = f"this is the answer under {spelled[0]}{whose}; the backend promised {spelled[1]}"
    return replace(failed, other=answered, note="; ".join(filter(None, (failed.note, note))))
