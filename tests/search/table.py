"""The tables of `docs/accuracy.md`, from `tests/worst.json`: `python -m tests.search.table`, also `make accuracy`.

Bounds are computed when the tables are made, from the constants of the code and the kernels' radii. Errors and counts are those of the
file: `python -m tests.search --minutes 0` measures its inputs anew, and a test holds it to that.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from conformance.page import filled
from tests.search.blocks import BLOCKS
from tests.search.calls import CallSpace, spaces
from tests.search.climb import KINDS
from tests.search.ordinary import bound, reduced
from tests.search.record import largest, load

PAGE = Path(__file__).parents[2] / "docs" / "accuracy.md"
MAKER = "make accuracy"
CLASSES = (2, 1000, 128256)
UNDERFLOW = 2.0**-100  # a radius of so few units is what underflow can lose, and nothing else

Content = Mapping[str, Any]


def tables(content: Content) -> dict[str, str]:
    """The text of each table, by the name of its markers."""
    return {
        "blocks": blocks(content),
        "radii": radii(),
        "errors": errors(content),
        "inputs": inputs(content),
        "rounding": rounding(content),
    }


def blocks(content: Content) -> str:
    """Building blocks: stated and measured error, and the operands that attain it."""
    lines = ["| block | proven | largest error | of the bound | operands (h + l) |", "|---|---|---|---|---|"]
    for name, block in BLOCKS.items():
        record = largest(content["blocks"].get(name, []), "units")
        if record is None:
            lines.append(f"| `{name}` | {_short(block.stated)} | 0 | | |")
            continue
        h, l, bh, bl = record["operands"]
        operands = f"`{_pair(h, l)}`" + ("" if block.only_a else f", `{_pair(bh, bl)}`")
        lines.append(f"| `{name}` | {_short(block.stated)} | {record['units']:.4g} | {_percent(record['share'])} | {operands} |")
    return "\n".join(lines)


def radii() -> str:
    """How wide the kernels' radii are on ordinary rows."""
    heads = " | ".join(f"V = {classes}" for classes in CLASSES)
    lines = [f"| result | {heads} |", "|---|" + "---|" * len(CLASSES)]
    for space in spaces().values():
        cells = [_bound(bound(space.name, space.wrt, classes)) for classes in CLASSES]
        lines += [f"| {_name(space)} | {' | '.join(cells)} |"]
    for name, reduction in (("a sum over V rows", "sum"), ("a mean over V rows, weighted", "mean")):
        lines += [f"| {name} | {' | '.join(_bound(reduced(rows, reduction)) for rows in CLASSES)} |"]
    return "\n".join(lines)


def errors(content: Content) -> str:
    """Operations: the largest errors, in units and as a share of the radius."""
    lines = ["| result | largest error | of its radius | its classes | largest share of a radius |", "|---|---|---|---|---|"]
    for label, space in spaces().items():
        records = content["operations"].get(label, [])
        share, units = (largest(records, kind) for kind in KINDS)
        first = f"{units['units']:.4g} | {_percent(units['share'])} | {units['classes']}" if units else "0 | | "
        lines.append(f"| {_name(space)} | {first} | {_percent(share['share']) if share else '0'} |")
    return "\n".join(lines)


def inputs(content: Content) -> str:
    """The inputs that attain the largest errors."""
    lines = ["```"]
    for label in spaces():
        record = largest(content["operations"].get(label, []), "units") or largest(content["operations"].get(label, []), "share")
        if record is None:
            continue
        arguments = ", ".join(f"{name}={value}" for name, value in record["parameters"].items())
        lines.append(f"{label}, {record['dtype']}" + (f", {arguments}" if arguments else ""))
        width = max(len(name) for name in record["inputs"])
        lines += [f"    {name:{width}} {_flat(value)}" for name, value in record["inputs"].items()]
        shape = record["inputs"][next(iter(record["inputs"]))]
        if isinstance(shape[0], list) and record["classes"] > len(shape[0]):
            lines.append(f"    repeated up to {record['classes']} classes")
    return "\n".join([*lines, "```"])


def rounding(content: Content) -> str:
    """How often the exact form was asked for a rounding, and how often it could not decide."""
    if not content["rounding"]:
        return "Not counted yet."
    formats = list(next(iter(content["rounding"].values()))["asked"])
    lines = ["| operation | results | " + " | ".join(formats) + " |", "|---|---|" + "---|" * len(formats)]
    for name, count in sorted(content["rounding"].items()):
        cells = [f"{count['asked'][dtype]} ({count['undecided'][dtype]})" for dtype in formats]
        lines.append(f"| `{name}` | {count['elements']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _name(space: CallSpace) -> str:
    return f"`{space.name}`" + ("" if space.wrt is None else f", gradient in `{space.wrt}`")


def _bound(units: float) -> str:
    return f"{_short(units)} (2^{math.log2(units) - 106:.1f})" if units > UNDERFLOW else "exact"


def _short(units: float) -> str:
    return f"{units:.3g}" if units < 1000 else f"{units:.0f}"


def _percent(share: float) -> str:
    return f"{100.0 * share:.3g} %"


def _pair(h: str, l: str) -> str:
    """A double-double in hex, without the zeros that say nothing."""
    return _hex(h) if float.fromhex(l) == 0.0 else f"{_hex(h)} {'-' if l.startswith('-') else '+'} {_hex(l.removeprefix('-'))}"


def _hex(text: str) -> str:
    mantissa, found, exponent = text.partition("p")
    return f"{mantissa.rstrip('0').rstrip('.') if '.' in mantissa else mantissa}{found}{exponent}"


def _flat(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(_flat(part) for part in value) + "]"
    return str(value) if isinstance(value, int) else _hex(value)


def main() -> int:
    """Print the tables and write them into the page."""
    texts = tables(load())
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), MAKER, texts), encoding="utf-8")
    sys.stdout.write("\n\n".join(texts.values()) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
