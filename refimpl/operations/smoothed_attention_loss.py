"""The label-smoothed attention loss of WeNet: a KL divergence to the softmax, summed over tokens and divided once.

For a token with logits x of V classes, p = softmax(x), target y and smoothing s, let t_y = 1 - s and t_v = s/(V-1) for v != y:

    loss of the token = sum_v t_v (ln t_v - ln p_v)        dlogits_v = (p_v - t_v)/D

    loss = sum over the kept tokens / D,  D = the kept tokens with normalize_length, else B (sequences of padding included)

Shapes
    logits (B, T, V), target (B, T) of integers; the loss is ().

Edges
    E1  A class with t_v = 0 contributes nothing: at s = 0 the others do not, whatever their logits, nor at s = 1 the target.
    E2  x_v = -inf masks class v: the loss is +inf if t_v > 0, and the gradient is finite all the same.
    E3  A kept token that holds a nan or a +inf, or only -inf, makes the loss nan and its own gradient nan.
    E4  A token whose target is padding_idx has loss 0 and gradient 0, whatever it holds; padding_idx may be a class: it stays
        in the softmax of the other tokens.
    E5  A division of nothing by nothing (no kept token with normalize_length, or no sequence) is nan, or 0 by the choice
        `all_ignored`; its gradients are 0.
    E6  A kept target outside [0, V) is an error, or nan in loss and gradient alike.
    E7  V = 1: there are no other classes to carry s, and the loss of a token is (1 - s) ln(1 - s).

Algorithm and error
    `refimpl.smoothing` for rows, `refimpl.reduce` for the division, `refimpl.family` for what the operation shares.

Source: WeNet, LabelSmoothingLoss (wenet/models/transformer/label_smoothing_loss.py); the same in ESPnet. fairseq drops the entropy of
the target (choice `target_entropy`); with mass s/V (choice `smoothing_mass`) it is Szegedy et al.'s smoothing, with s/(V-2), and none
on the class of padding, OpenNMT-py's before version 3.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from refimpl import family, family_terms, phases
from refimpl.ball import Ball
from refimpl.bounds import Float
from refimpl.choices import ALL_IGNORED, SMOOTHING_MASS, TARGET_ENTROPY
from refimpl.enclosure import Enclosure, Format
from refimpl.operation import (
    WIDE,
    Array,
    Clause,
    Example,
    Index,
    InvalidInput,
    Number,
    Operation,
    Real,
    Switch,
    Variation,
    Whole,
    check_parameters,
    cotangent_of,
    real,
)
from refimpl.targets import class_targets, padding_class

INF, NAN = float("inf"), float("nan")


def smoothed_attention_loss(
    logits: Any,
    target: Any,
    *,
    smoothing: float = 0.1,
    padding_idx: int = -1,
    normalize_length: bool = False,
    all_ignored: str = "nan",
    smoothing_mass: str = "V-1",
    target_entropy: str = "kept",
) -> Enclosure:
    """The enclosure of WeNet's loss; see the module's docstring for the definition and its edges.

    `logits` (B, T, V) is float64, float32, bfloat16 or float16, `target` (B, T) holds integers. Raises `OutOfRange` for a target
    that is neither a class nor `padding_idx`, `InvalidInput` or `TypeError` for other bad input.
    """
    setting, call = _setting(**locals())
    return family.forward(setting, lambda where, bits: exact(where, bits, **call))


def smoothed_attention_loss_vjp(
    logits: Any,
    target: Any,
    *,
    cotangent: Any,
    smoothing: float = 0.1,
    padding_idx: int = -1,
    normalize_length: bool = False,
    all_ignored: str = "nan",
    smoothing_mass: str = "V-1",
    target_entropy: str = "kept",
) -> dict[str, Enclosure]:
    """{"logits": enclosures of the gradient}, for a finite scalar `cotangent`; arguments and errors as above."""
    arguments = locals()
    arguments.pop("cotangent")
    setting, call = _setting(**arguments)
    g = cotangent_of(cotangent, ())
    return {"logits": family.vjp(setting, g, lambda where, bits: exact_vjp("logits", where, bits, cotangent=g, **call))}


def quick(to: Format, /, **call: Any) -> Array | None:
    """The output rounded, where the quick phase applies: `phases.rounded`."""
    return phases.rounded(_setting(**call)[0], to)


def quick_vjp(to: Format, /, *, cotangent: Any, **call: Any) -> tuple[Array, dict[str, Array]] | None:
    """The same with the gradient: `phases.rounded_with_gradient`."""
    setting, _ = _setting(**call)
    both = phases.rounded_with_gradient(setting, to, cotangent_of(cotangent, ()))
    return None if both is None else (both[0], {"logits": both[1]})


def exact(where: Sequence[int], bits: int, **call: Any) -> list[Ball]:
    """The output at the flat indices `where`, by definition, in ball arithmetic at `bits` bits."""
    return family.exact(_setting(**call)[0], where, bits)


def exact_vjp(name: str, where: Sequence[int], bits: int, *, cotangent: Any, **call: Any) -> list[Ball]:
    """The gradient at the flat indices `where`, by definition, in ball arithmetic at `bits` bits."""
    return family.exact_vjp(_setting(**call)[0], where, bits, cotangent_of(cotangent, ()))


def terms(**call: Any) -> Float:
    """The error bound of the loss: `family_terms.terms`."""
    return family_terms.terms(_setting(**call)[0])


def terms_vjp(*, cotangent: Any, **call: Any) -> dict[str, Float]:
    """The same for the gradient: `family_terms.terms_vjp`."""
    return {"logits": family_terms.terms_vjp(_setting(**call)[0], cotangent_of(cotangent, ()))}


def _setting(logits: Any, target: Any, **parameters: Any) -> tuple[family.Setting, dict[str, Any]]:
    """The checked call, and its arguments as keywords."""
    given = OPERATION.defaults() | parameters
    check_parameters(OPERATION.parameters, OPERATION.choices, given)
    x = real("logits", logits, 3)
    if x.shape[2] == 0:
        raise InvalidInput(f"logits has shape {x.shape}; pass (B, T, V) with at least one class")
    mass, smoothing = given["smoothing_mass"], float(given["smoothing"])
    without = padding_class("padding_idx", given["padding_idx"], x.shape[2]) if mass == "V-2" else None
    index, kept = class_targets(target, x.shape[:2], x.shape[2], "padding_idx", given["padding_idx"])
    setting = family.Setting(
        logits=x,
        axis=2,
        index=index,
        given=None,
        weight=None,
        kept=kept,
        smoothing=smoothing,
        only_others=mass != "V",
        entropy=given["target_entropy"] == "kept",
        shape=x.shape[:2],
        reduced=True,
        denominator=np.array([float(kept.sum() if given["normalize_length"] else len(x))]),
        all_ignored=given["all_ignored"],
        without=without if smoothing > 0.0 else None,
    )
    return setting, {"logits": x, "target": target, **given}


def meaning(**call: Any) -> Hashable:
    """What the choices come to: `family.meaning`."""
    return family.meaning(_setting(**call)[0])


X2 = [[[1.0, 2.0, 3.0], [0.0, 0.0, 1.0]], [[2.0, -1.0, 0.5], [0.25, 0.0, 4.0]]]
CLAUSES = (
    Clause(
        "SAL-1",
        examples=(
            Example("token", {"logits": [[[1.0, 2.0, 3.0]]], "target": [[0]]}),
            Example("smoothing-0.3", {"logits": [[[1.0, 2.0, 3.0]]], "target": [[0]], "smoothing": 0.3}),
            Example("gap-above-104", {"logits": [[[0.0, -110.0]]], "target": [[0]]}),
            Example("offset-1e8", {"logits": [[[1e8, 1e8, 1e8]]], "target": [[1]]}, WIDE),
        ),
    ),
    Clause(
        "SAL-2",
        examples=(
            Example("batch", {"logits": X2, "target": [[0, 2], [1, -1]]}),
            Example("length", {"logits": X2, "target": [[0, 2], [1, -1]], "normalize_length": True}),
            Example("padded-sequence", {"logits": X2, "target": [[0, 2], [-1, -1]]}),
        ),
    ),
    Clause(
        "SAL-3",
        backward=True,
        examples=(Example("gradient", {"logits": X2, "target": [[0, 2], [1, 0]], "smoothing": 0.25, "normalize_length": True}),),
    ),
    Clause(
        "SAL-4",
        "E1",
        (
            Example("smoothing-0", {"logits": [[[0.0, 1.0, -INF]]], "target": [[0]], "smoothing": 0.0}),
            Example("smoothing-1", {"logits": [[[1.0, 2.0, 3.0]]], "target": [[0]], "smoothing": 1.0}),
            Example("smoothing-1-masked-target", {"logits": [[[-INF, 2.0, 3.0]]], "target": [[0]], "smoothing": 1.0}),
        ),
    ),
    Clause(
        "SAL-5",
        "E2",
        (
            Example("masked-other", {"logits": [[[0.0, -INF, 1.0]]], "target": [[0]]}),
            Example("masked-target", {"logits": [[[0.0, -INF, 1.0]]], "target": [[1]], "smoothing": 0.0}),
        ),
    ),
    Clause(
        "SAL-6",
        "E3",
        (Example("nan", {"logits": [[[0.0, NAN], [0.0, 1.0]]], "target": [[0, 1]]}),),
    ),
    Clause(
        "SAL-7",
        "E4",
        (
            Example("padded-nan", {"logits": [[[0.5, 0.0], [NAN, 1.0]]], "target": [[0, -1]]}),
            Example("padding-inside", {"logits": X2, "target": [[0, 2], [1, 0]], "padding_idx": 0}),
        ),
    ),
    Clause(
        "SAL-8",
        "E5",
        (
            Example("all-padded-length", {"logits": [[[1.0, 2.0]]], "target": [[-1]], "normalize_length": True}),
            Example("all-padded-batch", {"logits": [[[1.0, 2.0]]], "target": [[-1]]}),
        ),
    ),
    Clause(
        "SAL-9",
        "E6",
        (Example("target-V", {"logits": [[[1.0, 2.0, 3.0]]], "target": [[3]]}),),
    ),
    Clause(
        "SAL-10",
        "E7",
        (Example("one-class", {"logits": [[[2.5]]], "target": [[0]], "smoothing": 0.25}),),
    ),
)

OPERATION = Operation(
    name="smoothed_attention_loss",
    prefix="SAL",
    summary="WeNet's label-smoothed attention loss: a KL divergence to the softmax, padded tokens left out",
    inputs={"logits": Real("B T V"), "target": Index("B T")},
    parameters={"smoothing": Number(0.0, 1.0, 0.1), "padding_idx": Whole(-1), "normalize_length": Switch(False)},
    choices=(ALL_IGNORED, SMOOTHING_MASS.starting_with("V-1"), TARGET_ENTROPY.starting_with("kept")),
    clauses=CLAUSES,
    variations=(
        Variation("batch", {"logits": "logits", "target": "some_ignored"}, ("SAL-1", "SAL-2", "SAL-3", "SAL-7")),
        Variation(
            "length", {"logits": "logits", "target": "some_ignored"}, ("SAL-1", "SAL-2", "SAL-3", "SAL-7"), {"normalize_length": True}
        ),
    ),
    forward=smoothed_attention_loss,
    vjp=smoothed_attention_loss_vjp,
    exact=exact,
    exact_vjp=exact_vjp,
    terms=terms,
    terms_vjp=terms_vjp,
    quick=quick,
    quick_vjp=quick_vjp,
    meaning=meaning,
)
