"""A shard of a campaign: its points asked of the backend in this process, judged, and tallied.

`ask` is what an executor runs anywhere: its arguments are a campaign and two integers, its result is a tally. The first call in a process
loads the backend, and takes what that takes; what the backend does to the process (a crash, a hang) is the executor's business.

Each block is one call. One that raises is asked again in halves, down to the rows that raise by themselves, so that none of the others is
lost. Once `SINGLES` rows of a block did, no call of it is halved any more: all rows of one that raises count as rows that raised. A call
that raised though none of its rows does is counted too (`Tally.retried`).

The digest of the answers is of their bits, dtype and shape: a backend that answers the same points otherwise another time has another
digest.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from typing import Any

import numpy as np

from conformance.adapter import Adapter, Array, Arrays, Description, Unsupported
from conformance.campaign.judging import Rule, Screen, by_half_ulps, judged
from conformance.campaign.pairs import applies, by_pairs
from conformance.campaign.space import BLOCK, Campaign, CampaignError
from conformance.campaign.tally import ZERO, Count, Outcome, Place, Tally, merged
from conformance.complaint import UNABLE
from conformance.dialects import dialects
from conformance.expect import expect
from conformance.finding import Answer, Finding
from conformance.judge import judge
from conformance.link import Failure
from conformance.links.process import WorkerSource
from conformance.sources import Options, find
from conformance.texts import place_text
from conformance.worker import start as started
from conformance.worker import text_of
from refimpl.enclosure import FORMATS
from refimpl.operation import NotPermitted

SINGLES = 64  # rows of a block that raise by themselves, each after up to 33 calls, until no call of it is halved any more


class NotInstalled(CampaignError):
    """The backend of a campaign can't be loaded here; the message says why."""

    status = UNABLE


@dataclass(frozen=True, eq=False)
class Asked:
    """A campaign with what asks its points: the backend as it was loaded, and the rule that its answers are held against."""

    campaign: Campaign
    adapter: Adapter
    description: Description
    rule: Rule
    screen: Screen

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """What the elements of a row's answer are called."""
        classes = range(self.campaign.of.classes)
        if self.rule.gradients:
            return tuple(place_text(name, "backward", (v,)) for name in self.rule.gradients for v in classes)
        row = self.campaign.of.row
        return tuple(place_text("output", "forward", tuple(map(int, place))) for place in np.ndindex(row))


def ask(campaign: Campaign | Mapping[str, Any], start: int, stop: int) -> Tally:
    """The tally of points start to stop, of whole blocks, of a campaign or of what its `to_dict` gave.

    Raises `CampaignError` where the campaign can't be asked of that backend, or for other ends.
    """
    return tallied(prepared(campaign if isinstance(campaign, Campaign) else Campaign.from_dict(campaign)), start, stop)


@np.errstate(all="ignore")  # signalling nans are among the inputs
def tallied(asked: Asked, start: int, stop: int) -> Tally:
    """The same of a backend that is at hand."""
    size = asked.campaign.size
    if start % BLOCK or not 0 <= start < stop <= size or (stop % BLOCK and stop != size):
        raise CampaignError(f"a shard from {start} to {stop} of {size} points cuts a block; begin and end it at multiples of {BLOCK}")
    tally = ZERO
    for first in range(start, stop, BLOCK):
        tally = merged(tally, _block(asked, first, min(first + BLOCK, stop), tally))
    return tally


def resolved(campaign: Campaign) -> tuple[Campaign, Description]:
    """The campaign with its mode named, and the backend's description; raises `CampaignError` where it can't be asked of it."""
    asked = prepared(campaign)
    return asked.campaign, asked.description


def confirmed(campaign: Campaign, point: int) -> Finding:
    """What the judge, with an expectation that both witnesses prove, finds of the backend's answer to a point.

    The answer is the one to the point's whole block, as it was tallied; the note says where the row alone has another. In a backward
    campaign it is on the gradient that is farthest off.
    """
    return confirmed_by(prepared(campaign), point)


