"""Known defects of softmax cross-entropy: for each the smallest call that shows it, and where it was reported.

Numbers are exact in each of the dtypes, so some differ a little from the report's.
"""

from __future__ import annotations

from math import inf, nan

from conformance.cases.table import NOT_BFLOAT16, SINGLE, WIDE, Entry, repeat, same, step

X3 = [[1.0, 2.0, 3.0]]
X2 = [[1.0, 2.0, 3.0], [0.0, 0.0, 1.0]]
CUBE = [[[1.0, 2.0], [0.0, -1.0], [3.0, 0.5]], [[0.0, 0.0], [1.0, -2.0], [2.0, 4.0]]]  # (2, 3, 2)

SOFTMAX_CROSS_ENTROPY = (
    # Counts and sums of rows kept in the input dtype.
    Entry(
        "rows-70000",
        ("SCE-4", "SCE-6"),
        {"logits": repeat((70000, 2), 0), "target": same((70000,), 0)},
        ("float16",),
        "pytorch/pytorch#29429",
        ("many-rows",),
    ),
    Entry(
        "rows-257",
        ("SCE-4",),
        {"logits": repeat((257, 2), 0, 0.376953125), "target": same((257,), 0)},
        ("bfloat16",),
        flags=("many-rows",),
    ),
    Entry(
        "rows-2049-sum",
        ("SCE-1",),
        {"logits": repeat((2049, 2), 0), "target": same((2049,), 1), "reduction": "sum"},
        ("bfloat16", "float16"),
        "pytorch/pytorch#55657",
        ("many-rows",),
    ),
    Entry(
        "rows-100000-sum",
        ("SCE-1",),
        {"logits": repeat((100000, 2), 0), "target": same((100000,), 0), "reduction": "sum"},
        ("float16",),
        flags=("many-rows",),
    ),
    Entry("classes-70000", ("SCE-1",), {"logits": repeat((1, 70000), 0), "target": [0]}, ("bfloat16", "float16"), flags=("many-classes",)),
    # The formula: what is subtracted when, and what underflows.
    Entry("common-offset-1e8", ("SCE-2",), {"logits": [[1e8, 1e8]], "target": [0]}, WIDE, "pytorch/pytorch#11752"),
    Entry("common-offset-1e4", ("SCE-2",), {"logits": [[10000.0, 10000.5]], "target": [0]}, WIDE, "ml-explore/mlx#4188"),
    Entry("gap-20000", ("SCE-2",), {"logits": [[1e4, -1e4]], "target": [1]}, NOT_BFLOAT16, "PaddlePaddle/Paddle#20994"),
    Entry("gap-110", ("SCE-2",), {"logits": [[0.0, -110.0]], "target": [1]}, source="onnx/onnx#8423"),
    Entry("gap-60", ("SCE-2",), {"logits": [[-30.0, 30.0]], "target": [0]}, source="Oneflow-Inc/oneflow#3137"),
    Entry(
        "gap-110-smoothed",
        ("SCE-2", "SCE-3"),
        {"logits": [[0.0, -110.0]], "target": [0], "label_smoothing": 0.1},
        source="NVIDIA/Megatron-LM#7466",
    ),
    Entry("gap-110-probabilities", ("SCE-2", "SCE-5"), {"logits": [[0.0, -110.0]], "target": [[0.5, 0.5]]}),
    Entry("logit-1000", ("SCE-2",), {"logits": [[1000.0, 0.0]], "target": [0]}),
    Entry(
        "maximum-of-the-row",
        ("SCE-2",),
        {"logits": [[0.0, 0.0], [200.0, 200.0]], "target": [0, 1], "reduction": "none"},
        source="crysx_nn#7",
    ),
    Entry("target-almost-certain", ("SCE-1", "SCE-6"), {"logits": [[8.0, 0.0]], "target": [0]}, source="linkedin/Liger-Kernel#1268"),
    Entry("loss-near-zero", ("SCE-1",), {"logits": [[40.0, 0.0, 1.0]], "target": [0]}),
    # Blocks and lanes.
    Entry("first-block-masked", ("E2",), {"logits": [[-inf, -inf, 1.0, 0.0]], "target": [2]}, source="Dao-AILab/flash-attention#1930"),
    Entry(
        "first-32768-masked",
        ("E2",),
        {"logits": step((1, 40000), 32768, -inf, 0.0), "target": [32768]},
        SINGLE,
        "Dao-AILab/flash-attention#1930",
        ("many-classes",),
    ),
    Entry("tail-lanes", ("SCE-1",), {"logits": [[-5.0, -5.0, -5.0]], "target": [0]}, source="verl-project/verl#2899"),
    Entry("tail-block", ("SCE-1",), {"logits": repeat((1, 129), -20), "target": [128]}, source="verl-project/verl#2899"),
    Entry("rising-blocks", ("SCE-1",), {"logits": [[0.0, 0.0, 5.0, 5.0]], "target": [0]}),
    # Masked classes: 0*(-inf).
    Entry(
        "masked-class-probabilities",
        ("E1", "E2"),
        {"logits": [[0.0, -inf, 1.0]], "target": [[1.0, 0.0, 0.0]]},
        source="google-deepmind/optax#896",
    ),
    Entry("masked-target-probabilities", ("E2", "SCE-5"), {"logits": [[0.0, -inf]], "target": [[0.5, 0.5]]}),
    Entry("masked-class", ("E2",), {"logits": [[0.0, -inf, 1.0]], "target": [0]}),
    Entry("masked-target", ("E2",), {"logits": [[0.0, -inf, 1.0]], "target": [1]}),
    Entry(
        "masked-class-smoothed",
        ("E2", "SCE-3"),
        {"logits": [[0.0, -inf, 1.0]], "target": [0], "label_smoothing": 0.1},
        source="facebookresearch/pytext#1698",
    ),
    Entry("masked-target-weight-zero", ("E1",), {"logits": [[0.0, -inf]], "target": [1], "weight": [1.0, 0.0], "reduction": "none"}),
    # Ignored rows.
    Entry(
        "ignored-row-of-nan",
        ("E4",),
        {"logits": [[nan, 0.0], [0.0, 0.0]], "target": [-100, 0], "ignore_index": -100},
        source="sooftware/kospeech#37",
    ),
    Entry(
        "ignored-row-of-nan-smoothed",
        ("E4", "SCE-3"),
        {"logits": [[nan, 0.0], [0.0, 0.0]], "target": [-100, 0], "ignore_index": -100, "label_smoothing": 0.1},
        source="sooftware/kospeech#37",
    ),
    Entry(
        "ignored-in-the-mean",
        ("SCE-4", "E4"),
        {"logits": repeat((3, 5), 1), "target": [-1, -1, 3], "ignore_index": -1},
        source="pytorch/xla#859",
    ),
    Entry(
        "ignored-in-the-weighted-mean",
        ("SCE-4", "E4"),
        {"logits": [[0.0, 0.0], [0.0, 0.0]], "target": [1, 0], "weight": [0.5, 2.0], "ignore_index": 0},
        source="tracel-ai/burn#5568",
    ),
    Entry(
        "ignored-smoothed-mean",
        ("SCE-3", "SCE-4", "E4"),
        {"logits": X2, "target": [0, -100], "ignore_index": -100, "label_smoothing": 0.2},
        source="pytorch/pytorch#73205",
    ),
    Entry(
        "ignored-smoothed-sum",
        ("SCE-3", "E4"),
        {"logits": X2, "target": [0, -100], "ignore_index": -100, "label_smoothing": 0.2, "reduction": "sum"},
        source="tinygrad/tinygrad#3570",
    ),
    Entry(
        "ignored-smoothed-weighted",
        ("SCE-3", "SCE-4", "E4"),
        {"logits": [[1.0, 2.0], [3.0, 0.375]], "target": [-100, 1], "weight": [0.25, 0.375], "ignore_index": -100, "label_smoothing": 0.1},
        source="pytorch/pytorch#69339",
    ),
    Entry(
        "ignored-none", ("E4",), {"logits": X2, "target": [2, -1], "ignore_index": -1, "reduction": "none"}, source="pytorch/pytorch#20406"
    ),
    Entry("ignore-class-0", ("SCE-4", "E4"), {"logits": X2, "target": [0, 2], "ignore_index": 0}, source="chainer/chainer#2715"),
    Entry("ignore-class-1", ("SCE-4", "E4"), {"logits": X2, "target": [1, 2], "ignore_index": 1}, source="PaddlePaddle/Paddle#28622"),
    Entry(
        "ignore-minus-100",
        ("SCE-4", "E4"),
        {"logits": [[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]], "target": [1, 0, -100], "ignore_index": -100},
        source="pytorch/pytorch#108148",
    ),
    Entry("all-ignored", ("E5",), {"logits": X2, "target": [-100, -100], "ignore_index": -100}, source="pytorch/pytorch#116349"),
    # Weights, smoothing, probabilities.
    Entry("weighted-mean", ("SCE-4",), {"logits": X2, "target": [0, 2], "weight": [1.0, 2.0, 4.0]}),
    Entry(
        "weighted-probabilities-mean",
        ("SCE-4", "SCE-5"),
        {"logits": X2, "target": [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]], "weight": [1.0, 2.0, 4.0]},
    ),
    Entry(
        "weighted-smoothing",
        ("SCE-3",),
        {"logits": [[1.0, 2.0], [0.0, 0.5]], "target": [0, 1], "weight": [0.125, 0.875], "label_smoothing": 0.1},
        source="pytorch/pytorch#104776",
    ),
    Entry("probabilities-not-one", ("SCE-5",), {"logits": X3, "target": [[0.25, 0.25, 0.1875]]}),
    Entry(
        "smoothing-mass",
        ("SCE-3",),
        {"logits": [[2.0, 1.0, 0.0, -1.0, 0.5]], "target": [0], "label_smoothing": 0.1},
        source="paiml/aprender#2199",
    ),
    Entry("smoothing-mass-2", ("SCE-3",), {"logits": X3, "target": [0], "label_smoothing": 0.3}, source="mindspore-ai/mindspore#73"),
    Entry(
        "smoothing-class-axis",
        ("SCE-3",),
        {"logits": CUBE, "target": [[0, 1], [2, 2]], "label_smoothing": 0.1},
        source="tensorflow/tensorflow#32231",
    ),
    # Targets that name no class.
    Entry("target-is-V", ("E6",), {"logits": X3, "target": [3]}, source="tensorflow/tensorflow#8484"),
    Entry("target-is-minus-1", ("E6",), {"logits": X3, "target": [-1]}, source="pytorch/pytorch#66872"),
    # Gradients.
    Entry("gradient-by-row", ("SCE-6",), {"logits": X2, "target": [0, 2], "reduction": "none"}, source="linkedin/Liger-Kernel#968"),
    Entry(
        "gradient-uniform",
        ("SCE-6",),
        {"logits": repeat((2, 100), 0), "target": [0, 99], "reduction": "sum"},
        source="pytorch/pytorch#16028",
    ),
    # Rows, chunks and blocks.
    Entry(
        "labels-of-a-chunk",
        ("SCE-1", "SCE-6"),
        {"logits": [[0.0, 1.0, 2.0, 4.0]] * 17, "target": [*range(4)] * 4 + [3], "reduction": "none"},
        source="linkedin/Liger-Kernel#330",
    ),
    # More of ignored rows.
    Entry("ignore-without-effect", ("SCE-4", "E4"), {"logits": X2, "target": [-1, 2], "ignore_index": -1}, source="pytorch/pytorch#11885"),
    Entry(
        "ignored-token-mean",
        ("SCE-4", "E4"),
        {"logits": [*X2, *X3], "target": [0, -100, 1], "ignore_index": -100},
        source="NVIDIA/TransformerEngine#2476",
    ),
    Entry(
        "ignored-token-gradient",
        ("SCE-6", "E4"),
        {"logits": [*X2, *X3], "target": [0, -100, 1], "ignore_index": -100, "reduction": "none"},
        source="ROCm/TransformerEngine#336",
    ),
    Entry(
        "ignored-rows-compiled",
        ("SCE-1", "SCE-6", "E4"),
        {"logits": [*X2, *X2], "target": [-100, 0, -100, 2], "ignore_index": -100, "reduction": "sum"},
        source="linkedin/Liger-Kernel#1338",
    ),
    Entry(
        "ignored-class-stays-in-the-softmax",
        ("SCE-1", "SCE-6", "E4"),
        {"logits": X2, "target": [0, 1], "ignore_index": 1, "reduction": "none"},
        source="pytorch/pytorch#63004",
    ),
    # Gradients and memory.
    Entry("gradient-of-the-mean", ("SCE-4", "SCE-6"), {"logits": X2, "target": [0, 2]}, source="fetchai/ledger#1580"),
    Entry(
        "logits-overwritten",
        ("SCE-6", "GEN-3"),
        {"logits": [[0.5, -1.5, 2.5, 0.0]] * 3, "target": [0, 1, 2], "reduction": "sum"},
        source="unslothai/unsloth#5002",
    ),
    Entry(
        "strided-target",
        ("SCE-1", "SCE-6", "GEN-6"),
        {"logits": [*X2, *X3], "target": [2, 0, 1], "reduction": "none"},
        source="pytorch/pytorch#70417",
        layouts={"target": "strided"},
    ),
    Entry(
        "transposed-logits",
        ("SCE-1", "SCE-6", "GEN-6"),
        {"logits": X2, "target": [2, 0], "reduction": "none"},
        source="NVIDIA/TransformerEngine#2746",
        layouts={"logits": "transposed"},
    ),
    Entry(
        "far-rows",
        ("SCE-1", "SCE-6", "GEN-6"),
        {"logits": [*X2, [4.0, -1.0, 0.5]], "target": [2, 0, 1], "reduction": "none"},
        source="pytorch/pytorch#190139",
        layouts={"logits": "far"},
    ),
)
