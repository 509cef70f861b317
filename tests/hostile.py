"""An adapter that misbehaves, as the first logit of a case tells it to; see `test_runner.py`."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from conformance.adapter import Adapter, Array, Arrays, Unsupported
from conformance.bound import Promise

HONEST, CRASH, SEGFAULT, LOOP, RAISE, SHAPE, OVERWRITE, RANDOM, NO_ARRAY, REFUSE, CHATTER = range(11)


def call(
    operation: str, mode: str, inputs: Arrays, parameters: Mapping[str, Any], cotangent: Array | None
) -> tuple[Array, dict[str, Array]]:
    logits = inputs["logits"]
    p = np.exp(logits - logits.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    output = np.asarray(np.log(p))
    gradients = {} if cotangent is None else {"logits": cotangent - p * cotangent.sum(-1, keepdims=True)}
    match int(logits.flat[0]):
        case 1:
            os.write(2, b"out of luck\n")
            os._exit(7)
        case 2:
            os.abort()
        case 3:
            if "HOSTILE_FLAG" in os.environ:  # a file by which a test learns that the loop has begun
                Path(os.environ["HOSTILE_FLAG"]).touch()
            while True:
                time.sleep(0.01)
        case 4:
            raise RuntimeError("not today\nand a second line")
        case 5:
            return output[..., :-1], gradients
        case 6:
            logits[...] = 0.0
        case 7:
            return output + np.random.default_rng().integers(1, 1 << 40) * 2.0**-60, gradients
        case 8:
            return None, {}  # type: ignore[return-value]
        case 9:
            raise Unsupported("it lacks this value")
        case 10:
            sys.stdout.write("noise\n" * 1000)
            os.write(1, b"noise\n" * 1000)
    return output, gradients


ADAPTER = Adapter(
    name="hostile",
    operations=("log_softmax",),
    promises={"float64": Promise("A", compute="float64")},
    call=call,
    versions=lambda: {"hostile": "1.0"},
)
