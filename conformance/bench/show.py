"""The tables for people."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table as Grid

from conformance.bench.linear import Cost
from conformance.bench.memory import Peak
from conformance.bench.peer import Kind
from conformance.bench.problem import GRADIENT, LOG_SUM_EXP, Shape, text_of
from conformance.bench.record import Setup
from conformance.bench.table import Line, State, Table
from conformance.bench.timing import CALLS, LONG, PAUSE, Spread


def setup(out: Console, about: Setup) -> None:
    """What runs where."""
    versions = ", ".join(f"{name} {version}" for name, version in about.versions.items())
    _plain(out, f"{about.processor}, {about.threads} thread{'s' if about.threads > 1 else ''} each; {versions}")


def legend(out: Console) -> None:
    """How to read the tables of times."""
    for sentence in (
        "x: the time over that of the reference, or of a limit, in the same round: median (quartiles). In every round each takes a turn:",
        f"a pause of {PAUSE * 1e3:.0f} ms, one call that isn't counted (a call of {LONG:.0f} s or more is), then up to {CALLS} that are.",
        "error: the largest, in ulps of float32 (log-sum-exp: of float64); with a gradient: of the loss / of an element, to the largest",
        "of its row / to itself.",
    ):
        _plain(out, sentence)


def table(out: Console, found: Table) -> None:
    """One table."""
    what = "log-sum-exp of the rows" if found.work == LOG_SUM_EXP else f"smoothed_attention_loss, {found.work}"
    what += " and loss" if found.work == GRADIENT else ""
    title = f"{what}, {text_of(found.shape)} {found.dtype}, {found.rounds} rounds"
    grid = Grid(title=title, title_justify="left", title_style="bold")
    grid.add_column("")
    ours = [base for base in found.bases if base.peer.kind == Kind.REFERENCE]
    for name in ("ms", "ns an element", *(f"x {base.peer.name}" for base in ours), "error"):
        grid.add_column(name, justify="right")
    size = math.prod(found.shape)
    for line in found.lines:
        if line.state == State.DONE:
            times = [_short(line.median * 1e3), _short(line.median * 1e9 / size)]
            compared = [_spread(found.ratio(line, base)) for base in ours]
            grid.add_row(line.peer.name + (" (slice)" if line.on is not None else ""), *times, *compared, _errors(line))
    out.print(grid)
    for line in ours:
        limits = [f"{_spread(found.ratio(line, base))} x {base.peer.name}" for base in found.bases if base not in ours]
        if limits:
            _plain(out, f"{line.peer.name}: {', '.join(limits)}")
    for line in found.lines:
        if line.on is not None:
            _plain(out, f"{line.peer.name}: per element, on a slice of {text_of(line.on)}, scaled up to the shape")
    for line in found.lines:
        if line.state != State.DONE:
            _plain(out, f"{line.peer.name}: {line.state}: {line.note}")


def peaks(out: Console, work: str, shape: Shape, dtype: str, found: Sequence[Peak], logits: int) -> None:
    """The table of memory."""
    title = f"memory beyond inputs and outputs, {work}, {text_of(shape)} {dtype} (the logits: {logits / 2**20:.1f} MiB)"
    grid = Grid(title=title, title_justify="left", title_style="bold")
    grid.add_column("")
    grid.add_column("MiB", justify="right")
    grid.add_column("copies of the logits", justify="right")
    for peak in found:
        if peak.extra is not None:
            grid.add_row(peak.peer.name, f"{peak.extra / 2**20:.1f}", f"{peak.extra / logits:.3f}")
    out.print(grid)
    for peak in found:
        if peak.extra is None:
            _plain(out, f"{peak.peer.name}: {peak.state}: {peak.note}")


def cost(out: Console, found: Cost) -> None:
    """One size of one of the reference's peers."""
    size = f"{found.elements:.0e}".replace("e+0", "e")
    said = f"{_spread(found.nanoseconds)} ns an element" if found.nanoseconds is not None else f"{found.state}: {found.note}"
    _plain(out, f"{found.dtype} {found.work:<8}  {found.peer.name:<13}  {size} elements  {said}")


def _spread(s: Spread) -> str:
    return f"{_short(s.median)} ({_short(s.low)}-{_short(s.high)})"


def _short(x: float) -> str:
    """Three digits, and all before the point."""
    return f"{x:.0f}" if x >= 100 else f"{x:.3g}"


def _errors(line: Line) -> str:
    return " / ".join(_ulps(ulps) for _, ulps in line.errors) or "-"


def _ulps(x: float) -> str:
    return "<.001" if 0 < x < 0.001 else f"{x:.2g}"


def _plain(out: Console, text: str) -> None:
    out.print(text, markup=False, highlight=False)
