"""A digest of the kernels' bits: more than a million results of every operation, the same on every machine.

The calls follow from the operations' declarations: each variation's inputs, at class counts around the kernels' block edges, in every
dtype, with parameters and choices drawn by counter. Inputs are made of integers (`conformance.cases.adversarial`). What is hashed of an
output, and of the gradient of each input, is its kind, hi, lo and radius in full, its rounding to the inputs' dtype as far as the radius
decides it, and what the quick phase rounds where the operation has one; little-endian, with one pattern for nan.

`bits.json` beside this file holds what the kernels of this release give. The short digest is of some of the calls, with fewer rows.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from conformance.case import Array, seed_of
from conformance.cases import adversarial, counter
from conformance.cases.counter import Draws
from conformance.cases.random import axes_of, shape_of
from conformance.complaint import Complaint
from refimpl import jit
from refimpl.choices import permitted
from refimpl.enclosure import FORMATS, Enclosure, round_parts
from refimpl.operation import Number, OneOf, Operation, Real, Switch, Variation, Whole
from refimpl.operations import operations

RECORD = Path(__file__).parent / "bits.json"
PACKAGES = ("numba", "llvmlite", "numpy", "ml_dtypes")
INDICES = ("index", "some_ignored")

# Classes, and the elements of a call. Few classes give many outputs; around the edges of the kernels' lanes and blocks a
# few rows are enough; where a call has more than 2^16 elements, threads share it.
MANY, FEW, SHARED = 150_000, 6_000, 70_000
LADDER = (
    *((classes, MANY) for classes in (1, 2, 3, 5)),
    *((classes, FEW) for classes in (4, 8, 15, 16, 17, 31, 32, 33, 64, 100, 127, 255, 256, 257, 511, 513, 1000, 1025, 2049)),
    *((classes, SHARED) for classes in (300, 4233)),
    *((classes, 0) for classes in (16384, 16385)),
)
SHORTER = 16  # a short call has a sixteenth of the elements
LEAST_ROWS = 2


class BitsError(Complaint):
    """The record can't be used, or what was asked for can't be done here; the message says why and what to do."""


@dataclass(frozen=True)
class Digest:
    """What one operation gave: how many elements of outputs and gradients, and the SHA-256 of its inputs and of its results."""

    outputs: int
    gradients: int
    inputs: str
    results: str


@dataclass(frozen=True)
class Call:
    """One call: keywords, among them the inputs, and a cotangent to be drawn once the output's shape is known."""

    arguments: dict[str, Any]
    dtype: str
    seed: int

    def cotangent(self, shape: tuple[int, ...]) -> Array:
        return adversarial.make("cotangent", self.seed, shape, -1, self.dtype)


def digest(operation: Operation, short: bool = False) -> Digest:
    """The digest of an operation's calls."""
    inputs, results = hashlib.sha256(), hashlib.sha256()
    outputs = gradients = 0
    for call in calls(operation, short):
        output = operation.forward(**call.arguments)
        cotangent = call.cotangent(output.shape)
        for array in (*(call.arguments[name] for name in operation.inputs if name in call.arguments), cotangent):
            inputs.update(_canonical(array))
        gradient = operation.vjp(**call.arguments, cotangent=cotangent)
        for enclosure in (output, *(gradient[name] for name in operation.differentiable)):
            for part in (*_parts(enclosure), *_rounded(enclosure, call.dtype)):
                results.update(part)
        for part in _quick(operation, call, cotangent):
            results.update(part)
        outputs += output.size
        gradients += sum(enclosure.size for enclosure in gradient.values())
    return Digest(outputs, gradients, inputs.hexdigest(), results.hexdigest())


