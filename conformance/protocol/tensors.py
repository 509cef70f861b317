"""A tensor in a message: dtype, shape, and its little-endian bytes in C order, as hexadecimal digits or in a file."""

from __future__ import annotations

import hashlib
import math
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from conformance.case import Array
from conformance.schema import Mismatch
from refimpl.enclosure import FORMATS

INLINE = 1 << 16  # bytes; a larger tensor goes to a file

DTYPES: Mapping[str, np.dtype] = {**{name: format.dtype for name, format in FORMATS.items()}, "int64": np.dtype(np.int64)}


def written(array: Array, folder: Path | None, prefix: str) -> dict[str, Any]:
    """The tensor as a value of JSON; a large one as a file, which is named by its contents, and in the message with `prefix` before it.

    The file is written to `folder`, or not at all.
    """
    data = np.ascontiguousarray(array).tobytes()
    said = {"dtype": array.dtype.name, "shape": list(array.shape)}
    if len(data) <= INLINE:
        return {**said, "data": data.hex()}
    name = f"{hashlib.sha256(data).hexdigest()}.bin"
    if folder is not None and not (folder / name).exists():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return {**said, "file": f"{prefix}{name}"}


def read(value: Mapping[str, Any], base: Path, most: int) -> Array:
    """The array of a tensor that is as the schema says; `base` is where a relative path begins.

    Raises `Mismatch` for one of more than `most` elements, for data of another length, and for a file that can't be read.
    """
    dtype, shape = DTYPES[value["dtype"]], tuple(value["shape"])
    size = math.prod(shape)
    if size > most:
        raise _at("shape", f"it has {size} elements, more than anything that was asked for ({most})")
    length = size * dtype.itemsize
    data = _of_file(base / value["file"], length) if "file" in value else _of_digits(value["data"], length)
    return np.frombuffer(data, dtype).reshape(shape).copy()


def _of_digits(text: str, length: int) -> bytes:
    if len(text) != 2 * length:
        raise _at("data", f"it has {len(text)} digits, where dtype and shape make {2 * length}")
    return bytes.fromhex(text)


def _of_file(path: Path, length: int) -> bytes:
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):  # a pipe might never end
            raise _at("file", f"{str(path)!r} is no file")
        if about.st_size != length:
            raise _at("file", f"{str(path)!r} has {about.st_size} bytes, where dtype and shape make {length}")
        with path.open("rb") as file:
            data = file.read(length)
    except (OSError, ValueError) as error:  # a path with a null in it is a ValueError
        raise _at("file", f"{str(path)!r} can't be read ({error})") from error
    if len(data) != length:
        raise _at("file", f"{str(path)!r} was cut while it was read")
    return data


def _at(field: str, why: str) -> Mismatch:
    error = Mismatch(why)
    error.trail.append(f".{field}")
    return error
