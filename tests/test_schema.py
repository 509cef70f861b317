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
from mutations import mutate, objects

from conformance import vectors
from conformance.case import VectorError
from conformance.storage.schema import FOLDER, checked

KINDS = ("history", "index", "manifest")


def schema(kind: str) -> Any:
    return json.loads((FOLDER / f"{kind}.json").read_text(encoding="utf-8"))


def kind_of(path: Path) -> str:
    return path.stem if path.stem in KINDS else "index"


def files(folder: Path) -> Iterator[Path]:
    yield from (path for path in sorted(folder.rglob("*.json")) if path.parent.name != "schema")


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
