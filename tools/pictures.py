"""Makes the README's pictures from a file of results: the head of the HTML report, and one of its plots.

    python -m tools.pictures RESULTS FOLDER

writes FOLDER/report.webp and FOLDER/ratio.svg, through the system's own Chromium.
"""

from __future__ import annotations

import base64
import re
import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from conformance.report import jsonlines
from conformance.report.html import page

SIZE = {"width": 1320, "height": 900}
QUALITY = 85  # of WebP; as PNG it would take three times the room
DTYPE = "float32"

# A plot as a file of its own: its styles are those that it has in the page, written into each element.
PLOT = """(dtype) => {
  const panels = [...document.querySelectorAll('[data-plot="scale"] .panel')];
  const svg = panels.find((one) => one.querySelector('figcaption').textContent === dtype).querySelector('svg');
  const copy = svg.cloneNode(true), to = [copy, ...copy.querySelectorAll('*')];
  [svg, ...svg.querySelectorAll('*')].forEach((element, i) => {
    const style = getComputedStyle(element), text = element.tagName === 'text';
    for (const name of text ? ['fill', 'font-size', 'font-family'] : ['fill', 'stroke', 'stroke-width', 'opacity']) {
      to[i].setAttribute(name, style.getPropertyValue(name));
    }
    to[i].removeAttribute('class');
  });
  for (const title of copy.querySelectorAll('title')) title.remove();
  copy.setAttribute('xmlns', 'http://www.w3.org/2000/svg');
  copy.setAttribute('width', '660');
  copy.insertAdjacentHTML('afterbegin', '<rect width="100%" height="100%" fill="#fcfcfb"/>');
  return copy.outerHTML;
}"""


def pictures(results: Path, folder: Path) -> None:
    """Write both."""
    chromium = shutil.which("chromium")
    if chromium is None:
        raise SystemExit("no chromium is here; tools/browser.sh installs it")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as playwright:
        file = Path(scratch) / "report.html"
        file.write_text(page(jsonlines.read(results)), encoding="utf-8")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        shown = browser.new_page(viewport=SIZE, color_scheme="light")
        _open(shown, file.as_uri())
        taken = shown.context.new_cdp_session(shown).send("Page.captureScreenshot", {"format": "webp", "quality": QUALITY})
        (folder / "report.webp").write_bytes(base64.b64decode(taken["data"]))
        _open(shown, f"{file.as_uri()}#view=plots&dtype={DTYPE}")
        (folder / "ratio.svg").write_text(_tidy(shown.evaluate(PLOT, DTYPE)), encoding="utf-8")
        browser.close()


def _open(shown: Page, address: str) -> None:
    shown.goto("about:blank")
    shown.goto(address)
    shown.wait_for_selector("html[data-ready]")


def _tidy(svg: str) -> str:
    """An element a line, numbers in two digits after the point, what says nothing left out."""
    svg = re.sub(r"\d+\.\d{3,}", lambda match: f"{float(match[0]):.2f}", svg)
    for silent in (' stroke="none"', ' stroke-width="1px"', ' opacity="1"'):
        svg = svg.replace(silent, "")
    return svg.replace("><", ">\n<") + "\n"


if __name__ == "__main__":
    pictures(Path(sys.argv[1]), Path(sys.argv[2]))
