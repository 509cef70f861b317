"""Mistakes in the gradient alone: the loss is right."""

from __future__ import annotations

from functools import partial

import ml_dtypes
import numpy as np

from conformance.adapter import Array
from conformance.faults import backwards, normalisers
from conformance.faults.smoothed import Maker, Rows, Softmax, Steps, gradient, losses, softmax, weighted, zeroed
from conformance.faults.softmax_cross_entropy import reductions, targets

MAKER = Maker("softmax_cross_entropy")


def of_probabilities(r: Rows, s: Softmax, c: Array, f: Array) -> Array:
    """p - t, which takes it that a distribution sums to 1."""
    if r.given is None:
        return gradient(r, s, c, f)
    return zeroed(r, f[:, None] * (s.p - c), f)


def saved_in_bfloat16(r: Rows) -> Softmax:
    """p is rounded to bfloat16, and only then has 1 subtracted."""
    s = softmax(r)
    return Softmax(s.log_p, s.p.astype(ml_dtypes.bfloat16).astype(r.number))


def unweighted(r: Rows, t: Array) -> Array:
    return t if r.given is None else weighted(r, t)


def hard(r: Rows) -> Array:
    return r.one_hot


def nan_of_no_class(r: Rows, s: Softmax, t: Array, c: Array) -> Array:
    """Where a target names no class the whole loss is nan, as it may be."""
    strange = np.any((r.index < 0) | (r.index >= r.classes))
    return np.full_like(r.x[:, 0], np.nan) if strange else losses(r, s, t, c)


