"""Defects that were reported of real libraries, by operation, and which of the known reports have no case, and why."""

from __future__ import annotations

from conformance.cases.defects.distributions import CROSS_ENTROPY, ENTROPY, KL_DIV, KL_DIVERGENCE, NLL_LOSS
from conformance.cases.defects.logits import ENTROPY_WITH_LOGITS, LOG_SOFTMAX, SMOOTHED_ATTENTION_LOSS
from conformance.cases.defects.softmax import SOFTMAX_CROSS_ENTROPY

DEFECTS = {
    "cross_entropy": CROSS_ENTROPY,
    "entropy": ENTROPY,
    "entropy_with_logits": ENTROPY_WITH_LOGITS,
    "kl_div": KL_DIV,
    "kl_divergence": KL_DIVERGENCE,
    "log_softmax": LOG_SOFTMAX,
    "nll_loss": NLL_LOSS,
    "smoothed_attention_loss": SMOOTHED_ATTENTION_LOSS,
    "softmax_cross_entropy": SOFTMAX_CROSS_ENTROPY,
}
