"""The table of known defects: for each the smallest call that shows it, and where it was reported.

`about` names clauses, by id or by edge label, of the operation that the defect breaks. A source is "repository#number", empty
where no report is known. Numbers are exact in each of the dtypes, so some differ a little from the report's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf, nan
from typing import Any

from conformance.case import Recipe

ALL = ("float64", "float32", "bfloat16", "float16")
WIDE = ("float64", "float32")
SINGLE = ("float32",)
NOT_BFLOAT16 = ("float64", "float32", "float16")


@dataclass(frozen=True)
class Defect:
    """A mistake that was made: a call, the dtypes in which it shows, the clauses that it breaks."""

    name: str
    about: tuple[str, ...]
    call: Mapping[str, Any]
    dtypes: tuple[str, ...] = ALL
    source: str = ""
    flags: tuple[str, ...] = ()


def repeat(shape: tuple[int, ...], *values: float) -> Recipe:
    """Numbers over and over, in the case's dtype."""
    return Recipe("repeat", 0, shape, "", values=tuple(map(float, values)))


def same(shape: tuple[int, ...], index: int) -> Recipe:
    """One class index everywhere."""
    return Recipe("repeat", 0, shape, "int64", values=(float(index),))


def step(shape: tuple[int, ...], count: int, before: float, after: float) -> Recipe:
    """`count` times one number, then another."""
    return Recipe("step", 0, shape, "", below=count, values=(before, after))


def draws(shape: tuple[int, ...]) -> Recipe:
    """Logits by counter."""
    return Recipe("logits", 0, shape, "")


X3 = [[1.0, 2.0, 3.0]]
X2 = [[1.0, 2.0, 3.0], [0.0, 0.0, 1.0]]
CUBE = [[[1.0, 2.0], [0.0, -1.0], [3.0, 0.5]], [[0.0, 0.0], [1.0, -2.0], [2.0, 4.0]]]  # (2, 3, 2)

