"""An adapter that misbehaves in the way that the first logit of a case says: the number of one of `BEHAVIOURS`; see `test_hostile.py`."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import io
import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from conformance.adapter import Adapter, Array, Arrays, Unsupported
from conformance.bound import Promise
from conformance.case import Case, Vector
from conformance.expect import expect
from conformance.finding import Answer

COTANGENT = np.array([[0.5, -1.25, 2.0]])
MIB = 2**20
NOISE = 100 * MIB  # bytes
BALLAST = 3 * 2**10  # MiB; 30 GiB, if nobody stopped it, would end the machine that runs the test

Gave = tuple[Array, dict[str, Array]]
Behaviour = Callable[[Array, Array, dict[str, Array]], Gave]
spoilt = [False]  # whether the process ends at its next call


def honest(logits: Array, output: Array, gradients: dict[str, Array]) -> Gave:
    return output, gradients


def exit_at_once(*_: Any) -> Gave:
    os.write(2, b"out of luck\n")
    os._exit(7)


def abort(*_: Any) -> Gave:
    os.abort()


def segfault(*_: Any) -> Gave:
    ctypes.string_at(0)
    raise AssertionError("still there")


def loop(*_: Any) -> Gave:
    if "HOSTILE_FLAG" in os.environ:  # a file by which a test learns that the loop has begun
        Path(os.environ["HOSTILE_FLAG"]).touch()
    while True:
        pass


def deadlock(*_: Any) -> Gave:
    lock = threading.Lock()
    with lock, lock:
        raise AssertionError("a lock that can be taken twice")


def eat(logits: Array, output: Array, gradients: dict[str, Array]) -> Gave:
    eaten = [np.ones(MIB // 8) for _ in range(BALLAST)]
    assert len(eaten) == BALLAST
    return output, gradients


def eat_in_a_child(logits: Array, output: Array, gradients: dict[str, Array]) -> Gave:
    program = f"import time; eaten = [bytearray(b'x') * {MIB} for _ in range({BALLAST})]; time.sleep(60)"
    subprocess.run([sys.executable, "-c", program], check=True)
    return output, gradients


def ask_for_too_much(*_: Any) -> Gave:
    return np.zeros(2**50), {}


def complain(*_: Any) -> Gave:
    raise RuntimeError("not today\nand a second line")


def no_array(*_: Any) -> Gave:
    return None, {}  # type: ignore[return-value]


def refuse(*_: Any) -> Gave:
    raise Unsupported("it lacks this value")


def wrong_shape(logits: Array, output: Array, gradients: dict[str, Array]) -> Gave:
    return output[..., :-1], gradients


def wrong_dtype(logits: Array, output: Array, gradients: dict[str, Array]) -> Gave:
    return output.astype(np.float32), gradients


def nan_for_everything(logits: Array, output: Array, gradients: dict[str, Array]) -> Gave:
    return np.full_like(output, np.nan), {name: np.full_like(value, np.nan) for name, value in gradients.items()}


def overwrite(logits: Array, output: Array, gradients: dict[str, Array]) -> Gave:
    logits[...] = 0.0
    return output, gradients


def differ(logits: Array, output: Array, gradients: dict[str, Array]) -> Gave:
    return output + np.random.default_rng().integers(1, 1 << 40) * 2.0**-60, gradients


def chatter(logits: Array, output: Array, gradients: dict[str, Array]) -> Gave:
    sys.stdout.write("noise\n" * 1000)
    os.write(1, b"noise\n" * 1000)
    return output, gradients


def flood(logits: Array, output: Array, gradients: dict[str, Array]) -> Gave:
    for _ in range(NOISE // MIB):
        os.write(2, b"x" * MIB)
    return output, gradients


def leak_a_thread(logits: Array, output: Array, gradients: dict[str, Array]) -> Gave:
    def forever() -> None:
        while True:
            time.sleep(0.01)

    threading.Thread(target=forever, daemon=False).start()
    return output, gradients


def leak_a_child(logits: Array, output: Array, gradients: dict[str, Array]) -> Gave:
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    return output, gradients


def close_standard_streams(logits: Array, output: Array, gradients: dict[str, Array]) -> Gave:
    for stream in (0, 1, 2):
        with contextlib.suppress(OSError):  # the second call finds them closed
            os.close(stream)
    return output, gradients


def _pipe() -> io.BufferedWriter:
    """The worker's own way to its parent, which is no business of an adapter's."""
    (found,) = (one for one in gc.get_objects() if isinstance(one, io.BufferedWriter) and isinstance(one.name, int) and one.name > 2)
    return found


def answer_for_another(logits: Array, output: Array, gradients: dict[str, Array]) -> Gave:
    pickle.dump((10**6, Answer(output, gradients, None, (), False, 0.0)), _pipe())
    _pipe().flush()
    return output, gradients


def garbage(*_: Any) -> Gave:
    _pipe().write(b"\xff garbage \n")
    _pipe().flush()
    time.sleep(600)
    raise AssertionError("nobody ended it")


def half_an_answer(logits: Array, output: Array, gradients: dict[str, Array]) -> Gave:
    _pipe().write(pickle.dumps((1, output))[:20])
    _pipe().flush()
    time.sleep(600)
    raise AssertionError("nobody ended it")


def spoil(logits: Array, output: Array, gradients: dict[str, Array]) -> Gave:
    spoilt[0] = True
    return output, gradients


def be_spoilt(logits: Array, output: Array, gradients: dict[str, Array]) -> Gave:
    if spoilt[0]:
        os._exit(9)
    return output, gradients


BEHAVIOURS: tuple[Behaviour, ...] = (
    *(honest, exit_at_once, abort, segfault, loop, deadlock, eat, eat_in_a_child, ask_for_too_much, complain, no_array, refuse),
    *(wrong_shape, wrong_dtype, nan_for_everything, overwrite, differ, chatter, flood, leak_a_thread, leak_a_child),
    *(close_standard_streams, answer_for_another, garbage, half_an_answer, spoil, be_spoilt),
)


def vector(behaviour: Callable[..., Gave], name: str = "") -> Vector:
    """A case whose first logit tells the adapter what to do."""
    logits = np.array([[float(BEHAVIOURS.index(behaviour)), 1.0, 0.5]])
    id = f"log_softmax/edges/{behaviour.__name__.replace('_', '-')}{name}-float64"
    return expect(Case(id, "log_softmax", "float64", {"logits": logits}, {}, COTANGENT, ("LSM-1",)))


def call(operation: str, mode: str, inputs: Arrays, parameters: Mapping[str, Any], cotangent: Array | None) -> Gave:
    logits = inputs["logits"]
    p = np.exp(logits - logits.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    output = np.asarray(np.log(p))
    gradients = {} if cotangent is None else {"logits": cotangent - p * cotangent.sum(-1, keepdims=True)}
    return BEHAVIOURS[int(logits.flat[0])](logits, output, gradients)


ADAPTER = Adapter(
    name="hostile",
    operations=("log_softmax",),
    promises={"float64": Promise("A", compute="float64")},
    call=call,
    versions=lambda: {"hostile": "1.0"},
)
