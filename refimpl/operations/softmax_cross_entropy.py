"""Softmax cross-entropy of logits against a class index or a distribution, with label smoothing and class weights.

For a row x of V logits, p = softmax(x), class weights w (all 1 where absent) and a target of mass t_v,

    loss = -sum_v w_v t_v ln p_v        dlogits_v = p_v sum_u w_u t_u - w_v t_v

with t_v = (1 - eps)*[v = y] + eps/V for a class index y, t_v = (1 - eps)*s_v + eps/V for a given distribution s, which need not
sum to 1. Reductions: "none"; "sum"; "mean", which divides by the sum of w_y over the kept rows (index; the choice `denominator`)
or by the number of rows (distribution; the choice `distribution_denominator`).

Shapes
    logits (N, V, d1, ...), target (N, d1, ...) of integers or (N, V, d1, ...) of probabilities, weight (V,); the loss has
    the shape (N, d1, ...) before its reduction.

Edges
    E1  A class with w_v t_v = 0 contributes nothing, whatever its logit: 0*inf = 0.
    E2  x_v = -inf masks class v: p_v = 0; the loss is +inf if w_v t_v > 0, and the gradient is finite all the same.
    E3  A row that holds a nan or a +inf, or only -inf, gives nan in loss and gradient.
    E4  A row whose target is ignore_index has loss 0 and gradient 0, whatever it holds, and does not count in the mean,
        unless the choice `denominator` counts it.
    E5  A mean that divides by 0 because no row is kept is 0/0 = nan, or 0 by the choice `all_ignored`; its gradients are 0.
    E6  A kept target outside [0, V) is an error, or nan in loss and gradient alike.
    E7  V = 1: the loss is 0 and so is the gradient.

Algorithm and error
    `refimpl.smoothing` for rows, `refimpl.reduce` for reductions, `refimpl.family` for what the operation shares.

Source: Szegedy et al., "Rethinking the Inception architecture for computer vision", CVPR 2016, section 7 (smoothing with mass
eps/V); PyTorch's cross_entropy (weights, ignore_index, denominators). fairseq and WeNet put eps/(V-1) on the other classes
alone, OpenNMT-py before version 3 eps/(V-2) and none on the class of padding (choice `smoothing_mass`, of class indices); WeNet
subtracts the entropy of the target (choice `target_entropy`).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from refimpl import family, family_terms, phases, reduce
from refimpl.ball import Ball
from refimpl.bounds import Float
from refimpl.choices import ALL_IGNORED, DENOMINATOR, DISTRIBUTION_DENOMINATOR, SMOOTHING_MASS, TARGET_ENTROPY
from refimpl.enclosure import Enclosure, Format
from refimpl.operation import (
    WIDE,
    Array,
    Clause,
    Example,
    IndexOrReal,
    InvalidInput,
    NotPermitted,
    Number,
    OneOf,
    Operation,
    Real,
    Variation,
    Whole,
    check_parameters,
    cotangent_of,
    real,
    regular,
)
from refimpl.targets import class_targets, class_weight, mean_denominator, padding_class

INF, NAN = float("inf"), float("nan")


def softmax_cross_entropy(
    logits: Any,
    target: Any,
    weight: Any = None,
    *,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    all_ignored: str = "nan",
    smoothing_mass: str = "V",
    target_entropy: str = "dropped",
    denominator: str = "weights",
    distribution_denominator: str = "rows",
) -> Enclosure:
    """Enclosures of the softmax cross-entropy of `logits`; see the module's docstring for the definition and its edges.

    `logits` (N, V, d1, ...) is float64, float32, bfloat16 or float16. `target` is (N, d1, ...) of integers, or probabilities
    of the logits' shape: finite, non-negative, taken as given. `weight` (V,) is finite and non-negative. The result has the
    shape (N, d1, ...) for reduction "none", else (). Raises `OutOfRange` for a target that names no class, `InvalidInput`
    or `TypeError` for other bad input.
    """
    setting, call = _setting(**locals())
    return family.forward(setting, lambda where, bits: exact(where, bits, **call))


def softmax_cross_entropy_vjp(
    logits: Any,
    target: Any,
    weight: Any = None,
    *,
    cotangent: Any,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    all_ignored: str = "nan",
    smoothing_mass: str = "V",
    target_entropy: str = "dropped",
    denominator: str = "weights",
    distribution_denominator: str = "rows",
) -> dict[str, Enclosure]:
    """{"logits": enclosures of the gradient}, for a finite `cotangent` of the loss's shape; arguments and errors as above."""
    arguments = locals()
    arguments.pop("cotangent")
    setting, call = _setting(**arguments)
    g = cotangent_of(cotangent, setting.output_shape)
    return {"logits": family.vjp(setting, g, lambda where, bits: exact_vjp("logits", where, bits, cotangent=g, **call))}


