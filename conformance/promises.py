"""Promises as words, for the command line and for a user's test: `float32=A`, `float16=N,compute=float32,summation=lanes:8`.

DTYPE=CLASS[,FIELD=VALUE...]

CLASS                    R, S, A, B or N; `conformance.bound` says what each allows
compute=DTYPE            what the function computes in; without it the input's dtype, float32 for bfloat16 and float16
store=DTYPE              what intermediate results are rounded to; without it that of compute
summation=KIND[:LANES[:BLOCK]]    how a sum is ordered: sequential (without it), lanes:8, pairwise:4:128, blocked:..., online:...
flush=true               subnormal numbers may become zero
exp=X, log=X, gap=X      the errors of exp and log, and how often that of a gap counts (see `conformance.bound.Promise`)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, cast

from conformance.bound import Accuracy, Promise
from conformance.complaint import Complaint
from conformance.summation import Kind, Summation
from refimpl.enclosure import FORMATS


class PromiseError(Complaint, ValueError):
    """A promise that can't be made; the message names it, what is wrong and what to write."""


def parse(text: str) -> tuple[str, Promise]:
    """The dtype and the promise that a text like `float32=A,compute=float64` states; raises `PromiseError`."""
    dtype, given, words = text.partition("=")
    if not given:
        raise PromiseError(f"the promise {text!r} names no dtype; write it like float32=A")
    return dtype, promise(dtype, words)


def promise(dtype: str, words: str = "A") -> Promise:
    """The promise that `words`, like "A,compute=float64", state for inputs of `dtype`; raises `PromiseError`."""
    text = f"{dtype}={words}"
    if dtype not in FORMATS:
        raise PromiseError(f"the promise {text!r} is for {dtype!r}; promise one of {', '.join(FORMATS)}")
    accuracy, *rest = words.split(",")
    stated: dict[str, Any] = {"compute": "float32" if FORMATS[dtype].precision < FORMATS["float32"].precision else dtype}
    for word in rest:
        name, given, value = word.partition("=")
        if name not in _READ or not given:
            raise PromiseError(f"the promise {text!r} has {word!r}; write FIELD=VALUE with one of the fields {', '.join(_READ)}")
        try:
            stated[name] = _READ[name](value)
        except ValueError as error:
            raise PromiseError(f"the promise {text!r}: {name} is {value!r} ({error})") from error
    try:
        return Promise(cast("Accuracy", accuracy), **stated)
    except (TypeError, ValueError) as error:
        raise PromiseError(f"the promise {text!r}: {error}") from error


def spelled(dtype: str, made: Promise) -> str:
    """The shortest text from which `parse` makes that promise."""
    plain = promise(dtype, made.accuracy)
    words = [f"{dtype}={made.accuracy}"]
    for field in fields(Promise):
        value = getattr(made, field.name)
        if value != getattr(plain, field.name):
            words.append(f"{field.name}={_word(value)}")
    return ",".join(words)


def _word(value: Any) -> str:
    if not isinstance(value, Summation):
        return str(value).lower()
    text = f"{value.kind}:{value.lanes}:{value.block}"
    while text.endswith(":1"):
        text = text.removesuffix(":1")
    return text


def _summation(text: str) -> Summation:
    kind, *sizes = text.split(":")
    if len(sizes) > 2:
        raise ValueError("write KIND:LANES:BLOCK")
    return Summation(cast("Kind", kind), *(int(size) for size in sizes))


def _flag(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError("write true or false")
    return text == "true"


_READ: Mapping[str, Callable[[str], Any]] = {
    "compute": str,
    "store": str,
    "summation": _summation,
    "flush": _flag,
    "exp": float,
    "log": float,
    "gap": float,
}
