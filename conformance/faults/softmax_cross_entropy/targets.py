"""Mistakes in targets: which class a row has, what smoothing and weights make of it, which rows are ignored."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from conformance.adapter import Array
from conformance.faults.smoothed import Maker, Rows, Softmax, classes_of, losses, masses, weighted
from conformance.faults.steps import total

MAKER = Maker("softmax_cross_entropy")


def clamped_below(flat: Array, kept: Array, classes: int) -> Array:
    return classes_of(np.maximum(flat, 0), kept, classes)


def clamped_above(flat: Array, kept: Array, classes: int) -> Array:
    return classes_of(np.minimum(flat, classes - 1), kept, classes)


def unchecked(flat: Array, kept: Array, classes: int) -> Array:
    """No check: a class that isn't there keeps its number."""
    return np.where(kept, flat, 0)


def of_narrow_type(dtype: Any) -> Any:
    """The target goes through a type that can't hold every class."""

    def classes(flat: Array, kept: Array, number: int) -> Array:
        return np.minimum(classes_of(flat, kept, number).astype(dtype).astype(np.int64) % number, number - 1)

    return classes


def fixed_at_minus_100(flat: Array, ignored: int | None) -> Array:
    return flat != -100


def never_ignored(flat: Array, ignored: int | None) -> Array:
    """Negative values of `ignore_index` only; a class is never ignored."""
    return flat != ignored if ignored is not None and ignored < 0 else np.ones(flat.shape, bool)


def unset_at_minus_100(flat: Array, ignored: int | None) -> Array:
    """-100 is the default, and the default stands for no ignore_index."""
    return np.ones(flat.shape, bool) if ignored in (None, -100) else flat != ignored


def minus_100_is_no_class(flat: Array, kept: Array, classes: int) -> Array:
    """-100 passes, and matches no class."""
    passed = flat == -100
    return np.where(passed, flat, classes_of(np.where(passed, 0, flat), kept, classes))


def of_first_chunk(target: Array) -> Array:
    """The rows are taken in chunks of 16, each with the targets of the first."""
    flat = target.reshape(-1)
    return flat[np.arange(flat.size) % 16]


def weight_gathered_first(r: Rows, t: Array) -> Array:
    """The weight of every row's target is gathered, that of ignored rows too, which have none."""
    if r.weight is not None and r.given is None and (r.target.min(initial=0) < 0):
        raise IndexError("index out of range in gather")
    return weighted(r, t)


def times_kept(r: Rows, s: Softmax, t: Array, c: Array) -> Array:
    every = np.ones_like(r.kept)
    return losses(replace(r, kept=every), s, t, c) * r.kept


def smoothing_of_ignored(r: Rows, s: Softmax, t: Array, c: Array) -> Array:
    """Ignored rows lose the target's term and keep that of the smoothing."""
    if r.smoothing == 0:
        return losses(r, s, t, c)
    smooth = weighted(r, np.full_like(t, r.smoothing / r.classes))
    return losses(replace(r, kept=np.ones_like(r.kept)), s, t, np.where(r.kept[:, None], c, smooth))


def left_as_it_was(r: Rows, s: Softmax, t: Array, c: Array) -> Array:
    """Without a reduction, ignored rows have what the buffer held: here the loss of class 0."""
    return losses(replace(r, kept=np.ones_like(r.kept)) if r.reduction == "none" else r, s, t, c)


def over_others(r: Rows) -> Array:
    return masses(replace(r, only_others=True)) if r.given is None else masses(r)


def shared_by(r: Rows, number: int) -> Array:
    """Smoothing shares its mass among `number` classes, not V."""
    return np.asarray(r.number(1 - r.smoothing) * r.one_hot + r.number(r.smoothing / number), r.number)


