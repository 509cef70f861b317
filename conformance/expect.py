"""What is expected of a case, proven twice: the kernel's enclosures, each of which must contain the exact form's ball.

The kernels (double-double) and the exact forms (ball arithmetic) share no algorithm. No expectation is made unless they agree.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from conformance.case import Array, Case, Expectation, Expected, Vector, VectorError, class_axis, output_shape, seed_of
from conformance.cases import counter
from refimpl import ball
from refimpl.ball import Ball
from refimpl.bounds import K
from refimpl.enclosure import Enclosure, Kind, enclosure, interval_of
from refimpl.operation import NotPermitted, Operation, OutOfRange, Whole
from refimpl.operations import operation as find

WHOLE = 512  # tensors of more elements are kept at NAMED indices, and as their sum; what that costs: docs/decisions/0006
NAMED = 256
BITS = (192, 512, 2048, ball.MAX_BITS)  # rising precisions of the exact form
EDGES = tuple(sorted({31, 32, 33, 2**14, 2**17, *(2**n + d for n in (7, 8, 9, 10, 11, 12, 13, 15, 16) for d in (-1, 0))}))

Witness = Callable[[Sequence[int], int], list[Ball]]  # the exact form: flat indices, bits -> balls
Tensors = dict[str, Enclosure]  # "" is the output, the others are gradients by input
Combination = tuple[tuple[str, str], ...]  # (choice, value) pairs
Answer = Tensors | None  # None: the operation refuses the target


def expect(case: Case, operation: Operation | None = None) -> Vector:
    """The vector of a case. Raises `VectorError`, naming the case, where kernel and exact form don't agree."""
    operation = operation or find(case.operation)
    meanings = _meanings(operation, case)
    first = {meaning: key for key, meaning in reversed(meanings.items())}
    answers = {meaning: _evaluate(operation, case, dict(key)) for meaning, key in first.items()}
    by_choices = {key: answers[meaning] for key, meaning in meanings.items()}
    matter = tuple(c.name for c in operation.choices if _matters(c.name, by_choices))
    proven: dict[Hashable, Expectation] = {}
    expectations: dict[Combination, Expectation] = {}
    for key, meaning in meanings.items():
        chosen = tuple(pair for pair in key if pair[0] in matter)
        # Where the kernel gives one answer for two meanings, so must the exact form; too dear to see for what is kept as a recipe.
        if meaning not in proven and not (chosen in expectations and case.recipes):
            proven[meaning] = _proven(operation, case, dict(key), dict(chosen), answers[meaning])
        if chosen not in expectations:
            expectations[chosen] = replace(proven[meaning], choices=dict(chosen))
    return Vector(case, tuple(expectations.values()))


def unproven(case: Case, choices: Mapping[str, str]) -> Expectation:
    """What the kernels alone say under those choices: for a search, which proves what it finds.

    Raises `NotPermitted` where a choice isn't defined for the call.
    """
    operation = find(case.operation)
    answer = _evaluate(operation, case, choices)
    if answer is None:
        return _refused(operation, case, choices)
    kept = {name: _keep(operation, case, name, tensor) for name, tensor in answer.items()}
    return Expectation(choices, "value", kept.pop(""), kept)


def _meanings(operation: Operation, case: Case) -> dict[Combination, Hashable]:
    """What each combination of the choices' values that the case permits comes to, that of the defaults first.

    Combinations with one meaning have one answer, and are evaluated once.
    """
    found: dict[Combination, Hashable] = {}
    for key in itertools.product(*(tuple((choice.name, value) for value in choice.values) for choice in operation.choices)):
        try:
            found[key] = key if operation.meaning is None else operation.meaning(**case.call, **dict(key))
        except NotPermitted:
            continue
        except OutOfRange:
            found[key] = None
    return found


def _evaluate(operation: Operation, case: Case, choices: Mapping[str, str]) -> Answer:
    call = {**case.call, **choices}
    try:
        tensors = {"": operation.forward(**call)}
        if case.cotangent is not None:
            gradients = operation.vjp(cotangent=case.cotangent, **call)
            tensors |= {name: gradients[name] for name in operation.differentiable if name in case.inputs}
    except OutOfRange:
        return None
    return tensors


def _matters(choice: str, answers: Mapping[Combination, Answer]) -> bool:
    """Whether two answers differ that agree in every other choice."""
    by_rest: dict[Combination, list[Answer]] = {}
    for key, answer in answers.items():
        by_rest.setdefault(tuple(pair for pair in key if pair[0] != choice), []).append(answer)
    return any(not _same(group[0], other) for group in by_rest.values() for other in group[1:])


def _same(a: Answer, b: Answer) -> bool:
    if a is b or a is None or b is None:
        return a is b
    return all(_bytes(a[name]) == _bytes(b[name]) for name in a)


def _bytes(e: Enclosure) -> tuple[bytes, ...]:
    return e.kind.tobytes(), e.hi.tobytes(), e.lo.tobytes(), e.radius.tobytes()


