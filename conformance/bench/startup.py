"""What the first answer costs in a fresh process: on a machine that was never asked before, and on one that was.

Every number is the wall time of a whole process, interpreter included. Where kernels are on disk it is given as a ratio to a
process that only imports Numba, run right before it, so that a busy machine slows both; where nothing is compiled yet, in seconds.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles

import numpy as np

from conformance.complaint import UNABLE, Complaint

_ROOT = Path(__file__).parents[2]
_NUMBA = "import numba"
_HELP = "import sys; sys.argv = ['lossref', '--help']; from conformance.cli import main; main()"

Clock = Callable[[str, Path], float]  # the seconds that a program takes, with a folder of compiled kernels


class ProgramError(Complaint):
    """A program that is timed has failed; the message is the last line of what it said."""

    status = UNABLE


@dataclass(frozen=True)
class Start:
    """A program beside `import numba`: the ratios of their wall times, turn by turn."""

    name: str
    ratios: tuple[float, ...]

    def quartiles(self) -> tuple[float, float, float]:
        """The lower quartile, the median and the upper quartile."""
        if len(self.ratios) == 1:
            return self.ratios * 3
        low, median, high = quantiles(self.ratios, n=4, method="inclusive")
        return low, median, high


def first_call(name: str, gradient: bool) -> None:
    """Ask an operation for its first answer, with its default reduction; and for its gradient."""
    from refimpl.operations import operation

    op = operation(name)
    example = next(example for clause in op.clauses for example in clause.examples)
    call = {key: np.asarray(value) if key in op.inputs else value for key, value in example.call.items()}
    call = {key: value for key, value in call.items() if key not in ("cotangent", "reduction")}
    output = op.forward(**call)
    if gradient:
        op.vjp(**call, cotangent=np.ones(output.shape))


def seconds(program: str, kernels: Path) -> float:
    """The wall time of a program in a fresh process; raises `ProgramError`."""
    began = time.perf_counter()
    run = subprocess.run(
        [sys.executable, "-c", program],
        cwd=_ROOT,
        env=os.environ | {"NUMBA_CACHE_DIR": str(kernels)},
        capture_output=True,
        text=True,
        check=False,
    )
    took = time.perf_counter() - began
    if run.returncode != 0:
        raise ProgramError((run.stderr.strip().splitlines() or [f"status {run.returncode}"])[-1])
    return took


def beside_numba(programs: Sequence[tuple[str, str]], rounds: int, kernels: Path, clock: Clock = seconds) -> list[Start]:
    """Programs, as (name, text), in turns, each right after `import numba`; what they compile is compiled before."""
    for _, program in programs:
        clock(program, kernels)
    turns: list[list[float]] = [[] for _ in programs]
    for _ in range(rounds):
        for ratios, (_, program) in zip(turns, programs, strict=True):
            numba = clock(_NUMBA, kernels)
            ratios.append(clock(program, kernels) / numba)
    return [Start(name, tuple(ratios)) for (name, _), ratios in zip(programs, turns, strict=True)]


def report(operations: Sequence[str], rounds: int, clock: Clock = seconds) -> Iterator[str]:
    """The lines of the report, each as soon as it is known."""
    yield "first call on a fresh machine, in seconds: forward, forward and gradient"
    for name in operations:
        took = []
        for gradient in (False, True):
            with tempfile.TemporaryDirectory() as empty:
                took.append(clock(_first(name, gradient), Path(empty)))
        yield f"  {name:<24} {took[0]:6.2f} {took[1]:6.2f}"
    yield "with its kernels on disk, as a multiple of `import numba`: median (quartiles)"
    programs = [("import refimpl", "import refimpl"), ("lossref --help", _HELP), *((name, _first(name, True)) for name in operations)]
    with tempfile.TemporaryDirectory() as kernels:
        for start in beside_numba(programs, rounds, Path(kernels), clock):
            low, median, high = start.quartiles()
            yield f"  {start.name:<24} {median:6.2f} ({low:.2f} to {high:.2f})"


def _first(name: str, gradient: bool) -> str:
    return f"from conformance.bench.startup import first_call; first_call({name!r}, {gradient})"
