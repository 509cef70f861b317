"""Joining the shards of a run, with a proof that they are disjoint and the whole: the record is that of the run without shards.

Proved is that the shards are of the same vectors, selection and backends with the same descriptions; that each shard is there once; and,
against the vectors at hand, that every case was asked once in every mode that asks it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields, replace

from conformance.adapter import Description
from conformance.backend import Key, Result
from conformance.case import Vector
from conformance.complaint import Complaint
from conformance.deviations import Deviation, Expectations
from conformance.record import Record, held

Call = tuple[str, str]  # a mode and the id of a case


class MergeError(Complaint):
    """Records that aren't the shards of one run; the message names the file, what is wrong and the remedy."""


def merge(
    shards: Mapping[str, Record], vectors: Sequence[Vector], ids: Collection[str], known: Mapping[str, Expectations | None]
) -> Record:
    """The record of the whole run, of shards by the names of their files; raises `MergeError`.

    `vectors` are all that their selection asks, `ids` those of all there are, `known` by backend the expectations that the shards were held
    against.
    """
    names = list(shards)
    _refuse_others(shards)
    _refuse_incomplete(shards)
    first = shards[names[0]]
    results: list[Result] = []
    for backend, about in first.descriptions.items():
        results += _in_order(shards, about, backend, vectors, first.selection.tier)
    selection = replace(first.selection, index=1, count=1)
    merged = replace(
        first,
        selection=selection,
        results=tuple(results),
        comparisons=held(selection, first.descriptions, results, known, ids),
        began=min(record.began for record in shards.values()),
        seconds=sum(record.seconds for record in shards.values()),
        machine="; ".join(dict.fromkeys(record.machine for record in shards.values())),
    )
    _refuse_other_expectations(shards, merged)
    return merged


def _refuse_others(shards: Mapping[str, Record]) -> None:
    """Refuse shards that differ in what they asked of whom."""
    (name, first), *others = shards.items()
    for other, record in others:
        if record.digest != first.digest:
            raise MergeError(
                f"{other} is of the vectors {record.digest}, {name} of {first.digest}: shards are of the same vectors; run one again"
            )
        selections = [replace(one.selection, index=1) for one in (first, record)]
        if selections[0] != selections[1]:
            raise MergeError(
                f"{other} asked {record.selection.text}, {name} {first.selection.text}: shards differ in their index only; run one again"
            )
        if record.backends != first.backends:
            raise MergeError(
                f"{other} is of {', '.join(record.backends)}, {name} of {', '.join(first.backends)}: name the same backends in each shard"
            )
        for backend, about in first.descriptions.items():
            there = record.descriptions[backend]
            differing = [field.name for field in fields(Description) if getattr(about, field.name) != getattr(there, field.name)]
            if differing:
                raise MergeError(
                    f"{backend} of {other} is not that of {name}: {_differing(differing[0], about, there)}; run one of them again"
                )


def _differing(field: str, one: Description, other: Description) -> str:
    if field == "versions":
        return f"versions {_versions(other)} and {_versions(one)}"
    return f"its {field} differ"


def _versions(about: Description) -> str:
    return " ".join(f"{name} {version}" for name, version in about.versions.items())


def _refuse_incomplete(shards: Mapping[str, Record]) -> None:
    """Refuse what isn't each shard once."""
    count = next(iter(shards.values())).selection.count
    of: dict[int, list[str]] = {}
    for name, record in shards.items():
        of.setdefault(record.selection.index, []).append(name)
    for index, names in of.items():
        if len(names) > 1:
            raise MergeError(f"{' and '.join(names)} are both shard {index} of {count}; name each shard once")
    missing = [f"{index}/{count}" for index in range(1, count + 1) if index not in of]
    if missing:
        options = " and ".join(f"--shard {part}" for part in missing)
        raise MergeError(f"of {count} shards {', '.join(missing)} is missing: run {options}, with --json F, and name that file too")


def _in_order(shards: Mapping[str, Record], about: Description, backend: str, vectors: Sequence[Vector], tier: str) -> list[Result]:
    """The results of a backend in the order of its calls, numbered as in a run without shards."""
    ids = [vector.case.id for vector in vectors]
    calls = {call: number for number, call in enumerate((mode.name, id) for mode in about.modes for id in ids if mode.asks(id, tier))}
    asked: Counter[Call] = Counter()
    of: dict[Call, list[Result]] = {}
    for name, record in shards.items():
        own = record.of(backend)
        for result in own:
            of.setdefault((result.mode, result.finding.case), []).append(result)
        there = {(result.mode, result.finding.case) for result in own}
        if strange := there - calls.keys():
            raise MergeError(f"{name} has {_call(strange, backend)}, which {record.selection.text} doesn't ask; run that shard again")
        asked.update(there)
    if twice := {call for call, times in asked.items() if times > 1}:
        raise MergeError(f"two shards have {_call(twice, backend)}: they are not disjoint; run them again with --shard I/N")
    if never := calls.keys() - asked.keys():
        raise MergeError(f"no shard has {_call(never, backend)}: they are not the whole; run them again with --shard I/N")
    return [replace(result, number=number) for call, number in calls.items() for result in of[call]]


def _call(calls: set[Call], backend: str) -> str:
    mode, id = min(calls)
    return f"{id} of {backend}, mode {mode}" + (f" (and {len(calls) - 1} more)" if len(calls) > 1 else "")


def _refuse_other_expectations(shards: Mapping[str, Record], merged: Record) -> None:
    """Refuse shards that were held against other expectations than those that are known here: each failure has the same excuse, or none."""
    now = _excuses(merged)
    for name, record in shards.items():
        for key, deviation in _excuses(record).items():
            if now[key] != deviation:
                how = "isn't excused there" if deviation is None else f'is excused there by "{deviation.reason}"'
                raise MergeError(
                    f"{name} was held against other known deviations of {key[0]} than there are here: {key[2]} {how}; "
                    "name the same file with --expect, or run the shards again"
                )


def _excuses(record: Record) -> dict[Key, Deviation | None]:
    """Of each failure what excuses it, None where nothing does."""
    found: dict[Key, Deviation | None] = {}
    for comparison in record.comparisons.values():
        for result, deviation in (*comparison.expected, *((result, None) for result in comparison.unexpected)):
            found[result.key] = deviation
    return found