def _proven(operation: Operation, case: Case, choices: Mapping[str, str], named: Mapping[str, str], answer: Answer) -> Expectation:
    if answer is None:
        _prove_refusal(operation, case, choices)
        return _refused(operation, case, named)
    call = {**case.call, **choices}

    def witness(name: str) -> Witness:
        if not name:
            return lambda where, bits: operation.exact(where, bits, **call)
        return lambda where, bits: operation.exact_vjp(name, where, bits, cotangent=case.cotangent, **call)

    terms = {"": operation.terms(**call)}
    if case.cotangent is not None:
        terms |= operation.terms_vjp(cotangent=case.cotangent, **call)
    kept = {name: _with_terms(_keep(operation, case, name, tensor), terms[name]) for name, tensor in answer.items()}
    for name, expected in kept.items():
        _prove(f"{case.id}, {f'gradient of {name}' if name else 'output'}{_label(choices)}", expected, witness(name))
    return Expectation(named, "value", kept.pop(""), kept)


def _label(choices: Mapping[str, str]) -> str:
    return "".join(f", {name}={value}" for name, value in choices.items())


def _refused(operation: Operation, case: Case, named: Mapping[str, str]) -> Expectation:
    shapes = {"": output_shape(operation, case.call)}
    if case.cotangent is not None:
        shapes |= {name: case.inputs[name].shape for name in operation.differentiable if name in case.inputs}
    refused = {name: _refusal(operation, case, name, shape) for name, shape in shapes.items()}
    return Expectation(named, "error", refused.pop(""), refused)


def _refusal(operation: Operation, case: Case, name: str, shape: tuple[int, ...]) -> Expected:
    """Nan in every element that depends on a target out of range: in a loss of several rows, and in what is such a row's own."""
    bad = _bad(operation, case)
    if name:
        axis = class_axis(operation, shape)
        assert axis is not None
        bad = np.broadcast_to(np.expand_dims(bad, axis), shape)
    elif shape != bad.shape:
        bad = np.ones(shape, bool)
    where = None if bad.all() else np.flatnonzero(bad)
    nan = np.full(shape if where is None else where.shape, np.nan)
    return Expected(shape, where, enclosure(nan, nan, nan))


def _bad(operation: Operation, case: Case) -> NDArray[np.bool_]:
    """The targets that neither name a class nor are ignored."""
    target, scores = case.inputs["target"], next(iter(case.inputs.values()))
    axis = class_axis(operation, scores.shape)
    assert axis is not None
    ignored = [case.parameters.get(name, kind.default) for name, kind in operation.parameters.items() if isinstance(kind, Whole)]
    kept = np.logical_and.reduce([target != index for index in ignored if index is not None], initial=True)
    return np.asarray(((target < 0) | (target >= scores.shape[axis])) & kept)


def _prove_refusal(operation: Operation, case: Case, choices: Mapping[str, str]) -> None:
    """The exact form refuses the target too."""
    try:
        operation.exact([0], BITS[0], **case.call, **choices)
    except OutOfRange:
        return
    raise VectorError(f"{case.id}: the kernel refuses the target and the exact form doesn't; correct one of them")


def _keep(operation: Operation, case: Case, name: str, tensor: Enclosure) -> Expected:
    """What of a tensor is kept: all of it, or named indices and the sum of the whole."""
    if tensor.size <= WHOLE:
        return Expected(tensor.shape, None, _plain(tensor))
    where = _named(operation, case, name, tensor)
    kept = Enclosure(tensor.kind.ravel()[where], tensor.hi.ravel()[where], tensor.lo.ravel()[where], tensor.radius.ravel()[where])
    whole = bool((tensor.kind == Kind.FINITE).all())
    return Expected(tensor.shape, where, kept, total(tensor) if whole else None)


def _with_terms(expected: Expected, terms: Array) -> Expected:
    """The same with the coefficients of the bounds of what is kept."""
    rows = np.asarray(terms, np.float64).reshape(-1, K)
    return replace(expected, terms=rows if expected.where is None else rows[expected.where])


def _plain(e: Enclosure) -> Enclosure:
    """The enclosure without its exact form, its parts as arrays where numpy made scalars of them."""
    kind = np.asarray(e.kind, np.uint8)
    return Enclosure(kind, np.asarray(e.hi, np.float64), np.asarray(e.lo, np.float64), np.asarray(e.radius, np.float64))


