"""Tensors in a safetensors file, each named by its contents, and the 16-bit form of numbers that may be rounded up.

The names, the order and the header follow from the tensors, so that one set of tensors has one file, and a reader takes no other.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from conformance.case import Array
from conformance.storage.text import line, parse, wrong
from refimpl.enclosure import FORMATS

DTYPES: dict[str, np.dtype] = {
    "F64": np.dtype(np.float64),
    "I64": np.dtype(np.int64),
    "F32": np.dtype(np.float32),
    "U32": np.dtype(np.uint32),
    "BF16": FORMATS["bfloat16"].dtype,
    "F16": np.dtype(np.float16),
    "U16": np.dtype(np.uint16),
    "U8": np.dtype(np.uint8),
}
CODES = {dtype: code for code, dtype in DTYPES.items()}
NAME = re.compile(r"(F64|I64|F32|U32|BF16|F16|U16|U8)\.[0-9a-f]{32}")

_DROPPED = np.uint64(47)  # bits of a binary64 below its exponent and the five bits after it
_ROUND = np.uint64(2**47 - 1)
_INFINITE = np.uint64(0x7FF << 52)
_FIRST_NORMAL = np.uint64(1 << 52)
_NORMAL = 2.0**-1022


def name_of(array: Array) -> str:
    """The name of a tensor: its dtype, and the first half of the SHA-256 of its bytes."""
    return f"{CODES[array.dtype]}.{hashlib.sha256(array.tobytes()).hexdigest()[:32]}"


def write(tensors: Mapping[str, Array]) -> bytes:
    """The file of these one-dimensional tensors."""
    ordered = sorted(tensors, key=_rank)
    return _header({name: tensors[name].size for name in ordered}) + b"".join(tensors[name].tobytes() for name in ordered)


def _rank(name: str) -> tuple[int, str]:
    """Wide dtypes come first, so that every tensor is aligned."""
    return -DTYPES[name.partition(".")[0]].itemsize, name


def _header(sizes: Mapping[str, int]) -> bytes:
    entries, end = [], 0
    for name, size in sizes.items():
        code = name.partition(".")[0]
        begin, end = end, end + size * DTYPES[code].itemsize
        entries.append(f'"{name}":{line({"data_offsets": [begin, end], "dtype": code, "shape": [size]})}')
    text = "{" + ",".join(entries) + "}"
    text += " " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text.encode()


def read(file: str, data: bytes) -> dict[str, Array]:
    """The tensors of a file, as views of `data`; raises `VectorError`, naming `file`, unless `write` makes this file of them."""
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > len(data) - 8:
        raise wrong(file, "", f"its header of {length} bytes doesn't fit in its {len(data)} bytes")
    header = parse(file, data[8 : 8 + length])
    if not isinstance(header, dict) or not all(NAME.fullmatch(name) for name in header):
        raise wrong(file, "header", "it names a tensor that isn't part of the format")
    sizes: dict[str, int] = {}
    for name in sorted(header, key=_rank):
        shape = header[name].get("shape") if isinstance(header[name], dict) else None
        if not isinstance(shape, list) or len(shape) != 1 or type(shape[0]) is not int or not 0 <= shape[0] <= len(data):
            raise wrong(file, f"header.{name}.shape", "it isn't one size of which the file has room")
        sizes[name] = shape[0]
    if data[: 8 + length] != _header(sizes):
        raise wrong(file, "header", "its bytes aren't the canonical ones of its tensors")
    tensors, at = {}, 8 + length
    for name, size in sizes.items():
        dtype = DTYPES[name.partition(".")[0]]
        if at + size * dtype.itemsize > len(data):
            raise wrong(file, f"header.{name}", "it ends beyond the file")
        tensors[name] = np.frombuffer(data, dtype, size, at)
        if name_of(tensors[name]) != name:
            raise wrong(file, f"tensor {name}", "its contents aren't those that its name states")
        at += size * dtype.itemsize
    if at != len(data):
        raise wrong(file, "", f"{len(data) - at} bytes after its tensors belong to none")
    return tensors


def narrowed(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Numbers >= 0, each rounded up to six significant bits; a subnormal one stays as it is."""
    values = np.asarray(values, np.float64) + 0.0  # which makes -0 a 0
    bits = (values.view(np.uint64) + _ROUND) >> _DROPPED << _DROPPED
    return np.where(values < _NORMAL, values, bits.view(np.float64))


def halved(values: NDArray[np.float64]) -> NDArray[np.uint16] | None:
    """Narrowed numbers in 16 bits: those of a binary64 from the exponent's first. None where one is subnormal."""
    if ((values > 0.0) & (values < _NORMAL)).any():
        return None
    return (values.view(np.uint64) >> _DROPPED).astype(np.uint16)


def raised(values: NDArray[np.float64]) -> NDArray[np.uint16]:
    """Numbers >= 0 in 16 bits, rounded up as `narrowed` does; subnormal ones to the smallest normal number."""
    halves = halved(narrowed(np.where((values > 0.0) & (values < _NORMAL), _NORMAL, values)))
    assert halves is not None  # as none is subnormal
    return halves


def widened(halves: NDArray[np.uint16]) -> NDArray[np.float64]:
    """The numbers that `halved` put in 16 bits."""
    return (halves.astype(np.uint64) << _DROPPED).view(np.float64)


def is_narrow(values: NDArray[np.float64]) -> bool:
    """Whether all are as `narrowed` leaves finite numbers."""
    bits = np.atleast_1d(values).view(np.uint64)
    return bool((bits < _INFINITE).all() and not ((bits & _ROUND != 0) & (bits >= _FIRST_NORMAL)).any())
