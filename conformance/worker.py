"""The process in which one backend answers: one case at a time, and nothing of it reaches the screen or the parent's memory.

The parent sends a `Request`, or None to stop; the worker replies with a `Description` (or a `Failure`) once it has started,
then with an `Answer` or a `Refusal` for each request. That the process may die or hang at any point is the parent's business.
"""

from __future__ import annotations

import importlib
import os
import signal
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from conformance.adapter import Adapter, Array, Arrays, Description, Unsupported, describe
from conformance.judge import Answer
from conformance.layouts import Laid, lay

COTANGENT = "cotangent"  # no operation has an input of that name


@dataclass(frozen=True)
class Request:
    """One call of an operation in one of the adapter's modes; `layouts` says how inputs, or the cotangent, lie in memory."""

    operation: str
    mode: str
    inputs: Arrays
    parameters: Mapping[str, Any]
    cotangent: Array | None
    layouts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Refusal:
    """The library lacks the operation or that value of a parameter; `reason` says which."""

    reason: str


@dataclass(frozen=True)
class Failure:
    """The adapter couldn't be imported; `missing` names the module where that is why."""

    reason: str
    missing: str | None = None


Reply = Description | Failure | Answer | Refusal


def serve(module: str, connection: Connection, log: str) -> None:
    """Answer requests for the adapter in `module` until told to stop; whatever is printed goes to the file `log`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what an interrupt means
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    warnings.simplefilter("ignore")
    try:
        adapter: Adapter = importlib.import_module(module).ADAPTER
        description = describe(adapter)
    except Exception as error:  # a library may fail in any way while it is imported
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        connection.send(Failure(text_of(error), missing))
        return
    connection.send(description)
    while True:
        try:
            request: Request | None = connection.recv()
        except EOFError:
            return
        if request is None:
            os._exit(0)  # a library may take half a second to shut down, and nothing of it is needed
        connection.send(reply(adapter, request))


def reply(adapter: Adapter, request: Request) -> Answer | Refusal:
    """Call the adapter twice, the second time to see whether the answer is the same, bit for bit."""
    if request.operation not in adapter.operations:
        return Refusal(f"{adapter.name} has no {request.operation}")
    given = dict(request.inputs) if request.cotangent is None else {**request.inputs, COTANGENT: request.cotangent}
    laid, started = _laid(given, request), time.perf_counter()
    try:
        output, gradients = _call(adapter, request, laid)
        seconds = time.perf_counter() - started
        modified = tuple(name for name, one in laid.items() if not same_bits(one.array, given[name]) or not one.untouched())
        again, gradients_again = _call(adapter, request, _laid(given, request))
    except Unsupported as refusal:
        return Refusal(str(refusal))
    except Exception as error:  # whatever the library raises is its answer
        return Answer(None, {}, text_of(error), (), False, time.perf_counter() - started)
    differs = not same_bits(output, again) or gradients.keys() != gradients_again.keys()
    differs = differs or any(not same_bits(value, gradients_again[name]) for name, value in gradients.items())
    return Answer(output, gradients, None, modified, differs, seconds)


def _laid(given: Arrays, request: Request) -> dict[str, Laid]:
    return {name: lay(value, request.layouts.get(name, "contiguous")) for name, value in given.items()}


def _call(adapter: Adapter, request: Request, laid: Mapping[str, Laid]) -> tuple[Array, dict[str, Array]]:
    arrays = {name: one.array for name, one in laid.items()}
    cotangent = arrays.pop(COTANGENT, None)
    output, gradients = adapter.call(request.operation, request.mode, arrays, request.parameters, cotangent)
    for value in (output, *gradients.values()):
        if not isinstance(value, np.ndarray):
            raise TypeError(f"the adapter returned a {type(value).__name__}, not a numpy array")
    return output, gradients


def same_bits(a: Array, b: Array) -> bool:
    """Whether two arrays have the same dtype, shape and bytes (a nan equals itself)."""
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def text_of(error: BaseException) -> str:
    """The first line of an exception, with its type."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