def quick(to: Format, /, **call: Any) -> Array | None:
    """The output rounded, where the quick phase applies: `phases.rounded`."""
    return phases.rounded(_setting(**call)[0], to)


def quick_vjp(to: Format, /, *, cotangent: Any, **call: Any) -> tuple[Array, dict[str, Array]] | None:
    """The same with the gradient: `phases.rounded_with_gradient`."""
    setting, _ = _setting(**call)
    both = phases.rounded_with_gradient(setting, to, cotangent_of(cotangent, setting.output_shape))
    return None if both is None else (both[0], {"logits": both[1]})


def exact(where: Sequence[int], bits: int, **call: Any) -> list[Ball]:
    """The output at the flat indices `where`, by definition, in ball arithmetic at `bits` bits."""
    return family.exact(_setting(**call)[0], where, bits)


def exact_vjp(name: str, where: Sequence[int], bits: int, *, cotangent: Any, **call: Any) -> list[Ball]:
    """The gradient at the flat indices `where`, by definition, in ball arithmetic at `bits` bits."""
    setting, _ = _setting(**call)
    return family.exact_vjp(setting, where, bits, cotangent_of(cotangent, setting.output_shape))


def terms(**call: Any) -> Float:
    """The error bound of the loss: `family_terms.terms`."""
    return family_terms.terms(_setting(**call)[0])


def terms_vjp(*, cotangent: Any, **call: Any) -> dict[str, Float]:
    """The same for the gradient: `family_terms.terms_vjp`."""
    setting, _ = _setting(**call)
    return {"logits": family_terms.terms_vjp(setting, cotangent_of(cotangent, setting.output_shape))}


def _setting(logits: Any, target: Any, weight: Any = None, **parameters: Any) -> tuple[family.Setting, dict[str, Any]]:
    """The checked call, and its arguments as keywords."""
    given = OPERATION.defaults() | parameters
    check_parameters(OPERATION.parameters, OPERATION.choices, given)
    x = real("logits", logits)
    if x.ndim < 2 or x.shape[1] == 0:
        raise InvalidInput(f"logits has shape {x.shape}; pass (N, V) or (N, V, d1, ...) with at least one class")
    classes, ignore = x.shape[1], given["ignore_index"]
    shape = (x.shape[0], *x.shape[2:])
    w = class_weight(weight, classes)
    t = regular("target", target)
    mass, smoothing = given["smoothing_mass"], float(given["label_smoothing"])
    index, distribution, without = None, None, None
    if t.dtype.kind in "iu" or (t.size == 0 and t.shape == shape):
        if mass == "V-2":
            without = padding_class("ignore_index", ignore, classes)
        index, kept = class_targets(t, shape, classes, "ignore_index", ignore)
        denominator = mean_denominator(given["denominator"], index, kept, w, x.shape[0])
    else:
        t = real("target", t)
        if t.shape != x.shape:
            raise InvalidInput(f"target has shape {t.shape}; pass integers of shape {shape} or probabilities of shape {x.shape}")
        if ignore is not None:
            raise InvalidInput("ignore_index goes with class indices; leave it out for probability targets")
        distribution = np.ascontiguousarray(np.moveaxis(t, 1, -1).reshape(-1, classes).astype(np.float64))
        if not (np.isfinite(distribution) & (distribution >= 0)).all():
            raise InvalidInput("target holds a negative or non-finite probability; pass finite numbers that are not negative")
        if mass == "V-2":
            raise NotPermitted("smoothing_mass", "smoothing_mass 'V-2' goes with class indices; pass 'V' for probability targets")
        kept = np.ones(len(distribution), bool)
        denominator = _distribution_denominator(given["distribution_denominator"], distribution, w)
    setting = family.Setting(
        logits=x,
        axis=1,
        index=index,
        given=distribution,
        weight=w,
        kept=kept,
        smoothing=smoothing,
        only_others=mass != "V" and index is not None,
        entropy=given["target_entropy"] == "kept",
        shape=shape,
        reduced=given["reduction"] != "none",
        denominator=denominator if given["reduction"] == "mean" else None,
        all_ignored=given["all_ignored"],
        without=without if smoothing > 0.0 else None,
    )
    return setting, {"logits": x, "target": t, "weight": w, **given}


