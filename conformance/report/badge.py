"""A badge for a README: the grade, the tier and the first digits of the vectors' digest, as SVG or as JSON for shields' endpoint.

The grade is the loosest of all backends, modes, operations and dtypes that were asked, forward and backward; clauses that were broken
are counted. Red: something fell short of what was promised or expected; orange: clauses are broken, all of them known; yellow: no class
or only N was kept, or no number compared; grey: nothing was answered; else green.
"""

from __future__ import annotations

import json
from html import escape

from conformance.deviations import DIRECTIONS
from conformance.grade import together
from conformance.record import Record
from conformance.report.grades import signs

DIGITS = 8  # of the digest
COLOURS = {"red": "#c5221f", "orange": "#b8500f", "yellow": "#8a6d00", "green": "#2a7d2e", "lightgrey": "#6b6b6b"}  # white is read on each
# Advances in Verdana at 11 px, by which a badge is as wide as its text; other characters as the last.
ADVANCES = {"fijl|.,:;!'": 3.9, "rt()[]/ -": 4.6, "ckosvxyz": 6.2, "mwMW%@": 10.2, "ABCDEFGHKNOQRSTUVXYZ&": 7.9, "": 6.9}
PAD = 6  # pixels beside a text


def svg(record: Record) -> str:
    """The badge as a picture, 20 pixels high, that a screen reader can read."""
    label, message, colour = parts(record)
    left, right = (_width(text) + 2 * PAD for text in (label, message))
    title = escape(f"{label}: {message}")
    texts = "".join(
        f'<text x="{x:g}" y="14" textLength="{width:g}">{escape(text)}</text>'
        for text, x, width in ((label, PAD, left - 2 * PAD), (message, left + PAD, right - 2 * PAD))
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + right}" height="20" role="img" aria-label="{title}">'
        f"<title>{title}</title>"
        f'<clipPath id="round"><rect width="{left + right}" height="20" rx="3"/></clipPath>'
        f'<g clip-path="url(#round)"><rect width="{left}" height="20" fill="#444"/>'
        f'<rect x="{left}" width="{right}" height="20" fill="{COLOURS[colour]}"/></g>'
        f'<g fill="#fff" font-family="Verdana,DejaVu Sans,Geneva,sans-serif" font-size="11">{texts}</g></svg>\n'
    )


def endpoint(record: Record) -> str:
    """The same as a document that shields.io shows."""
    label, message, colour = parts(record)
    return json.dumps({"schemaVersion": 1, "label": label, "message": message, "color": colour}) + "\n"


def parts(record: Record) -> tuple[str, str, str]:
    """The label, the message, the colour."""
    selection = record.selection
    label = " ".join(filter(None, ("lossref", record.backends[0] if len(record.backends) == 1 else "", selection.operation or "")))
    cells = record.cells.items()
    sign = signs([together(cell for place, cell in cells if place.direction == direction) for direction in DIRECTIONS])
    broken = {id for cell in record.cells.values() for id in cell.broken}
    part = [selection.dtype or "", "a part" if selection.cases or selection.count > 1 else ""]
    words = [f"grade {sign}" + (f", {len(broken)} broken" if broken else ""), " ".join(filter(None, (selection.tier, *part)))]
    message = " | ".join([*words, record.digest[:DIGITS]])
    if not record.holds:
        return label, message, "red"
    if broken:
        return label, message, "orange"
    if sign == "-":
        return label, message, "lightgrey"
    return label, message, "yellow" if set(sign) & set("xN?") else "green"


def _width(text: str) -> int:
    return round(sum(next(width for those, width in ADVANCES.items() if not those or letter in those) for letter in text))