def _named(operation: Operation, case: Case, name: str, tensor: Enclosure) -> NDArray[np.int64]:
    """Up to `NAMED` flat indices, ascending: ends, targets, extremes, one of each kind, block edges, and some by counter."""
    size, shape = tensor.size, tensor.shape
    order = np.argsort(np.where(np.isnan(tensor.hi), 0.0, tensor.hi), axis=None, kind="stable")
    chosen = [0, 1, size - 2, size - 1, *map(int, order[:4]), *map(int, order[-4:])]
    chosen += [int(np.flatnonzero(tensor.kind == kind)[0]) for kind in np.unique(tensor.kind)]
    target = case.inputs.get("target")
    axis = class_axis(operation, shape)
    if axis is not None:
        classes = shape[axis]
        index = np.moveaxis(np.arange(size).reshape(shape), axis, -1).reshape(-1, classes)  # one row of flat indices a row
        rows = index[np.unique(np.linspace(0, len(index) - 1, 4).astype(int))]
        chosen += [int(i) for row in rows for i in (row[0], row[-1], *(row[e] for e in EDGES if e < classes))]
        if target is not None and target.dtype.kind == "i" and target.size == len(index):
            flat = target.ravel()
            valid = np.flatnonzero((flat >= 0) & (flat < classes))[:64]
            chosen += [int(i) for i in index[valid, flat[valid]]]
    seen = dict.fromkeys(chosen[:NAMED])
    without_dtype = case.id.rpartition("-")[0]  # so that vectors of one name mostly share their indices
    for i in counter.draw(seed_of(f"{without_dtype}/{name or 'output'}/where"), 0, 4 * NAMED) % np.uint64(size):
        if len(seen) == NAMED:
            break
        seen.setdefault(int(i))
    return np.array(sorted(seen), np.int64)


def total(tensor: Enclosure) -> Enclosure | None:
    """An enclosure of the sum of all elements, all of which are finite; None where the sum is beyond float64.

    hi = RN(sum of all hi and lo) and lo = RN(what that leaves), both by `math.fsum`, which rounds the exact sum once. So the error is
    at most half an ulp of lo, below 2^-52*|lo| + 2^-1074; the sum of the radii, rounded once, is raised by 2^-52 of itself for that.
    """
    terms = [*tensor.hi.ravel().tolist(), *tensor.lo.ravel().tolist()]
    try:
        hi = math.fsum(terms)
    except OverflowError:
        return None
    lo = math.fsum([*terms, -hi])
    radius = math.fsum([*tensor.radius.ravel().tolist(), abs(lo) * 2.0**-52]) * (1.0 + 2.0**-51) + 2.0**-1073
    return _plain(enclosure(np.array(hi), np.array(lo), np.array(radius)))


def _prove(what: str, expected: Expected, witness: Witness) -> None:
    """Raises `VectorError`, naming `what`, unless every kept enclosure, and that of the sum, contains the exact form's ball."""
    where = np.arange(expected.values.size) if expected.where is None else expected.where
    radius = expected.values.radius.ravel()
    loose = [int(where[i]) for i in np.flatnonzero(~np.isfinite(radius))]
    if loose:
        raise VectorError(f"{what}: the kernel doesn't determine element {loose[0]} (its radius is infinite); no vector can be made of it")
    open_: list[int] = list(range(len(where)))
    whole = expected.total is not None
    for bits in BITS:
        if whole and expected.total is not None:
            balls = witness(range(math.prod(expected.shape)), bits)
            with ball.precision(bits):
                whole = not expected.total.contains(0, _sum(balls))
            pairs: Iterator[tuple[int, Ball]] = ((i, balls[int(where[i])]) for i in open_)
        else:
            pairs = zip(open_, witness([int(where[i]) for i in open_], bits), strict=True)
        with ball.precision(bits):  # the ends of a ball are read off at the working precision
            open_ = [i for i, value in pairs if not expected.values.contains(i, value)]
        if not open_ and not whole:
            return
        if open_ and not _worth(expected.values, open_[0], witness([int(where[open_[0]])], bits)[0], bits):
            break
    if open_:
        i = open_[0]
        with ball.precision(bits):
            value = str(witness([int(where[i])], bits)[0])
        raise VectorError(
            f"{what}: element {int(where[i])} has the enclosure {_show(expected.values, i)}, which does not contain the exact form's "
            f"{value}; correct the kernel, its radius or the exact form"
        )
    raise VectorError(f"{what}: the sum's enclosure doesn't contain that of the exact form; correct the kernel or the exact form")


def _sum(balls: Sequence[Ball]) -> Ball:
    if any(isinstance(value, float) for value in balls):
        return math.nan
    return ball.total(value for value in balls if not isinstance(value, float))


def _worth(values: Enclosure, index: int, value: Ball, bits: int) -> bool:
    """Whether more bits could help: the ball meets the enclosure, or isn't known well enough to tell."""
    if isinstance(value, float):
        return False
    with ball.precision(bits):
        ends = ball.interval(value)
    if ends is None:
        return True
    if values.kind.flat[index] != Kind.FINITE:
        return ends[1] - ends[0] > 0
    low, high = interval_of(values, index)
    return ends[0] <= high and low <= ends[1]


def _show(values: Enclosure, i: int) -> str:
    kind = Kind(int(values.kind.flat[i]))
    if kind != Kind.FINITE:
        return kind.label
    return f"{float(values.hi.flat[i])!r} + {float(values.lo.flat[i])!r} +/- {float(values.radius.flat[i]):.3g}"
