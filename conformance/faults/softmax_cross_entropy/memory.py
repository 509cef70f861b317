"""Mistakes in reading memory; see `conformance.faults.memory`."""

from __future__ import annotations

from conformance.faults import memory
from conformance.faults.smoothed import Maker

MAKER = Maker("softmax_cross_entropy")

FAULTS = (
    MAKER.both(
        "strides-ignored",
        "GEN-6",
        "Logits are read as if they were contiguous.",
        "NVIDIA/TransformerEngine#2746",
        rows=memory.contiguous_rows,
    ),
    MAKER.both(
        "target-strides-ignored",
        "GEN-6",
        "Targets are read as if they were contiguous.",
        "pytorch/pytorch#70417",
        targets=memory.contiguous_targets,
    ),
    MAKER.both("int32-offsets", "GEN-6", "Offsets of 32 bits wrap at 2^31.", "pytorch/pytorch#84144", rows=memory.by_int32_offsets),
)
