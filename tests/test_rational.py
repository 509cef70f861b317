"""Exact values and exact midpoints are proved where they occur, for each family that `refimpl.rational` lists, and for nothing else.

The expected values are rational numbers, worked out here from the definitions; where one is a midpoint of a format, only the proof
can round it. What lies beside one by less than any ball can show has to round to its side.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
import pytest
from flint import arb
from hypothesis import given
from hypothesis import strategies as st

from refimpl import rational
from refimpl.ball import Ball, precision
from refimpl.enclosure import FORMATS, ROUNDINGS, Enclosure, round_fraction
from refimpl.operation import Operation
from refimpl.operations import operation, operations
from tests import inputs
from tests.test_containment import answers

INF = math.inf
INPUTS = 1500
F = Fraction
PRIMES = (2, 3, 5, 7, 11)
SCE, SAL, LSM, EWL, NLL, KLP = map(
    operation, ("softmax_cross_entropy", "smoothed_attention_loss", "log_softmax", "entropy_with_logits", "nll_loss", "kl_div")
)


def rounds_to(e: Enclosure, expected: Sequence[Fraction]) -> None:
    """Every element of e rounds, in every format, as the rational number does."""
    for name, form in ROUNDINGS.items():
        rounded = e.round(name).astype(np.float64).ravel().tolist()
        assert rounded == [round_fraction(value, form) for value in expected], name


def tied(form: str) -> float:
    """A midpoint of a narrow format, 1/4 and half a step; to even, it rounds down."""
    return 0.25 * (1.0 + ROUNDINGS[form].unit)


TIES = pytest.mark.parametrize("form", [name for name in ROUNDINGS if name != "float64"])
ENDS = pytest.mark.parametrize("far", [-INF, -1e9, -3.4e38, -1e308])
DRAWN = st.fractions(-3, 3, max_denominator=4)


@given(st.lists(st.tuples(DRAWN, st.lists(st.integers(-3, 3), min_size=len(PRIMES), max_size=len(PRIMES))), max_size=6))
def test_a_sum_of_logarithms_vanishes_just_if_each_prime_has_no_exponent(drawn: list[tuple[Fraction, list[int]]]) -> None:
    form = [(c, math.prod((F(p) ** e for p, e in zip(PRIMES, powers, strict=True)), start=F(1))) for c, powers in drawn]
    totals = [sum((c * powers[i] for c, powers in drawn), F(0)) for i in range(len(PRIMES))]
    assert rational.vanishes(form) == (not any(totals))
    closed = form + [(-total, F(p)) for total, p in zip(totals, PRIMES, strict=True)]  # made to vanish
    assert rational.vanishes(closed)
    assert not rational.vanishes([*closed, (F(1, 7), F(13, 6))])


@given(st.lists(st.integers(1, 10**6), max_size=8))
def test_a_coprime_base_is_coprime_and_generates(numbers: list[int]) -> None:
    base = rational.coprime_base(numbers)
    assert all(math.gcd(a, b) == 1 for i, a in enumerate(base) for b in base[:i])
    assert all(b > 1 for b in base)
    for number in numbers:
        for b in base:
            while number % b == 0:
                number //= b
        assert number == 1


@given(st.fractions(), st.integers(-1200, 1200), st.sampled_from((-1, 0, 1)))
def test_a_rational_number_as_a_ball(value: Fraction, exponent: int, side: int) -> None:
    value *= F(2) ** exponent
    with precision(300):
        ball = rational.ball(value, side)
        dyadic = value.denominator & (value.denominator - 1) == 0
        assert (rational.known(ball) == value + side * rational.STEP) == dyadic
        assert (rational.known(ball) is None) != dyadic
        assert (ball * value.denominator - value.numerator).contains(arb(side * value.denominator) / arb(2) ** 10_000)


def test_no_ball_of_another_radius_is_known() -> None:
    assert rational.known(arb(1, 2.0**-300)) is None
    assert rational.known(arb("nan")) is None
    assert rational.summed([0.1, 0.1, 1e308, -1e308, 2.0**-1074]) == 2 * F(0.1) + F(2.0**-1074)


@TIES
@pytest.mark.parametrize("masked", [0, 2])
def test_gradients_of_a_flat_row_at_a_midpoint(form: str, masked: int) -> None:
    """p_v C - c_v with p = 1/2 is (t_1 - t_0)/2 and its opposite: here just a midpoint."""
    tie = tied(form)
    logits, target = [[3.0, 3.0] + [-INF] * masked], [[0.5, 0.5 + 2 * tie] + [tie] * masked]
    mass = sum(map(F, target[0]))
    e = SCE.vjp(logits, target, cotangent=1.0, reduction="sum")["logits"]
    rounds_to(e, [mass / 2 - F(t) for t in target[0][:2]] + [-F(tie)] * masked)
    g = [[1.0, 1.0 - 2 * tie] + [tie] * masked]
    rounds_to(LSM.vjp(logits, cotangent=g)["logits"], [F(g[0][v]) - sum(map(F, g[0])) / 2 for v in (0, 1)] + [F(tie)] * masked)


def test_a_masked_class_has_a_rational_gradient_in_any_row() -> None:
    """-f c_v with c_v = eps/3 and f = 3 tie/eps of a float16: the quotients by 3 are not dyadic, their product is."""
    tie = tied("float16")
    logits = np.array([[0.3, 1.7, -INF], [1.0, -INF, 0.0]])
    e = SCE.vjp(logits, [0, 0], cotangent=6 * tie, label_smoothing=1.0, reduction="mean")["logits"]
    assert e[0, 2].round("float16") == e[1, 1].round("float16") == -round_fraction(F(tie), ROUNDINGS["float16"])
    assert F(float(e[0, 2].round())) == -F(tie)


@pytest.mark.parametrize("cotangent", [1.0, -0.75, 2.0**-1060, 1e300])
@pytest.mark.parametrize("weight", [None, [3.0, 1.0, 0.3, 2.0**-1074], [0.0, 0.0, 0.1, 0.0]])
def test_gradients_of_flat_rows_are_what_fractions_say(cotangent: float, weight: list[float] | None) -> None:
    """Smoothed, weighted, masked and averaged; the classes of the mask have mass."""
    logits, target, eps = np.array([[2.0, 2.0, 2.0, -INF], [-1.0, -INF, -1.0, -INF]]), [0, 2], F(0.3)
    w = [F(x) for x in weight or [1.0] * 4]
    e = SCE.vjp(logits, target, weight, cotangent=cotangent, label_smoothing=0.3, reduction="mean")["logits"]
    denominator = w[0] + w[2]
    expected = []
    for row, y in zip(logits, target, strict=True):
        c = [w[v] * (eps / 4 + (1 - eps) * (v == y)) for v in range(4)]
        p = [F(int(x > -INF), int((row > -INF).sum())) for x in row]
        expected += [F(cotangent) / denominator * (p[v] * sum(c) - c[v]) for v in range(4)]
    rounds_to(e, expected)


def test_a_uniform_target_leaves_no_gradient_and_no_divergence() -> None:
    flat = np.full((2, 3, 4), 1.5)
    call: dict[str, Any] = {"logits": flat, "target": [[0, 1, 2], [3, -1, 0]], "smoothing": 0.75}
    rounds_to(SAL.vjp(cotangent=3.0, **call)["logits"], [F(0)] * flat.size)
    rounds_to(SAL.forward(**call), [F(0)])
    rounds_to(EWL.vjp(flat, cotangent=np.full((2, 3), 1e300))["logits"], [F(0)] * flat.size)
    gradients = EWL.exact_vjp("logits", range(flat.size), 100, logits=flat, cotangent=np.full((2, 3), 1e300))
    assert all(rational.known(gradient) == 0 for gradient in gradients)


@pytest.mark.parametrize(("weight", "target"), [(None, [0.5, 0.5, 0.0]), ([1.0, 4.0, 3.0], [1.0, 0.25, 0.0])])
@ENDS
def test_a_divergence_that_vanishes_on_flat_rows(weight: Any, target: list[float], far: float) -> None:
    """The second: c = (1, 1), and ln(2 * 1) + ln(2 * 1/4) = 0."""
    e = SCE.forward([[7.0, 7.0, far]], [target], weight, target_entropy="kept", reduction="none")
    rounds_to(e, [F(0)])
    beside = SCE.forward([[7.0, 7.0, far]], [[target[0], target[1] * (1 + 2.0**-40), 0.0]], weight, target_entropy="kept", reduction="none")
    assert float(beside.round()[0]) != 0.0


@TIES
@pytest.mark.parametrize("sign", [1.0, -1.0])
@ENDS
def test_a_gradient_beside_a_midpoint_rounds_to_its_side(form: str, sign: float, far: float) -> None:
    """p = 1/2 less what a far class has: p_0 C - c_0 lies below the midpoint, times -1 above its opposite; a masked class has nothing."""
    target = ROUNDINGS[form]
    tie = 0.25 * (1.0 + 3 * target.unit)  # to even, it rounds up
    down, even = 0.25 * (1.0 + 2 * target.unit), 0.25 * (1.0 + 4 * target.unit)
    near = SCE.vjp([[3.0, 3.0, far]], [[0.25, 0.25 + 2 * tie, 0.0]], cotangent=sign, reduction="sum")["logits"]
    assert float(near[0, 0].round(form)) == sign * (even if far == -INF else down)
    given_mass = SCE.vjp([[3.0, 1.0, far]], [[0.5, 0.5, tie]], cotangent=sign, reduction="sum")["logits"]  # far in a row that isn't flat
    assert float(given_mass[0, 2].round(form)) == -sign * (even if far == -INF else down)
    for logits in ([[3.0, 3.0, far]], [[3.0, 1.0, far]]):
        own = LSM.vjp(logits, cotangent=[[0.0, sign, sign * tie]])["logits"]
        assert float(own[0, 2].round(form)) == sign * (even if far == -INF else down)


@pytest.mark.parametrize("form", ["bfloat16", "float32"])
def test_a_loss_beside_a_midpoint_rounds_away_from_zero(form: str) -> None:
    """gap + exp(-gap): the gap is a midpoint whose even neighbour is the one below."""
    gap = (2.0 ** ROUNDINGS[form].precision + 1.0) * 128.0
    above = gap + 128.0
    assert round_fraction(F(gap), ROUNDINGS[form]) == gap - 128.0
    logits = [[0.0, -gap]]
    assert float(SCE.forward(logits, [1], reduction="none").round(form)[0]) == above
    assert float(SCE.forward(logits * 3, [1, 1, 1], [0.0, 3.0]).round(form)) == above
    assert float(SCE.forward([[0.0, -gap], [0.0, -INF]], [1, 0], reduction="sum").round(form)) == above
    assert float(SAL.forward([logits], [[1]], smoothing=0.0).round(form)) == above
    assert float(LSM.forward(logits).round(form)[0, 1]) == -above
    assert float(SCE.forward(logits, [0], reduction="none").round(form)[0]) == 0.0
    assert float(NLL.forward([[0.0, -gap]], [1]).round(form)) == gap - 128.0  # nothing lies beside it there


def test_one_class_that_is_not_masked_has_no_loss() -> None:
    logits = [[-INF, 4.0, -INF], [0.5, -INF, -INF]]
    rounds_to(SCE.forward(logits, [1, 0], [0.1, 0.7, 0.3]), [F(0)])
    rounds_to(LSM.forward(logits)[[0, 1], [1, 0]], [F(0)] * 2)
    rounds_to(LSM.vjp(logits, cotangent=[[0.1, 0.7, 0.3]] * 2)["logits"][1], [-F(0.7) - F(0.3), F(0.7), F(0.3)])


@pytest.mark.parametrize("form", FORMATS)
def test_negative_log_likelihoods_are_rational(form: str) -> None:
    """Every mean is decided, whatever its denominator: here it is a midpoint (for float64, a number) that a sum and a quotient make."""
    tie = tied("float32" if form == "float64" else form)
    l = [[-4 * tie, -5.0], [-7.0, -tie], [-tie, 0.0]]
    rounds_to(NLL.forward(l, [0, 1, 0], [0.3, 0.3]), [2 * F(tie)])
    rounds_to(NLL.vjp(l, [0, 1, 0], [0.3, 0.3], cotangent=-3 * tie)["log_p"], [F(tie), F(0), F(0), F(tie), F(tie), F(0)])
    rounds_to(
        NLL.forward([[-1e308, -(2.0**-1074)], [-3.0, -1e300]], [0, 1], [1e-300, 0.7]),
        [(F(1e308) * F(1e-300) + F(1e300) * F(0.7)) / (F(1e-300) + F(0.7))],
    )


LOGARITHMS: Mapping[str, tuple[str, Mapping[str, list[float]]]] = {
    "sure": ("entropy", {"p": [1.0, 0.0, 1.0]}),
    "2 ln 2 - 4/2 ln 2": ("entropy", {"p": [2.0] + [0.5] * 4}),
    "inverse powers of two": ("cross_entropy", {"p": [0.5, 0.25, 0.75], "q": [2.0, 0.25, 1.0]}),
    "subnormal": ("cross_entropy", {"p": [1.0, 1074.0], "q": [2.0**-1074, 2.0]}),
    "itself": ("kl_divergence", {"p": [0.3, 0.7, 0.0], "q": [0.3, 0.7, 0.5]}),
    "27": ("kl_divergence", {"p": [3.0, 1.0], "q": [1.0, 27.0]}),
    "composite": ("kl_divergence", {"p": [0.5, 0.5, 0.5], "q": [0.25 * 3, 0.5 / 5, 0.5]}),
    "10 and 6": ("kl_divergence", {"p": [10.0, 10.0, 6.0, 0.0], "q": [6.0, 10.0, 6.0 * (5 / 3), INF]}),
    "products": ("kl_divergence", {"p": [1.0, 1.0, 1.0], "q": [15.0, 1 / 8, 0.5]}),
}


@pytest.mark.parametrize("name", LOGARITHMS)
def test_sums_of_logarithms_vanish_or_are_decided(name: str) -> None:
    """Whether one vanishes is seen from the product of a^(N c), here in integers."""
    key, call = LOGARITHMS[name]
    op = operation(key)
    p, q = (list(map(F, filter(math.isfinite, call.get(part, call["p"])))) for part in ("p", "q"))
    pairs = [(a, b) for a, b in zip(p, q, strict=False) if a > 0]
    n = math.lcm(*(a.denominator for a, _ in pairs))
    powers = {"entropy": lambda a, b: a, "cross_entropy": lambda a, b: b, "kl_divergence": lambda a, b: a / b}[key]
    product = math.prod((powers(a, b) ** int(n * a) for a, b in pairs), start=F(1))
    e = op.forward(**{part: np.array([row]) for part, row in call.items()})
    assert (float(e.round()[0]) == 0.0) == (product == 1)


def test_some_of_those_vanish_by_more_than_one_term() -> None:
    for name in ("2 ln 2 - 4/2 ln 2", "inverse powers of two", "subnormal", "itself", "27"):
        key, call = LOGARITHMS[name]
        rounds_to(operation(key).forward(**{part: np.array([row]) for part, row in call.items()}), [F(0)])


@pytest.mark.parametrize("key", ["cross_entropy", "kl_divergence"])
@TIES
def test_quotients_are_rational(key: str, form: str) -> None:
    """-g p/q with p/q = 1/3 and g three times a midpoint."""
    e = operation(key).vjp([[0.1]], [[0.1 * 2 + 0.1]], cotangent=[1.0])["q"]
    assert float(e.round()[0, 0]) == round_fraction(-F(0.1) / F(0.1 * 2 + 0.1), ROUNDINGS["float64"])
    rounds_to(operation(key).vjp([[1.0, 5.0]], [[3.0, 5.0]], cotangent=[3 * tied(form)])["q"], [-F(tied(form)), -3 * F(tied(form))])


@TIES
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_pointwise_divergences_whose_logarithms_vanish(form: str, reduction: str) -> None:
    tie, n = tied(form), 5 if reduction == "mean" else 1
    log_q, p = [-n * tie / 2, 0.0, 0.0, 0.0, 0.0], [2.0, 0.5, 0.5, 0.5, 0.5]
    call = {"log_q": log_q, "p": p, "reduction": reduction}
    rounds_to(KLP.forward(**call), [F(tie)])
    slopes = KLP.vjp(**call, cotangent=tie)
    rounds_to(slopes["log_q"], [-F(tie) * F(x) / n for x in p])
    ones = KLP.vjp([-2.0, 3.0, -1.0, -1.0, 0.0], [1.0] * 5, cotangent=tie, reduction=reduction)["p"]
    rounds_to(ones, [F(tie) * x / n for x in (3, -2, 2, 2, 1)])
    # with logarithms: e (1 - 0) + e (1 - 2), and e^0 (0 - log_q)
    logs = {"log_q": [0.0, 2.0, -n * tie, -INF, 4.0], "p": [1.0, 1.0, 0.0, -INF, 4.0], "reduction": reduction, "log_target": True}
    rounds_to(KLP.forward(**logs), [F(tie)])
    unlike = logs | {"log_q": [0.0, 2.0 - 2.0**-50, -n * tie, -INF, 4.0]}  # e (2^-50) more
    assert float(KLP.forward(**unlike).round(form)) == round_fraction(F(tie) + F(1, 2**60), ROUNDINGS[form])


@pytest.mark.parametrize("op", operations().values(), ids=operations())
def test_nothing_in_a_sweep_is_undecided(op: Operation, record_property: Callable[[str, Any], None]) -> None:
    """Random and adversarial calls, each output and gradient rounded to every format: what decided is counted."""
    rng, counts = np.random.default_rng([24, *op.name.encode()]), Counter[str]()

    def watched(inner: Callable[..., list[Ball]], seen: dict[int, str], where: Sequence[int], bits: int) -> list[Ball]:
        balls = inner(where, bits)
        for index, ball in zip(where, balls, strict=True):
            kind = "proof" if not isinstance(ball, float) and rational.known(ball) is not None else f"{bits} bits"
            seen[index] = "not finite" if isinstance(ball, float) else kind
        return balls

    for call, _ in inputs.calls(rng, op, INPUTS):
        for _, e, _ in answers(op, call, rng):
            for name in ROUNDINGS:
                seen: dict[int, str] = {}
                replace(e, exact=partial(watched, e.exact, seen)).round(name)  # raises Undecided where nothing decides
                counts.update(seen.values())
                counts["enclosure"] += e.size - len(seen)
    for decided, times in counts.items():
        record_property(decided, times)
    assert counts["proof"] > 0
    assert counts["enclosure"] > 0.95 * counts.total()
