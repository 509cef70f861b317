"""Calls of every operation for the sweeps: rows in the ways that real inputs are hard, rounded to a dtype."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from conformance.case import Case, rounded
from refimpl.enclosure import FORMATS

Array = NDArray[Any]
Rng = np.random.Generator

SCALES = (0.01, 0.3, 1.0, 5.0, 30.0, 300.0, 1e4)
SHAPES = ("normal", "ties", "two-valued", "peaked", "masked", "offset", "rising", "alike")


def logits(rng: Rng, rows: int, classes: int, shape: str, scale: float) -> Array:
    """Rows of logits of one of the shapes."""
    x = rng.normal(size=(rows, classes)) * scale
    if shape == "ties":
        x = np.round(x / scale) * scale
    elif shape == "two-valued":  # all but one class alike: the rounding errors of a sum have one sign
        x = np.broadcast_to(-np.abs(rng.normal(size=(rows, 1))) * min(scale, 12.0), x.shape).copy()
        x[:, rng.integers(classes)] = 0.0
    elif shape == "peaked":
        x = -np.abs(x) - rng.uniform(0.0, 30.0)
        x[np.arange(rows), rng.integers(0, classes, rows)] = 0.0
    elif shape == "masked":
        x[rng.random(x.shape) < rng.choice([0.1, 0.9])] = -np.inf
        x[:, rng.integers(classes)] = 0.0
    elif shape == "offset":
        x = x + rng.choice([-1.0, 1.0]) * 10.0 ** rng.uniform(1.0, 4.5)
    elif shape == "rising":
        x = np.sort(x, axis=1)
    elif shape == "alike":
        x = np.full_like(x, rng.normal())
    return x


def probabilities(rng: Rng, rows: int, classes: int, positive: bool = False) -> Array:
    """Rows that sum to about 1, of any spread; some zeros unless `positive`."""
    x = logits(rng, rows, classes, str(rng.choice(SHAPES[:4])), float(rng.choice(SCALES[:5])))
    p = np.exp(x - x.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    return np.maximum(p, 1e-30) if positive else np.where(rng.random(p.shape) < 0.1, 0.0, p)


def draw(rng: Rng, operation: str, dtype: str, classes: int, rows: int = 3) -> Case:
    """A random call as a case, with a cotangent that is neither 1 nor uniform."""
    shape, scale = str(rng.choice(SHAPES)), float(rng.choice(SCALES))
    scale = min(scale, FORMATS[dtype].largest / 8)
    x = np.clip(logits(rng, rows, classes, shape, scale), -FORMATS[dtype].largest / 4, FORMATS[dtype].largest / 4)
    x = np.where(x == -FORMATS[dtype].largest / 4, -np.inf, x) if shape == "masked" else x
    index = rng.integers(0, classes, rows)
    inputs: dict[str, Array]
    parameters: dict[str, Any] = {}
    if operation in ("log_softmax", "entropy_with_logits"):
        inputs, output = {"logits": x}, (rows, classes) if operation == "log_softmax" else (rows,)
    elif operation == "softmax_cross_entropy":
        parameters = {"reduction": str(rng.choice(["none", "mean", "sum"])), "label_smoothing": float(rng.choice([0.0, 0.0, 0.1, 0.3]))}
        given = rng.random() < 0.25
        inputs = {"logits": x, "target": probabilities(rng, rows, classes) if given else index}
        if rng.random() < 0.3:
            inputs["weight"] = rng.uniform(0.1, 3.0, classes)
        if not given and rng.random() < 0.3:
            parameters["ignore_index"] = int(index[0])
        output = (rows,) if parameters["reduction"] == "none" else ()
    elif operation == "smoothed_attention_loss":
        parameters = {"smoothing": float(rng.choice([0.0, 0.1, 0.3])), "normalize_length": bool(rng.integers(2))}
        inputs, output = {"logits": x[None], "target": index[None]}, ()
    elif operation == "nll_loss":
        parameters = {"reduction": str(rng.choice(["none", "mean", "sum"]))}
        inputs = {"log_p": -np.abs(x), "target": index}
        if rng.random() < 0.5:
            inputs["weight"] = rng.uniform(0.1, 3.0, classes)
        output = (rows,) if parameters["reduction"] == "none" else ()
    elif operation == "kl_div":
        parameters = {"reduction": str(rng.choice(["none", "mean", "sum", "batchmean"])), "log_target": bool(rng.integers(2))}
        log_q, p = np.log(probabilities(rng, rows, classes, True)), probabilities(rng, rows, classes, True)
        inputs = {"log_q": log_q, "p": np.log(p) if parameters["log_target"] else p}
        output = p.shape if parameters["reduction"] == "none" else ()
    else:
        p = probabilities(rng, rows, classes, operation != "entropy")
        inputs, output = {"p": p}, (rows,)
        if operation != "entropy":
            near = rng.random() < 0.3
            inputs["q"] = p * (1.0 + rng.normal(size=p.shape) * 1e-4) if near else probabilities(rng, rows, classes, True)
    cotangent = np.asarray(rng.normal(size=output) * 1.5 + 0.3)
    narrow = {name: value if value.dtype.kind == "i" else rounded(value, dtype) for name, value in inputs.items()}
    described = f"{operation}/random/{shape}-{scale:g}-V{classes}"
    return Case(described, operation, dtype, narrow, parameters, rounded(cotangent, dtype), ())