def calls(operation: Operation, short: bool = False) -> Iterator[Call]:
    """Each class count in each dtype with each variation, among which the many rows of few classes are shared; if short, with one."""
    many = len(operation.variations)
    for step, (classes, elements) in enumerate(LADDER):
        size = (elements // many if elements == MANY else elements) // (SHORTER if short else 1)
        for number, dtype in enumerate(FORMATS):
            for variation, with_ in enumerate(operation.variations):
                if not short or variation == (step + number) % many:
                    seed = seed_of(f"bits/{operation.name}/{classes}/{dtype}/{variation}")
                    yield _call(operation, with_, seed, classes, max(size // classes, LEAST_ROWS), dtype)


def _call(operation: Operation, variation: Variation, seed: int, classes: int, rows: int, dtype: str) -> Call:
    draws = iter(counter.draw(seed, 0, 64).tolist())
    call: dict[str, Any] = {}
    for name, parameter in operation.parameters.items():
        if isinstance(parameter, Number):
            call[name] = _number(parameter, next(draws))
        elif isinstance(parameter, OneOf):  # a reduction leaves one output, so calls for many outputs have none
            options = ("none",) if "none" in parameter.options and classes <= 5 and next(draws) % 8 else parameter.options
            call[name] = options[next(draws) % len(options)]
        elif isinstance(parameter, Switch):
            call[name] = bool(next(draws) % 2)
        else:
            call[name] = _ignored(variation.parameters.get(name, parameter.default), classes, next(draws))
    for choice in operation.choices:
        call[choice.name] = list(choice.values)[next(draws) % len(choice.values)]
    ignored = [call[name] for name, parameter in operation.parameters.items() if isinstance(parameter, Whole)]
    huge, close, all_ignored = next(draws) % 8 == 0, next(draws) % 4 == 0, next(draws) % 16 == 0
    for number, (name, holds) in enumerate(variation.holds.items()):
        kind = operation.inputs[name]
        axes = axes_of(kind, holds)
        shape = shape_of(axes, max(rows // math.prod(variation.extra), LEAST_ROWS), classes, variation.extra)
        own = seed + number + 1
        if holds in INDICES:
            indices = counter.draw(own, 0, 2 * math.prod(shape)).reshape(*shape, 2)
            call[name] = _indices(indices, classes, ignored[0] if holds == "some_ignored" else None, all_ignored)
        else:
            axis = 1 if axes.startswith("N V") else -1
            content = _content(holds, isinstance(kind, Real))
            content = f"huge {content}" if huge and f"huge {content}" in adversarial.MAKERS else content
            call[name] = adversarial.make(content, own, shape, axis, dtype)
    if close and {"p", "q"} <= call.keys():
        call["q"] = adversarial.near(call["p"], seed + 100, dtype)
    return Call(permitted(operation, call), dtype, seed + 200)


def _content(holds: str, probability_or_not: bool) -> str:
    """What an input of a variation is fed with: zeros do no harm here, and a target may not hold what is no probability."""
    if holds in ("probability", "positive_probability"):
        return "probability" if probability_or_not else "target probability"
    return holds


def _number(kind: Number, draw: int) -> float:
    """The ends, the default, ordinary numbers, and some that are nearly an end."""
    between = kind.low + (kind.high - kind.low) * ((draw >> 11) * 2.0**-53)
    table = (kind.low, kind.default, 0.1, 0.25, kind.high, 2.0**-1074, 2.0**-60, 1.0 - 2.0**-53, between, between)
    return min(max(table[draw % len(table)], kind.low), kind.high)


def _ignored(declared: int | None, classes: int, draw: int) -> int | None:
    """The index that is ignored, where one is declared: that one, or a class."""
    return None if declared is None else (declared, 0, classes - 1)[draw % 3]


def _indices(draws: Draws, classes: int, ignored: int | None, all_ignored: bool) -> Array:
    """A class for each pair of draws; where one is to be ignored, in a quarter of the places, or in all."""
    classes_there = (draws[..., 0] % np.uint64(classes)).astype(np.int64)
    if ignored is None:
        return classes_there
    return np.where((draws[..., 1] % np.uint64(4) == 0) | all_ignored, np.int64(ignored), classes_there)


def _parts(enclosure: Enclosure) -> Iterator[bytes]:
    yield np.ascontiguousarray(enclosure.kind).tobytes()
    for part in (enclosure.hi, enclosure.lo, enclosure.radius):
        yield _canonical(part)


def _rounded(enclosure: Enclosure, dtype: str) -> Iterator[bytes]:
    """The enclosure rounded to a dtype, with 0 where only the exact form could decide, and where that is."""
    values, undecided = round_parts(enclosure.kind, enclosure.hi, enclosure.lo, enclosure.radius, FORMATS[dtype])
    yield _canonical(np.where(undecided, 0.0, values))
    yield undecided.tobytes()


def _quick(operation: Operation, call: Call, cotangent: Array) -> Iterator[bytes]:
    """The rounded output and gradients by the quick phase, where the operation has one that applies."""
    if operation.quick is None or operation.quick_vjp is None:
        return
    target = FORMATS[call.dtype]
    output = operation.quick(target, **call.arguments)
    both = operation.quick_vjp(target, cotangent=cotangent, **call.arguments)
    for array in (output, *(() if both is None else (both[0], *both[1].values()))):
        if array is not None:
            yield _canonical(array)


def _canonical(array: Array) -> bytes:
    """An array's numbers as little-endian int64 or float64 in C order, every nan as the same."""
    if array.dtype.kind in "iu":
        return array.astype("<i8").tobytes()
    wide = array.astype("<f8")  # a copy
    wide[np.isnan(wide)] = np.nan
    return wide.tobytes()


def limit_threads(count: int) -> None:
    """Use no more than that many processors in this process, and so as many threads; raises `BitsError` where that can't be."""
    if not hasattr(os, "sched_setaffinity"):
        raise BitsError(f"{platform.system()} can't limit a process to some processors; leave out --threads")
    there = sorted(os.sched_getaffinity(0))
    if count > len(there):
        raise BitsError(f"--threads is {count}, and this process may use {len(there)} processors; write at most that")
    os.sched_setaffinity(0, there[:count])


def total(found: Mapping[str, Digest]) -> str:
    """One digest for all: the SHA-256 of the lines "operation results"."""
    return hashlib.sha256("".join(f"{name} {one.results}\n" for name, one in found.items()).encode()).hexdigest()


def describe(name: str, one: Digest) -> str:
    """A line on an operation."""
    return f"{name:<24} {one.outputs:>9,} outputs {one.gradients:>10,} gradients  {one.results}"


def machine() -> str:
    """What the bits might depend on, and must not: the platform, what is compiled for, the threads, and versions."""
    versions = ", ".join(f"{package} {version(package)}" for package in PACKAGES)
    python = f"Python {platform.python_version()}"
    return f"{platform.system()} {platform.machine()}, compiled for {jit.target()}, threads {jit.threads()}, {python}, {versions}"


def differences(found: Mapping[str, Digest], recorded: Mapping[str, Digest]) -> list[str]:
    """A sentence on each operation that isn't as recorded, and if there is one, a last one on this machine."""
    names = dict.fromkeys((*recorded, *found))
    lines = [line for name in names if (line := _difference(name, recorded.get(name), found.get(name)))]
    return [*lines, f"this is {machine()}"] if lines else []


def _difference(name: str, recorded: Digest | None, found: Digest | None) -> str:
    """What is wrong with an operation, or nothing."""
    if recorded == found:
        return ""
    if recorded is None or found is None:
        where = "the record has no such operation" if recorded is None else "the record has it, and there is no such operation"
        return f"{name}: {where}; after a change that is meant, `lossref bits --write` records anew"
    if recorded.inputs != found.inputs:
        return f"{name}: its inputs have the digest {found.inputs}, recorded is {recorded.inputs}: they are made differently here"
    if recorded.results != found.results:
        return f"{name}: its results have the digest {found.results}, recorded is {recorded.results}, from the same inputs"
    return f"{name}: the record has other counts of outputs or gradients; `lossref bits --write` records anew"


def read(record: Path | None = None) -> dict[str, dict[str, Digest]]:
    """The recorded digests of all operations, whole and short; raises `BitsError` for a file that holds something else."""
    record = RECORD if record is None else record
    try:
        text = json.loads(record.read_text(encoding="utf-8"))
        return {size: {name: Digest(**fields) for name, fields in text[size].items()} for size in ("whole", "short")}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BitsError(f"{record} holds no digests ({error}); reinstall lossref, or record them with `lossref bits --write`") from error


def write(record: Path | None = None) -> dict[str, dict[str, Digest]]:
    """Record what the kernels give here."""
    made = {size: {name: digest(one, size == "short") for name, one in operations().items()} for size in ("whole", "short")}
    text = {size: {name: asdict(one) for name, one in found.items()} for size, found in made.items()}
    (RECORD if record is None else record).write_text(json.dumps(text, indent=1) + "\n", encoding="utf-8")
    return made
