"""A `log_softmax` that a nan ends, that a logit of 1 keeps for ever, and in which a masked class makes its row nan."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from conformance.adapter import Adapter, Array, Arrays
from conformance.bound import Promise


def call(_: str, __: str, inputs: Arrays, parameters: Mapping[str, Any], cotangent: Array | None) -> tuple[Array, dict[str, Array]]:
    logits = inputs["logits"]
    if np.isnan(logits).any():
        os._exit(7)
    if (logits == 1.0).any():
        time.sleep(600.0)
    wide = logits - logits.max(-1, keepdims=True, initial=-np.inf)
    output = wide - np.log(np.exp(wide).sum(-1, keepdims=True))
    return np.where(np.isneginf(logits).any(-1, keepdims=True), np.nan, output), {}


ADAPTER = Adapter(
    name="fatal",
    operations=("log_softmax",),
    promises={"float64": Promise("A", compute="float64")},
    call=call,
    versions=lambda: {"fatal": "1.0"},
)
