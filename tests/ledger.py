"""The ledger of the spec's statements, `docs/spec/ledger.txt`: `python -m tests.ledger [CLAUSE ...]`.

A line is a clause's id, its level, the version of the spec that had it first, and the first 16 digits of the SHA-256 of its
statement. The command adds clauses that are new. A statement that changed is recorded only where its clause is named: whoever names it
says that the words changed and the meaning didn't.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from conformance import spec

PATH = Path(__file__).parents[1] / "docs" / "spec" / "ledger.txt"


@dataclass(frozen=True)
class Entry:
    """What is recorded of a clause."""

    level: str
    since: str
    digest: str


def digest(statement: str) -> str:
    """What stands for a statement, however its lines are broken."""
    return hashlib.sha256(" ".join(statement.split()).encode()).hexdigest()[:16]


def read(text: str) -> dict[str, Entry]:
    """The entries of a ledger."""
    return {id: Entry(*rest) for id, *rest in (line.split() for line in text.splitlines())}


def changed(recorded: Mapping[str, Entry], sections: Mapping[str, spec.Section]) -> list[str]:
    """The clauses that were recorded and are gone, of another level, or of another statement."""
    return [
        id
        for id, entry in recorded.items()
        if id not in sections or (sections[id].level, digest(sections[id].statement)) != (entry.level, entry.digest)
    ]


def _is_there(id: str, recorded: Mapping[str, Entry], sections: Mapping[str, spec.Section]) -> bool:
    return id in sections and sections[id].level == recorded[id].level


def updated(recorded: Mapping[str, Entry], sections: Mapping[str, spec.Section], named: Sequence[str], version: str) -> dict[str, Entry]:
    """The ledger with the clauses that are new and the corrected wordings of those that are named, in reading order."""
    refused = [id for id in changed(recorded, sections) if not (id in named and _is_there(id, recorded, sections))]
    if refused:
        raise ValueError(f"{', '.join(refused)}: restore statement and level, or name a clause whose wording alone was corrected")
    return {
        id: Entry(section.level, recorded[id].since if id in recorded else version, digest(section.statement))
        for id, section in sections.items()
    }


def main(named: Sequence[str]) -> int:
    """Write the ledger anew."""
    recorded = read(PATH.read_text(encoding="utf-8")) if PATH.exists() else {}
    try:
        entries = updated(recorded, spec.sections(), named, spec.version().number)
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    PATH.write_text("".join(f"{id} {one.level} {one.since} {one.digest}\n" for id, one in entries.items()), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
