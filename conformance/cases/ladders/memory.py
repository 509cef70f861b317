"""Layouts in memory and low-precision counts: what a kernel sees of a call besides its numbers.

A row of a layout's cases is like no other, so that what is read in the wrong place shows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from conformance.cases.table import Entry, repeat, same

NONE = {"reduction": "none"}
FLOATS = ("float32", "bfloat16")
MATRIX = (np.arange(35).reshape(5, 7) * 11 % 31 - 12) / 4.0
ROWS = (np.arange(21).reshape(3, 7) * 11 % 31 - 12) / 4.0  # few enough to lie far apart
ALIKE = np.tile(MATRIX[:1], (4, 1))
LOGITS = ("transposed", "strided", "padded", "offset")


def _of_logits(name: str, value: tuple[str, ...], cube: bool = False) -> Iterator[Entry]:
    """The first input in every layout."""
    about = (*value, "GEN-6")
    for layout in LOGITS:
        yield Entry(f"layout-{layout}", about, {name: MATRIX}, FLOATS, layouts={name: layout}, tier="smoke")
    yield Entry("layout-far", about, {name: ROWS}, FLOATS, layouts={name: "far"})
    yield Entry("layout-expanded", about, {name: ALIKE}, FLOATS, layouts={name: "expanded"})


def _with_target(name: str, value: tuple[str, ...]) -> Iterator[Entry]:
    about = (*value, "GEN-6")
    target = [6, 0, 3, 1, 5]
    call: dict[str, Any] = {name: MATRIX, "target": target, **NONE}
    for layout in LOGITS:
        yield Entry(f"layout-{layout}", about, call, FLOATS, layouts={name: layout}, tier="smoke")
    for layout in ("strided", "offset"):
        yield Entry(f"layout-target-{layout}", about, call, FLOATS, layouts={"target": layout}, tier="smoke")
    few = {name: ROWS, "target": target[:3], **NONE}
    yield Entry("layout-far", about, few, FLOATS, layouts={name: "far"})
    yield Entry("layout-target-far", about, few, FLOATS, layouts={"target": "far"})
    alike = {name: ALIKE, "target": target[:4], **NONE}
    yield Entry("layout-expanded", about, alike, FLOATS, layouts={name: "expanded"})
    yield Entry("layout-cotangent-expanded", about, {**call, "cotangent": [1.25] * 5}, FLOATS, layouts={"cotangent": "expanded"})
    for layout in ("strided", "offset"):
        yield Entry(f"layout-cotangent-{layout}", about, call, FLOATS, layouts={"cotangent": layout})
    weighted = {**call, "weight": [0.5, 1.0, 2.0, 0.25, 4.0, 0.0, 1.5], "reduction": "mean"}
    yield Entry("layout-weight-strided", about, weighted, FLOATS, layouts={"weight": "strided"})
    everything = {name: "transposed", "target": "strided", "weight": "strided"}
    yield Entry("layout-everything", about, weighted, FLOATS, layouts=everything)
    cube = {name: np.arange(60).reshape(3, 5, 4) * 11 % 31 / 4.0 - 8.0, "target": np.arange(12).reshape(3, 4) * 7 % 5, **NONE}
    for layout in ("transposed", "padded"):
        yield Entry(f"layout-positions-{layout}", about, cube, FLOATS, layouts={name: layout, "target": layout})


def _softmax_cross_entropy() -> Iterator[Entry]:
    yield from _with_target("logits", ("SCE-1", "SCE-6"))
    given = (np.arange(35).reshape(5, 7) * 5 % 13) / 64.0
    call = {"logits": MATRIX, "target": given, **NONE}
    for layout in ("transposed", "padded"):
        yield Entry(f"layout-probabilities-{layout}", ("SCE-5", "GEN-6"), call, FLOATS, layouts={"target": layout})
    both = {"logits": "padded", "target": "transposed"}
    yield Entry("layout-probabilities-both", ("SCE-5", "GEN-6"), call, FLOATS, layouts=both)
    # Counts. The loss of a row: ln 2, or of the third of three rows that are ignored now and then, nothing.
    for rows, dtypes in ((257, ("bfloat16",)), (2049, ("float16", "bfloat16")), (65505, ("float16",)), (70000, ("float16", "bfloat16"))):
        about = ("SCE-4", "SCE-6")
        flags = ("many-rows",)
        tier = "smoke" if rows < 3000 else "core"
        logits = repeat((rows, 2), 0, 0.5, 1, -0.25, 0.125, 0)
        yield Entry(f"rows-{rows}-mean", about, {"logits": logits, "target": same((rows,), 0)}, dtypes, flags=flags, tier=tier)
        ignored = {"logits": logits, "target": same((rows,), 0, 1, -100), "ignore_index": -100}
        yield Entry(f"rows-{rows}-ignored", (*about, "SCE-10"), ignored, dtypes, flags=flags, tier=tier)
        summed = {"logits": logits, "target": same((rows,), 1, 0), "reduction": "sum", "cotangent": 0.375}
        yield Entry(f"rows-{rows}-sum", ("SCE-1", "SCE-6"), summed, dtypes, flags=flags, tier=tier)
        weighted = {"logits": logits, "target": same((rows,), 0, 1), "weight": [1.0, 0.75]}
        yield Entry(f"rows-{rows}-weighted", about, weighted, dtypes, flags=flags, tier=tier)
        smoothed = {"logits": logits, "target": same((rows,), 0), "label_smoothing": 0.1}
        yield Entry(f"rows-{rows}-smoothed", ("SCE-3", *about), smoothed, dtypes, flags=flags, tier="full" if rows > 3000 else tier)
    # More rows than a grid's second axis has blocks; each row's answer is asked, and their sum.
    many: dict[str, Any] = {"logits": repeat((70000, 3), 0, 0.5, 1, -0.25, 0.125), "target": same((70000,), 0, 2, 1, 1)}
    for reduction in ("none", "sum", "mean"):
        wide = {**many, "reduction": reduction}
        yield Entry(f"rows-70000-{reduction}-wide", ("SCE-1", "SCE-4", "SCE-6"), wide, ("float32",), flags=("many-rows",))
    # The gradient of a mean is large enough to be judged only where the cotangent makes it so.
    scaled = {"logits": repeat((4096, 4), 0, 0.5, 1, -2), "target": same((4096,), 0, 3, 1), "cotangent": 4096.0}
    yield Entry("rows-4096-scaled", ("SCE-4", "SCE-6"), scaled, ("float16", "bfloat16", "float32"), flags=("many-rows",))


def _nll_loss() -> Iterator[Entry]:
    yield from _with_target("log_p", ("NLL-1", "NLL-2"))
    for rows, dtypes in ((257, ("bfloat16",)), (2049, ("float16", "bfloat16")), (65505, ("float16",)), (70000, ("float16", "bfloat16"))):
        flags = ("many-rows",)
        log_p = repeat((rows, 2), -1, -0.5, -0.25, -2, -0.75, -0.625)
        mean = {"log_p": log_p, "target": same((rows,), 0, 1, -100), "ignore_index": -100}
        yield Entry(f"rows-{rows}-ignored", ("NLL-1", "NLL-2", "NLL-5"), mean, dtypes, flags=flags)
        summed = {"log_p": log_p, "target": same((rows,), 1, 0), "reduction": "sum"}
        yield Entry(f"rows-{rows}-sum", ("NLL-1",), summed, dtypes, flags=flags)


def _smoothed_attention_loss() -> Iterator[Entry]:
    about = ("SAL-1", "SAL-3", "GEN-6")
    cube = np.arange(70).reshape(2, 5, 7) * 11 % 31 / 4.0 - 3.0
    call: dict[str, Any] = {"logits": cube, "target": [[6, 0, 3, -1, 5], [1, 1, -1, -1, -1]]}
    for layout in LOGITS:
        yield Entry(f"layout-{layout}", about, call, FLOATS, layouts={"logits": layout}, tier="smoke")
    for layout in ("transposed", "strided"):
        yield Entry(f"layout-target-{layout}", about, call, FLOATS, layouts={"target": layout})
    yield Entry("layout-far", about, call, FLOATS, layouts={"logits": "far"})
    yield Entry(
        "layout-expanded", about, {"logits": cube[:1].repeat(3, 0), "target": [[6, 0, 3, 4, 5]] * 3}, FLOATS, layouts={"logits": "expanded"}
    )
    for tokens, dtypes in ((257, ("bfloat16",)), (2049, ("float16", "bfloat16")), (70000, ("float16",))):
        logits, target = repeat((1, tokens, 2), 0, 0.5, 1, -0.25, 0.125, 0), same((1, tokens), 0, 1, -1)
        for normalize in (False, True):
            counted = {"logits": logits, "target": target, "normalize_length": normalize}
            name = f"tokens-{tokens}-{'length' if normalize else 'batch'}"
            yield Entry(name, ("SAL-2", "SAL-3"), counted, dtypes, flags=("many-rows",))
        batches = {"logits": repeat((tokens, 1, 2), 0, 0.5, 1, -0.25, 0.125, 0), "target": same((tokens, 1), 0, 1, -1)}
        yield Entry(f"sequences-{tokens}", ("SAL-2", "SAL-3"), batches, dtypes, flags=("many-rows",))


def _of_two(value: str, gradient: str) -> Iterator[Entry]:
    about = (value, gradient, "GEN-6")
    p, q = (np.arange(35).reshape(5, 7) * 5 % 13 + 1) / 64.0, (np.arange(35).reshape(5, 7) * 3 % 11 + 2) / 64.0
    for layout in LOGITS:
        yield Entry(f"layout-{layout}", about, {"p": p, "q": q}, FLOATS, layouts={"p": layout}, tier="smoke")
    yield Entry("layout-both", about, {"p": p, "q": q}, FLOATS, layouts={"p": "padded", "q": "transposed"})
    yield Entry("layout-far", about, {"p": p[:3], "q": q[:3]}, FLOATS, layouts={"q": "far"})
    yield Entry("layout-expanded", about, {"p": p, "q": q[:1].repeat(5, 0)}, FLOATS, layouts={"q": "expanded"})


def _kl_div() -> Iterator[Entry]:
    about = ("KLP-1", "KLP-4", "GEN-6")
    p, log_q = (np.arange(35).reshape(5, 7) * 5 % 13 + 1) / 64.0, -(np.arange(35).reshape(5, 7) * 3 % 11 + 2) / 8.0
    for reduction in ("none", "batchmean"):
        call: dict[str, Any] = {"p": p, "log_q": log_q, "reduction": reduction}
        for layout in LOGITS:
            yield Entry(f"layout-{layout}-{reduction}", about, call, FLOATS, layouts={"log_q": layout}, tier="smoke")
        yield Entry(f"layout-both-{reduction}", about, call, FLOATS, layouts={"p": "padded", "log_q": "transposed"})
    far = {"p": p[:3], "log_q": log_q[:3], **NONE}
    yield Entry("layout-far", about, far, FLOATS, layouts={"log_q": "far"})
    for size, dtypes in ((257, ("bfloat16",)), (2049, ("float16", "bfloat16")), (70000, ("float16", "bfloat16"))):
        for reduction in ("mean", "batchmean", "sum"):
            counted = {"p": repeat((size, 1), 0.5, 0.25, 1), "log_q": repeat((size, 1), -1, -0.5, -0.25, -2), "reduction": reduction}
            yield Entry(f"rows-{size}-{reduction}", ("KLP-3", "KLP-4"), counted, dtypes, flags=("many-rows",))


def _entropy() -> Iterator[Entry]:
    about = ("ENT-1", "ENT-4", "GEN-6")
    p = (np.arange(35).reshape(5, 7) * 5 % 13 + 1) / 64.0
    for layout in LOGITS:
        yield Entry(f"layout-{layout}", about, {"p": p}, FLOATS, layouts={"p": layout}, tier="smoke")
    yield Entry("layout-far", about, {"p": p[:3]}, FLOATS, layouts={"p": "far"})
    yield Entry("layout-expanded", about, {"p": p[:1].repeat(4, 0)}, FLOATS, layouts={"p": "expanded"})


ENTRIES = {
    "cross_entropy": tuple(_of_two("CE-1", "CE-5")),
    "entropy": tuple(_entropy()),
    "entropy_with_logits": tuple(_of_logits("logits", ("EWL-1", "EWL-3"))),
    "kl_div": tuple(_kl_div()),
    "kl_divergence": tuple(_of_two("KLD-1", "KLD-5")),
    "log_softmax": tuple(_of_logits("logits", ("LSM-1", "LSM-3"))),
    "nll_loss": tuple(_nll_loss()),
    "smoothed_attention_loss": tuple(_smoothed_attention_loss()),
    "softmax_cross_entropy": tuple(_softmax_cross_entropy()),
}
