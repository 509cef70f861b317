"""The judge: a backend's answer, held against the expectations of a vector, becomes one finding for each tensor.

What is promised is the expectation whose choices agree with the backend's dialect, and the conduct that the dialect states. The shape
comes first, then the dtype, then what the call did to its inputs and whether a second one repeats it, then the values
(`conformance.metric`, `conformance.bound`). Of a large output the named elements are judged, and the sum of all: no sum of errors may
exceed the sum of what is allowed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conformance.bound import Promise, backward_error, element_bound, forward_error, half_ulp, with_rounding, worth
from conformance.case import Case, Expectation, Expected, Vector
from conformance.conduct import Conduct, without_subnormals
from conformance.finding import Answer, Finding, Place, Verdict
from conformance.metric import distance, spacing_at
from conformance.texts import decimal_text, element_text, hex_text, inputs_text, number_text, place_text, short_hex
from refimpl.enclosure import FORMATS, Enclosure, Float, Format, Kind
from refimpl.operations import operation

__all__ = ["UNDEFINED", "Answer", "Finding", "Verdict", "distance", "judge", "promised", "unanswered"]

UNDEFINED = "the dialect's choices are not defined for this call"

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class _Tensor:
    """One tensor of a vector as it is judged; `error` and `truth` are asked only when they are needed."""

    case: Case
    direction: str
    name: str
    promise: Promise
    conduct: Conduct
    expectation: Expectation
    expected: Expected
    error: Callable[[], Float]
    truth: Callable[[], Enclosure]


@dataclass(frozen=True, eq=False)
class _Worst:
    """The element (or the sum) with the largest ratio; `accuracy` where a number stands for a number wherever it fails."""

    ratio: float
    ulps: float
    place: Place | None
    expected: Enclosure | None
    actual: Array | None
    bound: float
    accuracy: bool
    note: str = ""


_NOTHING = _Worst(0.0, 0.0, None, None, None, 0.0, accuracy=True)


def judge(vector: Vector, answer: Answer, promise: Promise, dialect: Mapping[str, str]) -> list[Finding]:
    """One finding for the output and one for each gradient that the vector expects."""
    case, expectation, conduct = vector.case, promised(vector, dialect), Conduct.of(dialect)
    if expectation is None:
        return unanswered(vector, Verdict.UNSUPPORTED, UNDEFINED, dialect)
    findings = []
    for tensor in _tensors(case, expectation, promise, conduct):
        finding = _finding(tensor, answer)
        if finding.verdict == Verdict.FAIL:
            finding = replace(finding, note="; ".join(filter(None, (finding.note, _other_choice(vector, tensor, answer)))))
        findings.append(finding)
    return findings


def promised(vector: Vector, dialect: Mapping[str, str]) -> Expectation | None:
    """The expectation whose choices all agree with the dialect (an absent choice has its default); None if none does.

    There is none where a choice's value isn't defined for the call: smoothing over V - 2 classes without one for padding. Raises
    `ValueError` for a value that the operation doesn't have.
    """
    stated = {}
    for choice in operation(vector.case.operation).choices:
        stated[choice.name] = value = dialect.get(choice.name, choice.default)
        if value not in choice.values:
            raise ValueError(
                f"{vector.case.id} permits no answer of the dialect {dict(dialect)}; {choice.name} is one of {list(choice.values)}"
            )
    for expectation in vector.expectations:
        if all(stated.get(name) == value for name, value in expectation.choices.items()):
            return expectation
    return None


def unanswered(vector: Vector, verdict: Verdict, note: str, dialect: Mapping[str, str]) -> list[Finding]:
    """The findings on a vector that has no answer: a crash, a timeout, an operation that the backend lacks."""
    expectation = promised(vector, dialect) or replace(vector.expectations[0], choices={})
    names = [("forward", "output"), *(("backward", name) for name in expectation.gradients)]
    return [_blank(vector.case, expectation, direction, name, verdict, note) for direction, name in names]


def _tensors(case: Case, expectation: Expectation, promise: Promise, conduct: Conduct) -> list[_Tensor]:
    """The output and the gradients of an expectation, with their computing errors (zero where an error is expected)."""
    promise = replace(promise, flush=promise.flush or conduct.flushes(case.dtype))
    choices, stated = expectation.choices, operation(case.operation)
    call = {**case.inputs, **case.parameters, **choices}
    raises = expectation.kind == "error"

    def output_error() -> Float:
        if raises:
            return np.zeros(expectation.output.shape)
        stored = _stored(expectation.output, promise, case)
        return forward_error(case, choices, promise) if stored is None else stored

    def output_truth() -> Enclosure:
        return stated.forward(**call)

    tensors = [_Tensor(case, "forward", "output", promise, conduct, expectation, expectation.output, output_error, output_truth)]
    backward: dict[str, Float] = {}
    for name, expected in expectation.gradients.items():

        def error(name: str = name, expected: Expected = expected) -> Float:
            if raises:
                return np.zeros(expected.shape)
            stored = _stored(expected, promise, case)
            if stored is not None:
                return stored
            if not backward:
                backward.update(backward_error(case, choices, promise))
            return backward[name]

        def truth(name: str = name) -> Enclosure:
            return stated.vjp(cotangent=case.cotangent, **call)[name]

        tensors.append(_Tensor(case, "backward", name, promise, conduct, expectation, expected, error, truth))
    return tensors


def _stored(expected: Expected, promise: Promise, case: Case) -> Float | None:
    """The error of every element by the terms that the vector holds; None where it holds those of some elements only, or none."""
    if expected.terms is None or expected.where is not None:
        return None
    return worth(expected.terms, promise, case).reshape(expected.shape)


def _blank(case: Case, expectation: Expectation, direction: str, name: str, verdict: Verdict, note: str = "") -> Finding:
    return Finding(
        case=case.id,
        operation=case.operation,
        direction=direction,
        output=name,
        dtype=case.dtype,
        verdict=verdict,
        ratio=None,
        ulps=None,
        choice=dict(expectation.choices),
        worst_index=None,
        clauses=_spoken(case, direction),
        flags=case.flags,
        place=place_text(name, direction, None),
        inputs=inputs_text(case, operation(case.operation), None),
        note=note,
    )


def _spoken(case: Case, direction: str) -> tuple[str, ...]:
    """The clauses of a case that speak of that direction."""
    of_gradients = {clause.id for clause in operation(case.operation).clauses if clause.backward}
    return tuple(id for id in case.clauses if direction == "backward" or id not in of_gradients) or case.clauses


def _finding(tensor: _Tensor, answer: Answer) -> Finding:
    """The finding on one tensor; where subnormal inputs may count as 0, the answer to the call with zeros is right too."""
    finding, case = _judge(tensor, answer), tensor.case
    if finding.verdict == Verdict.FAIL and tensor.expectation.kind == "value" and tensor.conduct.flushes(case.dtype):
        zeros = replace(case, inputs=without_subnormals(case.inputs, case.dtype))
        for other in _tensors(zeros, tensor.expectation, tensor.promise, tensor.conduct):
            if (other.direction, other.name) == (tensor.direction, tensor.name):
                found = _judge(replace(other, expected=Expected(other.expected.shape, None, other.truth())), answer)
                finding = found if found.verdict == Verdict.PASS else finding
    return finding


def _judge(tensor: _Tensor, answer: Answer) -> Finding:
    """The finding on one tensor under one expectation."""
    blank = _blank(tensor.case, tensor.expectation, tensor.direction, tensor.name, Verdict.PASS)
    actual = answer.output if tensor.direction == "forward" else answer.gradients.get(tensor.name)
    if actual is None:
        return _absent(blank, tensor, answer)
    broken, notes = _conduct(tensor, answer, actual)
    failed = Verdict.FAIL if broken else Verdict.PASS
    if "GEN-1" in broken or actual.dtype.name not in FORMATS:
        return replace(blank, verdict=failed, clauses=broken, expected=_form(tensor), actual=_described(actual), note="; ".join(notes))
    worst = _worst(tensor, actual)
    if worst.ratio > 1.0:
        broken += blank.clauses + (("GEN-5",) if worst.accuracy else ())
    verdict = Verdict.FAIL if broken else Verdict.PASS
    clauses = tuple(dict.fromkeys(broken)) or blank.clauses
    finding = replace(blank, verdict=verdict, clauses=clauses, note="; ".join(filter(None, (*notes, worst.note))))
    return _with_numbers(finding, tensor, worst, FORMATS[actual.dtype.name])


def _absent(blank: Finding, tensor: _Tensor, answer: Answer) -> Finding:
    """Where a tensor is missing: it raised, has no derivatives, or left one out."""
    if answer.error is not None:
        message = (answer.error.strip().splitlines() or ["an exception without a message"])[0]
        if tensor.expectation.kind == "error":
            return replace(blank, verdict=Verdict.FAIL, note=message) if tensor.conduct.refusal == "nan" else blank
        return replace(blank, verdict=Verdict.ERROR, note=message)
    if tensor.direction == "backward" and not answer.gradients and answer.output is not None:
        return replace(blank, verdict=Verdict.UNSUPPORTED, note="the backend gives no gradients")
    return replace(blank, verdict=Verdict.ERROR, note=f"the answer has no {blank.place}")


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


def _worst(tensor: _Tensor, actual: Array) -> _Worst:
    """The largest ratio among the judged elements and, of a large tensor, the sum of all."""
    expected, target = tensor.expected, FORMATS[actual.dtype.name]
    error = np.broadcast_to(tensor.error(), expected.shape)
    judged = actual.reshape(-1) if expected.where is None else actual.reshape(-1)[expected.where]
    values = _flat(expected.values)
    bound = element_bound(error, expected, target, tensor.promise.flush).reshape(-1)
    worst = _largest(judged, values, bound, target)
    if worst.place is not None:
        index = worst.place[0] if expected.where is None else int(expected.where[worst.place[0]])
        worst = replace(worst, place=_unravel(index, expected.shape))
    if expected.where is None or worst.ratio > 1.0 or tensor.expectation.kind == "error":
        return worst
    rest = _rest(tensor, actual, error.reshape(-1), target)
    return rest if rest.ratio > worst.ratio else worst


def _largest(actual: Array, expected: Enclosure, bound: Float, target: Format) -> _Worst:
    """The largest ratio of a flat array; its `place` is the flat index."""
    if actual.size == 0:
        return _NOTHING
    ratio, ulps = distance(actual, expected, bound, target)
    at = int(np.argmax(ratio))
    failing = ratio > 1.0
    accuracy = bool((np.isfinite(actual.astype(np.float64)) & (expected.kind == Kind.FINITE))[failing].all())
    return _Worst(float(ratio[at]), float(ulps[at]), (at,), expected[at : at + 1], actual[at : at + 1], float(bound[at]), accuracy)


def _rest(tensor: _Tensor, actual: Array, error: Float, target: Format) -> _Worst:
    """What can be said of the elements that aren't named: their sum, or where there are infinities or nans, those."""
    total, flush = tensor.expected.total, tensor.promise.flush
    wide = actual.astype(np.float64).reshape(-1)
    strange = np.flatnonzero(~np.isfinite(wide))
    if strange.size:  # there is no sum to compare; each is held against the kernel's own enclosure
        values = _flat(tensor.truth())[strange]
        worst = _largest(actual.reshape(-1)[strange], values, with_rounding(error[strange], values, target, flush), target)
        return replace(worst, place=None if worst.place is None else _unravel(int(strange[worst.place[0]]), tensor.expected.shape))
    if total is None or not np.isfinite(error).all():
        return _NOTHING
    size = np.abs(wide)
    allowed = error + half_ulp(size, target) + np.where(flush & (size < target.normal), target.normal, 0.0)
    value = math.fsum(wide.tolist())
    bound = math.fsum(allowed.tolist()) * (1.0 + 2.0**-50) + math.ulp(value)  # of the additions above, and of the sum itself
    worst = _largest(np.asarray([value]), _flat(total), np.asarray([bound]), FORMATS["float64"])
    spacings = float(spacing_at(total.hi, FORMATS["float64"]) / spacing_at(total.hi, target))
    return replace(worst, place=None, ulps=worst.ulps * spacings, note="the sum of all elements" if worst.ratio > 1.0 else "")


