"""A program's reply to hello, as the `Description` of a backend."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from conformance.adapter import Description, Mode
from conformance.bound import Promise
from conformance.case import TIERS
from conformance.dialects import Dialect, DialectError, resolved
from conformance.protocol.messages import Malformed, checked
from conformance.summation import SEQUENTIAL, Summation
from refimpl.operations import operations

DEFAULT = ({"name": "eager"},)


def read(value: Mapping[str, Any], *, strict: bool) -> Description:
    """The description in a reply to hello; raises `Malformed`, naming the field."""
    checked("description", value, strict=strict)
    for field in ("operations", "composed"):
        unknown = [name for name in value.get(field, ()) if name not in operations()]
        if unknown:
            raise Malformed(f"field {field}: {unknown[0]!r} is no operation; the operations are {', '.join(operations())}")
    dialect = _dialect(value.get("dialect", {}), value["name"], "dialect")
    modes = tuple(_mode(mode) for mode in value.get("modes", DEFAULT))
    if len({mode.name for mode in modes}) != len(modes):
        raise Malformed("field modes: two have one name")
    return Description(
        name=value["name"],
        operations=tuple(sorted(value["operations"])),
        promises=_promises(value["promises"], "promises"),
        versions=value.get("versions", {}),
        dialect=dialect,
        modes=modes,
        composed=tuple(sorted(value.get("composed", ()))),
        constants=tuple(sorted(value.get("constants", ()))),
        fragile=value.get("fragile", False),
        device=value.get("device", "cpu"),
    )


def _dialect(declared: str | Mapping[str, str], owner: str, field: str) -> Dialect:
    try:
        return resolved(declared, owner)
    except DialectError as error:
        raise Malformed(f"field {field}: {error}") from error


def _mode(value: Mapping[str, Any]) -> Mode:
    cases, promises = value.get("cases"), value.get("promises")
    return Mode(
        name=value["name"],
        cases=None if cases is None else tuple(cases),
        promises=None if promises is None else _promises(promises, f"modes.{value['name']}.promises"),
        choices=_dialect(value.get("choices", {}), value["name"], f"modes.{value['name']}.choices").choices,
        allowance=float(value.get("allowance", 0.0)),
        tier=value.get("tier", TIERS[0]),
    )


def _promises(value: Mapping[str, Any], where: str) -> dict[str, Promise]:
    """The promises by their keys; what one doesn't say of its arithmetic is the default, the computation in the inputs' dtype."""
    found = {}
    for key, one in value.items():
        stated, _, dtype = key.rpartition("/")
        if stated and stated not in operations():
            raise Malformed(f"field {where}.{key}: {stated!r} is no operation; the operations are {', '.join(operations())}")
        fields = {name: one[name] for name in ("accuracy", "store", "flush", "exp", "log", "gap") if name in one}
        summation = one.get("summation")
        ordered = SEQUENTIAL if summation is None else Summation(summation["kind"], summation.get("lanes", 1), summation.get("block", 1))
        found[key] = Promise(compute=one.get("compute", dtype), summation=ordered, **fields)
    return found