@np.errstate(all="ignore")
def confirmed_by(asked: Asked, point: int) -> Finding:
    """The same of a backend that is at hand."""
    case, first = asked.campaign.case(point), point - point % BLOCK
    within = answer_to(asked, first, min(first + BLOCK, asked.campaign.size), point)
    alone = answer_to(asked, point, point + 1, point)
    dialect = asked.description.choices(case.operation, asked.campaign.mode)
    found = [one for one in judge(expect(case), within, asked.rule.promise, dialect) if one.direction == asked.campaign.direction]
    worst = max(found, key=lambda one: one.badness)
    if _bits(within) == _bits(alone):
        return worst
    note = "the answer to this row among others, which is not its answer alone"
    return replace(worst, note="; ".join(filter(None, (worst.note, note))))


@cache
def prepared(campaign: Campaign) -> Asked:
    """The campaign, its mode named, with its backend, loaded once in this process; raises `CampaignError`."""
    of = campaign.of
    options = Options(
        dialect=campaign.dialect,
        operation=of.operation,
        dtype=campaign.dtype,
        promises=campaign.promises,
        tensors=campaign.tensors,
        device=campaign.device,
    )
    source = find(campaign.backend, options)
    if not isinstance(source, WorkerSource):
        raise CampaignError(f"{campaign.backend} answers by files or messages, too slowly for a campaign; name a library or a function")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded = started(source.load)
    if isinstance(loaded, Failure):
        wrong = CampaignError if loaded.misnamed else NotInstalled
        raise wrong(f"{campaign.backend} can't be asked: {loaded.reason}" + (f"; {loaded.remedy}" if loaded.remedy else ""))
    adapter, description = loaded
    modes = [mode.name for mode in description.modes]
    if campaign.mode not in ("", *modes):
        raise CampaignError(f"{campaign.backend} has no mode {campaign.mode!r}; its modes are {', '.join(modes)}")
    return asked_of(replace(campaign, mode=campaign.mode or modes[0]), adapter, description)


def asked_of(campaign: Campaign, adapter: Adapter, description: Description) -> Asked:
    """What is asked of a backend that was loaded; raises `CampaignError` where it promises nothing for it."""
    operation, dtype, mode = campaign.of.operation, campaign.dtype, campaign.mode
    if operation not in description.operations:
        raise CampaignError(f"{campaign.backend} has no {operation}; it has {', '.join(description.operations)}")
    promise = description.promise(operation, dtype, mode)
    if promise is None:
        stated = ", ".join(name for name in FORMATS if description.promise(operation, name, mode) is not None)
        raise CampaignError(
            f"{campaign.backend} promises nothing for {operation} in {dtype}, mode {mode}; it does for {stated or 'no dtype'}"
        )
    if campaign.dialect is not None:
        if campaign.dialect not in dialects():
            raise CampaignError(f"no dialect is named {campaign.dialect!r}; name one of {', '.join(dialects())}")
        description = replace(description, dialect=dialects()[campaign.dialect])
    rule = Rule.of(campaign, promise, description.choices(operation, mode), description.constants)
    try:
        rule.truth(campaign.inputs(0, 1))
    except NotPermitted as error:
        raise CampaignError(f"{description.dialect.name} has no answer for {campaign.space}: {error}; name another dialect") from error
    return Asked(campaign, adapter, description, rule, by_pairs if applies(rule) else by_half_ulps)


@dataclass(frozen=True, eq=False)
class Piece:
    """What came back for points start to stop, asked in one call: an output and gradients, or what became of the call instead."""

    start: int
    stop: int
    output: Array | None
    gradients: Arrays
    outcome: Outcome | None = None
    error: str = ""

    @property
    def bits(self) -> bytes:
        """All of it that a digest is of."""
        head = f"{self.start} {self.stop} {self.outcome}"
        tensors = [] if self.output is None else [("", self.output), *sorted(self.gradients.items())]
        parts = [(f" {name} {array.dtype.name}{list(array.shape)}".encode(), array.tobytes()) for name, array in tensors]
        return b"".join([head.encode(), *(part for pair in parts for part in pair)])


@dataclass(frozen=True)
class Raised:
    """The calls of a block that raised and weren't halved, and those all of whose rows answer in smaller calls; by their first points."""

    ends: list[int] = field(default_factory=list)
    retried: list[int] = field(default_factory=list)


