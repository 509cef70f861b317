"""The numbers in the spec's text are the reference's: each value, rounded to the digits that are printed, is what is printed."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

import refimpl
from conformance.spec import sections

X, X2 = [[1.0, 2.0, 3.0]], [[1.0, 2.0, 3.0], [0.0, 0.0, 1.0]]
INF = math.inf


def nll(x: Any, y: Any, **more: Any) -> float:
    return float(refimpl.softmax_cross_entropy(x, y, **more).hi)


def slopes(x: Any, y: Any) -> list[float]:
    gradient: list[float] = refimpl.softmax_cross_entropy_vjp(x, y, cotangent=1.0)["logits"].hi[0].tolist()
    return gradient


def attention(**more: Any) -> float:
    return float(refimpl.smoothed_attention_loss([X], [[0]], **more).hi)


def pointwise(log_q: float, p: float) -> float:
    return float(refimpl.kl_div(log_q, p).hi)


def divergence(p: list[float], q: list[float]) -> float:
    return float(refimpl.kl_divergence(p, q).hi)


def smoothed(V: int, s: float) -> float:
    """The mass on the classes other than the target's, formed in float16."""
    return float(np.float16(s / (V - 1))) * (V - 1)


VALUES: tuple[tuple[str, str, Callable[[], float]], ...] = (
    ("ENT-1", "0.6931471805599453", lambda: float(refimpl.entropy([0.5, 0.5]).hi)),
    ("ENT-2", "-5.1986", lambda: float(refimpl.entropy([4.0, 0.5]).hi)),
    ("ENT-2", "0.3488", lambda: float(refimpl.entropy([8 / 9, 1 / 9]).hi)),
    ("ENT-2", "0.16", lambda: -1e5 * 1e-7 * math.log(1e-7)),
    ("ENT-9", "103.28", lambda: float(refimpl.entropy([2.0**-149]).hi[()]) * 2.0**149),
    ("EWL-1", "0.8323955818399389", lambda: float(refimpl.entropy_with_logits(X[0]).hi)),
    ("LSM-1", "-2.4076", lambda: float(refimpl.log_softmax(X[0]).hi[0])),
    ("LSM-1", "-1.4076", lambda: float(refimpl.log_softmax(X[0]).hi[1])),
    ("LSM-1", "-0.4076", lambda: float(refimpl.log_softmax(X[0]).hi[2])),
    ("LSM-1", "-11.156", lambda: float(refimpl.log_softmax([0.0] * 70000).hi[0])),
    ("CE-1", "0.8369882167858358", lambda: float(refimpl.cross_entropy([0.5, 0.5], [0.25, 0.75]).hi)),
    ("CE-2", "16.118", lambda: -math.log(1e-7)),
    ("CE-11", "-103.28", lambda: -149 * math.log(2)),
    ("KLD-1", "0.13081203594113697", lambda: divergence([0.25, 0.75], [0.5, 0.5])),
    ("KLD-1", "0.14384103622589045", lambda: divergence([0.5, 0.5], [0.25, 0.75])),
    ("KLD-2", "11.513", lambda: divergence([1.0] + [0.0] * 99999, [1e-5] * 100000)),
    ("KLP-1", "-0.0965736", lambda: pointwise(-1.0, 0.25)),
    ("KLP-14", "-101.28", lambda: pointwise(-2.0, 2.0**-149) * 2.0**149),
    ("SCE-1", "2.40760596444438", lambda: nll(X, [0])),
    ("SCE-1", "0.4076059644443803", lambda: nll(X, [2])),
    ("SCE-1", "4.2e-18", lambda: nll([[40.0, 0.0]], [0])),
    ("SCE-1", "1420", lambda: 2049 * math.log(2)),
    ("SCE-2", "0.97408", lambda: nll([[10000.0, 10000.5]], [0])),
    ("SCE-3", "2.3076059644443805", lambda: nll(X, [0], label_smoothing=0.1)),
    ("SCE-3", "2.370648", lambda: nll(X, [0], weight=[1.0, 2.0, 4.0], label_smoothing=0.3)),
    ("SCE-4", "0.922677", lambda: nll(X2, [0, 2], weight=[1.0, 2.0, 4.0])),
    ("SCE-4", "2.306692", lambda: nll(X2, np.eye(3)[[0, 2]], weight=[1.0, 2.0, 4.0])),
    ("SCE-5", "-0.18698", lambda: slopes(X, [[0.25, 0.25, 0.2]])[0]),
    ("SCE-5", "-0.07869", lambda: slopes(X, [[0.25, 0.25, 0.2]])[1]),
    ("SCE-5", "0.26567", lambda: slopes(X, [[0.25, 0.25, 0.2]])[2]),
    ("SCE-5", "0.46524", lambda: math.exp(refimpl.log_softmax(X[0]).hi[2]) - 0.2),
    ("SCE-8", "0.2689", lambda: slopes([[0.0, -INF, 1.0]], [1])[0]),
    ("SCE-8", "0.7311", lambda: slopes([[0.0, -INF, 1.0]], [1])[2]),
    ("SAL-1", "1.8632082729969375", attention),
    ("SAL-1", "2.25760596444438", lambda: attention(target_entropy="dropped")),
    ("SAL-1", "2.3076059644443805", lambda: attention(target_entropy="dropped", smoothing_mass="V")),
    ("SAL-1", "0.0954", lambda: smoothed(200000, 0.1)),
    ("DTY-4", "0.0954", lambda: smoothed(200000, 0.1)),
    ("DTY-4", "0.1192", lambda: smoothed(1000000, 0.1)),
    ("SAL-3", "-0.80997", lambda: float(refimpl.smoothed_attention_loss_vjp([X], [[0]], cotangent=1.0)["logits"].hi[0, 0, 0])),
    ("SAL-3", "0.61524", lambda: float(refimpl.smoothed_attention_loss_vjp([X], [[0]], cotangent=1.0)["logits"].hi[0, 0, 2])),
    ("CON-2", "0.0999755859375", lambda: float(np.float16(0.1))),
    ("CON-4", "1.4427", lambda: 1 / math.log(2)),
    ("CON-5", "-23.03", lambda: math.log(math.exp(-50) + 1e-10)),
    ("CON-11", "3.7e-44", lambda: math.exp(-100)),
    ("RED-4", "70144", lambda: float(np.asarray(70000.0, refimpl.enclosure.FORMATS["bfloat16"].dtype))),
    ("RED-4", "0.6953", lambda: float(np.asarray(math.log(2) * 257 / 256, refimpl.enclosure.FORMATS["bfloat16"].dtype))),
)


@pytest.mark.parametrize(("id", "printed", "value"), VALUES, ids=[f"{id} {printed}" for id, printed, _ in VALUES])
def test_a_number_in_the_text_is_the_reference_s(id: str, printed: str, value: Callable[[], float]) -> None:
    assert re.search(rf"(?<![\d.-]){re.escape(printed)}(?!\d)", sections()[id].rest), f"{id} doesn't say {printed}"
    digits = Decimal(printed)
    assert Decimal(value()).quantize(digits) == digits
