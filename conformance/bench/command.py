"""`lossref bench`: what is asked for, measured and shown table by table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from rich.console import Console

from conformance.bench import linear, memory, show
from conformance.bench.peer import Kind, Peer, chosen
from conformance.bench.problem import DTYPES, FORWARD, GRADIENT, LOG_SUM_EXP, BenchError, Shape, problem, shape_of
from conformance.bench.record import Record, Setup
from conformance.bench.table import State, measure, using
from conformance.report.terminal import console
from refimpl.enclosure import FORMATS
from refimpl.jit import threads as usable

SHAPES = ("16x13x4233", "1000000x5", "8x256x32000")
DIRECTIONS = {"forward": (FORWARD,), "gradient": (GRADIENT,), "both": (FORWARD, GRADIENT)}

_LARGE = 1 << 22  # elements
_ROUNDS, _FEWER = 11, 5  # of problems up to so many elements, and of larger ones
_ROWS = (208, 1, 4233)  # of the table on log-sum-exp


@dataclass(frozen=True)
class Asked:
    """What to measure; `named` are the peers that the user wants, who must be there."""

    shapes: tuple[Shape, ...]
    dtypes: tuple[str, ...]
    peers: tuple[Peer, ...]
    named: frozenset[str]
    works: tuple[str, ...]
    rounds: int | None
    threads: int

    @staticmethod
    def of(
        shapes: Sequence[str] | None,
        dtypes: Sequence[str] | None,
        peers: Sequence[str] | None,
        direction: str,
        rounds: int | None,
        threads: int | None,
    ) -> Asked:
        """Of the command line's words; raises `BenchError` for one that names nothing."""
        for dtype in dtypes or ():
            if dtype not in DTYPES:
                raise BenchError(f"no dtype is named {dtype!r}; the dtypes are {', '.join(DTYPES)}")
        return Asked(
            shapes=tuple(dict.fromkeys(map(shape_of, shapes or SHAPES))),
            dtypes=tuple(dict.fromkeys(dtypes or DTYPES[:1])),
            peers=tuple(chosen(peers)),
            named=frozenset(peers or ()),
            works=DIRECTIONS[direction],
            rounds=rounds,
            threads=usable() if threads is None else threads,
        )

    def rounds_of(self, elements: int) -> int:
        return self.rounds or (_ROUNDS if elements <= _LARGE else _FEWER)


def run(asked: Asked, stream: TextIO, json: Path | None = None, *, linearly: bool = False, peaks: bool = False) -> bool:
    """Measure, show and keep; whether the reference and every peer that was named were there."""
    out = console(stream)
    with using(asked.threads):
        record = Record(Setup.of(asked.peers, asked.threads))
        show.setup(out, record.setup)
        if linearly:
            _costs(asked, record, out)
        elif peaks:
            _peaks(asked, record, out)
        else:
            _tables(asked, record, out)
    if json is not None:
        record.write(json)
    needed = [state for peer, state in record.states() if peer.kind == Kind.REFERENCE or peer.name in asked.named]
    return not any(state in (State.FAILED, State.ABSENT) for state in needed)


def _tables(asked: Asked, record: Record, out: Console) -> None:
    show.legend(out)
    for shape in asked.shapes:
        for dtype in asked.dtypes:
            there = problem(shape, dtype)
            for work in asked.works:
                record.tables.append(measure(asked.peers, work, there, asked.rounds_of(there.logits.size), asked.threads))
                show.table(out, record.tables[-1])
    if any(LOG_SUM_EXP in peer.works for peer in asked.peers if peer.kind == Kind.PEER):
        rows = problem(_ROWS, "float64")
        record.tables.append(measure(asked.peers, LOG_SUM_EXP, rows, asked.rounds_of(rows.logits.size), asked.threads))
        show.table(out, record.tables[-1])


def _peaks(asked: Asked, record: Record, out: Console) -> None:
    for shape in asked.shapes:
        for dtype in asked.dtypes:
            for work in asked.works:
                found = tuple(memory.peaks(asked.peers, work, shape, dtype, asked.threads))
                record.memory.append((work, shape, dtype, found))
                logits = shape[0] * shape[1] * shape[2] * FORMATS[dtype].dtype.itemsize
                show.peaks(out, work, shape, dtype, found, logits)


def _costs(asked: Asked, record: Record, out: Console) -> None:
    for dtype in asked.dtypes:
        for cost in linear.costs(asked.peers, asked.works, dtype, asked.rounds or _FEWER, asked.threads):
            record.linear.append(cost)
            show.cost(out, cost)