def answers(asked: Asked, start: int, stop: int, raised: Raised) -> Iterator[Piece]:
    """The answer to points start to stop: whole, or in the halves of halves that could be had; notes what `raised`."""
    campaign = asked.campaign
    inputs = campaign.inputs(start, stop)
    cotangent = campaign.cotangent(inputs)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            output, gradients = asked.adapter.call(campaign.of.operation, campaign.mode, inputs, campaign.of.parameters, cotangent)
        yield Piece(start, stop, output, gradients)
    except Unsupported as refusal:
        yield Piece(start, stop, None, {}, Outcome.UNSUPPORTED, text_of(refusal))
    except Exception as error:  # whatever the library raises is its answer
        before, middle = len(raised.ends), (start + stop) // 2
        if stop - start == 1 or before >= SINGLES:
            raised.ends.append(start)
            yield Piece(start, stop, None, {}, Outcome.RAISED, text_of(error))
        else:
            yield from answers(asked, start, middle, raised)
            yield from answers(asked, middle, stop, raised)
            if len(raised.ends) == before:
                raised.retried.append(start)


def _block(asked: Asked, first: int, stop: int, so_far: Tally) -> Tally:
    """The tally of a block."""
    digest, tally, raised = hashlib.sha256(), ZERO, Raised()
    for piece in answers(asked, first, stop, raised):
        digest.update(piece.bits)
        tally = merged(tally, _of_piece(asked, piece, merged(so_far, tally)))
    retried = Count(len(raised.retried), Place(min(raised.retried), 0)) if raised.retried else None
    return replace(tally, digest=int.from_bytes(digest.digest(), "big"), retried=retried)


def _of_piece(asked: Asked, piece: Piece, so_far: Tally) -> Tally:
    rule, rows, columns = asked.rule, piece.stop - piece.start, len(asked.columns)
    actual, outcome = None, piece.outcome
    if outcome is None:
        actual, outcome = _table(rule, piece)
    if actual is not None:
        return judged(rule, asked.screen, asked.campaign.inputs(piece.start, piece.stop), actual, piece.start, so_far)
    assert outcome is not None
    count = Count(rows * columns, Place(piece.start, 0))
    return Tally(points=rows, elements=rows * columns, outcomes={outcome: count})


def _table(rule: Rule, piece: Piece) -> tuple[Array | None, Outcome | None]:
    """The answer's elements (rows, columns), or why there are none to compare."""
    rows, of = piece.stop - piece.start, rule.campaign.of
    tensors: list[Array | None]
    shape: tuple[int, ...]
    if rule.gradients:
        if not piece.gradients:
            return None, Outcome.UNSUPPORTED  # the backend has no derivatives
        tensors, shape = [piece.gradients.get(name) for name in rule.gradients], (rows, of.classes)
    else:
        tensors, shape = [piece.output], (rows, *of.row)
    parts = [tensor.reshape(rows, -1) for tensor in tensors if tensor is not None and tensor.shape == shape]
    if len(parts) < len(tensors) or any(part.dtype.name not in rule.dtypes for part in parts) or len({part.dtype for part in parts}) > 1:
        return None, Outcome.FORM
    return (parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)), None


def answer_to(asked: Asked, start: int, stop: int, point: int) -> Answer:
    """The answer to a point that was asked among the points start to stop, as the judge takes one."""
    piece = next(piece for piece in answers(asked, start, stop, Raised()) if piece.start <= point < piece.stop)
    if piece.output is None:
        return Answer(None, {}, piece.error, (), False, 0.0)
    row = slice(point - piece.start, point - piece.start + 1)
    own = {name: _row(gradient, row, piece) for name, gradient in piece.gradients.items()}
    return Answer(_row(piece.output, row, piece), own, None, (), False, 0.0, tuple(sorted(asked.adapter.constants)))


def _row(tensor: Array, row: slice, piece: Piece) -> Array:
    """A row of a tensor that has one for each point; another tensor as it is."""
    return tensor[row] if tensor.shape[:1] == (piece.stop - piece.start,) else tensor


def _bits(answer: Answer) -> list[bytes]:
    tensors = [] if answer.output is None else [answer.output, *(answer.gradients[name] for name in sorted(answer.gradients))]
    return [tensor.tobytes() for tensor in tensors]
