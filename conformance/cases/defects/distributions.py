"""Known defects of the losses of distributions and log-probabilities: the smallest call that shows each, and where it was reported."""

from __future__ import annotations

from math import inf, nan

from conformance.cases.table import SINGLE, WIDE, Entry, repeat, same

ENTROPY = (
    Entry("certain", ("E1",), {"p": [[1.0, 0.0]]}, source="pytorch/pytorch#144279"),
    Entry("gradient-at-zero", ("E2",), {"p": [[0.5, 0.5, 0.0]]}, source="jax-ml/jax#15709"),
    Entry("subnormal", ("ENT-9",), {"p": [[2.0**-133, 0.5]]}, ("float64", "float32", "bfloat16")),
    Entry("not-normalised", ("ENT-2",), {"p": [[2.0, 1.0]]}, source="scipy/scipy#12553"),
)

CROSS_ENTROPY = (
    Entry("impossible", ("E2",), {"p": [[0.5, 0.5]], "q": [[1.0, 0.0]]}, source="keras-team/keras#9754"),
    Entry("zero-on-zero", ("E1",), {"p": [[1.0, 0.0]], "q": [[0.5, 0.0]]}, source="OpenBMB/ModelCenter#14"),
    Entry("gradient-at-zero", ("E2", "CE-5"), {"p": [[1.0, 0.0]], "q": [[0.0, 1.0]]}, source="keras-team/keras#13747"),
)

KL_DIVERGENCE = (
    Entry("zero-of-p", ("E1",), {"p": [[0.0, 1.0]], "q": [[0.5, 0.5]]}, source="jax-ml/jax#21192"),
    Entry("zero-on-zero", ("E1",), {"p": [[0.0, 1.0]], "q": [[0.0, 1.0]]}, source="google-deepmind/optax#1786"),
    Entry("impossible", ("E2",), {"p": [[0.5, 0.5]], "q": [[1.0, 0.0]]}, source="keras-team/keras#9754"),
    Entry("arguments-swapped", ("KLD-1",), {"p": [[0.125, 0.875]], "q": [[0.5, 0.5]]}, source="advait/c4a0#35"),
    Entry("equal", ("KLD-10",), {"p": [[0.25, 0.75]], "q": [[0.25, 0.75]]}, source="pytorch/pytorch#80488"),
    Entry("almost-equal", ("KLD-10",), {"p": [[5033165 * 2.0**-24]], "q": [[5033166 * 2.0**-24]]}, WIDE),
    Entry("ratio-overflows", ("KLD-2",), {"p": [[4.0]], "q": [[2.0**-1022]]}, ("float64",), "scipy/scipy#20710"),
    Entry("nan", ("E4",), {"p": [[nan, 0.5]], "q": [[1.0, 0.5]]}, source="jax-ml/jax#38262"),
    Entry("not-normalised", ("KLD-2",), {"p": [[2.0, 1.0]], "q": [[1.0, 4.0]]}, source="scipy/scipy#12553"),
    Entry(
        "zeros-of-p",
        ("E1", "KLD-1"),
        {"p": [[0.0, 0.5, 0.0, 0.5]], "q": [[0.25, 0.25, 0.0, 0.5]]},
        source="Lightning-AI/torchmetrics#1029",
    ),
)

