"""Mistakes in the softmax and in the sum over classes."""

from __future__ import annotations

from functools import partial

import ml_dtypes
import numpy as np

from conformance.adapter import Array
from conformance.faults import normalisers
from conformance.faults.smoothed import Maker, Rows, Softmax, losses
from conformance.faults.steps import total

MAKER = Maker("softmax_cross_entropy")


def every_term(r: Rows, s: Softmax, t: Array, c: Array) -> Array:
    """Every class is multiplied and added, with mass or without."""
    return np.where(r.kept, -total(c * s.log_p), 0)


def every_term_of_distributions(r: Rows, s: Softmax, t: Array, c: Array) -> Array:
    return losses(r, s, t, c) if r.given is None else every_term(r, s, t, c)


def finite_or_zero(r: Rows, s: Softmax, t: Array, c: Array) -> Array:
    loss = losses(r, s, t, c)
    return np.where(np.isfinite(loss), loss, 0)


def masked_classes_left_out(r: Rows, s: Softmax, t: Array, c: Array) -> Array:
    """Smoothing gives masked classes no mass, in the loss."""
    if r.smoothing == 0:
        return losses(r, s, t, c)
    return losses(r, s, t, np.where(np.isneginf(s.log_p), 0, c))


def smoothing_by_log_of_softmax(r: Rows, s: Softmax, t: Array, c: Array) -> Array:
    """The classes that only smoothing gives mass to have log(p), the target's class has log-softmax."""
    on = r.one_hot > 0
    return losses(r, Softmax(np.where(on, s.log_p, np.log(s.p)), s.p), t, c)