FAULTS = (
    MAKER.split(
        "gradient-of-no-class",
        "SCE-12",
        "The loss of a target that names no class is nan and its gradient is p.",
        "google-deepmind/optax",
        Steps(classes=targets.unchecked, losses=nan_of_no_class),
        Steps(classes=targets.unchecked),
    ),
    MAKER.backward(
        "gradient-cotangent-dropped", "SCE-6", "The cotangent is taken for 1.", "kulinseth/pytorch#289", factors=backwards.cotangent_1
    ),
    MAKER.backward(
        "gradient-cotangent-of-first-row",
        "SCE-6",
        "Every row's gradient has the cotangent of the first.",
        "linkedin/Liger-Kernel#968",
        factors=backwards.cotangent_of_first,
    ),
    MAKER.backward("gradient-cotangent-0-as-1", "SCE-6", "A cotangent of 0 is taken as absent.", factors=backwards.zero_is_absent),
    MAKER.backward(
        "gradient-mean-undivided", "SCE-6", "The gradient of a mean isn't divided.", "fetchai/ledger#1580", denominator=reductions.none
    ),
    MAKER.backward("gradient-mean-by-all-rows", "SCE-4", "The gradient of a mean is divided by all rows.", denominator=reductions.all_rows),
    MAKER.backward(
        "gradient-mean-by-kept-rows",
        "SCE-6",
        "The gradient of a weighted mean is divided by the number of rows.",
        denominator=reductions.number_of_kept,
    ),
    MAKER.backward(
        "gradient-none-divided",
        "SCE-6",
        "Without a reduction, the gradient is divided by the batch all the same.",
        "ROCm/TransformerEngine#336",
        factors=reductions.batch_divides_too,
    ),
    MAKER.backward(
        "gradient-none-zero", "SCE-6", "Without a reduction, the gradient is 0.", "microsoft/DirectML#740", factors=backwards.none_zero
    ),
    MAKER.backward("gradient-without-softmax", "SCE-6", "Only the target is subtracted, p is missing.", gradient=backwards.without_softmax),
    MAKER.backward("gradient-unweighted", "SCE-6", "Class weights are missing in the gradient.", weighted=unweighted),
    MAKER.backward(
        "gradient-weighted-by-target",
        "SCE-6",
        "All of a row's gradient has the weight of its target.",
        weighted=targets.weighted_by_target,
    ),
    MAKER.backward("gradient-unsmoothed", "SCE-6", "The gradient knows no smoothing.", masses=hard),
    MAKER.backward(
        "gradient-smoothing-without-share",
        "SCE-6",
        "In the gradient the target's class has 1 - eps only.",
        masses=targets.without_the_share,
    ),
    MAKER.backward(
        "gradient-of-normalised-target", "SCE-5", "p - t in place of p sum(t) - t.", "PaddlePaddle/Paddle", gradient=of_probabilities
    ),
    MAKER.backward(
        "gradient-through-probability",
        "SCE-8",
        "The chain goes through 1/p: nan where p is 0.",
        gradient=backwards.through_probability,
    ),
    MAKER.backward(
        "gradient-dead-where-clipped",
        "SCE-2",
        "The gradient is 0 in rows whose target has p < 1e-7.",
        gradient=backwards.dead_where_clipped,
    ),
    MAKER.backward(
        "gradient-nan-where-infinite", "SCE-8", "Where the loss is infinite the gradient is nan.", gradient=backwards.nan_where_infinite
    ),
    MAKER.backward("gradient-nan-as-0", "SCE-9", "Where the gradient is nan, 0 is written.", gradient=backwards.nan_as_0),
    MAKER.backward(
        "gradient-from-saved-lse",
        "SCE-2",
        "p is computed anew as exp(x - lse), from a rounded lse.",
        softmax=normalisers.from_saved_lse,
    ),
    MAKER.backward(
        "gradient-floor", "SCE-8", "Exponents are clamped at -80: masked classes have a gradient.", softmax=backwards.floored_at_80
    ),
    MAKER.backward(
        "gradient-subnormals-flushed", "SCE-6", "Subnormal probabilities become 0, although they are promised.", softmax=backwards.flushed
    ),
    MAKER.backward("gradient-of-ignored", "SCE-10", "An ignored row has the gradient of its softmax.", gradient=backwards.of_ignored),
    MAKER.backward(
        "gradient-of-ignored-times-0",
        "SCE-10",
        "The gradient of an ignored row is multiplied by 0, and nan*0 is nan.",
        "sooftware/kospeech#37",
        gradient=backwards.ignored_times_0,
    ),
    MAKER.backward(
        "gradient-nan-over-nothing",
        "SCE-11",
        "The gradient of a mean over no rows is nan.",
        "tinygrad/tinygrad",
        gradient=backwards.nan_over_nothing,
    ),
    MAKER.backward(
        "gradient-in-first-1024-classes",
        "SCE-6",
        "The gradient is written for the first 1024 classes only.",
        gradient=partial(backwards.first, block=1024),
    ),
    MAKER.backward(
        "gradient-tail-unwritten",
        "SCE-6",
        "The last of several blocks of 32 classes isn't written.",
        gradient=partial(backwards.without_tail, block=32),
    ),
    MAKER.backward(
        "gradient-target-in-first-block",
        "SCE-6",
        "The target's place counts from the start of its block of 128, and the first block gets the -1.",
        gradient=partial(backwards.target_in_first_block, block=128),
    ),
    MAKER.backward(
        "gradient-p-in-bfloat16",
        "GEN-5",
        "p is rounded to bfloat16 before the target is subtracted.",
        "linkedin/Liger-Kernel#1268",
        ("bfloat16",),
        softmax=saved_in_bfloat16,
    ),
    MAKER.backward(
        "gradient-lse-in-bfloat16",
        "GEN-5",
        "p is computed anew from a log-sum-exp that was saved in bfloat16.",
        dtypes=("bfloat16",),
        softmax=normalisers.from_lse_in_bfloat16,
    ),
    MAKER.backward(
        "gradient-factor-in-float16",
        "GEN-5",
        "The factor of a mean, 1/N, is rounded to float16.",
        dtypes=("float16",),
        factors=backwards.factor_in(np.float16),
    ),
)