KL_DIV = (
    Entry("zero-on-minus-inf", ("E1",), {"log_q": [[-inf, -0.5]], "p": [[0.0, 1.0]], "reduction": "none"}),
    Entry("log-target-minus-inf", ("E1", "KLP-2"), {"log_q": [[-1.0, -1.0]], "p": [[-inf, 0.0]], "log_target": True, "reduction": "none"}),
    Entry(
        "log-target-both-minus-inf", ("E1", "KLP-2"), {"log_q": [[-inf, -1.0]], "p": [[-inf, 0.0]], "log_target": True, "reduction": "none"}
    ),
    Entry("zero-of-p", ("E1", "E3"), {"log_q": [[-1.0, -0.5]], "p": [[0.0, 1.0]], "reduction": "none"}, source="pytorch/pytorch#89558"),
    Entry("impossible", ("E2",), {"log_q": [[-inf, 0.0]], "p": [[0.5, 0.5]], "reduction": "none"}),
    Entry("negative-p", ("KLP-10",), {"log_q": [[-1.0, -1.0]], "p": [[-0.5, 1.5]], "reduction": "none"}, source="pytorch/pytorch#69230"),
    Entry(
        "batchmean-of-a-cube",
        ("KLP-3",),
        {"log_q": [[[-1.0, -2.0], [-0.5, -1.0]]] * 2, "p": [[[0.25, 0.75], [0.5, 0.5]]] * 2, "reduction": "batchmean"},
        source="neuralmagic/sparseml#674",
    ),
    Entry(
        "mean-of-all-elements",
        ("KLP-3",),
        {"log_q": [[-1.0, -2.0], [-0.5, -1.0]], "p": [[0.25, 0.75], [0.5, 0.5]]},
        source="pytorch/pytorch#6622",
    ),
    Entry(
        "terms-70000-sum",
        ("KLP-3",),
        {"log_q": repeat((1, 70000), -1), "p": repeat((1, 70000), 1), "reduction": "sum"},
        ("bfloat16", "float16"),
        flags=("many-classes",),
    ),
    Entry(
        "gradient-of-the-mean",
        ("KLP-4", "KLP-3"),
        {"log_q": [[-1.0, -2.0, -0.5], [-0.5, -1.0, -3.0]], "p": [[0.25, 0.5, 0.25], [0.5, 0.375, 0.125]]},
        source="pytorch/pytorch#5801",
    ),
    Entry(
        "classes-beyond-a-block",
        ("KLP-3", "KLP-4"),
        {"log_q": repeat((1, 33000), -1, -2, -3), "p": repeat((1, 33000), 2.0**-15), "reduction": "batchmean"},
        SINGLE,
        "linkedin/Liger-Kernel#259",
        ("many-classes",),
    ),
)

NLL_LOSS = (
    Entry("ignore-minus-1", ("NLL-2", "E3"), {"log_p": [[-1.0, -2.0], [-0.5, -3.0]], "target": [0, -1], "ignore_index": -1}),
    Entry(
        "ignore-weighted",
        ("NLL-2", "E3"),
        {"log_p": [[-1.0, -2.0], [-0.5, -3.0]], "target": [1, 0], "weight": [0.5, 2.0], "ignore_index": 0},
        source="llvm/torch-mlir#3585",
    ),
    Entry("gradient-mean", ("NLL-1",), {"log_p": [[-1.0, -2.0], [-0.5, -3.0]], "target": [0, 1]}, source="pytorch/pytorch#64163"),
    Entry(
        "rows-70000",
        ("NLL-2",),
        {"log_p": repeat((70000, 1), -1), "target": same((70000,), 0)},
        ("float16",),
        "pytorch/pytorch#29429",
        ("many-rows",),
    ),
    Entry("masked-target-weight-zero", ("NLL-1",), {"log_p": [[-1.0, -inf]], "target": [1], "weight": [1.0, 0.0], "reduction": "none"}),
    Entry("ignored-row-of-nan", ("E3",), {"log_p": [[nan, nan], [-1.0, -2.0]], "target": [-100, 0], "ignore_index": -100}),
    Entry("target-is-V", ("E5",), {"log_p": [[-1.0, -2.0]], "target": [2]}, source="tensorflow/tensorflow#8484"),
    Entry(
        "none-by-row",
        ("NLL-1",),
        {"log_p": [[-1.0, -2.0], [-0.5, -3.0]], "target": [0, 1], "reduction": "none"},
        source="microsoft/DirectML#740",
    ),
    Entry(
        "ignore-minus-5",
        ("NLL-2", "E3"),
        {"log_p": [[-1.0, -2.0], [-0.5, -3.0]], "target": [0, -5], "ignore_index": -5},
        source="ROCm/AMDMIGraphX#3008",
    ),
)