def _distribution_denominator(rule: str, distribution: Float, weight: Float | None) -> Float:
    """The numbers whose sum a mean over distributions divides by."""
    if rule == "rows":
        return np.array([float(len(distribution))])
    numbers = reduce.product_terms(distribution, np.ones(1) if weight is None else weight)
    if numbers is None:
        why = (
            "distribution_denominator 'weights' needs the products of weights and probabilities exactly, and one is too small or too large"
        )
        raise NotPermitted("distribution_denominator", f"{why}; scale the weights, or pass 'rows'")
    return numbers


def meaning(**call: Any) -> Hashable:
    """What the choices come to: `family.meaning`."""
    return family.meaning(_setting(**call)[0])


X2 = [[1.0, 2.0, 3.0], [0.0, 0.0, 1.0]]
X3 = [[[1.0, 0.0, 2.0], [2.0, 0.5, 1.0], [3.0, 1.0, 0.0]], [[0.0, -1.0, 4.0], [0.0, 2.0, 0.0], [1.0, 0.25, 0.0]]]
CLAUSES = (
    Clause(
        "SCE-1",
        examples=(
            Example("index", {"logits": X2, "target": [0, 2], "reduction": "none"}),
            Example("peaked", {"logits": [[40.0, 0.0], [0.0, 40.0]], "target": [0, 0], "reduction": "none"}),
            Example("dimensions", {"logits": [[[1.0, 0.0], [2.0, -1.0], [3.0, 0.5]]], "target": [[0, 2]], "reduction": "none"}),
        ),
    ),
    Clause(
        "SCE-2",
        examples=(
            Example("gap-above-104", {"logits": [[0.0, -110.0]], "target": [1]}),
            Example("gap-16384", {"logits": [[8192.0, -8192.0]], "target": [1]}),
            Example("no-overflow", {"logits": [[1000.0, 0.0]], "target": [0]}),
            Example("offset-1e8", {"logits": [[1e8, 1e8]], "target": [0]}, WIDE),
            Example("gap-smoothed", {"logits": [[0.0, -110.0]], "target": [0], "label_smoothing": 0.125}),
            Example("gap-beyond-range", {"logits": [[1.5e308, -1.5e308, 0.0]], "target": [2]}, ("float64",)),
        ),
    ),
    Clause(
        "SCE-3",
        examples=(
            Example("smoothed-padding", {"logits": X2, "target": [0, 1], "label_smoothing": 0.3, "ignore_index": 1, "reduction": "sum"}),
            Example("smoothed", {"logits": X2, "target": [0, 2], "label_smoothing": 0.3, "reduction": "none"}),
            Example("smoothing-1", {"logits": X2, "target": [0, 2], "label_smoothing": 1.0, "reduction": "none"}),
            Example("smoothed-weighted", {"logits": X2, "target": [0, 2], "weight": [1.0, 2.0, 4.0], "label_smoothing": 0.3}),
            Example(
                "smoothed-ignored", {"logits": [[0.0, 1.0], [3.0, 0.5]], "target": [0, -100], "label_smoothing": 0.25, "ignore_index": -100}
            ),
        ),
    ),
    Clause(
        "SCE-4",
        examples=(
            Example("mean-dimensions", {"logits": X3, "target": [[0, 2, 1], [1, 1, 0]], "weight": [0.5, 2.0, 4.0], "ignore_index": 1}),
            Example("mean", {"logits": X2, "target": [0, 2]}),
            Example("mean-weighted", {"logits": X2, "target": [0, 2], "weight": [1.0, 2.0, 4.0]}),
            Example("mean-ignored", {"logits": X2, "target": [0, -100], "ignore_index": -100}),
            Example("ignore-index-0", {"logits": X2, "target": [0, 2], "ignore_index": 0}),
            Example("sum", {"logits": X2, "target": [0, 2], "reduction": "sum"}),
        ),
    ),
    Clause(
        "SCE-5",
        examples=(
            Example("distribution", {"logits": X2, "target": [[0.25, 0.25, 0.5], [0.5, 0.0, 0.5]], "reduction": "none"}),
            Example("unnormalised", {"logits": X2, "target": [[0.25, 0.125, 0.25], [1.0, 0.5, 0.5]], "reduction": "none"}),
        ),
    ),
    Clause(
        "SCE-6",
        backward=True,
        examples=(
            Example("gradient-weighted", {"logits": X2, "target": [0, 2], "weight": [2.0, 1.0, 1.0], "reduction": "sum"}),
            Example("gradient-sure", {"logits": [[8.0, 0.0, 0.0]], "target": [0]}),
            Example("cotangent-0", {"logits": X2, "target": [0, 2], "reduction": "none", "cotangent": [0.0, 1.5]}),
        ),
    ),
    Clause(
        "SCE-7",
        "E1",
        (
            Example("zero-probability-masked", {"logits": [[0.0, -INF]], "target": [[1.0, 0.0]]}),
            Example(
                "zero-weight-masked", {"logits": [[0.0, -INF], [0.5, 1.0]], "target": [1, 0], "weight": [1.0, 0.0], "reduction": "none"}
            ),
        ),
    ),
    Clause(
        "SCE-8",
        "E2",
        (
            Example("masked-other", {"logits": [[0.0, -INF, 1.0]], "target": [0]}),
            Example("masked-target", {"logits": [[0.0, -INF, 1.0]], "target": [1]}),
            Example("masked-smoothed", {"logits": [[0.0, -INF, 1.0]], "target": [0], "label_smoothing": 0.125}),
            Example("all-but-one-masked", {"logits": [[-INF, 3.0, -INF]], "target": [1]}),
            Example("first-block-masked", {"logits": [[-INF] * 40 + [1.0, 0.0]], "target": [41]}),
        ),
    ),
    Clause(
        "SCE-9",
        "E3",
        (
            Example("nan", {"logits": [[0.0, NAN, 1.0], [0.0, 1.0, 2.0]], "target": [0, 1], "reduction": "none"}),
            Example("plus-inf", {"logits": [[INF, 0.0]], "target": [0]}),
            Example("all-masked", {"logits": [[-INF, -INF]], "target": [0]}),
        ),
    ),
    Clause(
        "SCE-10",
        "E4",
        (
            Example("ignored-nan", {"logits": [[NAN, 0.0], [0.0, 0.0]], "target": [-100, 0], "ignore_index": -100}),
            Example("ignored-none", {"logits": [[5.0, 0.0], [0.0, 1.0]], "target": [-1, 0], "ignore_index": -1, "reduction": "none"}),
        ),
    ),
    Clause(
        "SCE-11",
        "E5",
        (Example("all-ignored", {"logits": X2, "target": [-100, -100], "ignore_index": -100}),),
    ),
    Clause(
        "SCE-12",
        "E6",
        (Example("target-V", {"logits": [[1.0, 2.0, 3.0]], "target": [3]}),),
    ),
    Clause(
        "SCE-13",
        "E7",
        (Example("one-class", {"logits": [[2.5], [-7.0]], "target": [0, 0], "label_smoothing": 0.25, "reduction": "none"}),),
    ),
)

