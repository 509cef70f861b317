"""The faults of `smoothed_attention_loss`."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import ml_dtypes
import numpy as np

from conformance.adapter import Array
from conformance.faults import backwards, memory, normalisers
from conformance.faults.smoothed import (
    Maker,
    Rows,
    Softmax,
    denominator,
    factors,
    gradient,
    losses,
    masses,
    reduced,
    rows_of,
)
from conformance.faults.steps import total

MAKER = Maker("smoothed_attention_loss")
RIGHT = MAKER.right()


# Rows and targets


def batch_second(logits: Array, axis: int) -> Array:
    """Tokens are read as (T, B)."""
    return rows_of(logits.swapaxes(0, 1), axis)


def shifted(target: Array) -> Array:
    """Each token is compared with the next one's target, the last of a sequence with the first's."""
    return np.roll(target, -1, axis=1).reshape(-1)


def only_minus_1(flat: Array, ignored: int | None) -> Array:
    return flat != -1


def unchecked(flat: Array, kept: Array, classes: int) -> Array:
    return np.where(kept, np.clip(flat, 0, classes - 1), 0)


# Masses


def over_all(r: Rows) -> Array:
    """s/V everywhere, and 1 - s besides on the target."""
    return masses(replace(r, only_others=False))


def off_target_over_all(r: Rows) -> Array:
    """s/V off the target and 1 - s on it: the masses don't sum to 1."""
    return np.where(r.one_hot > 0, r.number(1 - r.smoothing), r.number(r.smoothing / r.classes))


def in_float16(r: Rows) -> Array:
    """The masses have the dtype of the logits, and aren't those that were asked."""
    return masses(r).astype(np.float16).astype(r.number)


def hard(r: Rows) -> Array:
    return r.one_hot


def one_class_fails(r: Rows) -> Array:
    if r.classes == 1:
        raise ZeroDivisionError("division by zero")
    return masses(r)


# Losses


def cross_entropy(r: Rows, s: Softmax, t: Array, c: Array) -> Array:
    return losses(replace(r, entropy=False), s, t, c)


def every_term(r: Rows, s: Softmax, t: Array, c: Array) -> Array:
    """t ln t is guarded at 0, t ln p isn't."""
    terms = np.where(t > 0, t * np.log(t), 0) - t * s.log_p
    return np.where(r.kept, total(terms), 0)


def entropy_by_formula(r: Rows, s: Softmax, t: Array, c: Array) -> Array:
    """The entropy as s ln(s/(V-1)) + (1-s) ln(1-s), nan where s is 0 or 1."""
    a, others = r.number(r.smoothing), r.number(max(r.classes - 1, 1))
    value = (a * np.log(a / others) if r.classes > 1 else 0) + (1 - a) * np.log(1 - a)
    return np.where(r.kept, cross_entropy(r, s, t, c) + value, 0)


def entropy_of_the_rest(r: Rows, s: Softmax, t: Array, c: Array) -> Array:
    """The entropy of the target's class is forgotten: only that of the others is subtracted."""
    on = np.where(r.kept & (t[np.arange(len(t)), r.index] > 0), t[np.arange(len(t)), r.index], 1)
    return losses(r, s, t, c) - on * np.log(on)


def padded_times_0(r: Rows, s: Softmax, t: Array, c: Array) -> Array:
    return losses(replace(r, kept=np.ones_like(r.kept)), s, t, c) * r.kept


def masked_left_out(r: Rows, s: Softmax, t: Array, c: Array) -> Array:
    return losses(r, s, t, np.where(np.isneginf(s.log_p), 0, c))


def terms_in_float16(r: Rows, s: Softmax, t: Array, c: Array) -> Array:
    """The divergence's terms are added in float16, one class after the other."""
    terms = np.where(c > 0, c * (np.log(t) - s.log_p), 0).astype(np.float16)
    loss = np.add.accumulate(terms, axis=1)[:, -1].astype(r.number)
    loss[np.isnan(s.log_p[:, 0])] = np.nan
    return np.where(r.kept, loss, 0)


def tokens_in_bfloat16(r: Rows, s: Softmax, t: Array, c: Array) -> Array:
    return losses(r, s, t, c).astype(ml_dtypes.bfloat16).astype(r.number)


# The division


def kept_sequences(r: Rows) -> Any:
    """Sequences that hold nothing but padding don't count."""
    return denominator(r) if r.reduction == "length" else r.number(r.kept.reshape(r.shape).any(axis=1).sum())


