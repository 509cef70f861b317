"""The results as one JSON document, and what a reader must know of the machine. Non-finite numbers are strings."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from conformance.adapter import installed
from conformance.bench.linear import Cost
from conformance.bench.memory import Peak
from conformance.bench.peer import Peer
from conformance.bench.problem import Shape
from conformance.bench.table import Line, State, Table

FORMAT = "lossref-bench/1"


@dataclass(frozen=True)
class Setup:
    """What runs where."""

    processor: str
    threads: int
    versions: Mapping[str, str]

    @staticmethod
    def of(peers: Iterable[Peer], threads: int) -> Setup:
        packages = dict.fromkeys(name for peer in peers for name in peer.distributions)
        return Setup(_processor(), threads, {"python": platform.python_version()} | installed("lossref", *packages))


@dataclass
class Record:
    """What was measured so far."""

    setup: Setup
    tables: list[Table] = field(default_factory=list)
    memory: list[tuple[str, Shape, str, Sequence[Peak]]] = field(default_factory=list)
    linear: list[Cost] = field(default_factory=list)

    def states(self) -> list[tuple[Peer, State]]:
        """What became of every peer, everywhere."""
        timed = [(line.peer, line.state) for table in self.tables for line in table.lines]
        peaks = [(peak.peer, peak.state) for *_, found in self.memory for peak in found]
        return timed + peaks + [(cost.peer, cost.state) for cost in self.linear]

    def write(self, path: Path) -> None:
        """Write the document."""
        document = {
            "format": FORMAT,
            **asdict(self.setup),
            "tables": [_table(table) for table in self.tables],
            "memory": [
                {"work": work, "shape": shape, "dtype": dtype, "peers": [_peak(peak) for peak in peaks]}
                for work, shape, dtype, peaks in self.memory
            ],
            "linear": [_cost(cost) for cost in self.linear],
        }
        path.write_text(json.dumps(_finite(document), indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def _table(table: Table) -> dict[str, Any]:
    lines = [_line(table, line) for line in table.lines]
    return {"work": table.work, "shape": table.shape, "dtype": table.dtype, "rounds": table.rounds, "peers": lines}


def _line(table: Table, line: Line) -> dict[str, Any]:
    head = {"peer": line.peer.name, "kind": line.peer.kind, "summary": line.peer.summary, "state": line.state, "note": line.note}
    if line.state != State.DONE:
        return head
    return head | {
        "slice": line.on,
        "seconds": line.seconds,
        "ratios": {base.peer.name: asdict(table.ratio(line, base)) for base in table.bases},
        "errors": dict(line.errors),
    }


def _peak(peak: Peak) -> dict[str, Any]:
    return {"peer": peak.peer.name, "state": peak.state, "note": peak.note, "bytes": peak.extra}


def _cost(cost: Cost) -> dict[str, Any]:
    head = {"peer": cost.peer.name, "work": cost.work, "dtype": cost.dtype, "elements": cost.elements}
    each = None if cost.nanoseconds is None else asdict(cost.nanoseconds)
    return head | {"state": cost.state, "note": cost.note, "nanoseconds": each}


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _processor() -> str:
    """The processor's name where the system tells it, else its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
