"""Ladders of the losses of probabilities and of log-probabilities: exponents, neighbours, zeros, and every pair of a few numbers."""

from __future__ import annotations

from collections.abc import Iterator
from math import frexp, inf, nan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conformance.cases.table import WIDE, Call, Entry, beside, narrowed
from refimpl import portable
from refimpl.enclosure import FORMATS

NONE = {"reduction": "none"}
LOGS = (-inf, -30000.0, -1000.0, -104.0, -64.0, -16.125, -1.0, -(2.0**-12), 0.0, 1.5)
COTANGENTS = (0.0, -0.0, 2.0**-12, -1.5, 2.0**10, -(2.0**-9), 3.0, 0.0)
P4 = (
    (0.25, 0.25, 0.25, 0.25),
    (1.0, 0.0, 0.0, 0.0),
    (0.0, 0.5, 0.5, 0.0),
    (0.0, 0.0, 0.0, 1.0),
    (0.5, 0.0, 0.25, 0.25),
    (0.125, 0.625, 0.0, 0.25),
)
Q4 = (
    (0.25, 0.25, 0.25, 0.25),
    (0.5, 0.5, 0.0, 0.0),
    (0.125, 0.375, 0.5, 0.0),
    (0.0, 0.25, 0.25, 0.5),
    (0.75, 0.0, 0.125, 0.125),
    (0.5, 0.125, 0.25, 0.125),
)


