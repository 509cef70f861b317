r"""WeNet's label-smoothing loss as a function of torch tensors, judged in this folder by

    lossref run wenet_loss:smoothed_attention_loss --operation smoothed_attention_loss --tensors torch --dialect wenet \
        --promise float64=A --promise float32=A --promise bfloat16=A,store=bfloat16 --promise float16=A,store=float16 \
        --expect wenet_loss.toml

It computes step by step what WeNet's module LabelSmoothingLoss does: a distribution of s/(V-1) and 1-s in the dtype of the logits, torch's
pointwise KL divergence to the log-softmax, zeros for the padded tokens, one division. `wenet_loss.toml` says what it doesn't keep.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def smoothed_attention_loss(
    logits: Tensor, target: Tensor, *, smoothing: float = 0.1, padding_idx: int = -1, normalize_length: bool = False
) -> Tensor:
    """The loss of logits (B, T, V) and target (B, T): a scalar."""
    batch, _, classes = logits.shape
    rows, labels = logits.view(-1, classes), target.view(-1)
    padded = labels == padding_idx
    true = torch.full_like(rows, smoothing / (classes - 1))
    true.scatter_(1, labels.masked_fill(padded, 0).unsqueeze(1), 1.0 - smoothing)
    each = functional.kl_div(torch.log_softmax(rows, 1), true, reduction="none")
    total = each.masked_fill(padded.unsqueeze(1), 0.0).sum()
    return total / (int((~padded).sum()) if normalize_length else batch)