INDEX = {"logits": "logits", "target": "index"}
VARIATIONS = (
    Variation("index", INDEX, ("SCE-1", "SCE-6"), {"reduction": "none"}),
    Variation("smoothed", INDEX, ("SCE-3", "SCE-6"), {"label_smoothing": 0.1}),
    Variation(
        "weighted-ignored",
        {"logits": "logits", "target": "some_ignored", "weight": "weight"},
        ("SCE-4", "SCE-6", "SCE-10"),
        {"ignore_index": -100, "label_smoothing": 0.1},
    ),
    Variation("distribution", {"logits": "logits", "target": "probability"}, ("SCE-5", "SCE-6"), {"reduction": "sum"}),
    Variation("dimensions", INDEX, ("SCE-1", "SCE-6"), {"reduction": "mean"}, extra=(2, 3)),
)

OPERATION = Operation(
    name="softmax_cross_entropy",
    prefix="SCE",
    summary="softmax cross-entropy of logits against a class index or a distribution",
    inputs={"logits": Real("N V *"), "target": IndexOrReal("N *", "N V *"), "weight": Real("V", differentiable=False, optional=True)},
    parameters={
        "ignore_index": Whole(None),
        "label_smoothing": Number(0.0, 1.0, 0.0),
        "reduction": OneOf(("mean", "sum", "none")),
    },
    choices=(
        ALL_IGNORED,
        SMOOTHING_MASS,
        TARGET_ENTROPY,
        DENOMINATOR,
        DISTRIBUTION_DENOMINATOR,
    ),
    clauses=CLAUSES,
    variations=VARIATIONS,
    forward=softmax_cross_entropy,
    vjp=softmax_cross_entropy_vjp,
    exact=exact,
    exact_vjp=exact_vjp,
    terms=terms,
    terms_vjp=terms_vjp,
    quick=quick,
    quick_vjp=quick_vjp,
    meaning=meaning,
)