SOFTMAX_CROSS_ENTROPY = (
    # Counts and sums of rows kept in the input dtype.
    Defect(
        "rows-70000",
        ("SCE-4", "SCE-6"),
        {"logits": repeat((70000, 2), 0), "target": same((70000,), 0)},
        ("float16",),
        "pytorch/pytorch#29429",
        ("many-rows",),
    ),
    Defect(
        "rows-257",
        ("SCE-4",),
        {"logits": repeat((257, 2), 0, 0.376953125), "target": same((257,), 0)},
        ("bfloat16",),
        flags=("many-rows",),
    ),
    Defect(
        "rows-2049-sum",
        ("SCE-1",),
        {"logits": repeat((2049, 2), 0), "target": same((2049,), 1), "reduction": "sum"},
        ("bfloat16", "float16"),
        "pytorch/pytorch#55657",
        ("many-rows",),
    ),
    Defect(
        "rows-100000-sum",
        ("SCE-1",),
        {"logits": repeat((100000, 2), 0), "target": same((100000,), 0), "reduction": "sum"},
        ("float16",),
        flags=("many-rows",),
    ),
    Defect("classes-70000", ("SCE-1",), {"logits": repeat((1, 70000), 0), "target": [0]}, ("bfloat16", "float16"), flags=("many-classes",)),
    # The formula: what is subtracted when, and what underflows.
    Defect("common-offset-1e8", ("SCE-2",), {"logits": [[1e8, 1e8]], "target": [0]}, WIDE, "pytorch/pytorch#11752"),
    Defect("common-offset-1e4", ("SCE-2",), {"logits": [[10000.0, 10000.5]], "target": [0]}, WIDE),
    Defect("gap-20000", ("SCE-2",), {"logits": [[1e4, -1e4]], "target": [1]}, NOT_BFLOAT16, "PaddlePaddle/Paddle#20994"),
    Defect("gap-110", ("SCE-2",), {"logits": [[0.0, -110.0]], "target": [1]}, source="onnx/onnx#8423"),
    Defect("gap-60", ("SCE-2",), {"logits": [[-30.0, 30.0]], "target": [0]}, source="Oneflow-Inc/oneflow#3137"),
    Defect(
        "gap-110-smoothed",
        ("SCE-2", "SCE-3"),
        {"logits": [[0.0, -110.0]], "target": [0], "label_smoothing": 0.1},
        source="NVIDIA/Megatron-LM#7466",
    ),
    Defect("gap-110-probabilities", ("SCE-2", "SCE-5"), {"logits": [[0.0, -110.0]], "target": [[0.5, 0.5]]}),
    Defect("logit-1000", ("SCE-2",), {"logits": [[1000.0, 0.0]], "target": [0]}),
    Defect(
        "maximum-of-the-row",
        ("SCE-2",),
        {"logits": [[0.0, 0.0], [200.0, 200.0]], "target": [0, 1], "reduction": "none"},
        source="crysx_nn#7",
    ),
    Defect("target-almost-certain", ("SCE-1", "SCE-6"), {"logits": [[8.0, 0.0]], "target": [0]}, source="linkedin/Liger-Kernel#1268"),
    Defect("loss-near-zero", ("SCE-1",), {"logits": [[40.0, 0.0, 1.0]], "target": [0]}),
    # Blocks and lanes.
    Defect("first-block-masked", ("E2",), {"logits": [[-inf, -inf, 1.0, 0.0]], "target": [2]}, source="Dao-AILab/flash-attention#1930"),
    Defect(
        "first-32768-masked",
        ("E2",),
        {"logits": step((1, 40000), 32768, -inf, 0.0), "target": [32768]},
        SINGLE,
        "Dao-AILab/flash-attention#1930",
        ("many-classes",),
    ),
    Defect("tail-lanes", ("SCE-1",), {"logits": [[-5.0, -5.0, -5.0]], "target": [0]}, source="verl-project/verl#2899"),
    Defect("tail-block", ("SCE-1",), {"logits": repeat((1, 129), -20), "target": [128]}, source="verl-project/verl#2899"),
    Defect("rising-blocks", ("SCE-1",), {"logits": [[0.0, 0.0, 5.0, 5.0]], "target": [0]}),
    # Masked classes: 0*(-inf).
    Defect(
        "masked-class-probabilities",
        ("E1", "E2"),
        {"logits": [[0.0, -inf, 1.0]], "target": [[1.0, 0.0, 0.0]]},
        source="google-deepmind/optax#896",
    ),
    Defect("masked-target-probabilities", ("E2", "SCE-5"), {"logits": [[0.0, -inf]], "target": [[0.5, 0.5]]}),
    Defect("masked-class", ("E2",), {"logits": [[0.0, -inf, 1.0]], "target": [0]}),
    Defect("masked-target", ("E2",), {"logits": [[0.0, -inf, 1.0]], "target": [1]}),
    Defect(
        "masked-class-smoothed",
        ("E2", "SCE-3"),
        {"logits": [[0.0, -inf, 1.0]], "target": [0], "label_smoothing": 0.1},
        source="facebookresearch/pytext#1698",
    ),
    Defect("masked-target-weight-zero", ("E1",), {"logits": [[0.0, -inf]], "target": [1], "weight": [1.0, 0.0], "reduction": "none"}),
    # Ignored rows.
    Defect(
        "ignored-row-of-nan",
        ("E4",),
        {"logits": [[nan, 0.0], [0.0, 0.0]], "target": [-100, 0], "ignore_index": -100},
        source="sooftware/kospeech#37",
    ),
    Defect(
        "ignored-row-of-nan-smoothed",
        ("E4", "SCE-3"),
        {"logits": [[nan, 0.0], [0.0, 0.0]], "target": [-100, 0], "ignore_index": -100, "label_smoothing": 0.1},
        source="sooftware/kospeech#37",
    ),
    Defect(
        "ignored-in-the-mean",
        ("SCE-4", "E4"),
        {"logits": repeat((3, 5), 1), "target": [-1, -1, 3], "ignore_index": -1},
        source="pytorch/xla#859",
    ),
    Defect(
        "ignored-in-the-weighted-mean",
        ("SCE-4", "E4"),
        {"logits": [[0.0, 0.0], [0.0, 0.0]], "target": [1, 0], "weight": [0.5, 2.0], "ignore_index": 0},
        source="tracel-ai/burn#5568",
    ),
    Defect(
        "ignored-smoothed-mean",
        ("SCE-3", "SCE-4", "E4"),
        {"logits": X2, "target": [0, -100], "ignore_index": -100, "label_smoothing": 0.2},
        source="pytorch/pytorch#73205",
    ),
    Defect(
        "ignored-smoothed-sum",
        ("SCE-3", "E4"),
        {"logits": X2, "target": [0, -100], "ignore_index": -100, "label_smoothing": 0.2, "reduction": "sum"},
        source="pytorch/pytorch#73205",
    ),
    Defect(
        "ignored-smoothed-weighted",
        ("SCE-3", "SCE-4", "E4"),
        {"logits": [[1.0, 2.0], [3.0, 0.375]], "target": [-100, 1], "weight": [0.25, 0.375], "ignore_index": -100, "label_smoothing": 0.1},
        source="pytorch/pytorch#69339",
    ),
    Defect(
        "ignored-none", ("E4",), {"logits": X2, "target": [2, -1], "ignore_index": -1, "reduction": "none"}, source="pytorch/pytorch#20406"
    ),
    Defect("ignore-class-0", ("SCE-4", "E4"), {"logits": X2, "target": [0, 2], "ignore_index": 0}, source="chainer/chainer#2715"),
    Defect("ignore-class-1", ("SCE-4", "E4"), {"logits": X2, "target": [1, 2], "ignore_index": 1}, source="PaddlePaddle/Paddle#28622"),
    Defect(
        "ignore-minus-100",
        ("SCE-4", "E4"),
        {"logits": [[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]], "target": [1, 0, -100], "ignore_index": -100},
        source="pytorch/pytorch#108148",
    ),
    Defect("all-ignored", ("E5",), {"logits": X2, "target": [-100, -100], "ignore_index": -100}, source="pytorch/pytorch#116349"),
    # Weights, smoothing, probabilities.
    Defect("weighted-mean", ("SCE-4",), {"logits": X2, "target": [0, 2], "weight": [1.0, 2.0, 4.0]}),
    Defect(
        "weighted-probabilities-mean",
        ("SCE-4", "SCE-5"),
        {"logits": X2, "target": [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]], "weight": [1.0, 2.0, 4.0]},
    ),
    Defect(
        "weighted-smoothing",
        ("SCE-3",),
        {"logits": [[1.0, 2.0], [0.0, 0.5]], "target": [0, 1], "weight": [0.125, 0.875], "label_smoothing": 0.1},
        source="pytorch/pytorch#104776",
    ),
    Defect("probabilities-not-one", ("SCE-5",), {"logits": X3, "target": [[0.25, 0.25, 0.1875]]}),
    Defect(
        "smoothing-mass",
        ("SCE-3",),
        {"logits": [[2.0, 1.0, 0.0, -1.0, 0.5]], "target": [0], "label_smoothing": 0.1},
        source="paiml/aprender#2199",
    ),
    Defect("smoothing-mass-2", ("SCE-3",), {"logits": X3, "target": [0], "label_smoothing": 0.3}, source="mindspore-ai/mindspore#73"),
    Defect(
        "smoothing-class-axis",
        ("SCE-3",),
        {"logits": CUBE, "target": [[0, 1], [2, 2]], "label_smoothing": 0.1},
        source="tensorflow/tensorflow#32231",
    ),
    # Targets that name no class.
    Defect("target-is-V", ("E6",), {"logits": X3, "target": [3]}, source="tensorflow/tensorflow#8484"),
    Defect("target-is-minus-1", ("E6",), {"logits": X3, "target": [-1]}, source="pytorch/pytorch#66872"),
    # Gradients.
    Defect("gradient-by-row", ("SCE-6",), {"logits": X2, "target": [0, 2], "reduction": "none"}, source="linkedin/Liger-Kernel#968"),
    Defect(
        "gradient-uniform",
        ("SCE-6",),
        {"logits": repeat((2, 100), 0), "target": [0, 99], "reduction": "sum"},
        source="pytorch/pytorch#16028",
    ),
)

