"""The ground truth: classification losses in double-double arithmetic, as enclosures of the real number.

Each operation is a function that returns an `Enclosure`, and has a sibling `<operation>_vjp` that returns one for the gradient of
each of its inputs.
"""

from refimpl.enclosure import Enclosure, Undecided
from refimpl.operation import InvalidInput, OutOfRange
from refimpl.operations.softmax_cross_entropy import softmax_cross_entropy, softmax_cross_entropy_vjp

__all__ = [
    "Enclosure",
    "InvalidInput",
    "OutOfRange",
    "Undecided",
    "softmax_cross_entropy",
    "softmax_cross_entropy_vjp",
]
