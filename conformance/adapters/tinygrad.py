"""tinygrad on a CPU: Tensor.log_softmax, nll_loss, sparse_categorical_crossentropy and cross_entropy, gradients by Tensor.gradient.

Promises. Every result is rounded to the dtype of its input, and nothing is said about the order of a sum. exp2 and log2 are the
library's own, after SLEEF, within an ulp (two units); exp is exp2(x*log2 e), and log is log2(x)*ln 2, which adds the roundings of
the constant and of the product.

Kernels are written in C for each shape, dtype and reduction, and clang compiles them: a second of work for a case. So the edges
and regressions are asked, and of the ladders one an operation. No kernel is kept on disk, where it would outlive a change of the
compiler, and none is compiled in another process. Before version 15, clang has no bfloat16 on x86-64.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from typing import Any

import ml_dtypes
import numpy as np

from conformance.adapter import Adapter, Array, Arrays, Idiom, Mode, Unsupported, differentiable, installed
from conformance.bound import Promise

CLANG = next(filter(shutil.which, ("clang-19", "clang")), None)
if CLANG is None:
    raise ImportError("tinygrad compiles with clang, and there is none: install it, or run `make backends`")
os.environ.update(CC=CLANG, DEV="CPU", CACHELEVEL="0", PARALLEL="0")  # read when tinygrad is imported

from tinygrad import Tensor, dtypes  # noqa: E402


def log_softmax(logits: Tensor) -> Tensor:
    return logits.log_softmax(-1)


def nll_loss(
    log_p: Tensor, target: Tensor, weight: Tensor | None = None, *, ignore_index: int | None = None, reduction: str = "mean"
) -> Tensor:
    return log_p.nll_loss(target, weight, ignore_index, reduction)


def softmax_cross_entropy(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> Tensor:
    if weight is not None:
        raise Unsupported("the cross entropies have no class weights")
    if target.is_floating_point():
        if ignore_index is not None:
            raise Unsupported("cross_entropy has no ignore_index")
        return logits.cross_entropy(target, reduction, label_smoothing)
    logits = logits.permute(0, *range(2, logits.ndim), 1)
    return logits.sparse_categorical_crossentropy(target, **_ignoring(ignore_index), label_smoothing=label_smoothing, reduction=reduction)


def _ignoring(ignore_index: int | None) -> dict[str, int]:
    """Where nothing is to be ignored, tinygrad's default (-1, which ignores nothing) stays."""
    return {} if ignore_index is None else {"ignore_index": ignore_index}


OPERATIONS: Mapping[str, Callable[..., Tensor]] = {
    "log_softmax": log_softmax,
    "nll_loss": nll_loss,
    "softmax_cross_entropy": softmax_cross_entropy,
}


def call(
    operation: str, mode: str, inputs: Arrays, parameters: Mapping[str, Any], cotangent: Array | None
) -> tuple[Array, dict[str, Array]]:
    tensors = {name: to_tensor(value) for name, value in inputs.items()}
    names = () if cotangent is None else differentiable(inputs)
    output = OPERATIONS[operation](**tensors, **parameters)
    found = [] if cotangent is None else output.gradient(*(tensors[name] for name in names), gradient=to_tensor(cotangent))
    Tensor.realize(output, *found)
    return to_numpy(output), {name: to_numpy(gradient) for name, gradient in zip(names, found, strict=True)}


def to_tensor(array: Array) -> Tensor:
    """The array as a tensor; bfloat16, which tinygrad doesn't take from numpy, by its bits."""
    if array.dtype == ml_dtypes.bfloat16:
        return Tensor(array.view(np.uint16)).bitcast(dtypes.bfloat16)
    return Tensor(array)


def to_numpy(tensor: Tensor) -> Array:
    if tensor.dtype == dtypes.bfloat16:
        return tensor.bitcast(dtypes.uint16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()


ASKED = ("*/edges/*", "*/regression/*", "*/ladder/gaps-float*", "nll_loss/ladder/ignored-mean-float*")

ADAPTER = Adapter(
    name="tinygrad",
    operations=OPERATIONS,
    promises={dtype: Promise("A", compute=dtype, log=4.0) for dtype in ("float64", "float32", "bfloat16", "float16")},
    dialect="tinygrad",
    modes=(Mode("eager", cases=ASKED, allowance=60.0),),
    call=call,
    versions=lambda: installed("tinygrad"),
    idiom=Idiom(
        first=f"import os\nos.environ.update(CC='{CLANG}', DEV='CPU')",
        tensor="Tensor({values}, dtype=dtypes.{dtype})",
        number="{}.cast(dtypes.float64).item()",
        total="{}.cast(dtypes.float64).sum().item()",
        forward="output = {call}.realize()",  # before an element is taken: what is fused is not rounded in between
        backward="output = {call}\n{gradient}, = output.gradient({name}, gradient=cotangent)\nTensor.realize(output, {gradient})",
        real="{}.is_floating_point()",
    ),
)
