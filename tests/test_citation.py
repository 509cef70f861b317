"""What is cited: every form names the same versions and the same digest, and `CITATION.cff` is one of them."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest

from conformance import spec, vectors
from conformance.cli import main
from conformance.report import citation
from conformance.report.citation import Facts

ROOT = Path(__file__).parents[1]
FACTS = Facts(
    release="9.8.7",
    summary="A summary",
    author="The authors",
    licence="Apache-2.0",
    keywords=("loss", "label smoothing"),
    spec=spec.Version("1.2.3", "May", "2031"),
    vectors="2031.05",
    digest="ab" * 32,
)


def scalar(text: str) -> str:
    """A YAML scalar as the file has them: plain or a JSON string."""
    value = json.loads(text) if text.startswith('"') else text
    assert isinstance(value, str)
    assert text.startswith('"') or not re.search(r": |#|^[\[{&*!|>%@'-]", text), f"{text!r} needs quotes"
    return value


def fields(text: str) -> dict[str, str | list[str | dict[str, str]]]:
    """The file's top level: scalars, lists of scalars, lists of mappings, which is all that it has."""
    found: dict[str, str | list[str | dict[str, str]]] = {}
    members: list[str | dict[str, str]] = []
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        if top := re.fullmatch(r"([\w-]+):(?: (.+))?", line):
            assert top[1] not in found
            members = []
            found[top[1]] = scalar(top[2]) if top[2] else members
        elif pair := re.fullmatch(r"(  - |    )(\w+): (.+)", line):
            if pair[1] == "  - ":
                members.append({})
            last = members[-1]
            assert isinstance(last, dict)
            last[pair[2]] = scalar(pair[3])
        else:
            assert line.startswith("  - "), line
            members.append(scalar(line.removeprefix("  - ")))
    return found


def test_every_form_names_author_versions_and_digest() -> None:
    for form in (citation.text(FACTS), citation.bibtex(FACTS), citation.cff(FACTS)):
        for fact in ("The authors", citation.TITLE, "1.2.3", "2031", "2031.05", FACTS.digest):
            assert fact in form


def test_bibtex_is_one_balanced_entry() -> None:
    entry = citation.bibtex(FACTS)
    assert re.match(r"@misc\{lossref-1\.2\.3,\n", entry)
    assert entry.count("{") == entry.count("}")
    assert re.findall(r"^  (\w+) +=", entry, flags=re.MULTILINE) == ["author", "title", "year", "month", "version", "note"]
    assert "  month   = may,\n" in entry


def test_the_citation_file_has_the_fields_that_its_format_demands() -> None:
    """Citation File Format 1.2.0: its required fields, the values that it permits, and nothing that it doesn't know."""
    found = fields(citation.cff(FACTS))
    assert {"cff-version", "message", "title", "authors"} <= found.keys()
    assert found.keys() <= {
        "cff-version",
        "message",
        "title",
        "authors",
        "abstract",
        "type",
        "version",
        "license",
        "keywords",
        "identifiers",
    }
    assert found["cff-version"] == "1.2.0"
    assert found["type"] in ("software", "dataset")
    assert found["license"] == "Apache-2.0"
    assert found["authors"] == [{"name": "The authors"}]
    assert found["keywords"] == ["loss", "label smoothing"]
    assert isinstance(found["identifiers"], list)
    for identifier in found["identifiers"]:
        assert isinstance(identifier, dict)
        assert identifier.keys() == {"type", "value", "description"}
        assert identifier["type"] == "other"


def test_the_citation_file_is_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cite", "--format", "cff"]) == 0
    printed = capsys.readouterr().out
    assert (ROOT / "CITATION.cff").read_text(encoding="utf-8") == printed, "run `lossref cite --format cff > CITATION.cff`"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = fields(printed)
    assert found["version"] == project["version"]
    assert found["authors"] == project["authors"]
    assert set(found["keywords"]) == set(project["keywords"])


def test_cite_prints_text_bibtex_and_the_digest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cite"]) == 0
    whole = capsys.readouterr().out
    for form in ("text", "bibtex"):
        assert main(["cite", "--format", form]) == 0
        assert capsys.readouterr().out in whole
    assert whole.rstrip().endswith(f"digest of the vectors {vectors.digest()}")
    assert f"Specification {spec.version().number}, " in whole
