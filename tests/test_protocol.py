"""The messages of the protocol: each is as the schema says, tensors keep their bits, and what is wrong is named by its field."""

from __future__ import annotations

import copy
import json
import os
import random
from functools import cache
from pathlib import Path
from typing import Any

import hostile_program
import numpy as np
import pytest
from jsonschema import Draft202012Validator
from mutations import mutate, objects
from programs import asked

from conformance import protocol, vectors
from conformance.case import checksum
from conformance.link import Refusal, Request
from conformance.protocol import description, messages, tensors
from conformance.protocol.messages import Answered, Malformed
from conformance.schema import Mismatch

SCHEMA = json.loads((Path(protocol.__file__).parent / "schema.json").read_text(encoding="utf-8"))
KINDS = ("hello", "run", "stop", "description", "answer", "error", "unsupported")

FULL = {
    **hostile_program.DESCRIPTION,
    "versions": {"hostile": "1.0"},
    "promises": {
        "float32": {"accuracy": "B", "compute": "float64", "store": "float32", "flush": True, "exp": 1, "log": 1.5, "gap": 2},
        "log_softmax/float64": {"accuracy": "A", "summation": {"kind": "pairwise", "lanes": 8, "block": 128}},
    },
    "dialect": {"refusal": "nan"},
    "modes": [
        {"name": "eager"},
        {
            "name": "jit",
            "cases": ["*/edges/*"],
            "choices": {"half_output": "float32"},
            "promises": {"float32": {"accuracy": "A"}},
            "allowance": 20,
        },
    ],
    "composed": ["log_softmax"],
    "constants": ["p"],
    "fragile": True,
    "device": "tpu",
}


def request(case: Any) -> Request:
    return Request(case.operation, "eager", case.inputs, case.parameters, case.cotangent, case.layouts)


def validator(kind: str) -> Draft202012Validator:
    return Draft202012Validator({**SCHEMA["$defs"][kind], "$defs": SCHEMA["$defs"]})


@cache
def samples() -> dict[str, list[Any]]:
    """Some messages of each kind."""
    run = {"id": 1, **messages.run(request(asked("honest").case), None, "")}
    answer = {**hostile_program.right(run), "modified": [], "seconds": 0.5}
    return {
        "hello": [messages.hello("0" * 64, "folder"), messages.hello("0" * 64, ".", requests="0" * 64)],
        "run": [run, {**run, "cotangent": None}],
        "stop": [messages.STOP],
        "description": [hostile_program.DESCRIPTION, FULL, {**FULL, "dialect": "torch"}],
        "answer": [answer],
        "error": [{"id": 1, "error": "not today"}],
        "unsupported": [{"id": 1, "unsupported": "not here"}],
    }


def test_the_schema_is_valid_and_closed() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert {branch["$ref"] for branch in SCHEMA["anyOf"]} == {f"#/$defs/{kind}" for kind in KINDS}
    for one in objects(SCHEMA["$defs"]):
        if isinstance(one, dict) and one.get("type") == "object":
            assert "additionalProperties" in one


@pytest.mark.parametrize("kind", KINDS)
def test_our_checks_refuse_what_a_validator_refuses(kind: str) -> None:
    truth, draws, verdicts = validator(kind), random.Random(1), []
    for _ in range(300):
        value = copy.deepcopy(draws.choice(samples()[kind]))
        mutate(value, draws)
        verdicts.append(passes(kind, value))
        assert verdicts[-1] == truth.is_valid(value), value
    assert False in verdicts
    assert all(passes(kind, value) and truth.is_valid(value) for value in samples()[kind])


def passes(kind: str, value: Any) -> bool:
    try:
        messages.checked(kind, value, strict=True)
    except Malformed:
        return False
    return True


def test_further_fields_are_for_the_strict_to_refuse() -> None:
    value = {**hostile_program.DESCRIPTION, "colour": "green"}
    assert description.read(value, strict=False).name == "hostile"
    with pytest.raises(Malformed, match="it has an unknown field 'colour'"):
        description.read(value, strict=True)


def test_every_smoke_request_is_as_the_schema_says_and_holds_its_case(tmp_path: Path) -> None:
    whole, seen = Draft202012Validator(SCHEMA), 0
    for operation in ("log_softmax", "nll_loss"):
        for vector in vectors.read(operation=operation):
            case = vector.case
            if case.tier == "smoke":
                message = json.loads(messages.line({"id": 1, **messages.run(request(case), tmp_path, f"{tmp_path}/")}))
                whole.validate(message)
                assert {**message["parameters"], **case.parameters} == message["parameters"]
                for name, said in message["inputs"].items():
                    array = case.inputs[name]
                    assert checksum(tensors.read(said, tmp_path, array.size)) == checksum(array)
                seen += 1
    assert seen > 60


@pytest.mark.parametrize("dtype", tensors.DTYPES)
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3), (70, 1000)], ids=str)
def test_a_tensor_keeps_its_bits(tmp_path: Path, dtype: str, shape: tuple[int, ...]) -> None:
    size = int(np.prod(shape))
    wide = tensors.DTYPES[dtype].itemsize
    array = np.random.default_rng(1).integers(0, 256, size * wide, np.uint8).view(tensors.DTYPES[dtype]).reshape(shape)  # nans too
    said = json.loads(json.dumps(tensors.written(array, tmp_path, "")))
    assert ("file" in said) == (size * wide > tensors.INLINE)
    back = tensors.read(said, tmp_path, size)
    assert (back.dtype, back.shape, back.tobytes()) == (array.dtype, array.shape, array.tobytes())
    assert back.flags.writeable