LOG_SOFTMAX = (
    Defect("classes-70000", ("LSM-1",), {"logits": repeat((1, 70000), 0)}, ("bfloat16", "float16"), flags=("many-classes",)),
    Defect("classes-70000-random", ("LSM-1",), {"logits": draws((1, 70000))}, ("float16",), flags=("many-classes",)),
    Defect("classes-512", ("LSM-1",), {"logits": repeat((1, 512), 0)}, ("bfloat16",), "pytorch/executorch#20089", ("many-classes",)),
    Defect("common-offset-1e7", ("LSM-2",), {"logits": [[-1e7, -9999999.0, -9999998.0]]}, WIDE, "pytorch/pytorch#38839"),
    Defect("gap-110", ("LSM-2",), {"logits": [[0.0, -89.0, -110.0]]}, source="pytorch/pytorch#94043"),
    Defect("gradient-uniform", ("LSM-3",), {"logits": repeat((1, 100), 0)}, source="pytorch/pytorch#16028"),
    Defect("masked-class", ("E1",), {"logits": [[0.0, -inf, 1.0]]}),
)

ENTROPY_WITH_LOGITS = (
    Defect("masked-class", ("E1",), {"logits": [[0.0, -inf, 1.0]]}, source="pytorch/pytorch#40553"),
    Defect("largest-and-smallest", ("EWL-2",), {"logits": [[65504.0, -65504.0]]}, NOT_BFLOAT16, "huggingface/trl#7221"),
    Defect("common-offset-1e8", ("EWL-2",), {"logits": [[1e8, 1e8]]}, WIDE),
    Defect("gap-110", ("EWL-2",), {"logits": [[0.0, -110.0]]}),
)

