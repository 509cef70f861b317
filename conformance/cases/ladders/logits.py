"""Ladders of the losses of logits: the rows of `ladders.rows` under every form of the target, and what a call adds to a row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from math import inf, nan
from typing import Any

import numpy as np

from conformance.cases.ladders.rows import FINITE, Rows, masked_targets, strange
from conformance.cases.table import ALL, WIDE, Call, Entry, narrowed

NONE = {"reduction": "none"}
FIVE = [[0.5, -1.0, 2.0, 0.0, 1.5], [3.0, 1.0, -2.0, 0.25, 1.0], [-4.0, 0.5, 0.5, 6.0, 2.0], [1.0, 1.0, 1.0, 1.0, 1.0]]
EIGHT = [*FIVE, [0.0, 8.0, -8.0, 1.0, 2.0], [-1.5, -2.5, -0.5, -3.5, -4.0], [10.0, 9.5, 0.0, 9.0, 8.5], [0.0, -5.0, -10.0, -15.0, -11.0]]
SMOOTHINGS = (2.0**-30, 0.001, 0.05, 0.3, 0.5, 0.9, 0.999)
COTANGENTS = [0.0, -0.0, 2.0**-12, -1.5, 2.0**10, -(2.0**-9), 3.0, 0.0]  # a range of 2^22, which every dtype holds

# Ladders of about a thousand logits, whose gradients make up most of the files: in two dtypes, and where the target varies in one.
LARGE = {
    "positions": ("float32", "bfloat16"),
    "last-positions": ("float32", "float16"),
    "masked-blocks": ("float32", "bfloat16"),
    "slopes": ("float32", "float16"),
    "trained": ("float32", "bfloat16"),
}


def _calls(ladder: Callable[[str], Rows], form: Callable[[Rows], Call]) -> Callable[[str], Call]:
    return lambda dtype: form(ladder(dtype))


def _index(rows: Rows) -> Call:
    return {"logits": rows.logits, "target": list(rows.target), **NONE}


def _smoothed(rows: Rows) -> Call:
    return {**_index(rows), "label_smoothing": 0.1}


def _given(rows: Rows) -> Call:
    """Three quarters of the mass on the target, an eighth on its neighbour, none elsewhere: not all of 1, and zeros."""
    count, classes = rows.logits.shape
    given = np.zeros(rows.logits.shape)
    given[np.arange(count), rows.target] = 0.75
    given[np.arange(count), (np.asarray(rows.target) + 1) % classes] += 0.125
    return {"logits": rows.logits, "target": given, **NONE}


def _attention(rows: Rows) -> Call:
    return {"logits": rows.logits[None], "target": [list(rows.target)]}


def _alone(rows: Rows) -> Call:
    return {"logits": rows.logits}


def _by_rows(
    names: Mapping[str, Callable[[str], Rows]], suffix: str, about: tuple[str, ...], form: Callable[[Rows], Call], masked: str = "SCE-8"
) -> Iterator[Entry]:
    """One entry for each ladder; `masked` is the clause of those that mask classes."""
    for name, ladder in names.items():
        dtypes = LARGE.get(name, ALL)
        dtypes = dtypes[:1] if suffix and name in LARGE else dtypes
        yield Entry(name + suffix, (*about, masked) if "mask" in name else about, _calls(ladder, form), dtypes, tier=_tier(name))


def _tier(name: str) -> str:
    return "smoke" if name in ("gaps", "masks", "positions") else "core"


def _some(*names: str) -> dict[str, Callable[[str], Rows]]:
    return {name: FINITE[name] for name in names}


def _softmax_cross_entropy() -> Iterator[Entry]:
    yield from _by_rows(FINITE, "", ("SCE-1", "SCE-2", "SCE-6"), _index)
    yield from _by_rows(
        _some("gaps", "offsets", "ties", "positions", "slopes", "trained", "confident"), "-smoothed", ("SCE-3", "SCE-6"), _smoothed
    )
    some = ("gaps", "offsets", "positions", "masked-blocks", "slopes", "trained")
    yield from _by_rows(_some(*some), "-probabilities", ("SCE-5", "SCE-6", "SCE-7"), _given)
    given = {"logits": EIGHT, "target": np.arange(40).reshape(8, 5) * 7 % 11 / 8.0, **NONE}
    yield Entry("probabilities-smoothed", ("SCE-3", "SCE-5", "SCE-6"), {**given, "label_smoothing": 0.1})
    nothing = {**given, "target": [[0.0] * 5, [0.0, 0.0, 2.0, 0.0, 0.0], [0.25] * 5, *np.eye(5)]}
    yield Entry("probabilities-of-nothing", ("SCE-5", "SCE-6"), nothing)
    yield Entry("masked-targets", ("SCE-8", "SCE-6"), _calls(masked_targets, _index), tier="smoke")
    yield Entry("masked-targets-smoothed", ("SCE-8", "SCE-6"), _calls(masked_targets, _smoothed))
    yield Entry("masked-targets-probabilities", ("SCE-8", "SCE-6"), _calls(masked_targets, _given))
    yield Entry("strange", ("SCE-9",), _calls(strange, _index), tier="smoke")
    yield Entry("strange-smoothed", ("SCE-9",), _calls(strange, _smoothed))
    for n, smoothing in enumerate(SMOOTHINGS):
        call: dict[str, Any] = {"logits": EIGHT, "target": [0, 1, 2, 3, 4, 0, 1, 2], "label_smoothing": smoothing, **NONE}
        yield Entry(f"smoothing-{n + 1}", ("SCE-3", "SCE-6"), call)
    for classes in (1, 2):
        rows = [row[:classes] for row in EIGHT[:4]]
        yield Entry(
            f"smoothed-V{classes}",
            ("SCE-3", "SCE-13") if classes == 1 else ("SCE-3", "SCE-6"),
            {"logits": rows, "target": [0] * 4, "label_smoothing": 0.25},
        )
    yield from _weights()
    yield from _ignored()
    yield Entry(
        "cotangents", ("SCE-6",), {"logits": EIGHT, "target": [0, 1, 2, 3, 4, 0, 1, 2], **NONE, "cotangent": COTANGENTS}, tier="smoke"
    )
    yield Entry("cotangent-large", ("SCE-6",), {"logits": EIGHT, "target": [0, 1, 2, 3, 4, 0, 1, 2], "cotangent": 49152.0})
    yield Entry(
        "cotangent-small", ("SCE-6",), {"logits": EIGHT, "target": [0, 1, 2, 3, 4, 0, 1, 2], "reduction": "sum", "cotangent": 2.0**-13}
    )
    yield Entry("cotangent-zero", ("SCE-6",), {"logits": EIGHT, "target": [0, 1, 2, 3, 4, 0, 1, 2], "cotangent": 0.0})
    cube = np.arange(18).reshape(2, 3, 3) * 7 % 11 / 2.0
    yield Entry("as-many-classes-as-positions", ("SCE-1", "SCE-6"), {"logits": cube, "target": [[0, 1, 2], [2, 0, 1]], **NONE})
    wide = np.arange(96).reshape(2, 4, 3, 4) * 29 % 37 / 4.0
    for reduction in ("none", "sum", "mean"):
        call = {"logits": wide, "target": np.arange(24).reshape(2, 3, 4) * 5 % 4, "reduction": reduction}
        yield Entry(f"two-dimensions-{reduction}", ("SCE-1", "SCE-4", "SCE-6"), call)
    for reduction in ("none", "sum", "mean"):
        clauses = ("SCE-11",) if reduction == "mean" else ("SCE-1",)
        yield Entry(f"empty-{reduction}", clauses, {"logits": np.zeros((0, 3)), "target": np.zeros(0, np.int64), "reduction": reduction})
    for name, label in (("V", 5), ("minus-1", -1), ("minus-V", -5), ("beyond-32-bits", 2**32 + 1), ("255", 255)):
        call = {"logits": FIVE, "target": [0, label, 1, 2], **NONE}
        yield Entry(f"target-{name}", ("SCE-12",), call, WIDE, tier="smoke" if name == "V" else "core")
    yield Entry("target-V-smoothed-mean", ("SCE-12",), {"logits": FIVE, "target": [0, 5, 1, 2], "label_smoothing": 0.1}, ("float32",))


def _weights() -> Iterator[Entry]:
    """Class weights with zeros and a range of 2^12, in every reduction and form of the target."""
    weight = [0.0, 2.0**-6, 1.0, 64.0, 0.375]
    target = [0, 1, 2, 3, 4, 0, 1, 2]
    for reduction in ("none", "sum", "mean"):
        for smoothing in (0.0, 0.1):
            call = {"logits": EIGHT, "target": target, "weight": weight, "reduction": reduction, "label_smoothing": smoothing}
            yield Entry(f"weights-{reduction}{'-smoothed' if smoothing else ''}", ("SCE-1", "SCE-3", "SCE-4", "SCE-6"), call)
        given = {**_given(Rows(np.array(EIGHT), target)), "weight": weight, "reduction": reduction}
        yield Entry(f"weights-{reduction}-probabilities", ("SCE-4", "SCE-5", "SCE-6"), given)
    masked = [[-inf, 0.5, 1.0, 2.0, 0.0], [0.5, 0.0, -inf, 1.0, -inf]]
    yield Entry("weights-zero-on-masked", ("SCE-7", "SCE-8"), {"logits": masked, "target": [0, 1], "weight": [0.0, 1.0, 0.0, 2.0, 0.0]})
    zero = {"logits": FIVE, "target": [0, 0, 1, 1], "weight": [0.0, 0.0, 1.0, 1.0, 1.0]}
    for reduction in ("sum", "none"):
        yield Entry(f"weights-all-zero-{reduction}", ("SCE-1", "SCE-6"), {**zero, "reduction": reduction})
    yield Entry("weights-all-zero-mean", ("SCE-4",), zero)


def _ignored() -> Iterator[Entry]:
    """Which rows are ignored, by which index, and what they hold."""
    about = ("SCE-4", "SCE-6", "SCE-10")
    target = [0, 1, 2, 3, 4, 0, 1, 2]
    held = [list(row) for row in EIGHT]
    held[2], held[5], held[7] = [nan] * 5, [inf, -inf, 0.0, nan, 1.0], [-inf] * 5
    patterns = {"first": [0], "last": [7], "every-other": [1, 3, 5, 7], "all-but-one": [0, 1, 2, 3, 4, 5, 7], "strange": [2, 5, 7]}
    for name, rows in patterns.items():
        labels = [-100 if n in rows else label for n, label in enumerate(target)]
        for reduction in ("none", "sum", "mean") if name == "strange" else ("mean",):
            call = {"logits": held if name == "strange" else EIGHT, "target": labels, "ignore_index": -100, "reduction": reduction}
            yield Entry(f"ignored-{name}-{reduction}", about, call, tier="smoke" if name == "strange" else "core")
    labels = [-100 if n in patterns["strange"] else label for n, label in enumerate(target)]
    weighted = {"logits": held, "target": labels, "ignore_index": -100, "weight": [0.5, 2.0, 0.0, 1.0, 4.0], "label_smoothing": 0.1}
    yield Entry("ignored-strange-weighted", about, weighted)
    for index in (-1, 0, 4, 5, 255, -(2**31), 2**31 + 1, 2**32 + 1):
        labels = [index if n % 3 == 1 else label for n, label in enumerate(target)]
        call = {"logits": EIGHT, "target": labels, "ignore_index": index}
        yield Entry(f"ignore-index{index:+d}", about, call, ALL if index == -1 else WIDE)
    unused = {"logits": EIGHT, "target": target, "ignore_index": -100}
    yield Entry("ignored-none-of-them", about, unused)
    for reduction in ("none", "sum", "mean"):
        call = {"logits": held[:3], "target": [-100] * 3, "ignore_index": -100, "reduction": reduction}
        clauses = ("SCE-11",) if reduction == "mean" else ("SCE-10",)
        yield Entry(f"all-ignored-{reduction}", clauses, call)
    smoothed = {
        "logits": held[:3],
        "target": [-100] * 3,
        "ignore_index": -100,
        "weight": [1.0, 2.0, 0.5, 1.0, 4.0],
        "label_smoothing": 0.25,
    }
    yield Entry("all-ignored-weighted-smoothed", ("SCE-11",), smoothed)
    cube = {"logits": np.arange(24).reshape(2, 3, 4) * 5 % 13 / 2.0, "target": [[0, -1, 2, -1], [-1, -1, -1, -1]], "ignore_index": -1}
    yield Entry("ignored-positions", about, cube)


def _smoothed_attention_loss() -> Iterator[Entry]:
    call: dict[str, Any]
    yield from _by_rows(FINITE, "", ("SAL-1", "SAL-3"), _attention, "SAL-5")
    yield Entry("unsmoothed-gaps", ("SAL-1", "SAL-4"), lambda dtype: {**_attention(FINITE["gaps"](dtype)), "smoothing": 0.0})
    yield Entry(
        "unsmoothed-masks", ("SAL-4", "SAL-5"), lambda dtype: {**_attention(FINITE["masks"](dtype)), "smoothing": 0.0}, tier="smoke"
    )
    for n, row in enumerate(masked_targets("float64").logits[:5]):
        call = {"logits": [[row, [0.0, 1.0, 2.0]]], "target": [[masked_targets("float64").target[n], 1]]}
        yield Entry(f"masked-target-{n + 1}", ("SAL-5", "SAL-3"), call, WIDE)
    for n in (1, 3, 4, 6, 7, 8):
        call = {"logits": [[strange("float64").logits[n], [0.0, 1.0, 2.0]]], "target": [[1, 2]]}
        yield Entry(f"strange-{n}", ("SAL-6",), call, WIDE)
    pairs = np.array(EIGHT).reshape(2, 4, 5)
    target = [[0, 1, 2, 3], [4, 0, 1, 2]]
    for n, smoothing in enumerate(SMOOTHINGS):
        yield Entry(f"smoothing-{n + 1}", ("SAL-1", "SAL-3"), {"logits": pairs, "target": target, "smoothing": smoothing})
    for classes in (1, 2):
        for smoothing in (0.0, 0.25):
            call = {"logits": pairs[:, :, :classes], "target": [[0] * 4] * 2, "smoothing": smoothing}
            yield Entry(f"V{classes}-{'' if smoothing else 'un'}smoothed", ("SAL-10",) if classes == 1 else ("SAL-1",), call)
    held = pairs.copy()
    held[0, 3], held[1, 1:] = nan, [[inf, -inf, nan, 0.0, 1.0], [-inf] * 5, [nan] * 5]
    for normalize in (False, True):
        by = "length" if normalize else "batch"
        flag = {"normalize_length": normalize}
        yield Entry(
            f"padded-strange-{by}", ("SAL-2", "SAL-7"), {"logits": held, "target": [[0, 1, 2, -1], [4, -1, -1, -1]], **flag}, tier="smoke"
        )
        yield Entry(f"padded-sequence-{by}", ("SAL-2", "SAL-7"), {"logits": pairs, "target": [[0, 1, 2, 3], [-1] * 4], **flag})
        yield Entry(f"padding-is-a-class-{by}", ("SAL-2", "SAL-7"), {"logits": pairs, "target": target, "padding_idx": 1, **flag})
        yield Entry(
            f"padding-minus-100-{by}",
            ("SAL-2", "SAL-7"),
            {"logits": pairs, "target": [[0, -100, 2, 3], [4, 0, -100, 2]], "padding_idx": -100, **flag},
        )
        yield Entry(f"all-padded-{by}", ("SAL-8",), {"logits": held[:, 2:], "target": [[-1, -1]] * 2, **flag})
        yield Entry(f"no-tokens-{by}", ("SAL-8",), {"logits": np.zeros((2, 0, 3)), "target": np.zeros((2, 0), np.int64), **flag})
        yield Entry(f"no-sequences-{by}", ("SAL-8",), {"logits": np.zeros((0, 2, 3)), "target": np.zeros((0, 2), np.int64), **flag})
    cube = np.arange(27).reshape(3, 3, 3) * 7 % 11 / 2.0
    yield Entry("as-many-classes-as-tokens", ("SAL-1", "SAL-3"), {"logits": cube, "target": [[0, 1, 2], [2, 0, -1], [1, 1, 0]]})
    for cotangent, name in ((0.0, "zero"), (49152.0, "large"), (2.0**-13, "small")):
        yield Entry(f"cotangent-{name}", ("SAL-3",), {"logits": pairs, "target": target, "cotangent": cotangent})
    for name, label in (("V", 5), ("minus-2", -2), ("beyond-32-bits", 2**32 + 1)):
        yield Entry(f"target-{name}", ("SAL-9",), {"logits": pairs, "target": [[0, label, 2, 3], [4, 0, 1, 2]]}, WIDE)


def _log_softmax() -> Iterator[Entry]:
    yield from _by_rows(FINITE, "", ("LSM-1", "LSM-2", "LSM-3"), _alone, "LSM-4")
    yield Entry("strange", ("LSM-5",), _calls(strange, _alone), tier="smoke")
    cotangent = np.outer([0.0, 2.0**-12, -1.5, 2.0**10], [1.0, 0.0, -1.0, 0.5, 2.0])
    yield Entry("cotangents", ("LSM-3",), {"logits": FIVE, "cotangent": cotangent}, tier="smoke")
    yield Entry("cotangent-of-one-class", ("LSM-3",), {"logits": FIVE, "cotangent": np.eye(4, 5) * -1.5})
    yield Entry("one-class", ("LSM-6",), {"logits": [[2.5], [-60000.0], [0.0]]}, ("float64", "float32"))
    yield Entry("dimensions", ("LSM-1", "LSM-3"), {"logits": np.arange(120).reshape(2, 3, 4, 5) * 29 % 41 / 4.0})
    yield Entry("vector", ("LSM-1", "LSM-3"), {"logits": EIGHT[4]})
    yield Entry("empty", ("LSM-1",), {"logits": np.zeros((0, 3))})


def _entropy_with_logits() -> Iterator[Entry]:
    yield from _by_rows(FINITE, "", ("EWL-1", "EWL-2", "EWL-3"), _alone, "EWL-4")
    yield Entry("strange", ("EWL-5",), _calls(strange, _alone), tier="smoke")
    yield Entry("cotangents", ("EWL-3",), {"logits": FIVE, "cotangent": [0.0, 2.0**-12, -1.5, 2.0**10]}, tier="smoke")
    yield Entry("one-class", ("EWL-6",), {"logits": [[2.5], [-8.0], [0.0]]})
    yield Entry("dimensions", ("EWL-1", "EWL-3"), {"logits": np.arange(120).reshape(2, 3, 4, 5) * 29 % 41 / 4.0})
    yield Entry("vector", ("EWL-1", "EWL-3"), {"logits": EIGHT[4]})
    yield Entry("empty", ("EWL-1",), {"logits": np.zeros((0, 3))})
    yield Entry(
        "peaks",
        ("EWL-1", "EWL-3"),
        lambda dtype: {"logits": narrowed([[g, 0.0, -g, 0.0, -inf] for g in (0.5, 4.0, 12.0, 18.0, 60.0, 104.0, 800.0)], dtype)},
    )


ENTRIES = {
    "entropy_with_logits": tuple(_entropy_with_logits()),
    "log_softmax": tuple(_log_softmax()),
    "smoothed_attention_loss": tuple(_smoothed_attention_loss()),
    "softmax_cross_entropy": tuple(_softmax_cross_entropy()),
}
