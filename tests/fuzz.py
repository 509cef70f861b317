"""Hostile files for the reader of vectors: what it takes is what stands in the file, and the rest it refuses by name.

    python -m tests.fuzz --count 100000 --seed 1

Each mutant is read three ways: as a sealed folder, as files that a forger sealed again, and as a page, tensors or a ledger alone.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import json
import random
import re
import resource
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from conformance import storage, vectors
from conformance.case import Vector, VectorError
from conformance.expect import expect
from conformance.storage import ledger
from conformance.storage.pages import page
from conformance.storage.seal import digest_of
from conformance.storage.text import line
from tests import squares
from tests.squares_files import small

Files = dict[str, bytes]
Mutation = Callable[[random.Random, bytes], bytes]

GROUPS = ("edges", "random", "regression")
MESSAGE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./-]*: \S")  # a file, some of which only a mutated manifest names
SECONDS = 5.0  # of the processor for one mutant; a recipe of the largest size takes less than one
BYTES = 2**30  # by which the process may grow, for the largest recipe and its draws

STRANGE: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 16, 17, 2**31, 2**40, 2**63, 2**64, -(2**63), 10**30, 1.5, 1e308, -0.0),
    *("", "x", "nan", "inf", "-inf", "0x1p+0", "0x1p+1023", "0x1p+1024", "0x1p-1074", "0x1.8p-1074", "-0x0p+0", "0X1P+0", "1.0"),
    *("../x", "/etc/passwd", "a\0b", "\ud800", "float64", "float32", "int64", "error", "value", "2026.11", "squares/edges/x-float64"),
    *([], {}, [[]], ["0x1p+0"], ["0x0p+0"] * 16, ["0x1p+0"] * 17, [0], [2**40, 2**40], [2**22], [1, -1], {"": 0}, {"a": {}}),
)
TEXTS: tuple[bytes, ...] = (
    *(b"NaN", b"Infinity", b"-Infinity", b"1e400", b"1" * 5000, b"[" * 100_000, b'{"a":' * 50_000, b"\xff\xfe", b"\0", b'"\\ud800"'),
    *(b'"format":1,', b'"id":"x",', b"-0", b"0.0", b"01", b"+1", b"\n", b" ", b",", b'"', b"}", b"]"),
)


def flipped(draws: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(draws.choice((1, 1, 1, 2, 8))):
        changed[draws.randrange(len(changed))] ^= 1 << draws.randrange(8)
    return bytes(changed)


def cut(draws: random.Random, data: bytes) -> bytes:
    first, last = sorted((draws.randrange(len(data) + 1), draws.randrange(len(data) + 1)))
    return draws.choice((data[:first], data[first:], data[:first] + data[last:], data[:last] + data[first:], data + data[first:last]))


def spliced(draws: random.Random, data: bytes) -> bytes:
    at = draws.randrange(len(data) + 1)
    return data[:at] + draws.choice(TEXTS) + data[at + draws.choice((0, 0, 1, 5)) :]


def lengthened(draws: random.Random, data: bytes) -> bytes:
    """Another header length before the rest of a file of tensors."""
    return draws.choice((0, 2, 7, 2**16, 2**31, 2**62, 2**64 - 1, len(data) - 8, len(data) - 7)).to_bytes(8, "little") + data[8:]


def restructured(draws: random.Random, data: bytes) -> bytes:
    """JSON with one thing changed, in its canonical form; a manifest with the digest that it has then."""
    value = json.loads(data)
    _change(draws, value)
    if isinstance(value, dict) and "digest" in value and draws.randrange(2):
        with contextlib.suppress(LookupError, TypeError, AttributeError, ValueError):  # it isn't a manifest's form any more
            value["digest"] = digest_of(value)
    if isinstance(value, dict) and isinstance(value.get("sets"), list):
        with contextlib.suppress(LookupError, TypeError):  # it isn't an index's form any more
            lines = [(line(one["parameters"]), [line(vector) for vector in one["vectors"]]) for one in value["sets"]]
            return page({name: one for name, one in value.items() if name != "sets"}, lines)
    return (json.dumps(value, sort_keys=True, indent=1) + "\n").encode() if b'"digest"' in data else (line(value) + "\n").encode()


def retitled(draws: random.Random, data: bytes) -> bytes:
    """A file of tensors whose header has one thing changed, and a fitting length."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    _change(draws, header)
    text = line(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[8 + size :]


def _change(draws: random.Random, value: Any) -> None:
    holders: list[Any] = []
    _collect(value, holders)
    for _ in range(draws.choice((1, 1, 1, 2, 3))):
        one, other = draws.choice(holders), draws.choice(holders)
        if not one or not other:
            continue
        key, source = _key(draws, one), _key(draws, other)
        action = draws.randrange(5)
        if action == 0:
            del one[key]
        elif action == 1:
            one[key] = copy.deepcopy(other[source])  # of another place
        elif action == 2 and isinstance(one, list):
            one.insert(draws.randrange(len(one) + 1), one[key])
        elif action == 3 and isinstance(one, dict):
            one[draws.choice(("extra", "kind", "lo", "where", "terms", "total", "recipe", "values", "layouts", "../x", str(source)))] = one[
                key
            ]
        else:
            one[key] = draws.choice(STRANGE)


def _collect(value: Any, holders: list[Any]) -> None:
    if isinstance(value, dict | list):
        holders.append(value)
        for one in value.values() if isinstance(value, dict) else value:
            _collect(one, holders)


def _key(draws: random.Random, holder: Any) -> Any:
    return draws.choice(sorted(holder)) if isinstance(holder, dict) else draws.randrange(len(holder))


RAW: tuple[Mutation, ...] = (flipped, cut, spliced)
OF_JSON: tuple[Mutation, ...] = (*RAW, restructured, restructured, restructured)
OF_TENSORS: tuple[Mutation, ...] = (*RAW, lengthened, retitled, retitled)


@dataclass
class Tally:
    """What came of the mutants: how many were refused, taken as they stand, or unchanged; and the slowest."""

    counts: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0


def source() -> Files:
    """The files of a folder of small vectors, with every part that a vector can have."""
    made = [expect(case, squares.OPERATION) for case in small()]
    made = [_with_everything(vector) if vector.case.group != "edges" else vector for vector in made]
    with TemporaryDirectory() as folder:
        vectors.write(made, folder)
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def _with_everything(vector: Vector) -> Vector:
    def terms(count: int) -> np.ndarray:
        return np.outer(np.arange(1.0, count + 1), [1.0, 0.0, 0.1])

    expectations = tuple(
        replace(
            one,
            output=replace(one.output, terms=terms(one.output.values.size)),
            gradients={name: replace(e, terms=terms(e.values.size)) for name, e in one.gradients.items()},
        )
        for one in vector.expectations
    )
    case = replace(vector.case, layouts={"logits": "strided"}, supersedes=vector.case.id.replace("-float", "-old-float"))
    return Vector(case, expectations)


def attack(files: Mapping[str, bytes], count: int, seed: int) -> Tally:
    """Reads `count` mutants; raises `AssertionError` for one that is taken for what it isn't, and whatever else a reader lets through."""
    draws, tally = random.Random(seed), Tally()
    before = _grown()
    with TemporaryDirectory() as name:
        folder = Path(name)
        for path, data in files.items():
            (folder / path).parent.mkdir(exist_ok=True)
            (folder / path).write_bytes(data)
        names = [path for path in files if path.endswith((".json", ".safetensors")) and not path.startswith("schema")]
        for _ in range(count):
            path = draws.choice(names)
            mutation = draws.choice(OF_TENSORS if path.endswith("safetensors") else OF_JSON)
            mutant = mutation(draws, files[path])
            begun = time.process_time()
            try:
                outcome = _outcome(draws, folder, files, path, mutant)
            except VectorError as error:
                outcome = _refused(error)
            tally.counts[f"{path.rpartition('.')[2]} {mutation.__name__}: {outcome}"] += 1
            tally.slowest = max(tally.slowest, time.process_time() - begun)
            assert tally.slowest < SECONDS, f"{path}, {mutation.__name__}: {tally.slowest} seconds"
    assert _grown() - before < BYTES
    return tally


def _outcome(draws: random.Random, folder: Path, files: Mapping[str, bytes], path: str, mutant: bytes) -> str:
    if mutant == files[path]:
        return "unchanged"
    if path.count("/") == 0 or draws.randrange(10) == 0:  # as a sealed folder: no change passes
        (folder / path).write_bytes(mutant)
        try:
            digest = storage.read_manifest(folder)["digest"]
            storage.verified(folder)
        finally:
            (folder / path).write_bytes(files[path])
        assert digest != json.loads(files[storage.MANIFEST])["digest"], f"the seal lets a changed {path} pass"
        return "another digest"
    group = path.split("/")[1].partition(".")[0]
    pair = {f"squares/{group}.{suffix}": files[f"squares/{group}.{suffix}"] for suffix in ("json", "safetensors")}
    pair[path] = mutant
    if draws.randrange(4) == 0:
        storage.manifest(pair)  # what seals may be asked to seal anything
    index, data = pair.values()
    return _faithful(group, index, data)


def _faithful(group: str, index: bytes, data: bytes) -> str:
    """What is taken stands in the files: written again it gives the same bytes, but for the notes, which are words."""
    taken = storage.decode("squares", group, index, data)
    again = storage.encode("squares", group, taken)
    for vector in taken:
        dict(vector.case.inputs)  # makes what is to be made
    lines, others = (text.split(b"\n")[1:] for text in (index, again[f"squares/{group}.json"]))
    assert lines == others, "what was read isn't what stands in the index"
    assert data == again[f"squares/{group}.safetensors"], "what was read isn't what the tensors hold"
    return "taken as it stands"


def _refused(error: VectorError) -> str:
    if MESSAGE.match(str(error)) is None:
        raise AssertionError("a message that names no file") from error
    return "refused"


def attack_ledger(data: bytes, count: int, seed: int) -> Tally:
    """The same for the ledger alone, which the seal covers otherwise."""
    draws, tally = random.Random(seed), Tally()
    for _ in range(count):
        mutation = draws.choice(OF_JSON)
        mutant = mutation(draws, data)
        try:
            taken = ledger.read(mutant)
            assert ledger.write(taken) == mutant
            outcome = "taken as it stands"
        except VectorError as error:
            outcome = _refused(error)
        tally.counts[f"ledger {mutation.__name__}: {outcome}"] += 1
    return tally


def _grown() -> int:
    """The most memory that the process ever had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    """Attack as often as asked, and say what came of it."""
    parser = argparse.ArgumentParser(description="Read mutated files of vectors.")
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    files = source()
    tally = attack(files, given.count - given.count // 10, given.seed)
    tally.counts += attack_ledger(files[storage.LEDGER], given.count // 10, given.seed).counts
    for outcome, times in sorted(tally.counts.items()):
        print(f"{times:7d}  {outcome}")  # noqa: T201  (a report)
    print(f"{sum(tally.counts.values())} mutants; the slowest took {tally.slowest:.2f} s")  # noqa: T201


if __name__ == "__main__":
    main()
