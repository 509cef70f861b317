"""Every ball of the exact forms lies inside the kernels' enclosures: at least 10,000 random and adversarial inputs an operation.

An element that isn't contained at 200 bits (a far gap leaves the ball too wide) is looked at again at up to 2^14 bits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from flint import arb

from refimpl.ball import MAX_BITS, Ball, precision
from refimpl.bounds import Arithmetic
from refimpl.doubledouble import TINY
from refimpl.elementary import EXP, LOG1P
from refimpl.enclosure import Enclosure, Kind
from refimpl.operation import Operation
from refimpl.operations import operations
from tests import inputs
from tests.inputs import ROW_NAMES

INPUTS = 10_000
BITS = (200, 1500, 6000, MAX_BITS)

ALL = pytest.mark.parametrize("operation", operations().values(), ids=operations())


@dataclass
class Tally:
    """What a sweep has seen: elements looked at, the ones that an enclosure doesn't contain, the largest error/radius."""

    elements: int = 0
    finite: int = 0
    unknown: int = 0
    worst: float = 0.0
    outside: list[str] = field(default_factory=list)

    def compare(self, e: Enclosure, where: Sequence[int], evaluate: Callable[[Sequence[int], int], list[Ball]], label: str) -> None:
        """Look whether the elements `where` contain what `evaluate(where, bits)` gives."""
        self.elements += len(where)
        left = list(where)
        for bits in BITS:
            if not left:
                return
            balls = evaluate(left, bits)
            left = [index for index, ball in zip(left, balls, strict=True) if not self._contained(e, index, ball, bits)]
        for index, ball in zip(left, evaluate(left, BITS[-1]), strict=True):
            self.outside.append(f"{label}[{index}]: {e.hi.flat[index]!r} + {e.lo.flat[index]!r} +/- {e.radius.flat[index]!r}, true {ball}")

    def _contained(self, e: Enclosure, index: int, ball: Ball, bits: int) -> bool:
        if isinstance(ball, float) or e.kind.flat[index] != Kind.FINITE:
            return e.contains(index, ball)
        radius = float(e.radius.flat[index])
        if radius == np.inf:
            self.unknown += 1
            return True
        with precision(bits):
            error = ((ball - arb(float(e.hi.flat[index]))) - arb(float(e.lo.flat[index]))).abs_upper()
            if not error <= arb(radius if bits > BITS[0] else radius / 4):  # near the edge, look again with a smaller ball
                return False
            self.finite += 1
            if radius > 0.0:
                self.worst = max(self.worst, float(error / arb(radius)))
        return True


def sweep(
    tally: Tally, operation: Operation, call: dict[str, Any], rng: np.random.Generator, *, ordinary: bool = False, most: int = 0
) -> None:
    """Compare output and gradients of one call; `most` limits the elements of each that are looked at (0: all)."""
    for label, e, evaluate in answers(operation, call, rng, ordinary=ordinary):
        where = list(range(e.size)) if not most or e.size <= most else rng.choice(e.size, most, replace=False).tolist()
        tally.compare(e, where, evaluate, label)


def answers(operation: Operation, call: dict[str, Any], rng: np.random.Generator, *, ordinary: bool = False) -> list[tuple[str, Any, Any]]:
    """(label, enclosure, exact form) of the output and of each gradient."""
    output = operation.forward(**call)
    g = inputs.cotangent(rng, output.shape, ordinary=ordinary)
    result = [(f"{operation.name} output", output, lambda where, bits: operation.exact(where, bits, **call))]
    for name, gradient in operation.vjp(cotangent=g, **call).items():
        assert gradient.shape == call[name].shape

        def evaluate(where: Sequence[int], bits: int, name: str = name) -> list[Ball]:
            return operation.exact_vjp(name, where, bits, cotangent=g, **call)

        result.append((f"{operation.name} d{name}", gradient, evaluate))
    return result


@ALL
def test_the_ball_lies_inside_the_enclosure(operation: Operation, record_property: Callable[[str, Any], None]) -> None:
    rng = np.random.default_rng([2, *operation.name.encode()])
    tally, drawn = Tally(), 0
    for call, count in inputs.calls(rng, operation, INPUTS):
        sweep(tally, operation, call, rng)
        drawn += count
        assert not tally.outside, (tally.outside[:5], {name: call[name] for name in call if name not in ROW_NAMES})
    record_property("worst error/radius", tally.worst)
    assert drawn >= INPUTS
    assert 0.0 <= tally.worst <= 1.0
    assert tally.unknown <= tally.elements // 20, "too many elements are not determined"


@ALL
def test_the_ball_lies_inside_for_many_classes(operation: Operation) -> None:
    rng = np.random.default_rng([3, *operation.name.encode()])
    tally = Tally()
    for classes in (15, 16, 17, 31, 33, 255, 511, 512, 513, 528, 1000, 1023, 1025, 2048, 4097, 4999, 5000):
        call = inputs.call(rng, operation, 2, classes)
        sweep(tally, operation, call, rng, most=24)
        assert not tally.outside, tally.outside[:5]


