"""A reader of the vectors written from `vectors/README.md` alone: no module of ours, no numpy, no safetensors."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator
from decimal import Decimal, localcontext
from functools import cache
from math import inf, isfinite, prod
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[1] / "vectors"
SIZES = {"F64": 8, "I64": 8, "F32": 4, "U32": 4, "BF16": 2, "F16": 2, "U16": 2, "U8": 1}
LETTERS = {"F64": "d", "I64": "q", "F32": "f", "U32": "I", "F16": "e", "U16": "H", "U8": "B"}
CODES = {"float64": "F64", "float32": "F32", "bfloat16": "BF16", "float16": "F16", "int64": "I64"}
MASK = 2**64 - 1


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def root(records: list[bytes]) -> bytes:
    nodes = [sha(b"\0" + record) for record in records]

    def over(part: list[bytes]) -> bytes:
        if len(part) == 1:
            return part[0]
        k = 1
        while 2 * k < len(part):
            k *= 2
        return sha(b"\1" + over(part[:k]) + over(part[k:]))

    return over(nodes) if nodes else sha(b"")


def climb(record: bytes, position: int, count: int, path: list[str]) -> bytes:
    node, p, q, beside = sha(b"\0" + record), position, count - 1, iter(path)
    while q > 0:
        if p % 2:
            node = sha(b"\1" + bytes.fromhex(next(beside)) + node)
        elif p < q:
            node = sha(b"\1" + node + bytes.fromhex(next(beside)))
        p, q = p // 2, q // 2
    assert next(beside, None) is None
    return node


@cache
def manifest() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / "manifest.json").read_bytes())
    return found


def records(index: bytes) -> list[bytes]:
    found, parameters = [], b""
    for line in index.split(b"\n"):
        if line.startswith(b'{"parameters":') and line.endswith(b'"vectors":['):
            parameters = line[len(b'{"parameters":') : -len(b',"vectors":[')]
        elif line.startswith(b'{"arrays":'):
            found.append(parameters + b"\n" + line.rstrip(b","))
    return found


def bfloat16(value: float) -> int:
    """The bits of a binary64 rounded once to bfloat16."""
    if value != value:
        return 0x7FC0
    sign, magnitude = struct.unpack("<Q", struct.pack("<d", value))[0] >> 63 << 15, abs(value)
    if magnitude == 0.0 or magnitude == inf:
        return sign | (0x7F80 if magnitude else 0)
    exponent = max(-126, (struct.unpack("<Q", struct.pack("<d", magnitude))[0] >> 52) - 1023)
    units = round(magnitude / 2.0 ** (exponent - 7))  # a power of two: the division is exact; halves go to the even number
    return sign | ((exponent + 126 << 7) + units)


def packed(values: list[Any], code: str) -> bytes:
    if code == "BF16":
        return struct.pack(f"<{len(values)}H", *map(bfloat16, values))
    return struct.pack(f"<{len(values)}{LETTERS[code]}", *values)


def unpacked(data: bytes, code: str) -> list[Any]:
    if code == "BF16":
        return [struct.unpack("<f", struct.pack("<I", half << 16))[0] for half in struct.unpack(f"<{len(data) // 2}H", data)]
    return list(struct.unpack(f"<{len(data) // SIZES[code]}{LETTERS[code]}", data))


def number(text: str) -> float:
    return float.fromhex(text) if isinstance(text, str) else text


@cache
def tensors(name: str) -> dict[str, bytes]:
    data = (FOLDER / name).read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    body = data[8 + length :]
    found = {}
    for tensor, entry in json.loads(data[8 : 8 + length]).items():
        begin, end = entry["data_offsets"]
        found[tensor] = body[begin:end]
        assert len(found[tensor]) == entry["shape"][0] * SIZES[entry["dtype"]]
        assert tensor == f"{entry['dtype']}.{sha(found[tensor]).hex()[:32]}"
    return found


def mix(z: int) -> int:
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & MASK
    z = (z ^ z >> 27) * 0x94D049BB133111EB & MASK
    return z ^ z >> 31


def draw(seed: int, n: int) -> int:
    return mix(seed + (n + 1) * 0x9E3779B97F4A7C15 & MASK)


def quotients(weights: list[int], shape: list[int], axis: int, zero: bool) -> list[float]:
    axis %= len(shape)
    inner = prod(shape[axis + 1 :])
    result = [0.0] * len(weights)
    for start in range(len(weights)):
        if start // inner % shape[axis] == 0:
            places = [start + k * inner for k in range(shape[axis])]
            total = sum(weights[i] for i in places)
            if zero and total == 0:
                weights[places[0]] = total = 1
            for i in places:
                result[i] = weights[i] / total
    return result


def made(recipe: dict[str, Any], shape: list[int], code: str) -> bytes:
    size, seed, holds = prod(shape), recipe["seed"], recipe["holds"]
    values = [number(value) for value in recipe.get("values", [])]
    u = [draw(seed, 2 * i) for i in range(size)]
    v = [draw(seed, 2 * i + 1) for i in range(size)]
    below, axis = recipe.get("below", 0), recipe.get("axis", -1)
    result: list[Any]
    if holds == "logits":
        sums = [(x & 65535) + (x >> 16 & 65535) + (x >> 32 & 65535) + (x >> 48) for x in u]
        result = [((s - 131070) * 2**30 + y % 2**30) * 5 / 2**46 for s, y in zip(sums, v, strict=True)]
    elif holds == "probability":
        result = quotients([0 if y % 8 == 0 else (1 + x % 65536) ** 2 for x, y in zip(u, v, strict=True)], shape, axis, True)
    elif holds == "positive_probability":
        result = quotients([32768 + x % 65536 for x in u], shape, axis, False)
    elif holds == "log_probability":
        result = [-(1 + x % 65536) / 4096 for x in u]
    elif holds == "weight":
        result = [0.0 if y % 8 == 0 else (2 + x % 15) / 8 for x, y in zip(u, v, strict=True)]
    elif holds == "index":
        result = [x % below for x in u]
    elif holds == "some_ignored":
        result = [recipe.get("ignored", 0) if y % 4 == 0 else x % below for x, y in zip(u, v, strict=True)]
    elif holds == "cotangent":
        result = [(-1 if x % 2 else 1) * (1 + (1 + (seed % 7 + i) % 7) / 8) for i, x in enumerate(u)]
    elif holds == "repeat":
        result = [values[i % len(values)] for i in range(size)]
    else:
        assert holds == "step"
        result = [values[0] if i < below else values[1 + i % (len(values) - 1)] for i in range(size)]
    return packed(result, code)


def vectors() -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    for name in manifest()["files"]:
        if "root" in manifest()["files"][name]:
            for one in json.loads((FOLDER / name).read_bytes())["sets"]:
                for vector in one["vectors"]:
                    yield name.replace(".json", ".safetensors"), one["parameters"], vector


def test_the_digest_covers_every_file_and_every_vector() -> None:
    lines = [f"lossref vectors {manifest()['version']} format 1"]
    for name in sorted(manifest()["files"], key=str.encode):
        entry, data = manifest()["files"][name], (FOLDER / name).read_bytes()
        assert (len(data), sha(data).hex()) == (entry["bytes"], entry["sha256"]), name
        lines.append(f"file {name} {len(data)} {sha(data).hex()}")
        if "root" in entry:
            assert root(records(data)).hex() == entry["root"], name
            lines.append(f"vectors {name} {len(records(data))} {entry['root']}")
    assert root([line.encode() for line in lines]).hex() == manifest()["digest"]


def test_the_readme_states_the_tree() -> None:
    text = (FOLDER / "README.md").read_text()
    for names, stated in {"": "none", "a": "`a`", "abc": "`a`, `b`, `c`", "abcde": "`a`, `b`, `c`, `d`, `e`"}.items():
        assert f"| {stated} | `{root([name.encode() for name in names]).hex()}` |" in text
    path = [sha(b"\0a").hex(), sha(b"\0c").hex()]
    assert ", ".join(f"`{node}`" for node in path) in text
    assert climb(b"b", 1, 3, path) == root([b"a", b"b", b"c"])


@pytest.mark.parametrize("id", ["entropy/edges/halves-float64", "softmax_cross_entropy/regression/rows-70000-float16"])
def test_a_proof_leads_to_the_digest(id: str) -> None:
    from conformance.vectors import prove  # what is proven here

    proof = prove(id)
    assert json.loads(proof["record"].split("\n")[1])["id"] == id
    inner = climb(proof["record"].encode(), **proof["index"])
    line = f"vectors {proof['name']} {proof['index']['count']} {inner.hex()}"
    assert climb(line.encode(), **proof["manifest"]).hex() == manifest()["digest"] == proof["digest"]
    assert climb(proof["record"].encode() + b" ", **proof["index"]) != inner


def test_the_readme_states_what_recipes_make() -> None:
    rows = [line.strip("| ").split(" | ") for line in (FOLDER / "README.md").read_text().splitlines() if line.count("|") == 5]
    stated = [row for row in rows if len(row[-1]) == 66]
    assert len(stated) == 10
    for holds, dtype, first, digest in stated:
        data = made({"holds": holds, "seed": 1, "below": 4, "ignored": -100}, [3, 4], CODES[dtype])
        assert sha(data).hex() == digest.strip("`")
        assert unpacked(data, CODES[dtype])[:3] == [int(x) if dtype == "int64" else number(x) for x in first.strip("`").split(", ")]


def test_recipes_give_their_bytes() -> None:
    smallest: dict[tuple[str, str], tuple[int, dict[str, Any], dict[str, Any]]] = {}
    for _, _, vector in vectors():
        for entry in vector["arrays"].values():
            if "recipe" in entry:
                key, size = (entry["recipe"]["holds"], entry["dtype"]), prod(entry["shape"])
                if key not in smallest or size < smallest[key][0]:
                    smallest[key] = size, entry, entry["recipe"]
    assert {holds for holds, _ in smallest} >= {"logits", "repeat", "cotangent"}
    for size, entry, recipe in smallest.values():
        if size <= 20_000:
            assert sha(made(recipe, entry["shape"], CODES[entry["dtype"]])).hex() == recipe["sha256"]


def inputs(file: str, entry: dict[str, Any]) -> list[Any]:
    if isinstance(entry["values"], str):
        return unpacked(tensors(file)[entry["values"]], entry["values"].split(".")[0])
    values = [number(value) for value in entry["values"]]
    assert unpacked(packed(values, CODES[entry["dtype"]]), CODES[entry["dtype"]]) == values or any(x != x for x in values)
    return values


def numbers(file: str, given: Any, count: int) -> list[float]:
    if given is None:
        return [0.0] * count
    if isinstance(given, list):
        return [number(value) for value in given]
    code, data = given.split(".")[0], tensors(file)[given]
    if code == "U16":
        return [struct.unpack("<d", struct.pack("<Q", half << 47))[0] for half in unpacked(data, "U16")]
    return unpacked(data, code)


def test_expected_entropies_are_entropies() -> None:
    """The definition in decimal arithmetic, whose error is far below every radius that isn't 0."""
    compared = 0
    for file, _, vector in vectors():
        given = vector["arrays"].get("p", {})
        if not vector["id"].startswith("entropy/") or "recipe" in given or len(vector["expectations"]) > 1:
            continue
        output, p = vector["expectations"][0]["output"], inputs(file, given)
        if "kind" in output or "where" in output or not all(isfinite(x) and x >= 0 for x in p):
            continue
        size = given["shape"][-1]
        rows = [p[at : at + size] for at in range(0, len(p), size)]
        hi, lo, radius = (numbers(file, output.get(part), len(rows)) for part in ("hi", "lo", "radius"))
        with localcontext(prec=60):
            for row, *enclosure in zip(rows, hi, lo, radius, strict=True):
                true = -sum((Decimal(x) * Decimal(x).ln() for x in row if x > 0), Decimal(0))
                high, low, reach = map(Decimal, enclosure)
                assert abs(true - high - low) <= reach + Decimal(2) ** -170 * abs(true), vector["id"]
                compared += 1
    assert compared > 100