ENTROPY = (
    Defect("certain", ("E1",), {"p": [[1.0, 0.0]]}, source="pytorch/pytorch#144279"),
    Defect("gradient-at-zero", ("E2",), {"p": [[0.5, 0.5, 0.0]]}, source="jax-ml/jax#15709"),
    Defect("subnormal", ("ENT-9",), {"p": [[2.0**-133, 0.5]]}, ("float64", "float32", "bfloat16")),
    Defect("not-normalised", ("ENT-2",), {"p": [[2.0, 1.0]]}, source="scipy/scipy#12553"),
)

CROSS_ENTROPY = (
    Defect("impossible", ("E2",), {"p": [[0.5, 0.5]], "q": [[1.0, 0.0]]}, source="keras-team/keras#9754"),
    Defect("zero-on-zero", ("E1",), {"p": [[1.0, 0.0]], "q": [[0.5, 0.0]]}, source="OpenBMB/ModelCenter#14"),
    Defect("gradient-at-zero", ("E2", "CE-5"), {"p": [[1.0, 0.0]], "q": [[0.0, 1.0]]}, source="keras-team/keras#13747"),
)

KL_DIVERGENCE = (
    Defect("zero-of-p", ("E1",), {"p": [[0.0, 1.0]], "q": [[0.5, 0.5]]}, source="jax-ml/jax#21192"),
    Defect("zero-on-zero", ("E1",), {"p": [[0.0, 1.0]], "q": [[0.0, 1.0]]}, source="google-deepmind/optax#1786"),
    Defect("impossible", ("E2",), {"p": [[0.5, 0.5]], "q": [[1.0, 0.0]]}, source="keras-team/keras#9754"),
    Defect("arguments-swapped", ("KLD-1",), {"p": [[0.125, 0.875]], "q": [[0.5, 0.5]]}, source="advait/c4a0#35"),
    Defect("equal", ("KLD-10",), {"p": [[0.25, 0.75]], "q": [[0.25, 0.75]]}, source="pytorch/pytorch#80488"),
    Defect("almost-equal", ("KLD-10",), {"p": [[5033165 * 2.0**-24]], "q": [[5033166 * 2.0**-24]]}, WIDE),
    Defect("ratio-overflows", ("KLD-2",), {"p": [[4.0]], "q": [[2.0**-1022]]}, ("float64",), "scipy/scipy#20710"),
    Defect("nan", ("E4",), {"p": [[nan, 0.5]], "q": [[1.0, 0.5]]}, source="jax-ml/jax#38262"),
    Defect("not-normalised", ("KLD-2",), {"p": [[2.0, 1.0]], "q": [[1.0, 4.0]]}, source="scipy/scipy#12553"),
)

