"""The vectors in formats that other tools read: npz, plain JSON, and the tests of ONNX's backends."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from conformance.case import Vector
from conformance.export import npz, plain

Writer = Callable[[Vector, Path], str]  # writes a vector into the folder, and returns why it was left out, or nothing


def export(format: str, vectors: Sequence[Vector], folder: Path) -> tuple[int, Mapping[str, int]]:
    """Writes each vector that the format can hold; how many, and for each reason how many were left out.

    Raises `MissingExtra` where what the format needs isn't installed.
    """
    write = _writer(format)
    left: dict[str, int] = {}
    for vector in vectors:
        reason = write(vector, folder)
        if reason:
            left[reason] = left.get(reason, 0) + 1
    return len(vectors) - sum(left.values()), left


def _writer(format: str) -> Writer:
    if format != "onnx":
        return {"npz": npz.write, "json": plain.write}[format]
    from conformance.export import onnx

    return onnx.write
