"""The process in which one backend answers: one case at a time, and nothing of it reaches the screen or the parent's memory.

The parent sends a function that makes the `Adapter`, and then a numbered `Request` at a time; the worker replies with a `Description` (or a
`Failure`) under the number 0, then with an `Answer` or a `Refusal` under the number of each request. It leaves when its input ends. That
it may die or hang at any point is the parent's business.
"""

from __future__ import annotations

import os
import pickle
import time
import warnings
from collections.abc import Callable, Mapping

import numpy as np

from conformance.adapter import COTANGENT, Adapter, Array, Arrays, Description, Unsupported, Unusable, describe
from conformance.finding import Answer
from conformance.layouts import Laid, lay
from conformance.link import CannotStart, Failure, Refusal, Reply, Request


def main() -> None:
    """Answer requests on the standard input until it ends; whatever else is printed goes to the standard error."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    warnings.simplefilter("ignore")

    def send(number: int, reply: Reply) -> None:
        pickle.dump((number, reply), replies, protocol=5)
        replies.flush()

    started = start(pickle.load(requests))
    if isinstance(started, Failure):
        send(0, started)
        return
    adapter, description = started
    send(0, description)
    while True:
        try:
            number, request = pickle.load(requests)
        except EOFError:
            os._exit(0)  # a library may take half a second to shut down, and nothing of it is needed
        send(number, reply(adapter, request))


def start(load: Callable[[], Adapter]) -> tuple[Adapter, Description] | Failure:
    """Make the adapter, and ask the library for its versions."""
    try:
        adapter = load()
        return adapter, describe(adapter)
    except CannotStart as error:
        return error.failure
    except Unusable as error:
        return Failure(str(error), misnamed=True)
    except Exception as error:  # a library may fail in any way while it is imported
        return Failure(text_of(error), error.name if isinstance(error, ModuleNotFoundError) else None)


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
        return Refusal(first_line(str(refusal)))
    except Exception as error:  # whatever the library raises is its answer
        return Answer(None, {}, text_of(error), (), False, time.perf_counter() - started)
    differs = not same_answers((output, gradients), (again, gradients_again))
    return Answer(output, gradients, None, modified, differs, seconds, tuple(sorted(adapter.constants)))


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


def same_answers(first: tuple[Array, Arrays], second: tuple[Array, Arrays]) -> bool:
    """Whether two outputs, each with its gradients, are the same bit for bit."""
    (output, gradients), (again, gradients_again) = first, second
    if not same_bits(output, again) or gradients.keys() != gradients_again.keys():
        return False
    return all(same_bits(value, gradients_again[name]) for name, value in gradients.items())


def same_bits(a: Array, b: Array) -> bool:
    """Whether two arrays have the same dtype, shape and bytes (a nan equals itself)."""
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def text_of(error: BaseException) -> str:
    """The first line of an exception, with its type, as a text that can be written anywhere."""
    return ": ".join(filter(None, (type(error).__name__, first_line(str(error)))))


def first_line(text: str) -> str:
    """The first line of a text that a stranger wrote, as one that can be written anywhere; "" where it says nothing."""
    first = next(iter(text.strip().splitlines()), "")
    return first.encode("utf-8", "backslashreplace").decode()  # half a surrogate pair is no character
