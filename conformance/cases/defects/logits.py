"""Known defects of the other losses of logits: for each the smallest call that shows it, and where it was reported."""

from __future__ import annotations

from math import inf, nan

from conformance.cases.defects.softmax import X3
from conformance.cases.table import NOT_BFLOAT16, WIDE, Entry, draws, repeat

X22 = [[[1.0, 2.0, 3.0], [0.0, 0.0, 1.0]], [[2.0, 0.0, -1.0], [0.5, 0.0, 0.0]]]  # (B, T, V) = (2, 2, 3)

LOG_SOFTMAX = (
    Entry("classes-70000", ("LSM-1",), {"logits": repeat((1, 70000), 0)}, ("bfloat16", "float16"), flags=("many-classes",)),
    Entry("classes-70000-random", ("LSM-1",), {"logits": draws((1, 70000))}, ("float16",), flags=("many-classes",)),
    Entry("classes-512", ("LSM-1",), {"logits": repeat((1, 512), 0)}, ("bfloat16",), "pytorch/executorch#20089", ("many-classes",)),
    Entry("common-offset-1e7", ("LSM-2",), {"logits": [[-1e7, -9999999.0, -9999998.0]]}, WIDE, "pytorch/pytorch#38839"),
    Entry("gap-110", ("LSM-2",), {"logits": [[0.0, -89.0, -110.0]]}, source="pytorch/pytorch#94043"),
    Entry("gradient-uniform", ("LSM-3",), {"logits": repeat((1, 100), 0)}, source="pytorch/pytorch#16028"),
    Entry("masked-class", ("E1",), {"logits": [[0.0, -inf, 1.0]]}),
    Entry("gradient", ("LSM-3",), {"logits": [[1.0, 2.0, 3.0], [0.0, 0.0, 1.0]]}, source="mlpack/mlpack#2360"),
    Entry(
        "transposed-view",
        ("LSM-1", "GEN-6"),
        {"logits": [[1.0, 2.0, 3.0], [0.0, 0.5, 1.0]]},
        source="pytorch/pytorch#89673",
        layouts={"logits": "transposed"},
    ),
)

ENTROPY_WITH_LOGITS = (
    Entry("masked-class", ("E1",), {"logits": [[0.0, -inf, 1.0]]}, source="pytorch/pytorch#40553"),
    Entry("largest-and-smallest", ("EWL-2",), {"logits": [[65504.0, -65504.0]]}, NOT_BFLOAT16, "huggingface/trl#7221"),
    Entry("common-offset-1e8", ("EWL-2",), {"logits": [[1e8, 1e8]]}, WIDE),
    Entry("gap-110", ("EWL-2",), {"logits": [[0.0, -110.0]]}),
)

SMOOTHED_ATTENTION_LOSS = (
    Entry("padding", ("SAL-2", "E4"), {"logits": X22, "target": [[0, 2], [1, -1]]}, source="awslabs/sockeye#200"),
    Entry(
        "padding-by-length",
        ("SAL-2", "E4"),
        {"logits": X22, "target": [[0, 2], [1, -1]], "normalize_length": True},
        source="eladhoffer/utils.pytorch#4",
    ),
    Entry("padding-inside-the-vocabulary", ("SAL-2", "E4"), {"logits": X22, "target": [[0, 2], [1, 0]], "padding_idx": 0}),
    Entry(
        "padded-row-of-nan", ("E4",), {"logits": [[[1.0, 2.0, 3.0], [nan, 0.0, 0.0]]], "target": [[0, -1]]}, source="sooftware/kospeech#37"
    ),
    Entry("all-padded-by-length", ("E5",), {"logits": [X3], "target": [[-1]], "normalize_length": True}),
    Entry("masked-class-unsmoothed", ("E1", "E2"), {"logits": [[[0.0, -inf, 1.0]]], "target": [[0]], "smoothing": 0.0}),
    Entry("masked-class-smoothed", ("E2",), {"logits": [[[0.0, -inf, 1.0]]], "target": [[0]]}, source="facebookresearch/pytext#1698"),
    Entry("entropy-kept", ("SAL-1",), {"logits": [[[1.0, 2.0, 3.0]]], "target": [[0]]}),
    Entry("smoothing-1", ("SAL-1",), {"logits": [[[1.0, 2.0, 3.0]]], "target": [[0]], "smoothing": 1.0}),
    Entry(
        "classes-70000", ("SAL-1",), {"logits": repeat((1, 1, 70000), 0), "target": [[0]]}, ("bfloat16", "float16"), flags=("many-classes",)
    ),
    Entry("gap-110", ("SAL-1",), {"logits": [[[0.0, -110.0, 1.0]]], "target": [[0]]}, source="NVIDIA/Megatron-LM#7466"),
    Entry("target-is-V", ("E6",), {"logits": [[[1.0, 2.0, 3.0]]], "target": [[3]]}),
    Entry(
        "smoothing-of-a-shard",
        ("SAL-1", "SAL-3"),
        {"logits": [[[0.0, 0.0, 0.0, 3.0]]], "target": [[0]]},
        source="NVIDIA/Megatron-LM#737",
    ),
)
