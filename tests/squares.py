"""A tiny operation to test the vectors' machinery with: the square of each row's target logit."""

from __future__ import annotations

from fractions import Fraction
from math import inf, isfinite, isinf, nan
from typing import Any

import numpy as np
from flint import arb

from refimpl import ball
from refimpl.bounds import K
from refimpl.enclosure import Enclosure, Kind, enclosure
from refimpl.operation import (
    Choice,
    Clause,
    Example,
    Index,
    InvalidInput,
    Operation,
    OutOfRange,
    Real,
    Switch,
    Variation,
)


def _check(logits: Any, target: Any) -> tuple[np.ndarray, np.ndarray]:
    x, t = np.asarray(logits).astype(np.float64), np.asarray(target)
    if x.ndim != 2 or t.shape != x.shape[:1]:
        raise InvalidInput(f"logits has shape {x.shape} and target {t.shape}; pass (N, V) and (N)")
    if ((t < 0) | (t >= x.shape[1])).any():
        raise OutOfRange(f"target {t} names no class")
    return x, t


def _double(exact: Fraction | float) -> tuple[float, float, float]:
    if isinstance(exact, float):
        return exact, 0.0, 0.0
    hi = float(exact) if abs(exact) < Fraction(2) ** 1024 else inf
    if isinf(hi):
        return inf, 0.0, 0.0
    lo = float(exact - Fraction(hi))
    return hi, lo, abs(lo) * 2.0**-50 + 2.0**-1073


def _square(x: float, scale: int) -> Fraction | float:
    return Fraction(x) ** 2 * scale if isfinite(x) else x * x


def _slope(x: float, g: float, scale: int) -> Fraction | float:
    return Fraction(x) * 2 * Fraction(g) * scale if isfinite(x) else (nan if x != x or g == 0.0 else x * g)


def _scale(doubling: bool, doubled: str) -> int:
    return 2 if doubling and doubled == "yes" else 1


def _enclosed(values: list[Fraction | float], shape: tuple[int, ...]) -> Enclosure:
    parts = np.array([_double(value) for value in values], np.float64).reshape(-1, 3)
    kind = np.array(
        [Kind.OVERFLOW if not isinstance(v, float) and isinf(p[0]) else 0 for v, p in zip(values, parts, strict=True)], np.uint8
    )
    hi, lo, radius = (parts[:, i].reshape(shape).copy() for i in range(3))
    return enclosure(hi, lo, radius, kind.reshape(shape))


def forward(logits: Any, target: Any, doubling: bool = False, doubled: str = "no") -> Enclosure:
    x, t = _check(logits, target)
    return _enclosed([_square(float(x[i, c]), _scale(doubling, doubled)) for i, c in enumerate(t)], t.shape)


def vjp(logits: Any, target: Any, cotangent: Any, doubling: bool = False, doubled: str = "no") -> dict[str, Enclosure]:
    x, t = _check(logits, target)
    g = np.asarray(cotangent).astype(np.float64)
    values: list[Fraction | float] = [Fraction(0)] * x.size
    for i, c in enumerate(t):
        values[i * x.shape[1] + int(c)] = _slope(float(x[i, c]), float(g[i]), _scale(doubling, doubled))
    return {"logits": _enclosed(values, x.shape)}


def exact(where: Any, bits: int, logits: Any, target: Any, doubling: bool = False, doubled: str = "no") -> list[Any]:
    x, t = _check(logits, target)
    with ball.precision(bits):
        picked = [float(x[i, t[i]]) for i in where]
        return [arb(v) ** 2 * _scale(doubling, doubled) if isfinite(v) else v * v for v in picked]


def exact_vjp(name: str, where: Any, bits: int, logits: Any, target: Any, cotangent: Any, **choices: Any) -> list[Any]:
    x, t = _check(logits, target)
    result: list[Any] = []
    with ball.precision(bits):
        for index in where:
            i, c = divmod(int(index), x.shape[1])
            value, g = float(x[i, c]), float(np.asarray(cotangent)[i])
            if t[i] != c:
                result.append(arb(0))
            elif isfinite(value):
                result.append(arb(value) * 2 * arb(g) * _scale(choices.get("doubling", False), choices.get("doubled", "no")))
            else:
                result.append(_slope(value, g, 1))
    return result


def terms(logits: Any, target: Any, **_: Any) -> Any:
    """No error at all."""
    return np.zeros((len(logits), K))


def terms_vjp(logits: Any, cotangent: Any, **_: Any) -> Any:
    """None in the gradient."""
    return {"logits": np.zeros((*np.shape(logits), K))}


def _example(
    name: str, logits: Any, target: Any, dtypes: tuple[str, ...] = ("float64", "float32", "bfloat16", "float16"), **more: Any
) -> Example:
    return Example(name, {"logits": logits, "target": target, **more}, dtypes, ("many-rows",))


SHARED = _example("shared", [[1.0, -2.0]], [1])

OPERATION = Operation(
    name="squares",
    prefix="SQR",
    summary="the square of the target's logit",
    inputs={"logits": Real("N V"), "target": Index("N")},
    parameters={"doubling": Switch(False)},
    clauses=(
        Clause(
            "SQR-1",
            "E1",
            (
                SHARED,
                _example("special", [[-0.0, nan], [inf, 3.0], [2.0**-24, 0.5], [-0.0, 1.0]], [1, 0, 0, 0]),
                _example("tiny", [[5e-324, 1.0]], [0], ("float64",)),
                _example("huge", [[1e300, 1.0]], [0], ("float64",)),
                _example("doubled", [[3.0, 1.0]], [0], doubling=True),
                _example("refused", [[3.0, 1.0]], [2]),
                _example("cotangent", [[3.0, 1.0]], [0], cotangent=[0.5]),
            ),
        ),
        Clause("SQR-2", "E2", (SHARED,)),
    ),
    forward=forward,
    vjp=vjp,
    exact=exact,
    exact_vjp=exact_vjp,
    terms=terms,
    terms_vjp=terms_vjp,
    variations=(Variation("plain", {"logits": "logits", "target": "index"}, ("SQR-1",)),),
    choices=(Choice("doubled", {"no": "once", "yes": "twice"}),),
)
