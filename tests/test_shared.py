"""What exact forms share between elements that are alike: never the value of one that isn't."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from refimpl import ball, rational
from refimpl.operations import operation

BITS = 192
ROWS = [[1.0, 2.0, 1.0, 2.0], [1.0, 2.0, 1.0, 2.0], [0.5, 0.5, 0.5, 3.0], [1.0, 2.0, 1.0, 2.0], [-np.inf, 0.0, 0.0, -np.inf]]
G = [1.5, -2.0, 0.5, 1.5, 0.25]
NONE = {"reduction": "none"}
P = [[0.5, 0.25, 0.25, 0.5], [0.5, 0.25, 0.25, 0.5], [0.0, 1.0, 0.5, 0.5], [0.5, 0.25, 0.25, 0.5], [0.25, 0.25, 0.25, 0.25]]
Q = [[0.5, 0.5, 0.25, 0.25], [0.25, 0.5, 0.5, 0.25], [0.5, 1.0, 0.5, 0.5], [0.5, 0.5, 0.25, 0.25], [0.125, 0.25, 0.5, 0.125]]
LOG_Q = np.log2(Q)

CALLS: list[tuple[str, str, Mapping[str, Any]]] = [
    ("softmax_cross_entropy", "logits", {"logits": ROWS, "target": [0, 1, 3, 2, 1], "cotangent": G, **NONE}),
    ("softmax_cross_entropy", "logits", {"logits": ROWS, "target": [0, 0, 3, 0, 1], "cotangent": G, "label_smoothing": 0.25, **NONE}),
    ("softmax_cross_entropy", "logits", {"logits": ROWS, "target": [0, 0, 3, 0, 1], "weight": [1.0, 2.0, 4.0, 0.5], "cotangent": 1.5}),
    ("softmax_cross_entropy", "logits", {"logits": ROWS, "target": [0, -1, 3, 0, 1], "ignore_index": -1, "cotangent": 1.5}),
    ("softmax_cross_entropy", "logits", {"logits": ROWS, "target": P, "cotangent": G, **NONE}),
    ("smoothed_attention_loss", "logits", {"logits": [ROWS[:4]], "target": [[0, 1, 3, 2]], "cotangent": 1.5}),
    ("log_softmax", "logits", {"logits": ROWS, "cotangent": np.arange(20.0).reshape(5, 4) % 3 - 1}),
    ("entropy_with_logits", "logits", {"logits": ROWS, "cotangent": G}),
    ("nll_loss", "log_p", {"log_p": LOG_Q, "target": [0, 1, 3, 2, 1], "weight": [1.0, 2.0, 4.0, 0.5], "cotangent": G, **NONE}),
    ("kl_div", "p", {"log_q": LOG_Q, "p": P, "cotangent": np.arange(20.0).reshape(5, 4) % 3 - 1, **NONE}),
    ("kl_div", "log_q", {"log_q": LOG_Q, "p": P, "cotangent": 1.5, "reduction": "batchmean"}),
    ("kl_divergence", "q", {"p": P, "q": Q, "cotangent": G}),
    ("cross_entropy", "p", {"p": P, "q": Q, "cotangent": G}),
]


@pytest.mark.parametrize(("name", "input_", "call"), CALLS)
def test_an_element_of_a_gradient_is_the_same_alone_and_among_others(name: str, input_: str, call: Mapping[str, Any]) -> None:
    stated, given = operation(name), {key: np.asarray(value) if isinstance(value, list) else value for key, value in call.items()}
    size = np.asarray(given[input_]).size
    together = stated.exact_vjp(input_, range(size), BITS, **given)
    for i in range(size):
        (alone,) = stated.exact_vjp(input_, [i], BITS, **given)
        assert str(alone) == str(together[i]), i


@pytest.mark.parametrize(
    "call",
    [
        {"logits": ROWS, "target": [0, 1, 3, 2, 1]},
        {"logits": ROWS, "target": [0, 1, 3, 2, 1], "label_smoothing": 0.25},
        {"logits": ROWS[:4], "target": P[:4]},
    ],
)
def test_a_sum_of_rows_that_repeat_is_the_sum_of_each(call: Mapping[str, Any]) -> None:
    stated = operation("softmax_cross_entropy")
    given = {key: np.asarray(value) if isinstance(value, list) else value for key, value in call.items()}
    (total,) = stated.exact([0], BITS, reduction="sum", **given)
    each = stated.exact(range(len(given["logits"])), BITS, reduction="none", **given)
    with ball.precision(BITS):
        expected = ball.total(each)
        assert str(total) == str(expected)


def test_logits_that_are_alike_count_as_often_as_they_occur() -> None:
    with ball.precision(BITS):
        found = ball.log_softmax([1.0, 2.0, 1.0, -np.inf, 1.0, 0.0, -0.0])
        assert found is not None
        total = sum((ball.arb(x).exp() for x in (1.0, 2.0, 1.0, 1.0, 0.0, 0.0)), ball.arb(0)).log()
        for x, value in zip((1.0, 2.0, 1.0, None, 1.0, 0.0, 0.0), found, strict=True):
            assert value == -np.inf if x is None else (value - (x - total)).contains(0)


def test_an_inner_product_is_exact() -> None:
    a = np.ldexp(np.arange(-40.0, 40.0) + 0.3, np.arange(80) * 25 - 1000)
    b = np.ldexp(np.arange(80.0) + 0.7, 900 - np.arange(80) * 25)
    expected = sum((Fraction(x) * Fraction(y) for x, y in zip(a.tolist(), b.tolist(), strict=True)), Fraction(0))
    assert rational.inner(zip(a.tolist(), b.tolist(), strict=True)) == expected
    assert rational.inner([]) == 0
