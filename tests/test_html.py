"""The data of the HTML report: what the page's program reads is what the record holds."""

from __future__ import annotations

import base64
import json
import math
import re
import zlib
from collections import Counter
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conformance import vectors
from conformance.deviations import FAILING
from conformance.finding import Finding, Told, Verdict
from conformance.grade import ANSWERED
from conformance.report import jsonlines
from conformance.report.html import headline, matrix, page, scripts
from conformance.report.html.bits import bits, pattern
from conformance.report.html.document import number
from conformance.report.html.facts import sizes
from conformance.report.html.failures import failures
from conformance.report.jsonlines import ReportError
from refimpl.enclosure import FORMATS
from tests import reports

LIMIT = 3_000_000  # bytes of a page for a full run over ten backends


@pytest.fixture(autouse=True)
def _read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page reads the vectors, which takes seconds; here all pages have the same."""
    monkeypatch.setattr(vectors, "read", lambda operation=None: list(reports.installed()))


@pytest.fixture(scope="module")
def text() -> str:
    return reports.text()


def unpacked(text: str) -> dict[str, Any]:
    match = re.search(r'id="data">([^<]*)<', text)
    assert match is not None
    return json.loads(zlib.decompress(base64.b64decode(match[1])))


@pytest.fixture(scope="module")
def data(text: str) -> dict[str, Any]:
    return unpacked(text)


def test_the_columns_hold_every_answer(data: dict[str, Any]) -> None:
    record = reports.record()
    answered = [result for result in record.results if result.finding.verdict in ANSWERED]
    columns = data["results"]
    assert {len(column) for column in columns.values()} == {len(answered)}
    known = {id(result): one for comparison in record.comparisons.values() for result, one in comparison.expected}
    for i, result in enumerate(answered):
        finding = result.finding
        place = [result.backend, result.mode, finding.operation, finding.dtype, finding.direction, finding.output]
        assert data["places"][columns["place"][i]] == [*place, result.accuracy, result.composed]
        assert data["cases"][columns["case"][i]]["id"] == finding.case
        assert data["texts"][columns["verdict"][i]] == finding.verdict
        assert data["sets"][columns["clauses"][i]] == list(finding.clauses)
        assert columns["ratio"][i] == number(finding.ratio)
        assert columns["side"][i] == finding.side
        deviation = known.get(id(result))
        assert (columns["known"][i] >= 0) == (deviation is not None)
        if deviation is not None:
            assert data["deviations"][columns["known"][i]]["reason"] == deviation.reason
        if finding.verdict in FAILING:
            row = columns["told"][i]
            assert data["told"]["actual"][row] == finding.told.actual
            assert data["told"]["inputs"][row] == finding.told.inputs
    missing = sum(entry[-1] for entry in data["unsupported"])
    assert missing == len(record.results) - len(answered) > 0


def test_a_record_read_back_gives_the_same_page(text: str, tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    jsonlines.write(path, reports.record())
    assert page(jsonlines.read(path)) == text


def test_a_record_of_other_vectors_is_refused() -> None:
    with pytest.raises(ReportError, match=r"results are of the vectors 0123456789ab.*install the lossref"):
        page(replace(reports.record(), digest="0123456789abcdef"))


def test_a_case_that_no_vector_has_is_refused() -> None:
    record = reports.record()
    first = record.results[0]
    odd = replace(first, finding=replace(first.finding, case="kl_div/edges/none"))
    with pytest.raises(ReportError, match="name a case 'kl_div/edges/none'"):
        page(replace(record, results=(odd, *record.results[1:])))


def test_who_answered_nothing_is_not_praised() -> None:
    record = reports.record()
    shown = headline.looks(replace(record, results=tuple(record.of("scipy"))), [])
    passed = sum(result.finding.verdict == Verdict.PASS for result in record.of("scipy"))
    assert shown.count("it answered nothing") == 2
    assert shown.count(f"nothing wrong in {passed} answers") == 1


def test_the_modes_of_a_backend_stand_together() -> None:
    record = reports.record()
    results = [replace(one, mode=mode) for mode in ("eager", "jit") for one in record.results if one.backend != reports.STRANGER]
    rows = re.findall(r"<tr(?: class=mode)?><th[^>]*>(.*?)</th>", matrix.matrix(replace(record, results=tuple(results)), []))
    jit = '<span class="hidden">{}</span> <i>jit</i>'
    assert rows[:4] == ["numpy", jit.format("numpy"), "scipy", jit.format("scipy")]


def test_nothing_of_a_stranger_is_markup(text: str) -> None:
    assert reports.STRANGER not in text
    assert reports.ATTACK not in text
    assert "<img" not in text
    assert text.count("<script") == 2


def test_the_operation_of_a_results_file_is_no_markup() -> None:
    record = reports.record()
    result = failures(record)[0][0]
    named = replace(result, finding=replace(result.finding, operation="<i>&kl</i>"))
    shown = headline.looks(replace(record, results=(named,)), [(named, None)])
    assert "<i>" not in shown
    assert shown.count("&lt;i&gt;&amp;kl&lt;/i&gt;") == 2, "among those that are wrong, and as the example"


def test_only_the_page_s_own_program_may_run(text: str) -> None:
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', text)
    program = text.split("<script>")[1].split("</script>")[0]
    style = text.split("<style>")[1].split("</style>")[0]
    hashes = [base64.b64encode(sha256(part.encode()).digest()).decode() for part in (style, program)]
    assert policy == f"default-src 'none'; style-src 'sha256-{hashes[0]}'; script-src 'sha256-{hashes[1]}'"


def test_failures_come_worst_first() -> None:
    found = failures(reports.record())
    assert len(found) == sum(result.finding.verdict in FAILING for result in reports.record().results)
    unexpected = [deviation is None for _, deviation in found]
    assert unexpected == sorted(unexpected, reverse=True)
    ratios = [math.inf if result.finding.ratio is None else result.finding.ratio for result, deviation in found if deviation is not None]
    assert ratios == sorted(ratios, reverse=True)
    assert ratios[0] == math.inf > ratios[-1]


def test_each_clause_of_a_cell_has_a_script_before_any_has_two(monkeypatch: pytest.MonkeyPatch) -> None:
    record = reports.record()
    found = [one for one in failures(record) if one[0].backend == "numpy"]
    keys = {id(one): (one.mode, one.finding.operation, one.finding.dtype, one.finding.direction, one.finding.clauses) for one, _ in found}
    by_id = {vector.case.id: vector for vector in reports.installed()}
    distinct = len(set(keys.values()))
    assert distinct < len(found), "some cell has a clause that several findings break"
    monkeypatch.setattr(scripts, "MOST", distinct)
    written = scripts.chosen(found, by_id, record.descriptions)
    assert all(text.startswith("# ") for text in written.values())
    assert max(Counter(keys[id] for id in written).values()) == 1
    assert len(written) == distinct


def test_a_long_script_is_left_to_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scripts, "LONG", 0)
    record = reports.record()
    assert not scripts.chosen(failures(record)[:6], {vector.case.id: vector for vector in reports.installed()}, record.descriptions)


@pytest.mark.parametrize("name", FORMATS)
def test_bits_are_those_of_the_dtype(name: str) -> None:
    target = FORMATS[name]
    for x in (0.0, -0.0, 1.0, -1.5, target.largest, target.tiny, math.inf, -math.inf):
        array = np.array([x], np.float64).astype(target.dtype)
        width = array.dtype.itemsize
        assert int(pattern(x, target), 16) == int(array.view(f"uint{8 * width}")[0])
        assert len(pattern(x, target)) == 2 * width
    assert int(pattern(1.0, target), 16) == ((1 << (8 * width - target.precision - 1)) - 1) << (target.precision - 1)


def test_the_expected_bits_are_those_of_the_truth_rounded_once() -> None:
    # 1 + 2^-24 lies in the middle between two float32 and rounds to even; the lo decides it.
    above = Told(expected="1", expected_hex="0x1.000001p+0 + 0x1p-80", radius="1e-30", actual="1", actual_hex="0x1p+0", format="float32")
    assert bits(above) == ("3f800001", "3f800000")
    assert bits(replace(above, expected_hex="0x1.000001p+0 - 0x1p-80"))[0] == "3f800000"
    assert bits(replace(above, radius="1e-20"))[0] == "", "the enclosure holds the middle"
    assert bits(replace(above, expected_hex="", expected="-inf", radius=""))[0] == "ff800000"
    assert bits(replace(above, expected_hex="", expected="overflow (a real number beyond float64)"))[0] == "7f800000"
    assert bits(replace(above, expected_hex="", expected="undefined"))[0] == ""
    assert bits(replace(above, actual="nan", actual_hex=""))[1] == "7fc00000"
    assert bits(replace(above, format="int64")) == ("", "")


def test_a_ratio_past_1_never_reads_as_1() -> None:
    assert number(1.0004) == 1.0004
    assert number(0.99999) == 1.0
    assert number(123456.0) == 123000.0
    assert number(math.inf) == "inf"
    assert number(None) is None


def test_the_sizes_that_errors_are_drawn_against() -> None:
    by_id = {vector.case.id: vector.case for vector in reports.installed()}
    case = by_id["log_softmax/ladder/V129-float32"]
    assert sizes(case) == (129, float(f"{np.abs(case.inputs['logits']).max():.3g}"))
    entropy = next(case for case in by_id.values() if case.operation == "entropy" and case.inputs["p"].size)
    assert sizes(entropy) == (entropy.inputs["p"].shape[-1], None), "probabilities have no scale"
    masked = next(case for case in by_id.values() if "logits" in case.inputs and np.isneginf(case.inputs["logits"].astype(float)).any())
    assert sizes(masked)[1] is None or math.isfinite(sizes(masked)[1] or 0.0)


def test_a_full_run_over_ten_backends_fits(data: dict[str, Any]) -> None:
    """As many answers as such a run has (32000), a tenth of them wrong, with numbers that don't repeat; and the scripts at their size."""
    record, rng = reports.record(), np.random.default_rng(7)
    numpy = record.descriptions["numpy"]
    names = [f"backend{i}" for i in range(10)]
    models = [result for result in record.results if result.backend == "numpy" and result.finding.ratio is not None]
    results = []
    for i, (name, vector) in enumerate((name, vector) for name in names for vector in reports.installed()):
        results.append(
            replace(models[i % len(models)], backend=name, finding=_random(models[i % len(models)].finding, vector.case.id, rng))
        )
    assert len(results) > 32000
    silent = {name: replace(numpy, name=name, idiom=None, modes=(), command=name) for name in names}
    size = len(page(replace(record, descriptions=silent, results=tuple(results), comparisons={})).encode())
    written = [script for script in data["told"]["script"] if script]
    each = len(zlib.compress("".join(written).encode(), 9)) / len(written)
    assert size + scripts.MOST * each * 4 / 3 < LIMIT
    assert size > LIMIT / 10, "the pretended run is too small to say anything"


def _random(model: Finding, case: str, rng: np.random.Generator) -> Finding:
    wrong = rng.random() < 0.1
    ratio = float(10.0 ** (rng.uniform(0.0, 8.0) if wrong else rng.uniform(-3.0, 0.0)))
    side, told = 1 if rng.random() < 0.5 else -1, None
    if wrong:
        x, y = (float(z) for z in rng.standard_normal(2))
        told = Told(
            inputs=f"logits {rng.standard_normal(2).tolist()}, target 1",
            expected=f"{x:.11g}",
            expected_hex=f"{x.hex()} + {(y * 2.0**-60).hex()}",
            radius="1.2e-30",
            actual=f"{y:.9g}",
            actual_hex=float(np.float32(y)).hex(),
            allowed=f"{abs(x) * 1e-7:.3g}",
            format="float32",
            side=side,
        )
    verdict = Verdict.FAIL if wrong else Verdict.PASS
    ulps = ratio * float(rng.uniform(1.0, 9.0))
    return replace(model, case=case, verdict=verdict, ratio=ratio, ulps=ulps, spelled=told or Told(side=side), note="")
