"""What a campaign found: progress while it runs, then a summary, of what was covered and what was not, and a JSON document of the same."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from conformance.campaign.journal import Journal, Shard
from conformance.campaign.space import BLOCK, SPACES, Campaign
from conformance.campaign.tally import FAILURES, Outcome, Place, Tally
from conformance.deviations import DIRECTIONS
from conformance.finding import Finding
from conformance.report.message import figure, message
from refimpl.enclosure import FORMATS

FORMAT = "lossref-campaign-report/1"
SENTENCES = {
    Outcome.WITHIN: "within the bound",
    Outcome.BEYOND: "beyond the bound",
    Outcome.KIND: "of the wrong kind: a nan, an infinity or a number in place of another",
    Outcome.ANSWERED: "no nan, outside the domain",
    Outcome.UNDEFINED: "where nothing is expected",
    Outcome.FORM: "of another shape or dtype",
    Outcome.RAISED: "whose call raised",
    Outcome.UNSUPPORTED: "unsupported",
}


@dataclass(frozen=True)
class Covered:
    """What there is of a campaign once its command ends: the journal's whole, and the `points` and `seconds` of this command alone.

    `dropped` are the shards that this command began and didn't wait for.
    """

    campaign: Campaign
    journal: Journal
    versions: Mapping[str, str]
    points: int
    seconds: float
    workers: str
    dropped: tuple[Shard, ...] = ()

    @property
    def tally(self) -> Tally:
        """Of all that is finished."""
        return self.journal.tally

    @property
    def lost(self) -> int:
        """Points without an answer."""
        return sum(shard.stop - shard.start for shard in self.journal.lost)

    @property
    def failed(self) -> bool:
        """Whether something fell short."""
        return bool(self.journal.lost or self.dropped) or not self.tally.passed

    @property
    def version(self) -> str:
        """Of the backend's library."""
        return next((value for name, value in self.versions.items() if name not in ("lossref", "spec")), "")


@contextmanager
def progress(out: Console, space: str, journal: Journal, left: int) -> Iterator[Progress | None]:
    """A bar over the points that are there and those that are left, with rate and time left, or None where no one is watching."""
    if not out.is_terminal:
        yield None
        return
    count = TextColumn("{task.percentage:.3g}%")
    columns = (TextColumn("{task.description}", markup=False), BarColumn(None), count, TextColumn("{task.fields[rate]}"))
    with Progress(*columns, TimeRemainingColumn(compact=True), console=out, transient=True, expand=True) as bar:
        there = journal.tally.points
        bar.add_task(space, total=there + left, completed=there, rate="")
        yield bar


def move(bar: Progress | None, journal: Journal) -> None:
    """Move the bar, if there is one, to what the journal has."""
    if bar is None:
        return
    task = bar.tasks[0]
    rate = f"{task.speed / 1e6:.3g} M points/s" if task.speed else ""
    bar.update(task.id, completed=journal.tally.points, rate=rate)


def spaces() -> Iterator[str]:
    """A line for each space: its name, its points in the dtypes, what it is."""
    width = max(map(len, SPACES))
    for name, space in SPACES.items():
        sizes = {dtype: space.size(dtype) for dtype in FORMATS}
        words = ", ".join(f"2^{sizes[dtype].bit_length() - 1} {dtype}" for dtype in ("float16", "float32"))
        yield f"{name:{width}}  {space.summary} ({words})"


