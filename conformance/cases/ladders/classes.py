"""Numbers of classes at which blocks break: around the powers of two that kernels take at a time, and the sizes of real vocabularies.

Each size is asked of rows that show another mistake: numbers by counter, all mass on the last class, nothing above 0 (what counts as 0
beyond the row outweighs it), and the first classes masked, by more than half. A few thousand classes are written out, more made by recipe.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conformance.case import Recipe
from conformance.cases.table import Call, Entry, draws, narrowed, repeat, same, step

SMALL = (1, 2, 3, 5, 31, 32, 33, 127, 128, 129)
LARGE: Mapping[int, tuple[str, ...]] = {  # the dtypes in which numbers by counter are asked
    1023: ("float32", "float16"),
    1024: ("float32", "bfloat16"),
    1025: ("float32", "bfloat16"),
    4233: ("float64", "float32", "bfloat16", "float16"),
    32000: ("float32", "bfloat16"),
    50257: ("float32",),
    65535: ("float16",),
    65536: ("bfloat16",),
    65537: ("float32", "float16"),
    128256: ("bfloat16",),
    200000: ("float16", "float32"),
}
FULL = (128256, 200000)  # of the tier that takes its time
NONE = {"reduction": "none"}
FLAG = ("many-classes",)


def rows(classes: int) -> NDArray[np.float64]:
    """Six rows: no order, the last class, below 0, the first half masked, rising, falling."""
    v = np.arange(classes)
    table = [
        v * 37 % 101 / 16.0 - 3.0,
        np.where(v == classes - 1, 6.0, -3.0),
        v % 3 * 0.5 - 40.0,
        np.where(2 * v < classes - 1, -inf, v % 5 * 0.5),
    ]
    return np.array([*table, v * 0.25, -v * 0.25])


def targets(classes: int) -> list[int]:
    """The last class, the first, one in the middle; never one that is masked."""
    return [classes - 1, 0, classes - 1, classes - 1, classes // 2, classes - 1]


def _tier(classes: int) -> str:
    return "full" if classes in FULL else "core"


def _small(form: Callable[[int], Callable[[str], Call]], about: tuple[str, ...]) -> Iterator[Entry]:
    for classes in SMALL:
        dtypes = ("float32", "bfloat16", "float16") if classes in (33, 129) else ("float32", "bfloat16" if classes % 2 else "float16")
        yield Entry(f"V{classes}", about, form(classes), dtypes, tier="smoke" if classes in (3, 33, 129) else "core")


def _shapes(classes: int) -> Iterator[tuple[str, Recipe, int, tuple[str, ...]]]:
    """(name, one row of logits, its target, dtypes) for a large number of classes, save the numbers by counter."""
    dtypes = tuple(dict.fromkeys(("float32", LARGE[classes][-1])))
    yield "last", step((1, classes), classes - 1, -4.0, 8.0), classes - 1, dtypes
    yield "below-zero", repeat((1, classes), -24.0, -25.0, -24.5), classes - 1, dtypes
    yield "first-masked", step((1, classes), classes - 3, -inf, 1.0, 0.0, 0.5), classes - 2, dtypes[:1]


def _softmax_cross_entropy() -> Iterator[Entry]:
    yield from _small(lambda V: lambda dtype: {"logits": narrowed(rows(V), dtype), "target": targets(V), **NONE}, ("SCE-1", "SCE-6"))
    for classes, dtypes in LARGE.items():
        drawn: dict[str, Any] = {"logits": draws((2, classes)), "target": [classes - 1, classes // 2], **NONE}
        yield Entry(f"V{classes}-drawn", ("SCE-1", "SCE-6"), drawn, dtypes, flags=FLAG, tier=_tier(classes))
        for name, logits, target, some in _shapes(classes):
            about = ("SCE-1", "SCE-6", "SCE-8") if name == "first-masked" else ("SCE-1", "SCE-6")
            yield Entry(f"V{classes}-{name}", about, {"logits": logits, "target": [target]}, some, flags=FLAG, tier=_tier(classes))
        smoothed = {**drawn, "label_smoothing": 0.1, "reduction": "mean"}
        if classes in (1025, 4233, 65537):
            yield Entry(f"V{classes}-smoothed", ("SCE-3", "SCE-6"), smoothed, dtypes[:1], flags=FLAG)
        if classes in (1025, 32000, 65537):
            given = {"logits": draws((1, classes)), "target": draws((1, classes), "probability", 1), "reduction": "sum"}
            yield Entry(f"V{classes}-probabilities", ("SCE-5", "SCE-6"), given, dtypes[:1], flags=FLAG)
    low = {"logits": step((1, 200000), 199999, 0.0, 12.0), "target": [199999], "label_smoothing": 0.1}
    yield Entry("V200000-smoothed", ("SCE-3", "SCE-6"), low, ("float16", "float32"), flags=FLAG)
    cube = {"logits": draws((2, 257, 3), axis=1), "target": [[256, 0, 128], [255, 1, 127]], **NONE}
    yield Entry("V257-dimensions", ("SCE-1", "SCE-6"), cube, ("float32", "bfloat16"))
    many = {"logits": draws((300, 7)), "target": same((300,), 0, 3, 6, 1, 5, 2, 4), **NONE}
    yield Entry("rows-300", ("SCE-1", "SCE-6"), many, ("float32", "bfloat16"))
    wide = {"logits": draws((2, 70000)), "target": [65536 + 7, 32768 + 7], **NONE}
    yield Entry("targets-beyond-16-bits", ("SCE-1", "SCE-6"), wide, ("bfloat16",), flags=FLAG)


def _smoothed_attention_loss() -> Iterator[Entry]:
    def call(V: int) -> Callable[[str], Call]:
        masked = np.array([n for n in range(6) if n != 3])  # whose masked classes have mass
        return lambda dtype: {"logits": narrowed(rows(V)[masked], dtype)[None], "target": [[targets(V)[n] for n in masked]]}

    for entry in _small(call, ("SAL-1", "SAL-3")):
        yield replace(entry, dtypes=entry.dtypes[:1]) if entry.name in ("V127", "V128", "V129") else entry
    for classes in (1023, 1025, 4233, 32000, 65537):
        drawn = {"logits": draws((1, 2, classes)), "target": [[classes - 1, classes // 2]]}
        yield Entry(f"V{classes}-drawn", ("SAL-1", "SAL-3"), drawn, LARGE[classes][-1:], flags=FLAG)
        last = {"logits": step((1, 1, classes), classes - 1, -4.0, 8.0), "target": [[classes - 1]]}
        yield Entry(f"V{classes}-last", ("SAL-1", "SAL-3"), last, LARGE[classes][:1], flags=FLAG)
    low = {"logits": step((1, 1, 200000), 199999, 0.0, 12.0), "target": [[199999]]}
    yield Entry("V200000-last", ("SAL-1", "SAL-3"), low, ("float16", "float32"), flags=FLAG)
    masked = {"logits": step((1, 1, 40000), 32768, -inf, 1.0, 0.0), "target": [[32768]], "smoothing": 0.0}
    yield Entry("V40000-first-masked", ("SAL-4", "SAL-5"), masked, ("float32",), flags=FLAG)


def _of_logits(about: tuple[str, ...]) -> Iterator[Entry]:
    yield from _small(lambda V: lambda dtype: {"logits": narrowed(rows(V)[[0, 1, 4, 5]], dtype)}, about)
    for classes in (5, 33, 129):
        for n, name in ((2, "below-zero"), (3, "first-masked")):
            alone = {"logits": narrowed(rows(classes)[n : n + 1], "bfloat16")}
            yield Entry(f"V{classes}-{name}", about, alone, ("float32", "bfloat16"))
    for classes, dtypes in LARGE.items():
        yield Entry(f"V{classes}-drawn", about, {"logits": draws((1, classes))}, dtypes[-1:], flags=FLAG, tier=_tier(classes))
        for name, logits, _, some in _shapes(classes):
            if classes in (1025, 65537, 200000):
                yield Entry(f"V{classes}-{name}", about, {"logits": logits}, some[:1], flags=FLAG, tier=_tier(classes))


def _of_two(about: tuple[str, ...]) -> Iterator[Entry]:
    def call(V: int) -> Callable[[str], Call]:
        return lambda dtype: {"p": _shares(V, dtype, 3), "q": _shares(V, dtype, 11)}

    yield from _small(call, about)
    for classes in (1023, 1025, 4233, 32000, 65537):
        drawn = {"p": draws((1, classes), "positive_probability"), "q": draws((1, classes), "positive_probability")}
        yield Entry(f"V{classes}-drawn", about, drawn, LARGE[classes][-1:], flags=FLAG)
        last = {"p": step((1, classes), classes - 1, 2.0**-14, 0.5), "q": step((1, classes), classes - 1, 2.0**-13, 0.25)}
        yield Entry(f"V{classes}-last", about, last, ("float32",), flags=FLAG)


def _shares(V: int, dtype: str, turn: int) -> NDArray[np.float64]:
    weight = (np.arange(3 * V).reshape(3, V) * 37 + turn) % 29 + 1.0
    weight[1, -1] = 40.0 * V
    return narrowed(weight / weight.sum(axis=1, keepdims=True), dtype)


def _entropy() -> Iterator[Entry]:
    yield from _small(lambda V: lambda dtype: {"p": _shares(V, dtype, 3)}, ("ENT-1", "ENT-4"))
    for classes in (1023, 1025, 4233, 65537):
        drawn = {"p": draws((1, classes), "positive_probability")}
        yield Entry(f"V{classes}-drawn", ("ENT-1", "ENT-4"), drawn, LARGE[classes][-1:], flags=FLAG)
        last = {"p": step((1, classes), classes - 1, 2.0**-14, 0.5)}
        yield Entry(f"V{classes}-last", ("ENT-1", "ENT-4"), last, ("float32",), flags=FLAG)


def _kl_div() -> Iterator[Entry]:
    for reduction in ("none", "batchmean"):

        def call(V: int, reduction: str = reduction) -> Callable[[str], Call]:
            return lambda dtype: {"p": _shares(V, dtype, 3), "log_q": narrowed(-rows(V)[:3] % 11 - 0.5, dtype), "reduction": reduction}

        for entry in _small(call, ("KLP-1", "KLP-3", "KLP-4")):
            yield Entry(f"{entry.name}-{reduction}", entry.about, entry.call, entry.dtypes[:1], tier=entry.tier)
    for classes in (1023, 1025, 4233, 65537):
        last = {
            "p": step((1, classes), classes - 1, 2.0**-14, 0.5),
            "log_q": step((1, classes), classes - 1, -4.0, -1.5),
            "reduction": "sum",
        }
        yield Entry(f"V{classes}-last", ("KLP-3", "KLP-4"), last, ("float32", "bfloat16"), flags=FLAG)


def _nll_loss() -> Iterator[Entry]:
    for classes in (*SMALL, 1025, 65537):
        call = {"log_p": repeat((2, classes), -1, -0.5, -2, -3, -0.25, -4, -8), "target": [classes - 1, classes // 2], **NONE}
        yield Entry(f"V{classes}", ("NLL-1",), call, ("float32", "bfloat16"), flags=FLAG if classes > 1000 else ())


ENTRIES = {
    "cross_entropy": tuple(_of_two(("CE-1", "CE-5"))),
    "entropy": tuple(_entropy()),
    "entropy_with_logits": tuple(_of_logits(("EWL-1", "EWL-3"))),
    "kl_div": tuple(_kl_div()),
    "kl_divergence": tuple(_of_two(("KLD-1", "KLD-5"))),
    "log_softmax": tuple(_of_logits(("LSM-1", "LSM-3"))),
    "nll_loss": tuple(_nll_loss()),
    "smoothed_attention_loss": tuple(_smoothed_attention_loss()),
    "softmax_cross_entropy": tuple(_softmax_cross_entropy()),
}
