"""The faults of `softmax_cross_entropy`."""

from conformance.faults.smoothed import Maker
from conformance.faults.softmax_cross_entropy import gradients, memory, reductions, softmaxes, targets

RIGHT = Maker("softmax_cross_entropy").right()
FAULTS = (*softmaxes.FAULTS, *targets.FAULTS, *reductions.FAULTS, *gradients.FAULTS, *memory.FAULTS)