def summary(out: Console, covered: Covered, found: Mapping[tuple[str, int], Finding]) -> None:
    """What was covered, how fast, what came of it, and the findings of the judge.

    Each is of a point, under what makes that stand out.
    """
    campaign, tally = covered.campaign, covered.tally
    fixed = "".join(f", {place} = {value!r}" for place, value in campaign.fixed)
    asked = f"{campaign.space} in {campaign.dtype}{fixed}, {campaign.direction} ({campaign.of.summary})"
    lines = [
        f"{campaign.backend} {covered.version}, {campaign.mode}: {asked}",
        f"covered       {tally.points:,} of {campaign.size:,} points ({percentage(tally.points, campaign.size)})",
        f"not covered   {campaign.size - tally.points:,} ({percentage(campaign.size - tally.points, campaign.size)})",
    ]
    if covered.lost:
        lines[-1] += f", of which {covered.lost:,} lost"
    lines += [f"  lost        points {shard.start} to {shard.stop - 1}: {how}" for shard, how in sorted(covered.journal.lost.items())]
    if covered.dropped:
        start, stop = covered.dropped[0]
        lines.append(f"  dropped     {len(covered.dropped)} of the shards that were begun, the first from point {start} to {stop - 1}")
    if covered.points:
        lines.append(
            f"now           {covered.points:,} points in {covered.seconds:.1f} s by {covered.workers}:"
            f" {covered.points / covered.seconds / 1e6:.3g} M a second"
        )
    if covered.journal.cpu:
        lines.append(f"cost          {1e6 * covered.journal.cpu / tally.points:.3g} s of a processor a million points")
    lines.append(f"elements      {tally.elements:,}, {tally.outside:,} of them outside the domain, where nan is expected")
    for outcome, count in sorted(tally.outcomes.items(), key=lambda pair: list(Outcome).index(pair[0])):
        first = f"; the first at {inputs(campaign, count.first)}" if outcome in FAILURES else ""
        lines.append(f"  {count.number:>15,}  {SENTENCES[outcome]}{first}")
    if tally.retried is not None:
        point = tally.retried.first.point
        lines.append(
            f"raised        {tally.retried.number:,} calls of several points, none of which raises alone; the first from point {point}:"
        )
        lines.append(f"              {again(campaign, point)}")
    for name, worst in (("ulps", tally.ulps), ("of the bound", tally.ratio)):
        if worst is not None:
            lines.append(f"largest error {figure(worst.value)} {name}, at {inputs(campaign, worst.place)}")
    whole = "" if tally.points == campaign.size else " (of what is covered)"
    lines.append(f"digest        {tally.digest:064x}{whole}")
    _plain(out, "\n".join(lines))
    for (what, point), finding in found.items():
        out.print()
        _plain(out, f"{what.capitalize()}, as the judge finds it with what both witnesses prove:")
        _plain(out, message(finding, campaign.backend, covered.version, campaign.mode, again(campaign, point)))


def again(campaign: Campaign, point: int) -> str:
    """The command that asks only the block of a point."""
    first = point // BLOCK * BLOCK
    words = ["lossref", "campaign", campaign.backend, "--space", campaign.space, "--dtype", campaign.dtype, "--mode", campaign.mode]
    words += [word for place, value in campaign.fixed for word in ("--fixed", f"{place}={value!r}")]
    words += [] if campaign.direction == DIRECTIONS[0] else ["--direction", campaign.direction]
    words += [word for promise in campaign.promises for word in ("--promise", promise)]
    stated = {"--device": campaign.device, "--dialect": campaign.dialect, "--tensors": campaign.tensors}
    words += [word for option, value in stated.items() if value not in (None, "numpy") for word in (option, str(value))]
    return shlex.join([*words, "--shard", str(BLOCK), "--points", f"{first}:{min(first + BLOCK, campaign.size)}"])


def inputs(campaign: Campaign, place: Place) -> str:
    """The operands of a point, in decimal and as bits."""
    words = []
    for name, value in campaign.inputs(place.point, place.point + 1).items():
        bits = value.view(f"u{value.itemsize}")
        numbers = [
            str(x) if value.dtype.kind == "i" else f"{float(x)!r} (0x{b:0{2 * value.itemsize}x})"
            for x, b in zip(value.flat, bits.flat, strict=True)
        ]
        words.append(f"{name} [{', '.join(numbers)}]")
    return f"{', '.join(words)}: point {place.point}, element {place.element}"


def percentage(part: int, whole: int) -> str:
    """A part of a whole, never rounded to all or nothing of it."""
    exactly = part in (0, whole)
    texts = (f"{100 * part / whole:.{digits}g}" for digits in range(4, 18))
    return next((text for text in texts if exactly or text not in ("0", "100")), "100") + "%"


def _plain(out: Console, text: str) -> None:
    """Print text as it is, to be copied."""
    out.print(text, highlight=False, soft_wrap=True)


def document(covered: Covered) -> str:
    """The same as JSON."""
    tally, journal = covered.tally, covered.journal
    value: dict[str, Any] = {
        "format": FORMAT,
        "campaign": covered.campaign.to_dict(),
        "versions": dict(covered.versions),
        "size": covered.campaign.size,
        "covered": tally.points,
        "lost": [{**shard._asdict(), "how": how} for shard, how in sorted(journal.lost.items())],
        "dropped": [shard._asdict() for shard in covered.dropped],
        "cpu": journal.cpu,
        "points": covered.points,
        "seconds": covered.seconds,
        "workers": covered.workers,
        "tally": tally.to_json(),
    }
    return json.dumps(value, indent=1) + "\n"


def write(path: Path, covered: Covered) -> None:
    """Write the document."""
    path.write_text(document(covered), encoding="utf-8")