def by_local_classes(r: Rows) -> Array:
    """Two shards of the vocabulary, each of which takes its own size for V."""
    return shared_by(r, max(-(-r.classes // 2), 1))


def by_last_axis(r: Rows) -> Array:
    """The smoothing is divided by the size of the last axis."""
    return shared_by(r, r.logits.shape[-1])


def of_the_rest(r: Rows) -> Array:
    """What is shared is 1 - eps, which the target's class has besides."""
    return np.asarray((r.one_hot + r.number(1 / r.classes)) * r.number(1 - r.smoothing)) if r.smoothing > 0 else masses(r)


def without_the_share(r: Rows) -> Array:
    """The target's class has 1 - eps and no share of the smoothing."""
    t = masses(r)
    return np.where(r.one_hot > 0, t - r.number(r.smoothing / r.classes), t) if r.given is None else t


def not_for_distributions(r: Rows) -> Array:
    return masses(r) if r.given is None else r.given


def normalised(r: Rows) -> Array:
    """A distribution is divided by its sum."""
    return masses(r) if r.given is None else masses(replace(r, given=r.given / total(r.given)[:, None]))


def in_float16(r: Rows) -> Array:
    """The target's distribution is built in float16."""
    shared = np.float16(r.smoothing) / np.float16(r.classes)
    return (np.float16(1 - r.smoothing) * r.one_hot.astype(np.float16) + shared).astype(r.number)


def share_unweighted(r: Rows, t: Array) -> Array:
    """Class weights meet the target's mass and not that of the smoothing."""
    shared = r.number(r.smoothing / r.classes)
    return (t - shared) * r.weights + shared if r.given is None else weighted(r, t)


def weighted_by_target(r: Rows, t: Array) -> Array:
    """Every class of a row has the weight of the row's target."""
    return t * r.weights[r.index][:, None] if r.given is None else weighted(r, t)


def classes_in_place(logits: Array, axis: int) -> Array:
    """Further dimensions are read as if the classes were innermost."""
    return logits.reshape(-1, logits.shape[axis])


def positions_first(target: Array) -> Array:
    """The rows of the targets are counted with the batch innermost."""
    return np.moveaxis(target, 0, -1).reshape(-1)


FAULTS = (
    MAKER.both(
        "negative-target-is-0", "SCE-12", "A negative target is taken as class 0.", "huggingface/transformers", classes=clamped_below
    ),
    MAKER.both("target-clamped-to-V-1", "SCE-12", "A target beyond the classes is taken as the last.", classes=clamped_above),
    MAKER.both(
        "no-class-no-loss",
        "SCE-12",
        "A target that names no class is compared with each and matches none: loss 0.",
        "Dao-AILab/flash-attention",
        classes=unchecked,
    ),
    MAKER.both("target-in-uint8", "SCE-1", "Targets go through uint8.", classes=of_narrow_type(np.uint8)),
    MAKER.both("target-in-float16", "SCE-1", "Targets go through float16.", classes=of_narrow_type(np.float16)),
    MAKER.both(
        "ignores-minus-100",
        "SCE-10",
        "The ignored target is -100, whatever ignore_index says.",
        "chainer/chainer#2715",
        kept=fixed_at_minus_100,
    ),
    MAKER.both(
        "class-never-ignored", "SCE-10", "An ignore_index that is a class has no effect.", "pytorch/pytorch#11885", kept=never_ignored
    ),
    MAKER.both(
        "minus-100-ignores-nothing",
        "SCE-10",
        "ignore_index = -100 is taken for the default, and ignores nothing: such a row has loss 0 and counts.",
        "pytorch/pytorch#108148",
        kept=unset_at_minus_100,
        classes=minus_100_is_no_class,
    ),
    MAKER.both(
        "targets-of-first-chunk",
        "SCE-1",
        "Rows are taken in chunks of 16, each with the targets of the first.",
        "linkedin/Liger-Kernel#330",
        targets=of_first_chunk,
    ),
    MAKER.both(
        "weight-of-ignored-row",
        "SCE-10",
        "The weight of an ignored row's target is read: an error.",
        "pytorch/pytorch#69339",
        weighted=weight_gathered_first,
    ),
    MAKER.forward(
        "ignored-times-0",
        "SCE-10",
        "The loss of an ignored row is multiplied by 0, and nan*0 is nan.",
        "sooftware/kospeech#37",
        losses=times_kept,
    ),
    MAKER.forward(
        "smoothing-of-ignored",
        "SCE-10",
        "Ignored rows keep the term of the smoothing.",
        "pytorch/pytorch#73205",
        losses=smoothing_of_ignored,
    ),
    MAKER.forward(
        "ignored-uninitialised",
        "SCE-10",
        "Without a reduction, nothing is written for an ignored row.",
        "pytorch/pytorch#20406",
        losses=left_as_it_was,
    ),
    MAKER.both(
        "smoothing-over-others",
        "SCE-3",
        "Smoothing is shared by the V - 1 other classes.",
        "mindspore-ai/mindspore#73",
        masses=over_others,
    ),
    MAKER.both(
        "smoothing-by-shard",
        "SCE-3",
        "A shard of the vocabulary takes its size for V.",
        "NVIDIA/Megatron-LM#737",
        ("bfloat16",),
        masses=by_local_classes,
    ),
    MAKER.both(
        "smoothing-by-last-axis",
        "SCE-3",
        "Smoothing is divided by the size of the last axis.",
        "tensorflow/tensorflow#32231",
        masses=by_last_axis,
    ),
    MAKER.both("smoothing-of-the-rest", "SCE-3", "(1 - eps)/V is shared in place of eps/V.", "paiml/aprender#2199", masses=of_the_rest),
    MAKER.both("smoothing-not-for-distributions", "SCE-3", "A distribution isn't smoothed.", masses=not_for_distributions),
    MAKER.both("distribution-normalised", "SCE-5", "A distribution is divided by its sum.", masses=normalised),
    MAKER.both("masses-in-float16", "GEN-5", "The target's distribution is built in float16.", dtypes=("float16",), masses=in_float16),
    MAKER.both(
        "smoothing-unweighted",
        "SCE-3",
        "Class weights don't apply to the smoothed masses.",
        "pytorch/pytorch#104776",
        weighted=share_unweighted,
    ),
    MAKER.both("class-axis-last", "SCE-1", "Further dimensions are read as if the class axis were the last.", rows=classes_in_place),
    MAKER.both(
        "targets-in-other-order", "SCE-1", "Targets of further dimensions are counted with the batch innermost.", targets=positions_first
    ),
)
