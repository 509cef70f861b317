"""How to cite the spec and the vectors: as a sentence, for BibTeX, and as `CITATION.cff`, all from the same facts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.metadata import metadata

from conformance import spec, storage, vectors

TITLE = "lossref: the reference for classification losses"


@dataclass(frozen=True)
class Facts:
    """What a citation names: the release, the version of the spec (SemVer), of the vectors (CalVer), and their digest."""

    release: str
    summary: str
    author: str
    licence: str
    keywords: tuple[str, ...]
    spec: spec.Version
    vectors: str
    digest: str


def facts() -> Facts:
    """Those of what is installed."""
    package = metadata("lossref")
    return Facts(
        release=package["Version"],
        summary=package["Summary"],
        author=package["Author"],
        licence=package["License-Expression"].split()[0],  # the code's: the format can't say "and"
        keywords=tuple(package["Keywords"].split(",")),
        spec=spec.version(),
        vectors=storage.read_manifest(vectors.installed())["version"],
        digest=vectors.digest(),
    )


def text(facts: Facts) -> str:
    """A sentence for a list of references."""
    return (
        f"{facts.author}. {TITLE}. Specification {facts.spec.number}, {facts.spec.month} {facts.spec.year}; "
        f"golden vectors {facts.vectors}, SHA-256 {facts.digest}."
    )


def bibtex(facts: Facts) -> str:
    """An entry for BibTeX."""
    fields = {
        "author": f"{{{facts.author}}}",
        "title": f"{{{TITLE}}}",
        "year": facts.spec.year,
        "month": facts.spec.month[:3].lower(),
        "version": facts.spec.number,
        "note": f"Golden vectors {facts.vectors}, SHA-256 \\texttt{{{facts.digest}}}",
    }
    lines = [f"  {name:<7} = {value if name == 'month' else f'{{{value}}}'}," for name, value in fields.items()]
    return "\n".join([f"@misc{{lossref-{facts.spec.number},", *lines, "}"])


def cff(facts: Facts) -> str:
    """The file `CITATION.cff` (Citation File Format 1.2.0)."""
    lines = [
        "# Made by `lossref cite --format cff`.",
        "cff-version: 1.2.0",
        "message: Cite the versions of the specification and of the vectors, and the digest of the vectors.",
        f"title: {_quoted(TITLE)}",
        f"abstract: {_quoted(facts.summary + '. The code is Apache-2.0, the vectors are CC0-1.0.')}",
        "type: software",
        "authors:",
        f"  - name: {_quoted(facts.author)}",
        f"version: {_quoted(facts.release)}",
        f"license: {facts.licence}",
        "keywords:",
        *(f"  - {keyword}" for keyword in facts.keywords),
        "identifiers:",
        "  - type: other",
        f"    value: {_quoted(f'lossref-spec-{facts.spec.number}')}",
        f"    description: {_quoted(f'The specification {facts.spec.number}, {facts.spec.month} {facts.spec.year}')}",
        "  - type: other",
        f"    value: {_quoted(f'sha256:{facts.digest}')}",
        f"    description: {_quoted(f'The golden vectors {facts.vectors}')}",
    ]
    return "\n".join(lines)


def _quoted(value: str) -> str:
    """A YAML scalar in double quotes; JSON's escapes are among YAML's."""
    return json.dumps(value, ensure_ascii=False)