def _with_numbers(finding: Finding, tensor: _Tensor, worst: _Worst, target: Format) -> Finding:
    """A finding with the numbers of its worst element, in figures and as texts."""
    finding = replace(finding, ratio=worst.ratio, ulps=worst.ulps, worst_index=worst.place, accuracy=tensor.promise.accuracy)
    if worst.expected is None or worst.actual is None:
        return finding
    radius = float(worst.expected.radius.item())
    return replace(
        finding,
        place=place_text(tensor.name, tensor.direction, worst.place),
        inputs=inputs_text(tensor.case, operation(tensor.case.operation), worst.place),
        expected=decimal_text(worst.expected, target),
        expected_hex=hex_text(worst.expected),
        radius=f"{radius:.2g}" if radius else "",
        actual=element_text(worst.actual[0]),
        actual_hex=short_hex(float(worst.actual[0])),
        allowed=number_text(float(f"{worst.bound:.3g}")),
    )


def _other_choice(vector: Vector, tensor: _Tensor, answer: Answer) -> str:
    """What to say where the answer is right under choices that the backend didn't promise."""
    own = tensor.expectation
    for other in vector.expectations:
        if other is not own and _passes(vector.case, other, tensor, tensor.conduct, answer):
            return _told({name: value for name, value in other.choices.items() if own.choices[name] != value}, own.choices)
    for choice, conduct in tensor.conduct.others():
        if _passes(vector.case, own, tensor, conduct, answer):
            return _told(*({choice.name: getattr(one, choice.name)} for one in (conduct, tensor.conduct)))
    return ""


def _passes(case: Case, expectation: Expectation, tensor: _Tensor, conduct: Conduct, answer: Answer) -> bool:
    """Whether the answer's part that `tensor` is about is right under another expectation or conduct."""
    return any(
        _finding(candidate, answer).verdict == Verdict.PASS
        for candidate in _tensors(case, expectation, tensor.promise, conduct)
        if (candidate.direction, candidate.name) == (tensor.direction, tensor.name)
    )


def _told(answered: Mapping[str, str], promised: Mapping[str, str]) -> str:
    spelled = [" and ".join(f"{name} {choices[name]}" for name in answered) for choices in (answered, promised)]
    return f"this is the answer under {spelled[0]}; the backend promised {spelled[1]}"


def _flat(e: Enclosure) -> Enclosure:
    return Enclosure(e.kind.reshape(-1), e.hi.reshape(-1), e.lo.reshape(-1), e.radius.reshape(-1))


def _unravel(index: int, shape: Place) -> Place:
    return tuple(int(i) for i in np.unravel_index(index, shape))
