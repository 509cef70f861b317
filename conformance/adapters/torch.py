"""PyTorch: torch.nn.functional, torch.special and torch.distributions, gradients by torch.autograd.grad; on a CPU or an accelerator.

Promises. The kernels for float16 and bfloat16 convert to float32 and round what they store. A reduction over the last axis
keeps at least one vector register of partial sums, which is 128 bits on the smallest machine that torch ships for: four lanes
of float32, two of float64. `Categorical` subtracts the whole log-sum-exp from the logits, which is class B; in half precision that and
every other intermediate is a tensor of the input's dtype, whose sums are closer than pairwise ones.

Modes. `compile` is torch.compile with its default backend, Inductor, for sizes that vary and whole graphs; a set of parameters and a
pattern of sizes 0 and 1 is compiled once, for some 6 seconds of a processor, so it is asked float32 and few such patterns, and
promises nothing of the order of a sum. `autocast` is torch.autocast to bfloat16. Of what is called here its documentation lists
cross_entropy, nll_loss and kl_div, which it has computed in float32 and answered so; the gradient has the dtype of its input. It
changes nothing else of these operations, log_softmax included (on a CPU), and so is asked nothing else.

Devices. cpu, cuda, mps and xpu promise the same, save that mps has no float64. On cuda a target out of range is an assertion in a
kernel, which ends every later call of its process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import cache, partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  (its usual name)
from torch import Tensor

from conformance.adapter import Adapter, Array, Arrays, Idiom, Mode, Unsupported, differentiable, installed
from conformance.bound import SEQUENTIAL, Promise, Summation


def entropy(p: Tensor) -> Tensor:
    return torch.special.entr(p).sum(-1)


def entropy_with_logits(logits: Tensor) -> Tensor:
    return torch.distributions.Categorical(logits=logits, validate_args=False).entropy()


def log_softmax(logits: Tensor) -> Tensor:
    return F.log_softmax(logits, -1)


def cross_entropy(p: Tensor, q: Tensor) -> Tensor:
    return -torch.special.xlogy(p, q).sum(-1)


def kl_divergence(p: Tensor, q: Tensor) -> Tensor:
    return -(torch.special.entr(p) + torch.special.xlogy(p, q)).sum(-1)


def kl_div(log_q: Tensor, p: Tensor, *, reduction: str = "mean", log_target: bool = False) -> Tensor:
    return F.kl_div(log_q, p, reduction=reduction, log_target=log_target)  # the prediction comes first


def nll_loss(log_p: Tensor, target: Tensor, weight: Tensor | None = None, *, ignore_index: int | None = None, **options: Any) -> Tensor:
    return F.nll_loss(log_p, target, weight, **_ignoring(ignore_index), **options)


def softmax_cross_entropy(
    logits: Tensor, target: Tensor, weight: Tensor | None = None, *, ignore_index: int | None = None, **options: Any
) -> Tensor:
    if ignore_index is not None and target.is_floating_point():
        raise Unsupported("cross_entropy takes no ignore_index with probability targets")
    return F.cross_entropy(logits, target, weight, **_ignoring(ignore_index), **options)


def _ignoring(ignore_index: int | None) -> dict[str, int]:
    """Where nothing is to be ignored, torch's default (-100) stays."""
    return {} if ignore_index is None else {"ignore_index": ignore_index}


OPERATIONS: Mapping[str, Callable[..., Tensor]] = {
    "entropy": entropy,
    "entropy_with_logits": entropy_with_logits,
    "log_softmax": log_softmax,
    "cross_entropy": cross_entropy,
    "kl_divergence": kl_divergence,
    "kl_div": kl_div,
    "nll_loss": nll_loss,
    "softmax_cross_entropy": softmax_cross_entropy,
}


@cache
def function(operation: str, mode: str, parameters: tuple[tuple[str, Any], ...]) -> Callable[..., Tensor]:
    """The operation with its parameters fixed, one for each set of them, so that what was compiled is found again."""
    fixed = partial(OPERATIONS[operation], **dict(parameters))
    if mode != "compile":
        return fixed
    from torch._dynamo import config  # as long to import as torch itself

    config.recompile_limit = 100  # all that it compiles here counts as one function, and the ninth would be evaluated eagerly
    return torch.compile(fixed, dynamic=True, fullgraph=True)


def call(
    device: str, operation: str, mode: str, inputs: Arrays, parameters: Mapping[str, Any], cotangent: Array | None
) -> tuple[Array, dict[str, Array]]:
    evaluate = function(operation, mode, tuple(sorted(parameters.items())))
    policy = torch.autocast(device, torch.bfloat16) if mode == "autocast" else nullcontext()
    return apply(evaluate, inputs, {}, cotangent, device, policy)


def apply(
    function: Callable[..., Tensor],
    inputs: Arrays,
    keywords: Mapping[str, Any],
    cotangent: Array | None,
    device: str = "cpu",
    policy: AbstractContextManager[Any] | None = None,
) -> tuple[Array, dict[str, Array]]:
    """The output of any function of tensors, evaluated under a policy, and its gradients where it has some."""
    tensors = {name: to_tensor(value).to(device) for name, value in inputs.items()}
    names = differentiable(inputs) if cotangent is not None else ()
    for name in names:
        tensors[name].requires_grad_()
    with policy or nullcontext():
        output = function(**tensors, **keywords)
    gradients: dict[str, Array] = {}
    if cotangent is not None and output.requires_grad:
        found = torch.autograd.grad(output, [tensors[name] for name in names], to_tensor(cotangent).to(device, output.dtype))
        gradients = {name: to_numpy(gradient) for name, gradient in zip(names, found, strict=True)}
    return to_numpy(output.detach()), gradients


