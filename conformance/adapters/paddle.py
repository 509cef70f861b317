"""PaddlePaddle on a CPU: paddle.nn.functional and paddle.distribution, gradients by paddle.grad, in dynamic mode.

Promises. Its kernels compute in the dtype of their input, and nothing is said about the order of a sum. The CPU has none for half
precision, whatever the documentation says of those types.

The gradient of a target beyond 32 bits is written outside the array, so the process is replaced after one. Two other defects are shown
once, as such a case costs its deadline. The time of `log_softmax`, and of the gradient of `max`, which `Categorical.entropy` takes, is
quadratic in the number of classes: of more than 9999, each is asked one row. And `nll_loss` with a sum or a mean writes a 0 for each
ignored row into an output of one element, which destroys the heap from 24 bytes on: of float64 with an ignored row from the fourth on,
one case is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import paddle
import paddle.nn.functional as F  # noqa: N812  (its usual name)
from paddle import Tensor

from conformance.adapter import Adapter, Array, Arrays, Idiom, Mode, Unsupported, differentiable
from conformance.bound import Promise


def entropy_with_logits(logits: Tensor) -> Tensor:
    return paddle.distribution.Categorical(logits).entropy()


def log_softmax(logits: Tensor) -> Tensor:
    return F.log_softmax(logits, axis=-1)


def cross_entropy(p: Tensor, q: Tensor) -> Tensor:
    return F.cross_entropy(q, p, soft_label=True, use_softmax=False, reduction="none").squeeze(-1)


def kl_divergence(p: Tensor, q: Tensor) -> Tensor:
    return F.kl_div(q.log(), p, reduction="none").sum(-1)


def kl_div(log_q: Tensor, p: Tensor, *, reduction: str = "mean", log_target: bool = False) -> Tensor:
    return F.kl_div(log_q, p, reduction=reduction, log_target=log_target)  # the prediction comes first


def nll_loss(log_p: Tensor, target: Tensor, weight: Tensor | None = None, *, ignore_index: int | None = None, **options: Any) -> Tensor:
    return F.nll_loss(log_p, target, weight, **_ignoring(ignore_index), **options)


def softmax_cross_entropy(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    ignore_index: int | None = None,
    **options: Any,
) -> Tensor:
    soft = target.is_floating_point()
    if ignore_index is not None and soft:
        raise Unsupported("cross_entropy takes no ignore_index with probability targets")
    loss = F.cross_entropy(logits, target, weight, soft_label=soft, axis=1, **_ignoring(ignore_index), **options)
    return loss.squeeze(1) if loss.ndim == logits.ndim else loss


def _ignoring(ignore_index: int | None) -> dict[str, int]:
    """Where nothing is to be ignored, Paddle's default (-100) stays."""
    return {} if ignore_index is None else {"ignore_index": ignore_index}


OPERATIONS: Mapping[str, Callable[..., Tensor]] = {
    "entropy_with_logits": entropy_with_logits,
    "log_softmax": log_softmax,
    "cross_entropy": cross_entropy,
    "kl_divergence": kl_divergence,
    "kl_div": kl_div,
    "nll_loss": nll_loss,
    "softmax_cross_entropy": softmax_cross_entropy,
}
CONSTANTS = frozenset({"p"})  # a label, to kl_div and cross_entropy


def call(
    operation: str, mode: str, inputs: Arrays, parameters: Mapping[str, Any], cotangent: Array | None
) -> tuple[Array, dict[str, Array]]:
    tensors = {name: paddle.to_tensor(value) for name, value in inputs.items()}
    names = [name for name in differentiable(inputs) if name not in CONSTANTS] if cotangent is not None else []
    for name in names:
        tensors[name].stop_gradient = False
    output = OPERATIONS[operation](**tensors, **parameters)
    found = paddle.grad([output], [tensors[name] for name in names], [paddle.to_tensor(cotangent)]) if names else []
    return output.numpy(), {name: gradient.numpy() for name, gradient in zip(names, found, strict=True)}


ASKED = (
    "[!eln]*",
    *(f"[el]*/{cases}" for cases in ("edges/*", "regression/*", "ladder/[!V]*", "ladder/V200000-drawn-*")),
    *(f"[el]*V{digits}-*" for digits in ("?", "??", "???", "????")),
    *(f"nll_loss/{cases}" for cases in ("*float32", "*float16", "regression/*", "random/mean-*", "random/*-V1000-*")),
    *(f"nll_loss/edges/{cases}" for cases in ("[!m]*", "mean-[!d]*", "minus-*")),
    *(f"nll_loss/ladder/{cases}" for cases in ("[!ai]*", "as-many-*", "ignore-*", "*-none-*", "ignored-sum-float64")),
)

ADAPTER = Adapter(
    name="paddle",
    operations=OPERATIONS,
    promises={
        "float64": Promise("A", compute="float64"),
        "float32": Promise("A", compute="float32"),
    },
    dialect="paddle",
    modes=(Mode("eager", cases=ASKED),),
    composed=frozenset({"kl_divergence"}),
    constants=CONSTANTS,
    fragile=True,
    call=call,
    versions=lambda: {"paddle": paddle.__version__},
    idiom=Idiom(
        tensor="paddle.to_tensor(np.array({values}), dtype='{dtype}')",
        number="{}.item()",
        total="{}.astype('float64').sum().item()",
        backward="{name}.stop_gradient = False\noutput = {call}\n{gradient}, = paddle.grad([output], [{name}], [cotangent])",
        real="{}.is_floating_point()",
    ),
)
