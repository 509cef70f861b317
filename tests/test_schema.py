"""The schemas of the vectors' files: every file is as they say, and our own checks refuse what they refuse."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from conformance import vectors
from conformance.case import VectorError
from conformance.storage.schema import FOLDER, checked

KINDS = ("history", "index", "manifest")
STRANGE = (None, True, 0, -1, 2**64, 1e308, "", "x", "nan", "0x1p+0", "../x", "é", [], {}, [None], ["0x1p+0"] * 17, {"": 0})


def schema(kind: str) -> Any:
    return json.loads((FOLDER / f"{kind}.json").read_text(encoding="utf-8"))


def kind_of(path: Path) -> str:
    return path.stem if path.stem in KINDS else "index"


def files(folder: Path) -> Iterator[Path]:
    yield from (path for path in sorted(folder.rglob("*.json")) if path.parent.name != "schema")


def objects(value: Any) -> Iterator[Any]:
    yield value
    for one in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from objects(one)


@pytest.mark.parametrize("kind", KINDS)
def test_a_schema_is_one_and_is_closed(kind: str) -> None:
    Draft202012Validator.check_schema(schema(kind))
    for one in objects(schema(kind)):
        if isinstance(one, dict) and one.get("type") == "object":
            assert "additionalProperties" in one
            assert one["additionalProperties"] is False or "propertyNames" in one, "free names are bounded by a pattern"


def test_every_file_is_as_its_schema_says() -> None:
    validators = {kind: Draft202012Validator(schema(kind)) for kind in KINDS}
    checked_files = 0
    for path in files(vectors.installed()):
        for error in validators[kind_of(path)].iter_errors(json.loads(path.read_bytes())):
            pytest.fail(f"{path}: {error.json_path}: {error.message[:200]}")
        checked_files += 1
    assert checked_files > 20


@pytest.mark.parametrize("kind", KINDS)
def test_our_checks_refuse_what_a_validator_refuses(written: Path, kind: str) -> None:
    validator, draws = Draft202012Validator(schema(kind)), random.Random(1)
    sources = [json.loads(path.read_bytes()) for path in files(written) if kind_of(path) == kind]
    verdicts = []
    for _ in range(400):
        value = copy.deepcopy(draws.choice(sources))
        mutate(value, draws)
        verdicts.append(passes(kind, value))
        assert verdicts[-1] == validator.is_valid(value), value
    assert 5 < sum(verdicts) < 395


def passes(kind: str, value: Any) -> bool:
    try:
        checked(kind, "it", value)
    except VectorError:
        return False
    return True


def mutate(value: Any, draws: random.Random) -> None:
    """Changes one thing somewhere in a JSON value."""
    holders = [one for one in objects(value) if isinstance(one, dict | list) and one]
    one = draws.choice(holders)
    key = draws.choice(sorted(one)) if isinstance(one, dict) else draws.randrange(len(one))
    action = draws.randrange(4)
    if action == 0:
        del one[key]
    elif action == 1 and isinstance(one, dict):
        one[draws.choice(("extra", "kind", "hi", "../x", ""))] = one[key]
    elif action == 2 and isinstance(one, list):
        one.append(one[key])
    else:
        one[key] = copy.deepcopy(draws.choice(STRANGE))
