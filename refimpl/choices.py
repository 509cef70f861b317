"""The choices that change a value: freedoms between definitions that were published and are equally defensible.

Each stands in the declaration of the operations that have it, and is a keyword parameter of theirs. `docs/spec/choices.md` says for
each value where it was published, and who follows it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from refimpl.operation import Choice, NotPermitted, Operation, OutOfRange

ALL_IGNORED = Choice(
    "all_ignored",
    {"nan": "a mean over no rows is 0/0 = nan (PyTorch, ONNX, WeNet)", "zero": "a mean over no rows is 0 (Keras, Paddle, Liger)"},
)
SMOOTHING_MASS = Choice(
    "smoothing_mass",
    {
        "V": "every class gets smoothing/V, the target's class besides 1 - smoothing (Szegedy et al. 2016; PyTorch, Keras, optax)",
        "V-1": "the other classes get smoothing/(V-1) each, the target's class 1 - smoothing (WeNet, ESPnet, fairseq)",
        "V-2": "the other classes but the one that stands for padding get smoothing/(V-2) each, that one 0 (OpenNMT-py before 3)",
    },
)
TARGET_ENTROPY = Choice(
    "target_entropy",
    {
        "dropped": "a cross entropy (PyTorch, Keras, optax, fairseq)",
        "kept": "a KL divergence: the entropy of the target is subtracted (WeNet, ESPnet)",
    },
)
DENOMINATOR = Choice(
    "denominator",
    {
        "weights": "a mean over class indices divides by the sum of the kept rows' weights (PyTorch, ONNX, Paddle)",
        "kept": "by the number of rows that are kept (Caffe's VALID, Chainer with normalize=True, Keras 3 with ignore_class)",
        "rows": "by the number of rows, ignored ones included (Caffe's FULL, Keras 2's SUM_OVER_BATCH_SIZE)",
        "batch": "by the length of the first axis (Caffe's BATCH_SIZE, Chainer with normalize=False)",
    },
)
DISTRIBUTION_DENOMINATOR = Choice(
    "distribution_denominator",
    {
        "rows": "a mean over distributions divides by the number of rows, whatever the class weights (PyTorch)",
        "weights": "by the sum over the rows of sum_v w_v t_v, t as given: the rule for class indices continued (Paddle)",
    },
)
MEAN_OVER = Choice(
    "mean_over",
    {
        "elements": "a mean divides by the number of elements, classes included (PyTorch, Paddle)",
        "rows": "by the number of rows: a mean of divergences, each a sum over the last axis (Keras, MLX, torchmetrics)",
    },
)


CHOICES = (ALL_IGNORED, SMOOTHING_MASS, TARGET_ENTROPY, DENOMINATOR, DISTRIBUTION_DENOMINATOR, MEAN_OVER)


def permitted(operation: Operation, call: Mapping[str, Any]) -> dict[str, Any]:
    """The call, with the default of each choice whose value in it isn't permitted."""
    if operation.meaning is None:
        return dict(call)
    try:
        operation.meaning(**call)
    except NotPermitted as error:
        default = {choice.name: choice.default for choice in operation.choices}[error.choice]
        return permitted(operation, {**call, error.choice: default})
    except OutOfRange:
        pass  # of the target, whatever the choices
    return dict(call)