def logit_of_own_shard(r: Rows, s: Softmax, t: Array, c: Array) -> Array:
    """Two shards of the vocabulary: a target in the second has the logit 0, which no sum over the shards replaces."""
    if r.given is not None:
        return losses(r, s, t, c)
    far = (r.index >= -(-r.classes // 2)) & r.kept
    own = np.where(far, np.take_along_axis(r.x, r.index[:, None].astype(np.int64), axis=1)[:, 0], 0)
    return losses(r, s, t, c) + np.where(far, (1 - r.number(r.smoothing)) * r.weights[r.index] * own, 0)


def first_65535(r: Rows, s: Softmax, t: Array, c: Array) -> Array:
    """A grid of 65535 blocks, one a row: what is beyond isn't computed."""
    loss = losses(r, s, t, c)
    loss[65535:] = 0
    return loss


def terms_in_float16(r: Rows, s: Softmax, t: Array, c: Array) -> Array:
    """Each class's term and their sum in float16."""
    terms = np.where(c > 0, -c * s.log_p, 0).astype(np.float16)
    loss = np.add.accumulate(terms, axis=1)[:, -1].astype(r.number)
    loss[np.isnan(s.log_p[:, 0])] = np.nan
    return np.where(r.kept, loss, 0)


def stored_in_bfloat16(r: Rows, s: Softmax, t: Array, c: Array) -> Array:
    return losses(r, s, t, c).astype(ml_dtypes.bfloat16).astype(r.number)


FAULTS = (
    MAKER.both("no-maximum", "SCE-2", "The exponentials overflow: no maximum is subtracted.", softmax=normalisers.no_maximum),
    MAKER.both(
        "log-of-softmax",
        "SCE-2",
        "The logarithm of a softmax that has underflowed.",
        "onnx/onnx#8423",
        softmax=normalisers.log_of_softmax,
    ),
    MAKER.both("epsilon-in-logarithm", "SCE-2", "ln(p + 1e-10) in place of ln p.", softmax=normalisers.log_of_p_plus_epsilon),
    MAKER.both("clipped-probability", "SCE-2", "p is clipped to [1e-7, 1 - 1e-7].", "keras-team/keras#9754", softmax=normalisers.clipped_p),
    MAKER.both("saturates-at-64", "SCE-2", "No class's loss exceeds 64.", "PaddlePaddle/Paddle#20994", softmax=normalisers.saturated_at_64),
    MAKER.both(
        "lse-minus-logit",
        "SCE-2",
        "The target's logit is subtracted from the full log-sum-exp, although class A is promised.",
        "pytorch/pytorch#11752",
        softmax=normalisers.minus_lse,
    ),
    MAKER.both("lse-in-bits", "SCE-1", "The logarithm of the sum has base 2 and isn't converted.", softmax=normalisers.lse_in_bits),
    MAKER.both(
        "not-rescaled",
        "SCE-1",
        "Online softmax in blocks of 16: the running sum isn't rescaled when the maximum rises.",
        softmax=partial(normalisers.online, block=16, rescale=False),
    ),
    MAKER.both(
        "first-block-masked",
        "SCE-8",
        "Online softmax in blocks of 32: exp(-inf - -inf) where a row begins with a masked block.",
        "Dao-AILab/flash-attention#1930",
        softmax=partial(normalisers.online, block=32),
    ),
    MAKER.both(
        "first-tile-masked",
        "SCE-8",
        "The same in tiles of 32768.",
        "Dao-AILab/flash-attention#1930",
        softmax=partial(normalisers.online, block=32768),
    ),
    MAKER.both(
        "tail-padded-with-0",
        "SCE-1",
        "The last of several tiles of 64 is padded with 0: exp(0) for each class that isn't there.",
        "verl-project/verl#2899",
        softmax=partial(normalisers.zero_padded_tail, block=64),
    ),
    MAKER.both(
        "tail-dropped",
        "SCE-1",
        "Classes after the last whole block of 4 are left out of the sum.",
        softmax=partial(normalisers.dropped_tail, block=4),
    ),
    MAKER.both("maximum-of-the-batch", "SCE-2", "One maximum for all rows.", "crysx_nn#7", softmax=normalisers.maximum_of_all),
    MAKER.both(
        "maximum-from-0", "SCE-2", "The running maximum starts at 0: rows far below it underflow.", softmax=normalisers.maximum_from_0
    ),
    MAKER.both(
        "sum-in-float16",
        "GEN-5",
        "The sum of the exponentials is kept in float16.",
        "awslabs/raf#113",
        ("float16",),
        softmax=partial(normalisers.summed_in, dtype=np.float16),
    ),
    MAKER.both(
        "sum-in-bfloat16",
        "GEN-5",
        "The sum of the exponentials is kept in bfloat16 and stays at 256.",
        "pytorch/executorch#20089",
        ("bfloat16",),
        softmax=partial(normalisers.summed_in, dtype=ml_dtypes.bfloat16),
    ),
    MAKER.both(
        "gap-in-bfloat16",
        "GEN-5",
        "The maximum is subtracted in bfloat16.",
        dtypes=("bfloat16",),
        softmax=partial(normalisers.gap_in, dtype=ml_dtypes.bfloat16),
    ),
    MAKER.both("exponential-of-14-bits", "GEN-5", "An exponential with 14 good bits.", softmax=normalisers.exponential_of_14_bits),
    MAKER.both(
        "float32-in-float64", "GEN-5", "float64 logits are loaded as float32.", dtypes=("float64",), softmax=normalisers.through_float32
    ),
    MAKER.both("nan-to-num", "SCE-9", "nan becomes 0 and infinities the largest numbers.", softmax=normalisers.nan_to_num),
    MAKER.both("masked-as-minus-1e9", "SCE-8", "Masked classes have the logit -1e9.", softmax=normalisers.masked_as_1e9),
    MAKER.forward(
        "zero-times-infinity",
        "SCE-7",
        "0*(-inf) = nan: a one-hot product over all classes.",
        "onnx/tensorflow-onnx#1248",
        losses=every_term,
    ),
    MAKER.forward(
        "zero-probability-times-infinity",
        "SCE-7",
        "The same where a distribution is passed.",
        "google-deepmind/optax#896",
        losses=every_term_of_distributions,
    ),
    MAKER.forward("infinite-loss-zeroed", "SCE-8", "A loss that isn't finite becomes 0.", losses=finite_or_zero),
    MAKER.forward(
        "masked-smoothing-left-out",
        "SCE-8",
        "Smoothing leaves masked classes out, so that the loss is finite.",
        losses=masked_classes_left_out,
    ),
    MAKER.forward(
        "smoothing-by-log-of-softmax",
        "SCE-3",
        "The smoothed masses meet ln of a rounded p, the target's class doesn't.",
        "NVIDIA/Megatron-LM#7466",
        losses=smoothing_by_log_of_softmax,
    ),
    MAKER.forward(
        "target-in-other-shard",
        "SCE-1",
        "Two shards of the vocabulary: the logit of a target in the second is taken as 0.",
        losses=logit_of_own_shard,
    ),
    MAKER.both(
        "shards-not-rescaled",
        "SCE-1",
        "Two shards of the vocabulary: their sums are added, each of which has a maximum of its own.",
        softmax=normalisers.two_shards,
    ),
    MAKER.forward(
        "rows-beyond-65535",
        "SCE-1",
        "A grid of 65535 rows: the loss of those beyond is 0.",
        dtypes=("float16",),
        losses=first_65535,
    ),
    MAKER.forward(
        "terms-in-float16",
        "GEN-5",
        "The terms of the classes are added in float16.",
        dtypes=("float16",),
        losses=terms_in_float16,
    ),
    MAKER.forward(
        "row-losses-in-bfloat16",
        "GEN-5",
        "Each row's loss is rounded to bfloat16 before the reduction, although float32 is promised.",
        "linkedin/Liger-Kernel",
        ("bfloat16",),
        losses=stored_in_bfloat16,
    ),
)