def always_tokens(r: Rows) -> Any:
    return denominator(replace(r, reduction="length"))


def always_batch(r: Rows) -> Any:
    return denominator(replace(r, reduction="batch"))


def every_token(r: Rows) -> Any:
    """Padded tokens count too."""
    return denominator(r) if r.reduction == "batch" else r.number(len(r.x))


def padded_tokens(r: Rows) -> Any:
    """The mask is inverted where the length is counted."""
    return denominator(r) if r.reduction == "batch" else r.number((~r.kept).sum())


def mean_of_sequences(r: Rows, loss: Array, divisor: Any) -> Array:
    """With normalize_length, the mean of each sequence's own mean."""
    if r.reduction == "batch":
        return reduced(r, loss, divisor)
    kept = r.kept.reshape(r.shape).sum(axis=1).astype(r.number)
    return np.asarray(total(total(loss.reshape(r.shape)) / np.maximum(kept, 1)) / (kept > 0).sum())


def nothing_is_0(r: Rows, loss: Array, divisor: Any) -> Array:
    return reduced(r, loss, np.maximum(divisor, r.number(1)))


def nothing_is_nan(r: Rows, loss: Array, divisor: Any) -> Array:
    return reduced(r, loss, divisor) if r.kept.any() else np.asarray(r.number(np.nan))


def nan_tokens_left_out(r: Rows, loss: Array, divisor: Any) -> Array:
    return reduced(r, np.where(np.isnan(loss), 0, loss), divisor)


# The gradient


def undivided(r: Rows) -> Any:
    return None


def padding_class_zeroed(r: Rows, s: Softmax, c: Array, f: Array) -> Array:
    """The gradient of the padding class is 0, where padding is a class: the first is meant."""
    g = gradient(r, s, c, f)
    padded = r.target.reshape(-1)[~r.kept]
    if padded.size and padded[0] >= 0:
        g[:, padded[0]] = 0
    return g


def of_cross_entropy_to_tokens(r: Rows, cotangent: Array, divisor: Any) -> Array:
    """The gradient of a mean over tokens, whatever the loss is divided by."""
    return factors(r, cotangent, r.number(max(int(r.kept.sum()), 1)))