@ALL
def test_enclosures_of_ordinary_inputs_are_tight(operation: Operation) -> None:
    """The radius is at most what 90-bit arithmetic with the kernels' exp and log1p could promise."""
    rng = np.random.default_rng([4, *operation.name.encode()])
    for call, _ in inputs.calls(rng, operation, 400, ordinary=True):
        output = operation.forward(**call)
        g = inputs.cotangent(rng, output.shape, ordinary=True)
        first = call[next(iter(operation.inputs))]
        depth = max(first.size, 2) * 2.0**-90
        fine = Arithmetic(unit=2.0**-90, classes=depth, rows=depth, tiny=64 * TINY, exp=EXP, log=LOG1P).numbers()
        terms = {"output": operation.terms(**call)} | operation.terms_vjp(cotangent=g, **call)
        bounds = {name: form @ fine for name, form in terms.items()}
        for name, e in {"output": output, **operation.vjp(cotangent=g, **call)}.items():
            inexact = (e.kind == Kind.FINITE) & (e.radius > 0.0)
            assert np.isfinite(e.radius).all()
            assert (e.radius[inexact] <= bounds[name][inexact]).all(), (operation.name, name)


@ALL
def test_the_sweep_sees_an_error_of_2_to_the_minus_95(operation: Operation) -> None:
    """A kernel that is wrong by that much, relative to its own result, is caught in every output: the sweep can fail."""
    rng = np.random.default_rng([5, *operation.name.encode()])
    seen: dict[str, Tally] = {}
    for call, _ in inputs.calls(rng, operation, 60, ordinary=True):
        for label, e, evaluate in answers(operation, call, rng, ordinary=True):
            wrong = replace(e, lo=e.lo + e.hi * 2.0**-95)
            where = np.flatnonzero((e.kind == Kind.FINITE) & (e.hi != 0.0)).tolist()[:50]
            seen.setdefault(label, Tally()).compare(wrong, where, evaluate, label)
    for label, tally in seen.items():
        assert len(tally.outside) > tally.elements // 2, (label, len(tally.outside), tally.elements)


TINIEST = 2.0**-1074
REGRESSIONS = {  # what the sweep and readers have found in earlier kernels: the operation, its call, the cotangent
    "weights-sum-beyond-range": (
        "softmax_cross_entropy",
        {"logits": [[1.0, 2.0]] * 4, "target": [0, 1, 0, 1], "weight": [1e308, 1e308]},
        1.5,
    ),
    "weights-sum-beyond-range-nll": ("nll_loss", {"log_p": [[-1.0, -2.0]] * 4, "target": [0, 1, 0, 1], "weight": [1e308, 1e308]}, 1.5),
    "difference-beyond-range": (
        "kl_div",
        {"log_q": [-1e308, -1.7e308, -1.2e308], "p": [1e308, 1.7e308, 1e308], "reduction": "none", "log_target": True},
        [1.0, -1.0, 2.0],
    ),
    "smoothing-underflows": ("softmax_cross_entropy", {"logits": [[0.0, -np.inf, 1.0]], "target": [0], "label_smoothing": TINIEST}, 1.5),
    "mass-times-far-gap": ("smoothed_attention_loss", {"logits": [[[0.0, -1e308, 1.0]]], "target": [[0]], "smoothing": TINIEST}, 1e9),
    "coefficient-underflows": (
        "softmax_cross_entropy",
        {"logits": [[0.0, -1e6, -np.inf]], "target": [[1.0, 2.0**-600, 2.0**-600]], "weight": [1.0, 2.0**-600, 2.0**-600]},
        2.0**200,
    ),
    "denominator-is-subnormal": (
        "softmax_cross_entropy",
        {"logits": [[1.0, 2.0, 0.0]] * 2, "target": [0, 1], "weight": [3 * TINIEST, 4 * TINIEST, 1.0], "label_smoothing": 0.5},
        3 * TINIEST,
    ),
    "factor-underflows": ("smoothed_attention_loss", {"logits": [[[0.0, 1.0]], [[0.0, 2.0]], [[1.0, 0.0]]], "target": [[0]] * 3}, TINIEST),
    "factor-overflows": (
        "nll_loss",
        {"log_p": [[-1.0, -2.0, 0.0], [-3.0, -1.0, 0.0]], "target": [0, 1], "weight": [2.0**-1000, 0.0, 1.0]},
        1e300,
    ),
    "underflow-times-rest": (
        "log_softmax",
        {"logits": [([float.fromhex("0x1.75a0bc2dcdec7p-3"), float.fromhex("0x1.75a0bc2dcdecbp-3")] * 17)[:33]]},
        [([float.fromhex("-0x0.00000163e766cp-1022"), float.fromhex("0x1.245c5010754a1p-1008")] * 17)[:33]],
    ),
    "small-gaps-beside-huge-ones": ("entropy_with_logits", {"logits": [[1.7e308, -1.7e308, 0.0], [3e-308, -2e-308, 0.0]]}, [-1e12, 1e12]),
}


@pytest.mark.parametrize("name", REGRESSIONS)
def test_what_the_sweep_has_found_stays_found(name: str) -> None:
    key, call, g = REGRESSIONS[name]
    operation, tally = operations()[key], Tally()
    output, gradients = operation.forward(**call), operation.vjp(cotangent=g, **call)
    tally.compare(output, range(output.size), lambda where, bits: operation.exact(where, bits, **call), "output")
    for wrt, e in gradients.items():
        tally.compare(e, range(e.size), lambda where, bits, wrt=wrt: operation.exact_vjp(wrt, where, bits, cotangent=g, **call), wrt)
    assert not tally.outside