def to_tensor(array: Array) -> Tensor:
    """The array's memory as a tensor; bfloat16, which torch doesn't take from numpy, by its bits."""
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def to_numpy(tensor: Tensor) -> Array:
    if tensor.dtype == torch.bfloat16:
        from ml_dtypes import bfloat16

        bits: Array = tensor.cpu().contiguous().view(torch.int16).numpy()
        return bits.view(bfloat16)
    array: Array = tensor.cpu().contiguous().numpy()
    return array


def devices() -> tuple[str, ...]:
    """The kinds of device that torch can use here."""
    accelerators = {"cuda": torch.cuda, "mps": torch.backends.mps, "xpu": torch.xpu}
    return ("cpu", *(name for name, module in accelerators.items() if module.is_available()))


def on(device: str) -> Adapter:
    """The adapter for a kind of device; raises `ValueError` for one that isn't here."""
    if device not in devices():
        raise ValueError(f"torch has no device {device!r} here; it has {', '.join(devices())}")
    return replace(
        ADAPTER,
        promises={key: promise for key, promise in ADAPTER.promises.items() if device != "mps" or not key.endswith("float64")},
        call=partial(call, device),
        fragile=device == "cuda",
        device=device,
    )


def promises(float64: Summation, float32: Summation) -> dict[str, Promise]:
    """What is promised where sums are ordered so in those two computation dtypes."""
    found = {
        "float64": Promise("A", compute="float64", summation=float64),
        "float32": Promise("A", compute="float32", summation=float32),
        "bfloat16": Promise("A", compute="float32", store="bfloat16", summation=float32),
        "float16": Promise("A", compute="float32", store="float16", summation=float32),
    }
    for dtype in ("float64", "float32"):
        found[f"entropy_with_logits/{dtype}"] = replace(found[dtype], accuracy="B")
    for dtype in ("bfloat16", "float16"):
        found[f"entropy_with_logits/{dtype}"] = Promise("B", compute=dtype, summation=Summation("pairwise"))
    return found


COMPILED = tuple(  # one pattern of sizes and parameters a line
    f"{operation}/regression/{name}-float32"
    for operation, *names in (
        ("cross_entropy", "*"),
        ("entropy", "*"),
        ("entropy_with_logits", "*"),
        ("kl_div", "zero-*", "impossible", "negative-p"),
        ("kl_divergence", "zero*", "impossible", "equal", "nan", "not-normalised"),
        ("log_softmax", "common-offset-*", "gap-*", "masked-class"),
        ("nll_loss", "target-is-V"),
        (
            "softmax_cross_entropy",
            "common-offset-*",
            "first-*",
            "gap-110",
            "loss-near-zero",
            "masked-target",
            "target-*",
            "rising-*",
            "tail-*",
        ),
        ("softmax_cross_entropy", "gap-110-smoothed", "masked-class-smoothed", "smoothing-mass"),
        ("softmax_cross_entropy", "ignored-row-of-nan", "ignored-token-mean"),
    )
    for name in names
)
IDIOM = Idiom(
    tensor="torch.tensor({values}, dtype=torch.{dtype})",
    number="{}.item()",
    total="{}.double().sum().item()",
    backward="{name}.requires_grad_()\noutput = {call}\n{gradient}, = torch.autograd.grad(output, {name}, cotangent)",
    real="{}.is_floating_point()",
)
APPLIED = IDIOM  # of `apply`
BY_COMPILING = replace(
    IDIOM,
    forward="output = torch.compile({function}, dynamic=True)({inputs})",
    backward="{name}.requires_grad_()\noutput = torch.compile({function}, dynamic=True)({inputs})\n"
    "{gradient}, = torch.autograd.grad(output, {name}, cotangent)",
)
AUTOMATIC = replace(
    IDIOM,
    forward="with torch.autocast('cpu', torch.bfloat16):\n    output = {call}",
    backward="{name}.requires_grad_()\nwith torch.autocast('cpu', torch.bfloat16):\n    output = {call}\n"
    "{gradient}, = torch.autograd.grad(output, {name}, cotangent.to(output.dtype))",
)
UNDER_AUTOCAST = ("kl_div", "nll_loss", "softmax_cross_entropy")  # what its documentation lists, by our names

ADAPTER = Adapter(
    name="torch",
    operations=OPERATIONS,
    promises=promises(Summation("lanes", 2), Summation("lanes", 4)),
    dialect="torch",
    modes=(
        Mode("eager"),
        Mode("compile", cases=COMPILED, promises=promises(SEQUENTIAL, SEQUENTIAL), allowance=300.0, tier="full", idiom=BY_COMPILING),
        Mode(
            "autocast",
            cases=tuple(f"{operation}/*-bfloat16" for operation in UNDER_AUTOCAST),
            promises={"bfloat16": Promise("A", compute="float32", store=None, summation=Summation("lanes", 4))},
            choices={"half_output": "float32"},
            idiom=AUTOMATIC,
        ),
    ),
    composed=frozenset({"entropy", "cross_entropy", "kl_divergence"}),
    call=partial(call, "cpu"),
    versions=lambda: installed("torch"),
    on=on,
    idiom=IDIOM,
)