KL_DIV = (
    Defect("zero-on-minus-inf", ("E1",), {"log_q": [[-inf, -0.5]], "p": [[0.0, 1.0]], "reduction": "none"}),
    Defect("log-target-minus-inf", ("E1", "KLP-2"), {"log_q": [[-1.0, -1.0]], "p": [[-inf, 0.0]], "log_target": True, "reduction": "none"}),
    Defect(
        "log-target-both-minus-inf", ("E1", "KLP-2"), {"log_q": [[-inf, -1.0]], "p": [[-inf, 0.0]], "log_target": True, "reduction": "none"}
    ),
    Defect("zero-of-p", ("E1", "E3"), {"log_q": [[-1.0, -0.5]], "p": [[0.0, 1.0]], "reduction": "none"}, source="pytorch/pytorch#89558"),
    Defect("impossible", ("E2",), {"log_q": [[-inf, 0.0]], "p": [[0.5, 0.5]], "reduction": "none"}),
    Defect("negative-p", ("KLP-10",), {"log_q": [[-1.0, -1.0]], "p": [[-0.5, 1.5]], "reduction": "none"}, source="pytorch/pytorch#69230"),
    Defect(
        "batchmean-of-a-cube",
        ("KLP-3",),
        {"log_q": [[[-1.0, -2.0], [-0.5, -1.0]]] * 2, "p": [[[0.25, 0.75], [0.5, 0.5]]] * 2, "reduction": "batchmean"},
        source="neuralmagic/sparseml#674",
    ),
    Defect(
        "mean-of-all-elements",
        ("KLP-3",),
        {"log_q": [[-1.0, -2.0], [-0.5, -1.0]], "p": [[0.25, 0.75], [0.5, 0.5]]},
        source="pytorch/pytorch#6622",
    ),
    Defect(
        "terms-70000-sum",
        ("KLP-3",),
        {"log_q": repeat((1, 70000), -1), "p": repeat((1, 70000), 1), "reduction": "sum"},
        ("bfloat16", "float16"),
        flags=("many-classes",),
    ),
)

