"""Canonical JSON, numbers as hexadecimal text, and refusals that name file and field."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from conformance.case import VectorError

REMEDY = "run `lossref generate` to make the vectors anew, or reinstall lossref"
NUMBER = re.compile(r"nan|-?inf|-?0x0p\+0|-?0x1(\.[0-9a-f]{0,12}[1-9a-f])?p(\+0|[+-][1-9][0-9]{0,3})")
_NORMAL = 2.0**-1022


def wrong(name: str, path: str, why: str) -> VectorError:
    """The refusal of a field of a file."""
    where = f"field {path}: " if path else ""
    return VectorError(f"{name}: {where}{why}; {REMEDY}")


def line(value: Any) -> str:
    """A value as canonical JSON: ASCII, keys sorted, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def parse(name: str, data: bytes) -> Any:
    """The value of a JSON file; raises `VectorError` for what isn't JSON in ASCII. Of a key that is given twice the last stands."""

    def no_constants(text: str) -> Any:
        raise ValueError(f"{text} is no JSON")

    try:
        return json.loads(data.decode("ascii"), parse_constant=no_constants)
    except (ValueError, RecursionError) as error:  # a number of too many digits is a ValueError too
        raise VectorError(f"{name}: no valid JSON ({error}); {REMEDY}") from error


@lru_cache(maxsize=2**16)
def hexadecimal(value: float) -> str:
    """A number as C's %a writes it, as short as can be: a leading digit 1 (0 for zeros), no zeros at the end of the fraction."""
    if not math.isfinite(value):
        return "nan" if value != value else "inf" if value > 0 else "-inf"
    if value != 0.0 and abs(value) < _NORMAL:
        significand, exponent = math.frexp(value)
        text, power = (2.0 * significand).hex().split("p")[0], exponent - 1
    else:
        text, _, given = value.hex().partition("p")
        power = int(given)
    return f"{text.rstrip('0').removesuffix('.') if '.' in text else text}p{power:+d}"


# Zeros of both signs are one key of a cache, and differ.
_ZEROS = {"0x0p+0": 0.0, "-0x0p+0": -0.0}


@lru_cache(maxsize=2**16)
def number(text: str) -> float:
    """The number that `hexadecimal` writes so; raises `ValueError` for a text that it writes for none."""
    if text in _ZEROS:
        return _ZEROS[text]
    if NUMBER.fullmatch(text) is None:
        raise ValueError(f"{text[:40]!r} is no number in hexadecimal")
    try:
        value = float.fromhex(text)
    except OverflowError as error:
        raise ValueError(f"{text!r} is beyond float64") from error
    if hexadecimal(value) != text:
        raise ValueError(f"{text!r} is no float64")
    return value


def texts(values: Iterable[float]) -> list[str]:
    """Numbers as `hexadecimal` writes them."""
    return [hexadecimal(value) if value else ("-0x0p+0" if math.copysign(1.0, value) < 0.0 else "0x0p+0") for value in values]