def test_the_bytes_are_little_endian_in_the_order_of_c() -> None:
    said = tensors.written(np.array([[1.0, -2.0], [0.5, 3.0]], np.float32).T, None, "")
    assert said == {"dtype": "float32", "shape": [2, 2], "data": "0000803f0000003f000000c000004040"}


def test_a_file_that_is_none_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "short").write_bytes(b"\0" * 23)
    wrong = {"pipe": "is no file", "short": "has 23 bytes, where dtype and shape make 24", "gone": "can't be read", "\0": "can't be read"}
    for file, why in wrong.items():
        with pytest.raises(Mismatch, match=why) as error:
            tensors.read({"dtype": "float64", "shape": [3], "file": file}, tmp_path, 3)
        assert error.value.path == "file"


def test_a_description_says_what_an_adapter_would() -> None:
    found = description.read(FULL, strict=True)
    assert (found.operations, found.composed, found.constants) == (("log_softmax",), ("log_softmax",), ("p",))
    assert (found.fragile, found.device, found.versions) == (True, "tpu", {"hostile": "1.0"})
    assert found.dialect.of("log_softmax") == {"refusal": "nan"}
    promise = found.promise("kl_div", "float32")
    assert promise is not None
    assert (promise.accuracy, promise.compute, promise.store, promise.flush, promise.exp, promise.log, promise.gap) == (
        ("B", "float64", "float32", True, 1, 1.5, 2)
    )
    summed = found.promise("log_softmax", "float64")
    assert summed is not None
    assert (summed.compute, summed.summation.kind, summed.summation.lanes, summed.summation.block) == ("float64", "pairwise", 8, 128)
    assert [(mode.name, mode.cases, mode.allowance) for mode in found.modes] == [("eager", None, 0.0), ("jit", ("*/edges/*",), 20.0)]
    assert found.modes[1].choices == {"half_output": "float32"}
    assert found.promise("log_softmax", "float64", "jit") is None
    assert found.choices("log_softmax", "eager") == {"refusal": "nan"}
    assert found.choices("log_softmax", "jit") == {"refusal": "nan", "half_output": "float32"}


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("composed", ["hinge"], "field composed: 'hinge' is no operation"),
        ("promises", {"hinge/float32": {"accuracy": "A"}}, "field promises.hinge/float32: 'hinge' is no operation"),
        ("promises", {"float8": {"accuracy": "A"}}, "field promises.float8: 'float8' is not what it may be"),
        ("promises", {"float32": {"accuracy": "A", "exp": 9}}, "field promises.float32.exp: it is above 4"),
        ("modes", [{"name": "a"}, {"name": "a"}], "field modes: two have one name"),
        ("modes", [{"name": "a", "choices": {"half_output": "x"}}], "field modes.a.choices: the adapter a: half_output"),
        ("modes", [{"name": "a", "choices": {"half_output": "half"}}], "field modes.a.choices: "),
        ("name", "a\nb", "field name: "),
        ("operations", [], "field operations: its items are fewer than 1"),
    ],
)
def test_what_is_wrong_with_a_description_is_named(field: str, value: Any, message: str) -> None:
    with pytest.raises(Malformed) as error:
        description.read({**hostile_program.DESCRIPTION, field: value}, strict=False)
    assert str(error.value).startswith(message)


def heard(**fields: Any) -> Answered:
    (run, _) = samples()["run"]
    reply = messages.reply({**hostile_program.right(run), **fields}, 1, Path(), 3, strict=True)
    assert isinstance(reply, Answered)
    return reply


def test_two_answers_come_to_one() -> None:
    first = heard(modified=["logits"], seconds=0.25)
    same = messages.combined(first, heard(), 9.0, ("p",))
    assert not isinstance(same, Refusal)
    assert (same.modified, same.seconds, same.constants, same.repeat_differs) == (("logits",), 0.25, ("p",), False)
    for other in ({"gradients": {}}, {"output": hostile_program.tensor([0.0, 0.0, -0.0])}):
        differing = messages.combined(heard(), heard(**other), 9.0, ())
        assert not isinstance(differing, Refusal)
        assert differing.repeat_differs
        assert differing.seconds == 9.0
    refused = messages.combined(heard(), Refusal("tired"), 9.0, ())
    assert refused == Refusal("tired")
    raised = messages.combined(heard(), messages.Raised("tired"), 9.0, ())
    assert not isinstance(raised, Refusal)
    assert (raised.output, raised.error) == (None, "tired")


def test_half_a_surrogate_pair_is_no_text() -> None:
    with pytest.raises(Malformed, match=r"is no JSON .*surrogates not allowed"):
        messages.parsed(b'{"id": 1, "error": "\\ud800"}')
    assert messages.parsed(b'{"error": "\\ud83d\\ude00"}') == {"error": "\U0001f600"}