NLL_LOSS = (
    Defect("ignore-minus-1", ("NLL-2", "E3"), {"log_p": [[-1.0, -2.0], [-0.5, -3.0]], "target": [0, -1], "ignore_index": -1}),
    Defect(
        "ignore-weighted",
        ("NLL-2", "E3"),
        {"log_p": [[-1.0, -2.0], [-0.5, -3.0]], "target": [1, 0], "weight": [0.5, 2.0], "ignore_index": 0},
        source="llvm/torch-mlir#3585",
    ),
    Defect("gradient-mean", ("NLL-1",), {"log_p": [[-1.0, -2.0], [-0.5, -3.0]], "target": [0, 1]}, source="pytorch/pytorch#64163"),
    Defect(
        "rows-70000",
        ("NLL-2",),
        {"log_p": repeat((70000, 1), -1), "target": same((70000,), 0)},
        ("float16",),
        "pytorch/pytorch#29429",
        ("many-rows",),
    ),
    Defect("masked-target-weight-zero", ("NLL-1",), {"log_p": [[-1.0, -inf]], "target": [1], "weight": [1.0, 0.0], "reduction": "none"}),
    Defect("ignored-row-of-nan", ("E3",), {"log_p": [[nan, nan], [-1.0, -2.0]], "target": [-100, 0], "ignore_index": -100}),
    Defect("target-is-V", ("E5",), {"log_p": [[-1.0, -2.0]], "target": [2]}, source="tensorflow/tensorflow#8484"),
    Defect(
        "none-by-row",
        ("NLL-1",),
        {"log_p": [[-1.0, -2.0], [-0.5, -3.0]], "target": [0, 1], "reduction": "none"},
        source="microsoft/DirectML#740",
    ),
)

X22 = [[[1.0, 2.0, 3.0], [0.0, 0.0, 1.0]], [[2.0, 0.0, -1.0], [0.5, 0.0, 0.0]]]  # (B, T, V) = (2, 2, 3)

SMOOTHED_ATTENTION_LOSS = (
    Defect("padding", ("SAL-2", "E4"), {"logits": X22, "target": [[0, 2], [1, -1]]}, source="awslabs/sockeye#200"),
    Defect(
        "padding-by-length",
        ("SAL-2", "E4"),
        {"logits": X22, "target": [[0, 2], [1, -1]], "normalize_length": True},
        source="eladhoffer/utils.pytorch#4",
    ),
    Defect("padding-inside-the-vocabulary", ("SAL-2", "E4"), {"logits": X22, "target": [[0, 2], [1, 0]], "padding_idx": 0}),
    Defect(
        "padded-row-of-nan", ("E4",), {"logits": [[[1.0, 2.0, 3.0], [nan, 0.0, 0.0]]], "target": [[0, -1]]}, source="sooftware/kospeech#37"
    ),
    Defect("all-padded-by-length", ("E5",), {"logits": [X3], "target": [[-1]], "normalize_length": True}),
    Defect("masked-class-unsmoothed", ("E1", "E2"), {"logits": [[[0.0, -inf, 1.0]]], "target": [[0]], "smoothing": 0.0}),
    Defect("masked-class-smoothed", ("E2",), {"logits": [[[0.0, -inf, 1.0]]], "target": [[0]]}, source="facebookresearch/pytext#1698"),
    Defect("entropy-kept", ("SAL-1",), {"logits": [[[1.0, 2.0, 3.0]]], "target": [[0]]}),
    Defect("smoothing-1", ("SAL-1",), {"logits": [[[1.0, 2.0, 3.0]]], "target": [[0]], "smoothing": 1.0}),
    Defect(
        "classes-70000", ("SAL-1",), {"logits": repeat((1, 1, 70000), 0), "target": [[0]]}, ("bfloat16", "float16"), flags=("many-classes",)
    ),
    Defect("gap-110", ("SAL-1",), {"logits": [[[0.0, -110.0, 1.0]]], "target": [[0]]}, source="NVIDIA/Megatron-LM#7466"),
    Defect("target-is-V", ("E6",), {"logits": [[[1.0, 2.0, 3.0]]], "target": [[3]]}),
)

DEFECTS = {
    "cross_entropy": CROSS_ENTROPY,
    "entropy": ENTROPY,
    "entropy_with_logits": ENTROPY_WITH_LOGITS,
    "kl_div": KL_DIV,
    "kl_divergence": KL_DIVERGENCE,
    "log_softmax": LOG_SOFTMAX,
    "nll_loss": NLL_LOSS,
    "smoothed_attention_loss": SMOOTHED_ATTENTION_LOSS,
    "softmax_cross_entropy": SOFTMAX_CROSS_ENTROPY,
}