def probabilities(dtype: str) -> NDArray[np.float64]:
    """Powers of two from the smallest subnormal number to 1, and the numbers beside 1, beside 1/e and beside the smallest normal one."""
    target = FORMATS[dtype]
    low = frexp(target.tiny)[1] - 1
    powers = np.ldexp(1.0, sorted({*range(low, 1, max(1, -low // 24)), *range(-12, 1)}))
    around = [beside(float(center), n, dtype) for center in narrowed([1.0, 0.36787944, target.normal], dtype) for n in (-3, -1, 0, 1, 3)]
    return np.concatenate([powers, around, narrowed([0.3, 0.7, 0.9, 0.99, 2.0, 60000.0], dtype)])


def few(dtype: str) -> list[float]:
    """0, the smallest subnormal number, the smallest normal one, what lies beside 1, and a few others."""
    target = FORMATS[dtype]
    rounded = [float(value) for value in narrowed([1e-3, 0.3], dtype)]
    return [0.0, target.tiny, target.normal, *rounded, 0.5, beside(1.0, -1, dtype), 1.0, beside(1.0, 1, dtype), 4.0]


def _pairs(p: list[float], q: list[float]) -> Call:
    """Every pair of two lists, each a row of its own."""
    rows, columns = np.meshgrid(p, q, indexing="ij")
    return {"p": rows.reshape(-1, 1), "q": columns.reshape(-1, 1)}


def _neighbours(dtype: str) -> Call:
    """Distributions of five classes and their neighbours: each class 1, 2 or 16 places up, and the next one as many down."""
    base = [float(value) for value in narrowed([0.05, 0.3, 0.125, 0.4, 0.125], dtype)]
    p, q = [], []
    for steps in (0, 1, 2, 16):
        for v in range(5):
            near = base.copy()
            near[v], near[(v + 1) % 5] = beside(base[v], steps, dtype), beside(base[(v + 1) % 5], -steps, dtype)
            p.append(base)
            q.append(near)
    return {"p": p, "q": q}


def _crossed() -> Call:
    """Every p of `P4` with every q of `Q4`: zeros of either, of both, of neither."""
    return {"p": [p for p in P4 for _ in Q4], "q": list(Q4) * len(P4)}


def _shares(rows: int, classes: int, dtype: str, turn: int) -> NDArray[np.float64]:
    """Rows that sum to about 1, with a few small classes."""
    weight = (np.arange(rows * classes).reshape(rows, classes) * 37 + turn) % 29 + 1.0
    return narrowed(weight / weight.sum(axis=1, keepdims=True), dtype)


def _peaked(rows: int, classes: int, dtype: str) -> NDArray[np.float64]:
    """Rows with nearly all mass on one class."""
    p = np.full((rows, classes), 2.0**-13)
    p[np.arange(rows), np.arange(rows) * 5 % classes] = 1.0 - (classes - 1) * 2.0**-13
    return narrowed(p, dtype)


def _entropy() -> Iterator[Entry]:
    about = ("ENT-1", "ENT-4")
    yield Entry("exponents", (*about, "ENT-9"), lambda dtype: {"p": probabilities(dtype)[:, None]}, tier="smoke")
    yield Entry("few", (*about, "ENT-3", "ENT-5"), lambda dtype: {"p": np.array(few(dtype))[:, None]})
    yield Entry("zeros", ("ENT-1", "ENT-3", "ENT-5"), {"p": [*P4, *Q4]}, tier="smoke")
    yield Entry("strange", ("ENT-6",), {"p": [[0.5, nan, 0.0], [0.5, 0.25, 0.25], [nan] * 3, [0.0, 1.0, 0.0]]}, tier="smoke")
    yield Entry("negative", ("ENT-7",), {"p": [[0.5, -0.5, 0.0], [0.5, 0.25, 0.25], [-0.0, 1.0, 0.0], [1.5, -0.5, 0.0]]})
    yield Entry("shares", about, lambda dtype: {"p": _shares(12, 37, dtype, 5)})
    yield Entry("peaked", about, lambda dtype: {"p": _peaked(12, 37, dtype)})
    yield Entry("cotangents", ("ENT-4",), lambda dtype: {"p": _shares(8, 5, dtype, 2), "cotangent": COTANGENTS})
    yield Entry("cotangent-zero-of-zero", ("ENT-5",), {"p": [P4[1], P4[2]], "cotangent": [0.0, -1.5]})
    yield Entry("dimensions", about, lambda dtype: {"p": _shares(12, 5, dtype, 3).reshape(3, 4, 5)})
    yield Entry("vector", about, {"p": Q4[2]})
    yield Entry("empty", ("ENT-1",), {"p": np.zeros((0, 3))})


def _of_two(prefix: str) -> Iterator[Entry]:
    """What cross entropy and KL divergence have in common: their first clauses agree in number."""
    value, given, zero, impossible, gradient = (f"{prefix}-{n}" for n in (1, 2, 3, 4, 5))
    subnormal = f"{prefix}-11"
    yield Entry("pairs", (value, given, gradient), lambda dtype: _pairs(few(dtype)[2:], few(dtype)[2:]), tier="smoke")
    yield Entry("pairs-subnormal", (value, subnormal, gradient), lambda dtype: _pairs(few(dtype)[1:], few(dtype)[1:2]))
    yield Entry("pairs-of-subnormal", (value, subnormal, gradient), lambda dtype: _pairs(few(dtype)[1:2], few(dtype)[2:]))
    yield Entry("pairs-of-zero", (value, zero, gradient), lambda dtype: _pairs([0.0], few(dtype)[1:]), tier="smoke")
    yield Entry("pairs-impossible", (value, impossible, gradient), lambda dtype: _pairs(few(dtype)[1:], [0.0]), tier="smoke")
    yield Entry("pair-of-zeros", (zero, f"{prefix}-6"), _pairs([0.0], [0.0]), tier="smoke")
    yield Entry("neighbours", (value, f"{prefix}-10", gradient), _neighbours)
    yield Entry("crossed", (value, zero, impossible, gradient), _crossed(), tier="smoke")
    strange = {"p": [[nan, 0.5], [0.0, 1.0], [0.5, 0.5], [0.0, 1.0]], "q": [[0.5, 0.5], [nan, 1.0], [0.5, 0.5], [0.0, nan]]}
    yield Entry("strange", (f"{prefix}-7",), strange)
    negative = {"p": [[-0.5, 1.5], [0.5, 0.5], [0.0, 1.0]], "q": [[0.5, 0.5], [-0.5, 1.5], [-0.5, 1.0]]}
    yield Entry("negative", (f"{prefix}-8",), negative)
    yield Entry("shares", (value, gradient), lambda dtype: {"p": _shares(12, 37, dtype, 5), "q": _shares(12, 37, dtype, 11)})
    yield Entry("peaked", (value, gradient), lambda dtype: {"p": _peaked(12, 37, dtype), "q": _peaked(12, 37, dtype)[::-1]})
    yield Entry(
        "cotangents", (gradient,), lambda dtype: {"p": _shares(8, 5, dtype, 2), "q": _shares(8, 5, dtype, 7), "cotangent": COTANGENTS}
    )
    yield Entry("cotangent-zero-of-zero", (gradient, zero), {"p": [P4[1], P4[2]], "q": [Q4[0]] * 2, "cotangent": [0.0, -1.5]})
    yield Entry(
        "dimensions",
        (value, gradient),
        lambda dtype: {"p": _shares(12, 5, dtype, 3).reshape(3, 4, 5), "q": _shares(12, 5, dtype, 8).reshape(3, 4, 5)},
    )
    square = ("as-many-classes-as-rows", (value, gradient))
    yield Entry(*square, lambda dtype: {"p": _shares(4, 4, dtype, 5), "q": _shares(4, 4, dtype, 9)})
    yield Entry("empty", (value,), {"p": np.zeros((0, 3)), "q": np.zeros((0, 3))})


def _grid(p: list[float], log_q: list[float], log_target: bool = False) -> Call:
    """Every p with every log-probability, element by element."""
    rows, columns = np.meshgrid(p, log_q, indexing="ij")
    return {"p": rows, "log_q": columns, **NONE, **({"log_target": True} if log_target else {})}


def _logs(dtype: str) -> list[float]:
    """The finite ones of `LOGS`."""
    return [float(value) for value in narrowed(LOGS[1:], dtype)]


def _near_elements(dtype: str) -> Call:
    """Each probability and its own logarithm, rounded, and what lies beside that: the term is nearly 0."""
    p = probabilities(dtype)
    p = p[(p != 1.0) & (p > FORMATS[dtype].tiny) & (p <= 2.0)]
    logs = narrowed(portable.log(p), dtype)
    near = np.stack([[beside(float(value), n, dtype) if value else 0.0 for value in logs] for n in (-1, 0, 1)], 1)
    return {"p": np.repeat(p[:, None], 3, 1), "log_q": near, **NONE}


def _kl_div() -> Iterator[Entry]:
    zero, masked = [0.0], [-inf]
    yield Entry("elements", ("KLP-1", "KLP-4", "KLP-14"), lambda dtype: _grid(few(dtype)[1:], _logs(dtype)), tier="smoke")
    yield Entry("elements-of-zero", ("KLP-5", "KLP-7"), lambda dtype: _grid(zero, _logs(dtype)), tier="smoke")
    yield Entry("elements-masked", ("KLP-6",), lambda dtype: _grid(few(dtype)[1:], masked), tier="smoke")
    yield Entry("elements-log-target", ("KLP-2", "KLP-4"), lambda dtype: _grid(_logs(dtype), _logs(dtype), True), tier="smoke")
    yield Entry("elements-log-target-of-zero", ("KLP-5", "KLP-7"), lambda dtype: _grid(masked, _logs(dtype), True), tier="smoke")
    yield Entry("elements-log-target-masked", ("KLP-6",), lambda dtype: _grid(_logs(dtype), masked, True), tier="smoke")
    yield Entry("element-zero-masked", ("KLP-5", "KLP-8"), _grid(zero, masked), tier="smoke")
    yield Entry("element-log-target-zero-masked", ("KLP-5", "KLP-8"), _grid(masked, masked, True))
    yield Entry("near-elements", ("KLP-1", "KLP-4"), _near_elements)
    for reduction in ("none", "sum", "mean", "batchmean"):
        for log_target in (False, True):
            name = f"cube-{reduction}{'-log-target' if log_target else ''}"
            cube: dict[str, Any] = {
                "reduction": reduction,
                "log_target": log_target,
                "log_q": -(np.arange(30).reshape(2, 3, 5) * 17 % 31) / 8.0,
            }
            cube["p"] = (
                -(np.arange(30).reshape(2, 3, 5) * 11 % 29) / 8.0 if log_target else (np.arange(30).reshape(2, 3, 5) * 11 % 17 + 1) / 16.0
            )
            yield Entry(name, ("KLP-2" if log_target else "KLP-1", "KLP-3", "KLP-4"), cube)
        vector = {"log_q": [-1.0, -0.5, -2.0, -0.25], "p": [0.25, 0.125, 0.5, 0.125], "reduction": reduction}
        yield Entry(f"vector-{reduction}", ("KLP-1", "KLP-3", "KLP-4"), vector)
        empty = {"log_q": np.zeros((0, 3)), "p": np.zeros((0, 3)), "reduction": reduction}
        yield Entry(f"empty-{reduction}", ("KLP-12",) if "mean" in reduction else ("KLP-1",), empty)
    for reduction in ("sum", "mean", "batchmean"):
        zeros = {"log_q": [[-inf, -0.5, -1.0], [-2.0, -inf, -0.5]], "p": [[0.0, 0.5, 0.5], [0.5, 0.0, 0.5]], "reduction": reduction}
        yield Entry(f"zeros-masked-{reduction}", ("KLP-3", "KLP-5", "KLP-8"), zeros)
    strange = {"log_q": [[nan, -1.0, -0.5], [-1.0, -2.0, -0.5]], "p": [[0.5, 0.25, 0.5], [nan, 0.25, 0.5]]}
    yield Entry("strange-none", ("KLP-9",), {**strange, **NONE})
    yield Entry("strange-sum", ("KLP-9",), {**strange, "reduction": "sum"})
    yield Entry("negative-elements", ("KLP-10",), {"log_q": [[-1.0, -1.0, 0.0, -0.5]], "p": [[-0.5, 1.5, -0.0, -(2.0**-14)]], **NONE})
    yield Entry(
        "cotangents",
        ("KLP-4", "KLP-13"),
        {"log_q": [-1.0] * 8, "p": [0.5, 1.5, 0.25, 0.25, 0.5, 1.0, 0.125, 0.5], **NONE, "cotangent": COTANGENTS},
    )
    yield Entry("cotangent-zero-of-zero", ("KLP-13",), {"log_q": [-1.0, -2.0], "p": [0.0, 0.5], **NONE, "cotangent": [0.0, -1.5]})
    yield Entry("cotangent-large", ("KLP-4",), {"log_q": [[-1.0, -2.0]] * 3, "p": [[0.25, 0.75]] * 3, "cotangent": 49152.0})
    yield Entry("unnormalised", ("KLP-1", "KLP-4"), {"log_q": [[0.5, 2.0, -1.0]], "p": [[2.0, 4.0, 0.5]], **NONE})


def _nll_loss() -> Iterator[Entry]:
    rows = -(np.arange(148).reshape(4, 37) * 31 % 61 + 1) / 8.0
    five = [[-0.5, -1.0, -2.0, -4.0, -1.5], [-3.0, -1.0, -2.0, -0.25, -1.0], [-4.0, -0.5, -0.5, -6.0, -2.0], [-1.0, -1.0, -1.0, -1.0, -1.0]]
    held = [list(row) for row in five]
    held[1], held[3] = [nan, inf, -inf, 0.0, nan], [-inf] * 5
    target = [0, 3, 4, 2]
    yield Entry(
        "positions", ("NLL-1",), {"log_p": np.concatenate([rows, rows]), "target": [0, 15, 16, 17, 31, 32, 33, 36], **NONE}, tier="smoke"
    )
    for reduction in ("none", "sum", "mean"):
        for weight in (None, [0.0, 2.0**-6, 1.0, 64.0, 0.375]):
            call: dict[str, Any] = {"log_p": five, "target": target, "reduction": reduction}
            call |= {} if weight is None else {"weight": weight}
            yield Entry(f"{reduction}{'' if weight is None else '-weighted'}", ("NLL-1", "NLL-2"), call)
            ignored = {**call, "log_p": held, "target": [0, -100, 4, -100], "ignore_index": -100}
            yield Entry(f"ignored-{reduction}{'' if weight is None else '-weighted'}", ("NLL-2", "NLL-5"), ignored, tier="smoke")
        clause = "NLL-6" if reduction == "mean" else "NLL-5"
        call = {"log_p": held, "target": [-1] * 4, "ignore_index": -1, "reduction": reduction}
        yield Entry(f"all-ignored-{reduction}", (clause,), call)
        call = {"log_p": np.zeros((0, 3)), "target": np.zeros(0, np.int64), "reduction": reduction}
        yield Entry(f"empty-{reduction}", (clause if reduction == "mean" else "NLL-1",), call)
        cube = {
            "log_p": -np.arange(48).reshape(2, 4, 2, 3) * 0.25,
            "target": np.arange(12).reshape(2, 2, 3) * 5 % 4,
            "reduction": reduction,
        }
        yield Entry(f"dimensions-{reduction}", ("NLL-1", "NLL-2"), cube)
    for index in (-1, 0, 4, 5, 255, -(2**31), 2**32 + 1):
        labels = [index if n == 1 else label for n, label in enumerate(target)]
        yield Entry(f"ignore-index{index:+d}", ("NLL-2", "NLL-5"), {"log_p": five, "target": labels, "ignore_index": index}, WIDE)
    strange = {"log_p": held, "target": [0, 2, 4, 1], **NONE}
    yield Entry("masked-targets", ("NLL-3",), strange)
    yield Entry("strange-targets", ("NLL-4",), {"log_p": held, "target": [0, 0, 4, 1], **NONE})
    yield Entry("cotangents", ("NLL-1",), {"log_p": five * 2, "target": target * 2, **NONE, "cotangent": COTANGENTS})
    square = {"log_p": -np.arange(18).reshape(2, 3, 3) * 0.5, "target": [[0, 1, 2], [2, 0, 1]], **NONE}
    yield Entry("as-many-classes-as-positions", ("NLL-1",), square)
    for name, label in (("V", 5), ("minus-1", -1), ("beyond-32-bits", 2**32 + 1)):
        yield Entry(f"target-{name}", ("NLL-7",), {"log_p": five, "target": [0, label, 1, 2], **NONE}, WIDE)


ENTRIES = {
    "cross_entropy": tuple(_of_two("CE")),
    "entropy": tuple(_entropy()),
    "kl_div": tuple(_kl_div()),
    "kl_divergence": tuple(_of_two("KLD")),
    "nll_loss": tuple(_nll_loss()),
}
