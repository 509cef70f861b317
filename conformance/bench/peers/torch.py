"""PyTorch: the loss as its users write it, eagerly and compiled; the strongest function that it has; and a copy."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.bench.peer import Absent, Call, Kind, Peer
from conformance.bench.problem import FORWARD, GRADIENT, PADDING, SMOOTHING, Answer, Problem, entropy_of_target

if TYPE_CHECKING:
    from torch import Tensor

    Loss = Callable[[Tensor, Tensor], Tensor]


def _module() -> Loss:
    """WeNet's LabelSmoothingLoss: KLDivLoss(reduction="none") against a materialised target, padded tokens filled with 0."""
    import torch

    def attention_loss(x: Tensor, target: Tensor) -> Tensor:
        batch, classes = x.size(0), x.size(2)
        x, target = x.view(-1, classes), target.view(-1)
        smoothed = torch.full_like(x, SMOOTHING / (classes - 1))
        padded = target == PADDING
        smoothed.scatter_(1, target.masked_fill(padded, 0).unsqueeze(1), 1 - SMOOTHING)
        divergence = torch.nn.KLDivLoss(reduction="none")(torch.log_softmax(x, dim=1), smoothed)
        return divergence.masked_fill(padded.unsqueeze(1), 0).sum() / batch

    return attention_loss


def _compiled() -> Loss:
    import torch

    compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")  # as torch.compile looks for it
    if shutil.which(compiler) is None:
        raise Absent(f"a C++ compiler ({compiler})")
    torch.compiler.reset()  # it compiles a function for a few shapes only, then leaves it as it is
    return torch.compile(_module(), dynamic=False)


def _cross_entropy() -> Loss:
    """The same loss and its target's entropy, a constant, more: the smoothing's mass s/(V-1) is that of s V/(V-1) over all V classes."""
    from torch.nn import functional

    def cross_entropy(x: Tensor, target: Tensor) -> Tensor:
        batch, classes = x.size(0), x.size(2)
        smoothing = SMOOTHING * classes / (classes - 1)
        rows, indices = x.view(-1, classes), target.view(-1)
        return functional.cross_entropy(rows, indices, ignore_index=PADDING, label_smoothing=smoothing, reduction="sum") / batch

    return cross_entropy


def _forward(make: Callable[[], Loss], excess: Callable[[Problem], float], problem: Problem, threads: int) -> Call:
    import torch

    from conformance.adapters.torch import to_tensor

    torch.set_num_threads(threads)
    function, x, target = make(), to_tensor(problem.logits), to_tensor(problem.target)

    def run() -> Tensor:
        with torch.no_grad():
            return function(x, target)

    return Call(run, lambda loss: {"loss": np.array(loss.item() - excess(problem))}, lambda loss: loss.nbytes, problem)


def _gradient(make: Callable[[], Loss], excess: Callable[[Problem], float], problem: Problem, threads: int) -> Call:
    import torch

    from conformance.adapters.torch import to_numpy, to_tensor

    torch.set_num_threads(threads)
    function, x, target = make(), to_tensor(problem.logits).requires_grad_(), to_tensor(problem.target)

    def run() -> tuple[Tensor, Tensor]:
        loss = function(x, target)
        loss.backward()
        gradient, x.grad = x.grad, None
        return loss.detach(), gradient

    def answer(found: tuple[Tensor, Tensor]) -> Answer:
        loss, gradient = found
        return {"loss": np.array(loss.item() - excess(problem)), "gradient": to_numpy(gradient)}

    return Call(run, answer, lambda found: found[0].nbytes + found[1].nbytes, problem)


def _nothing(problem: Problem) -> float:
    return 0.0


def _entropies(problem: Problem) -> float:
    return problem.kept / problem.shape[0] * entropy_of_target(problem.shape[2])


def _works(make: Callable[[], Loss], excess: Callable[[Problem], float] = _nothing) -> dict[str, Callable[[Problem, int], Call]]:
    return {
        FORWARD: lambda problem, threads: _forward(make, excess, problem, threads),
        GRADIENT: lambda problem, threads: _gradient(make, excess, problem, threads),
    }


def _copy(problem: Problem, threads: int) -> Call:
    import torch

    from conformance.adapters.torch import to_tensor

    torch.set_num_threads(threads)
    x = to_tensor(problem.logits)
    there = torch.zeros_like(x)  # whose pages are there, too

    def run() -> Any:
        return there.copy_(x)

    return Call(run, lambda _: {}, lambda _: 0, problem)


_PACKAGES = ("torch",)

PEERS = (
    Peer("torch-module", "the loss as WeNet's users write it: KLDivLoss against a materialised target", _works(_module), _PACKAGES),
    Peer("torch-compile", "torch.compile of torch-module", _works(_compiled), _PACKAGES, compiles=True),
    Peer("torch-cross-entropy", "F.cross_entropy with label smoothing: the same gradient", _works(_cross_entropy, _entropies), _PACKAGES),
    Peer("copy", "a copy of the logits: torch's copy_ to memory that is there", {FORWARD: _copy, GRADIENT: _copy}, _PACKAGES, Kind.LIMIT),
)
