"""The ground truth: classification losses in double-double arithmetic, as enclosures of the real number.

Each operation is a function that returns an `Enclosure`, and has a sibling `<operation>_vjp` that returns one for the gradient of
each of its inputs.
"""

from refimpl.enclosure import Enclosure, Undecided
from refimpl.nearest import rounded, rounded_with_gradient
from refimpl.operation import InvalidInput, OutOfRange
from refimpl.operations.cross_entropy import cross_entropy, cross_entropy_vjp
from refimpl.operations.entropy import entropy, entropy_vjp
from refimpl.operations.entropy_with_logits import entropy_with_logits, entropy_with_logits_vjp
from refimpl.operations.kl_div import kl_div, kl_div_vjp
from refimpl.operations.kl_divergence import kl_divergence, kl_divergence_vjp
from refimpl.operations.log_softmax import log_softmax, log_softmax_vjp
from refimpl.operations.nll_loss import nll_loss, nll_loss_vjp
from refimpl.operations.smoothed_attention_loss import smoothed_attention_loss, smoothed_attention_loss_vjp
from refimpl.operations.softmax_cross_entropy import softmax_cross_entropy, softmax_cross_entropy_vjp

__all__ = [
    "Enclosure",
    "InvalidInput",
    "OutOfRange",
    "Undecided",
    "cross_entropy",
    "cross_entropy_vjp",
    "entropy",
    "entropy_vjp",
    "entropy_with_logits",
    "entropy_with_logits_vjp",
    "kl_div",
    "kl_div_vjp",
    "kl_divergence",
    "kl_divergence_vjp",
    "log_softmax",
    "log_softmax_vjp",
    "nll_loss",
    "nll_loss_vjp",
    "rounded",
    "rounded_with_gradient",
    "smoothed_attention_loss",
    "smoothed_attention_loss_vjp",
    "softmax_cross_entropy",
    "softmax_cross_entropy_vjp",
]