FAULTS = (
    MAKER.both("no-maximum", "SAL-1", "The exponentials overflow: no maximum is subtracted.", softmax=normalisers.no_maximum),
    MAKER.both(
        "log-of-softmax",
        "SAL-1",
        "The logarithm of a softmax that has underflowed.",
        "NVIDIA/Megatron-LM#7466",
        softmax=normalisers.log_of_softmax,
    ),
    MAKER.both("batch-second", "SAL-1", "Logits are read as (T, B, V).", rows=batch_second),
    MAKER.both("target-shifted", "SAL-1", "Each token is compared with the next one's target.", targets=shifted),
    MAKER.both("target-clamped", "SAL-9", "A target that names no class is taken as the nearest.", classes=unchecked),
    MAKER.both("pads-minus-1", "SAL-7", "Padding is -1, whatever padding_idx says.", kept=only_minus_1),
    MAKER.both("smoothing-over-all", "SAL-1", "s/V for every class, and 1 - s besides for the target's.", masses=over_all),
    MAKER.both("smoothing-not-1", "SAL-1", "s/V off the target and 1 - s on it.", masses=off_target_over_all),
    MAKER.both(
        "masses-in-float16", "GEN-5", "The target's distribution is built in float16.", "wenet-e2e/wenet", ("float16",), masses=in_float16
    ),
    MAKER.both("one-class-divides-by-0", "SAL-10", "One class: s/(V-1) divides by 0.", "wenet-e2e/wenet", masses=one_class_fails),
    MAKER.forward("entropy-dropped", "SAL-1", "The entropy of the target isn't subtracted: a cross entropy.", losses=cross_entropy),
    MAKER.forward("entropy-of-others", "SAL-1", "Only the entropy of the other classes' masses is subtracted.", losses=entropy_of_the_rest),
    MAKER.forward(
        "entropy-at-0-or-1",
        "SAL-4",
        "s ln s and (1-s) ln(1-s) without their limits: nan.",
        "tensorflow/tensor2tensor",
        losses=entropy_by_formula,
    ),
    MAKER.forward(
        "zero-times-infinity",
        "SAL-4",
        "0*(-inf) = nan, where smoothing gives a masked class no mass.",
        "wenet-e2e/wenet",
        losses=every_term,
    ),
    MAKER.forward("masked-left-out", "SAL-5", "Masked classes add nothing, so that the loss is finite.", losses=masked_left_out),
    MAKER.forward(
        "padded-times-0",
        "SAL-7",
        "The loss of padding is multiplied by 0, and nan*0 is nan.",
        "sooftware/kospeech#37",
        losses=padded_times_0,
    ),
    MAKER.forward(
        "terms-in-float16", "GEN-5", "The terms of the classes are added in float16.", dtypes=("float16",), losses=terms_in_float16
    ),
    MAKER.forward(
        "token-losses-in-bfloat16",
        "GEN-5",
        "Each token's loss is rounded to bfloat16 before the sum, although float32 is promised.",
        dtypes=("bfloat16",),
        losses=tokens_in_bfloat16,
    ),
    MAKER.both("batch-of-kept-sequences", "SAL-2", "Sequences of padding don't count in the batch.", denominator=kept_sequences),
    MAKER.both(
        "always-by-tokens", "SAL-2", "The sum is divided by the kept tokens, whatever normalize_length says.", denominator=always_tokens
    ),
    MAKER.both("always-by-batch", "SAL-2", "The sum is divided by the batch, whatever normalize_length says.", denominator=always_batch),
    MAKER.both("padding-in-length", "SAL-2", "Padded tokens count in the length.", "eladhoffer/utils.pytorch#4", denominator=every_token),
    MAKER.both(
        "length-of-padding",
        "SAL-2",
        "The length counts the padding in place of the tokens.",
        denominator=padded_tokens,
    ),
    MAKER.forward("mean-of-sequences", "SAL-2", "With normalize_length, each sequence has its own mean.", reduced=mean_of_sequences),
    MAKER.forward("nothing-is-0", "SAL-8", "No token over no token is 0, although nan is promised.", reduced=nothing_is_0),
    MAKER.forward(
        "padding-alone-is-nan", "SAL-8", "A batch of padding alone is nan, where 0 is divided by its size.", reduced=nothing_is_nan
    ),
    MAKER.forward("nan-tokens-left-out", "SAL-6", "Tokens whose loss is nan are left out of the sum.", reduced=nan_tokens_left_out),
    MAKER.backward("gradient-undivided", "SAL-3", "The gradient isn't divided.", "fetchai/ledger#1580", denominator=undivided),
    MAKER.backward(
        "gradient-by-tokens", "SAL-3", "The gradient is divided by the kept tokens in every case.", factors=of_cross_entropy_to_tokens
    ),
    MAKER.backward("gradient-by-batch", "SAL-3", "The gradient is divided by the batch in every case.", denominator=always_batch),
    MAKER.backward("gradient-without-target", "SAL-3", "The target isn't subtracted from p.", gradient=backwards.without_target),
    MAKER.backward("gradient-sign", "SAL-3", "The gradient has the other sign.", gradient=backwards.other_sign),
    MAKER.backward("gradient-unsmoothed", "SAL-3", "The gradient knows no smoothing.", masses=hard),
    MAKER.backward("gradient-of-padding", "SAL-7", "A padded token has the gradient of its softmax.", gradient=backwards.of_ignored),
    MAKER.backward(
        "gradient-of-padding-times-0",
        "SAL-7",
        "The gradient of padding is multiplied by 0, and nan*0 is nan.",
        "wenet-e2e/wenet",
        gradient=backwards.ignored_times_0,
    ),
    MAKER.backward(
        "gradient-padding-class-zeroed",
        "SAL-7",
        "The padding class has no gradient, where padding is a class.",
        gradient=padding_class_zeroed,
    ),
    MAKER.backward(
        "gradient-nan-where-infinite", "SAL-5", "Where the loss is infinite the gradient is nan.", gradient=backwards.nan_where_infinite
    ),
    MAKER.backward(
        "gradient-tail-unwritten",
        "SAL-3",
        "The last of several blocks of 32 classes isn't written.",
        gradient=partial(backwards.without_tail, block=32),
    ),
    MAKER.both(
        "strides-ignored",
        "GEN-6",
        "Logits are read as if they were contiguous.",
        "NVIDIA/TransformerEngine#2746",
        rows=memory.contiguous_rows,
    ),
)
