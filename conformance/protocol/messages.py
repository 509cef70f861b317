"""The messages: the judge's as lines, and the program's read, with a sentence on whatever is wrong with one.

A field that a message doesn't have is ignored, unless the check is strict (`--validate`): so a program may write what a later version of
the protocol, or its own log, asks for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from conformance.case import Array
from conformance.finding import Answer
from conformance.link import Refusal, Request
from conformance.protocol import tensors
from conformance.schema import Check, Mismatch, compiled
from conformance.worker import same_answers
from refimpl.operations import operation

PROTOCOL = "lossref-protocol/1"
SLACK = 1 << 20  # bytes of a reply apart from its tensors
LONGEST = 300  # characters of a text that is quoted

REPLIES = {"output": "answer", "error": "error", "unsupported": "unsupported"}  # the field that tells a reply's kind


class Malformed(Exception):
    """A line that is no message, or not the one that was due; the text names the field and what is wrong with it."""


@dataclass(frozen=True, eq=False)
class Answered:
    """The tensors that a program answered to one request."""

    output: Array
    gradients: Mapping[str, Array]
    modified: tuple[str, ...]
    seconds: float | None


@dataclass(frozen=True)
class Raised:
    """The text of the error that a program answered."""

    text: str


Heard = Answered | Raised | Refusal


def combined(first: Heard, second: Heard, seconds: float, constants: tuple[str, ...]) -> Answer | Refusal:
    """What the answers to one request that was sent twice come to: the first, and whether the second is the same bit for bit."""
    decisive = second if isinstance(first, Answered) else first
    if isinstance(decisive, Refusal):
        return decisive
    if isinstance(decisive, Raised):
        return Answer(None, {}, decisive.text, (), repeat_differs=False, seconds=seconds)
    assert isinstance(first, Answered)  # as the decisive one is
    differs = not same_answers((first.output, first.gradients), (decisive.output, decisive.gradients))
    told = seconds if first.seconds is None else first.seconds
    return Answer(first.output, first.gradients, None, first.modified, differs, told, constants)


def hello(vectors: str, folder: str, **also: str) -> dict[str, Any]:
    """The judge's first message."""
    return {"cmd": "hello", "protocol": PROTOCOL, "vectors": vectors, "folder": folder, **also}


def run(request: Request, folder: Path | None, prefix: str) -> dict[str, Any]:
    """A request without its id; tensors that are too large for a line become files, as `tensors.written` says."""
    parameters = {name: parameter.default for name, parameter in operation(request.operation).parameters.items()}
    cotangent = request.cotangent
    return {
        "cmd": "run",
        "operation": request.operation,
        "mode": request.mode,
        "inputs": {name: tensors.written(value, folder, prefix) for name, value in request.inputs.items()},
        "parameters": {**parameters, **request.parameters},
        "cotangent": None if cotangent is None else tensors.written(cotangent, folder, prefix),
        "layouts": {name: layout for name, layout in request.layouts.items() if layout != "contiguous"},
    }


STOP = {"cmd": "stop"}


def line(message: Mapping[str, Any]) -> bytes:
    """A message as the bytes of its line."""
    return json.dumps(message, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def most(request: Request) -> int:
    """The largest number of elements that a tensor of a right reply to the request has: that of an input, or of a reduced loss."""
    return max(1, *(value.size for value in request.inputs.values()))


def longest(request: Request) -> int:
    """The number of bytes that no right reply to the request exceeds: output and gradients, each number 16 digits."""
    return SLACK + 16 * most(request) * (1 + len(request.inputs))


def parsed(text: bytes) -> dict[str, Any]:
    """The object in a line; raises `Malformed` where there is none."""

    def no_constant(name: str) -> Any:
        raise ValueError(f"{name} is no number of JSON")

    try:
        value = json.loads(text.decode("utf-8"), parse_constant=no_constant)
        if b"\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair is no character, and could be written nowhere
    except (ValueError, RecursionError) as error:
        raise Malformed(f"{shown(text)} is no JSON ({error})") from error
    if not isinstance(value, dict):
        raise Malformed(f"{shown(text)} is JSON, and no object")
    return value


def shown(text: bytes) -> str:
    """The beginning of a line, as it is quoted in a message."""
    return repr(text[:60].decode("utf-8", errors="replace")) + ("..." if len(text) > 60 else "")


def printable(text: str) -> str:
    """The first line of a text by a program, without what a terminal would obey."""
    lines = text.strip().splitlines() or [""]
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in lines[0][:LONGEST])


def reply(value: Mapping[str, Any], id: int, base: Path, most: int, *, strict: bool) -> Heard:
    """What a message that is to answer the request `id` says; raises `Malformed`.

    `base` is where the relative path of a file begins; no tensor of a right answer has more than `most` elements.
    """
    kinds = [kind for field, kind in REPLIES.items() if field in value]
    if len(kinds) != 1:
        raise Malformed("a reply has one of the fields output, error and unsupported" + ("" if kinds else "; this one has none"))
    checked(kinds[0], value, strict=strict)
    if value["id"] != id:
        raise Malformed(f"field id: it answers request {value['id']}, and {id} was asked")
    if "unsupported" in value:
        return Refusal(printable(value["unsupported"]) or "the program gave no reason")
    if "error" in value:
        return Raised(printable(value["error"]) or "an error without a message")
    found = {}
    for path, tensor in [("output", value["output"]), *((f"gradients.{name}", one) for name, one in value.get("gradients", {}).items())]:
        try:
            found[path] = tensors.read(tensor, base, most)
        except Mismatch as error:
            raise Malformed(f"field {path}.{error.path}: {error}") from error
    output = found.pop("output")
    gradients = {path.removeprefix("gradients."): array for path, array in found.items()}
    return Answered(output, gradients, tuple(value.get("modified", ())), value.get("seconds"))


def checked(kind: str, value: Mapping[str, Any], *, strict: bool) -> None:
    """Raises `Malformed` where a message isn't as the schema says of its kind; a `strict` check knows no further fields."""
    try:
        _check(kind, strict)(value)
    except Mismatch as error:
        where = f"field {error.path}: " if error.path else ""
        raise Malformed(f"{where}{error}") from error


@cache
def _check(kind: str, strict: bool) -> Check:
    definitions = json.loads((files("conformance.protocol") / "schema.json").read_text(encoding="utf-8"))["$defs"]
    if not strict:
        definitions = _open(definitions)
    return compiled(definitions[kind], definitions)


def _open(schema: Any) -> Any:
    """A schema whose objects may have further fields, of any kind."""
    if isinstance(schema, list):
        return [_open(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    return {key: {} if key == "additionalProperties" and one is False else _open(one) for key, one in schema.items()}
