"""The HTML report in a headless Chromium: it opens from disk, filters, drills down, copies, and asks nothing of a network."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import needs
import pytest
from playwright.sync_api import sync_playwright

from conformance.deviations import FAILING
from conformance.finding import Told, Verdict
from conformance.report import html
from conformance.report.html.addresses import finding_link
from conformance.report.html.failures import failures, first
from tests import reports

WIDE, NARROW = {"width": 1400, "height": 900}, {"width": 400, "height": 800}
CELL = "numpy eager, softmax_cross_entropy, float32"
VIEWS = ("", "#view=findings", "#view=clauses", "#view=clause&clause=SCE-4", "#view=plots", "#view=backends")

Opened = Callable[..., AbstractContextManager[Any]]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """The system's own Chromium; without a sandbox, as containers have none."""
    chromium = needs.program("chromium", "chromium, as tools/browser.sh does")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("report") / "report.html"
    file.write_text(reports.text(), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def edges(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of few findings, each at an edge of what can be shown. Their modes name them."""
    record = reports.record()
    model = next(one for one in record.of("numpy") if one.finding.verdict == Verdict.PASS and one.finding.dtype == "float32")
    told = Told(inputs="logits [1, 2]", expected="1.5", actual="1.6", allowed="1e-6", format="float32", side=1)
    of_float64 = replace(told, format="float64")
    changed: dict[str, dict[str, Any]] = {
        "refused": {"ratio": None, "ulps": None, "worst_index": None, "spelled": Told()},
        "at 256": {"ratio": 0.5, "ulps": 256.0, "spelled": told},
        "past 256": {"ratio": 0.5, "ulps": 3000.0, "spelled": told},
        "far below": {"ratio": 0.5, "ulps": 257.0, "spelled": replace(told, side=-1)},
        "far": {"ratio": 3e9, "ulps": 1e10, "spelled": told, "verdict": Verdict.FAIL},
        "sum": {"ratio": 1.5, "ulps": 2.0, "worst_index": None, "spelled": of_float64, "verdict": Verdict.FAIL},
        "scalar": {"ratio": 1.5, "ulps": 2.0, "worst_index": (), "spelled": of_float64, "verdict": Verdict.FAIL},
    }
    results = tuple(replace(model, mode=mode, finding=replace(model.finding, **fields)) for mode, fields in changed.items())
    file = tmp_path_factory.mktemp("edges") / "edges.html"
    descriptions = {"numpy": replace(record.descriptions["numpy"], modes=())}
    file.write_text(html.page(replace(record, results=results, comparisons={}, descriptions=descriptions)), encoding="utf-8")
    return file


@pytest.fixture
def opened(browser: Any, path: Path) -> Opened:
    """Opens a report at an address, in a context of its own; what the console said and what was asked for must be nothing more."""

    @contextmanager
    def open_at(address: str = "", before: str = "", ready: bool = True, file: Path = path, **options: Any) -> Iterator[Any]:
        context = browser.new_context(**{"viewport": WIDE, "color_scheme": "light", **options})
        if before:
            context.add_init_script(before)
        context.set_default_timeout(4000)
        page, said, asked = context.new_page(), [], []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(file.as_uri() + address)
        if ready:
            page.wait_for_selector("html[data-ready]")
        yield page
        assert said == []
        assert {url.partition("#")[0] for url in asked} == {file.as_uri()}
        assert page.evaluate("window.attacked") is None if options.get("java_script_enabled", True) else True
        context.close()

    return open_at


def wrong_of(backend: str, **where: str) -> list[Any]:
    """The findings of a backend that fail, where some of their fields have these values."""
    found = [one.finding for one in reports.record().of(backend) if one.finding.verdict in FAILING]
    return [finding for finding in found if all(getattr(finding, name) == value for name, value in where.items())]


def test_it_opens_with_what_came_of_the_run(opened: Opened) -> None:
    record = reports.record()
    with opened() as page:
        shown = page.locator(".count b").all_inner_texts()
        passed = sum(one.finding.verdict == Verdict.PASS for one in record.results)
        unexpected = sum(deviation is None for _, deviation in failures(record))
        assert shown[:3] == [str(passed), str(len(failures(record)) - unexpected), str(unexpected)]
        assert page.locator(f'.grades a[aria-label^="{CELL}"]').inner_text().startswith(("x", "N", "B", "A", "S"))
        assert reports.STRANGER in page.locator(".looks tbody th").all_inner_texts()[2]


def go(page: Any, address: str) -> None:
    """Follow an address within the page, until its view is there."""
    page.evaluate("address => { location.hash = address; }", address)
    page.wait_for_function("address => !document.getElementById('view').hidden === address.includes('view=')", arg=address)


def test_every_view_shows_a_stranger_s_words_as_words(opened: Opened) -> None:
    strange = [finding_link(one) for one in reports.record().of(reports.STRANGER)]
    attack = quote("<img src=x onerror=window.attacked=1>")
    with opened() as page:
        for address in (
            *VIEWS,
            "#view=findings&verdict=unexpected",
            *map(unescape, strange),
            f"#view=clause&clause={attack}",
            f"#view=finding&case={attack}",
        ):
            go(page, address)
            assert page.locator("main img, main b[onmouseover], main script").count() == 0, address
        go(page, unescape(strange[0]))
        assert reports.ATTACK in page.locator("main").inner_text()


def test_filters_live_in_the_address(opened: Opened) -> None:
    wanted = wrong_of("numpy", operation="softmax_cross_entropy", dtype="float32", direction="backward")
    assert wanted
    with opened("#view=findings") as page:
        everything = page.locator("#found").inner_text()
        for name, value in (("backend", "numpy"), ("operation", "softmax_cross_entropy"), ("dtype", "float32")):
            page.locator(f"select[name={name}]").select_option(value)
        page.locator("select[name=direction]").select_option("backward")
        page.locator("select[name=verdict]").select_option("wrong")
        shown = page.locator("#found").inner_text()
        assert shown.startswith(f"{len(wanted)} finding")
        assert shown != everything
        address = page.evaluate("location.hash")
    with opened(address) as page:
        assert page.locator("#found").inner_text() == shown
        assert page.locator("select[name=direction]").input_value() == "backward"
        assert {finding.case for finding in wanted} == {
            text.replace("\u200b", "") for text in page.locator(".findings tbody th").all_inner_texts()
        }
        page.locator("input[name=text]").type("nothing has this")
        assert page.locator("#found").inner_text().startswith("0 findings")
        assert page.evaluate("document.activeElement.name") == "text", "the control stays in use while one types"
        page.get_by_role("button", name="Clear").click()
        assert page.locator("#found").inner_text() == everything


def test_a_cell_leads_to_a_number_and_back(opened: Opened) -> None:
    case = "softmax_cross_entropy/ladder/gaps-float32"
    (finding,) = (one for one in wrong_of("numpy", case=case, direction="forward"))
    with opened() as page:
        page.locator(f'.grades a[aria-label^="{CELL}"]').click()
        assert page.locator("h1:focus").inner_text() == "numpy · softmax_cross_entropy · float32"
        page.locator(".findings tbody a", has_text="gaps-float32").first.click()
        assert page.locator("h1:focus").inner_text() == f"numpy says {finding.told.actual} where {finding.told.expected} is right"
        text = page.locator("main").inner_text()
        for said in (finding.told.expected_hex, finding.told.allowed, finding.told.inputs, f"lossref run numpy --case {case}"):
            assert said in text
        assert page.locator(".why li").all_inner_texts()[0].startswith(finding.clauses[0])
        assert "beyond every bound" in str(page.locator(".picture svg").get_attribute("aria-label"))
        bits = ["".join(row.locator(".bit").all_inner_texts()) for row in page.locator(".bits tbody tr").all()]
        assert bits == [f"{0x42D00000:032b}", f"{0x7F800000:032b}"], "104.0 and an infinity"
        page.keyboard.press("Escape")
        assert page.locator("h1:focus").inner_text() == "numpy · softmax_cross_entropy · float32"
        page.keyboard.press("Escape")
        assert page.locator("#overview").is_visible()
        assert str(page.evaluate("document.activeElement.getAttribute('aria-label')")).startswith(CELL)


def test_the_picture_has_the_answer_where_it_lies(opened: Opened) -> None:
    """In units of the bound, on its side of the truth; past the bound it is outside, however far."""
    measured = [one for one in reports.record().of("numpy") if one.finding.side and one.finding.ratio is not None]
    near = [one for one in measured if 0.2 < one.finding.ratio <= 1.0][::12]
    far = [one for one in measured if 1.8 < one.finding.ratio < float("inf")][::4]
    assert {one.finding.side for one in near} == {-1, 1}
    assert far
    with opened() as page:
        for one in [*near, *far]:
            go(page, unescape(finding_link(one)))
            allowed = page.locator(".picture .allowed")
            left, width = (float(allowed.get_attribute(name)) for name in ("x", "width"))
            mark = float(page.locator(".picture .mark").get_attribute("d")[1:].split()[0])
            place = one.finding.side * (mark - left - width / 2) / (width / 2)
            if one in near:
                assert place == pytest.approx(one.finding.ratio, rel=0.01)
            else:
                assert place > 1.0
                assert 0.0 < mark < 640.0


def test_a_script_is_copied(opened: Opened) -> None:
    found = [one for one in failures(reports.record()) if one[0].backend == "numpy"]
    with opened(permissions=["clipboard-read", "clipboard-write"]) as page:
        page.locator(".looks a.go").first.click()
        case = first(found)[0].finding.case
        page.locator(".code", has_text="import numpy").get_by_role("button").click()
        page.locator("button", has_text="Copied").wait_for()
        script = page.evaluate("navigator.clipboard.readText()")
        assert f"lossref's case {case}" in script
        assert script == page.locator(".code", has_text="import numpy").locator("code").inner_text()
        compile(script, "script", "exec")


def test_arrows_move_through_the_matrix(opened: Opened) -> None:
    with opened() as page:
        assert page.locator('.grades a[tabindex="0"]').count() == page.locator(".grades").count(), "one stop of Tab a table"
        page.locator('.grades a[tabindex="0"]').first.focus()

        def focused() -> str:
            return str(page.evaluate("document.activeElement.getAttribute('aria-label')"))

        assert focused().startswith("numpy eager, cross_entropy, float64")
        page.keyboard.press("ArrowRight")
        assert focused().startswith("numpy eager, entropy, float64")
        page.keyboard.press("ArrowDown")
        assert focused().startswith("scipy eager, entropy, float64")
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("ArrowLeft")
        assert focused().startswith("scipy eager, cross_entropy, float64"), "and not beyond"
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        page.keyboard.press("Enter")
        assert page.locator("h1:focus").inner_text() == "scipy · cross_entropy · float64"


def test_a_clause_says_who_breaks_it(opened: Opened) -> None:
    with opened("#view=clauses") as page:
        page.locator(".standings tbody th a", has_text="SCE-8").first.click()
        assert page.locator("#view h1").inner_text().startswith("SCE-8 MUST")
        row = page.locator("tr", has_text="broken").first
        assert "numpy" in row.inner_text()
        cases = {finding.case for finding in wrong_of("numpy") if "SCE-8" in finding.clauses}
        shown = set(page.locator(".findings tbody th").all_inner_texts())
        assert shown <= cases
        assert shown


def test_plots_stand_on_the_bound(opened: Opened) -> None:
    told = [one.finding for one in reports.record().of("numpy") if one.finding.ulps is not None and one.finding.dtype == "float64"]
    below = sum(finding.side < 0 and finding.ulps < float("inf") for finding in told)
    with opened("#view=plots&backend=numpy") as page:
        panels = page.locator('[data-plot="classes"] .panel')
        assert panels.locator("figcaption").all_inner_texts() == ["float64", "float32"]
        drawn = page.evaluate(DOTS)
        assert {kind for kind, *_ in drawn} == {"pass", "known"}
        for kind, dot, bound, title in drawn:
            ratio = title.rpartition(" ")[2]
            assert dot >= bound - 1.5 if kind == "pass" else True, title
            assert dot < bound - 1.5 if ratio == "∞" else True, title
        label = str(page.locator('[data-plot="ulps"] svg').first.get_attribute("aria-label"))
        assert label.startswith(f"float64: {below} below the truth")
        assert page.evaluate(LEFT) == below
        page.locator('[data-plot="scale"] rect.dot.known').first.dispatch_event("click")
        assert page.locator(".badge.known").count() == 1


def test_what_lies_beyond_a_plot_is_called_so(opened: Opened, edges: Path) -> None:
    with opened("#view=plots", file=edges) as page:
        ticks = page.locator('[data-plot="classes"] .tick').all_text_contents()
        assert "≥1e8" in ticks
        assert "∞" not in ticks, "3e9 is a number"
        ulps = page.locator('[data-plot="ulps"]')
        marks = ulps.locator(".tick").all_text_contents()
        assert {"> 256", "< −256", "64", "−64", "½", "−½"} & set(marks) == {"> 256", "< −256", "64", "−64"}
        bars = {title.rpartition(": ")[0]: title.rpartition(": ")[2] for title in ulps.locator("g title").all_text_contents()}
        assert bars == {
            "up to 2 ulps above": "2, 2 of them wrong",
            "up to 256 ulps above": "1, 0 of them wrong",
            "more than 256 ulps above": "2, 1 of them wrong",
            "more than 256 ulps below": "1, 0 of them wrong",
        }


def test_an_exception_that_is_right_says_so_and_comes_last(opened: Opened, edges: Path) -> None:
    with opened("#view=findings&verdict=pass", file=edges) as page:
        rows = page.locator(".findings tbody tr")
        assert rows.count() == 4
        assert [row.locator("td").nth(1).inner_text().split(" ", 1)[1] for row in rows.all()][-1] == "refused"
        rows.last.locator("a").click()
        assert page.locator("h1:focus").inner_text() == "numpy raises an exception, as it should"
        assert "an exception, which is right here" in page.locator(".facts-table").first.inner_text()


@pytest.mark.parametrize(("mode", "ulp"), [("sum", "1 ulp of the answer’s dtype"), ("scalar", "1 ulp of float64"), ("at 256", "")])
def test_an_ulp_is_named_by_the_dtype_that_it_is_of(opened: Opened, edges: Path, mode: str, ulp: str) -> None:
    """The sum of a tensor is a float64, in ulps of what was summed; an answer of another dtype than its case's has ulps of its own."""
    with opened(f"#view=findings&mode={quote(mode)}", file=edges) as page:
        page.locator(".findings tbody a").first.click()
        assert [text for text in page.locator(".picture .label").all_text_contents() if text != "allowed"] == ([ulp] if ulp else [])


# Of each dot of the ratios its kind, where its middle is drawn, where the bound, and its title.
DOTS = """[...document.querySelectorAll('[data-plot="classes"] rect.dot')].map((dot) => [
    dot.classList[1],
    Number(dot.getAttribute('y')) + 1.5,
    Number(dot.closest('svg').querySelector('line.bound').getAttribute('y1')),
    dot.textContent])"""

# How many the bars left of the middle stand for, of the first histogram.
LEFT = """[...document.querySelector('[data-plot="ulps"] svg').querySelectorAll('g')]
    .filter((bar) => Number(bar.querySelector('rect').getAttribute('x')) < 176)
    .map((bar) => Number(bar.textContent.match(/: (\\d+),/)[1])).reduce((a, b) => a + b, 0)"""

LIGHT = "getComputedStyle(document.body).backgroundColor.match(/[\\d.]+/g).slice(0, 3).map(Number).reduce((a, b) => a + b)"


def test_light_and_dark(opened: Opened) -> None:
    with opened(color_scheme="dark") as page:
        assert page.evaluate(LIGHT) < 120
        page.get_by_role("button", name="Light").click()
        assert page.evaluate(LIGHT) > 600
        page.get_by_role("button", name="Dark").click()
        assert page.evaluate(LIGHT) < 120
        page.emulate_media(color_scheme="light")
        assert page.evaluate(LIGHT) < 120, "whoever chose keeps what they chose"
    with opened() as page:
        assert page.evaluate(LIGHT) > 600


def finding_address() -> str:
    return unescape(finding_link(first([one for one in failures(reports.record()) if one[0].backend == "numpy"])[0]))


def test_nothing_scrolls_sideways_on_a_phone(opened: Opened) -> None:
    with opened(viewport=NARROW) as page:
        for address in (*VIEWS, finding_address()):
            go(page, address)
            assert page.evaluate("document.documentElement.scrollWidth") == NARROW["width"], address


def test_what_is_heard_is_what_is_seen(opened: Opened) -> None:
    """Controls have names, tables have headers with a scope, each view has one visible heading of the first rank."""
    nameless = """[...document.querySelectorAll('button, a, select, input')].filter((one) => one.checkVisibility()
        && !one.textContent.trim() && !one.getAttribute('aria-label') && !one.closest('label')).length"""
    with opened() as page:
        for address in (*VIEWS, finding_address()):
            go(page, address)
            assert page.evaluate("[...document.querySelectorAll('th')].filter(cell => !cell.scope).length") == 0, address
            assert page.evaluate("[...document.querySelectorAll('svg')].filter(one => !one.getAttribute('aria-label')).length") == 0, (
                address
            )
            assert page.evaluate("[...document.querySelectorAll('h1')].filter(one => one.checkVisibility()).length") == 1, address
            assert page.evaluate(nameless) == 0, address


def test_without_a_program_the_matrix_is_there(opened: Opened) -> None:
    with opened(java_script_enabled=False, ready=False) as page:
        assert page.locator("noscript").inner_text().startswith("Without JavaScript")
        assert page.locator(f'.grades a[aria-label^="{CELL}"]').is_visible()
    with opened(before="delete window.DecompressionStream", ready=False) as page:
        assert "can’t unpack the details" in page.locator("#trouble").inner_text()
        assert page.locator(f'.grades a[aria-label^="{CELL}"]').is_visible()


def test_it_prints_without_its_controls(opened: Opened) -> None:
    with opened("#view=findings", color_scheme="dark") as page:
        page.emulate_media(media="print", color_scheme="dark")
        assert not page.locator(".filters").is_visible()
        assert not page.locator("nav[aria-label=Views]").is_visible()
        assert page.locator(".findings").first.is_visible()
        assert json.loads(page.evaluate("JSON.stringify(getComputedStyle(document.documentElement).colorScheme)")) == "light"
