"""JAX: the loss as its users write it, under jax.jit."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.bench.peer import Call, Peer
from conformance.bench.problem import FORWARD, GRADIENT, PADDING, SMOOTHING, Problem

if TYPE_CHECKING:
    from jax import Array as Tensor


def _loss() -> Callable[[Tensor, Tensor], Tensor]:
    import jax
    import jax.numpy as jnp

    def attention_loss(logits: Tensor, target: Tensor) -> Tensor:
        batch, _, classes = logits.shape
        log_p = jax.nn.log_softmax(logits)
        on = jax.nn.one_hot(target, classes, dtype=bool)
        smoothed = jnp.where(on, 1 - SMOOTHING, SMOOTHING / (classes - 1)).astype(logits.dtype)
        divergence = smoothed * (jnp.log(smoothed) - log_p)
        return jnp.where((target == PADDING)[..., None], 0, divergence).sum() / batch

    return attention_loss


def _prepare(problem: Problem, transform: Callable[[Any], Any]) -> Callable[[], Any]:
    """The compiled call; its threads are those of the processors that the process may use. float64 needs x64, which others don't get."""
    import jax

    wide = problem.dtype == "float64"
    with jax.enable_x64(wide):
        logits, target = jax.device_put(problem.logits), jax.device_put(problem.target.astype(np.int32))
    function = jax.jit(transform(_loss()))

    def run() -> Any:
        with jax.enable_x64(wide):
            return jax.block_until_ready(function(logits, target))

    return run


def _forward(problem: Problem, threads: int) -> Call:
    run = _prepare(problem, lambda loss: loss)
    return Call(run, lambda loss: {"loss": np.asarray(loss)}, lambda loss: loss.nbytes, problem)


def _gradient(problem: Problem, threads: int) -> Call:
    import jax

    return Call(
        _prepare(problem, jax.value_and_grad),
        lambda found: {"loss": np.asarray(found[0]), "gradient": np.asarray(found[1])},
        lambda found: found[0].nbytes + found[1].nbytes,
        problem,
    )


PEERS = (
    Peer(
        name="jax",
        summary="jax.jit of the loss written with jax.nn.log_softmax",
        works={FORWARD: _forward, GRADIENT: _gradient},
        distributions=("jax", "jaxlib"),
        compiles=True,
    ),
)
