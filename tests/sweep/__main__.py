"""The wide sweep: `python -m tests.sweep --rounds 200`. Every right kernel over V from 1 to 200,000, and a search for the worst ratio.

Each round draws a call of every operation in every dtype, or varies the worst that is known for one of its tensors. `--write` puts the
table into `docs/spec/accuracy.md`. Status 1 where a kernel exceeds its bound.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from conformance.adapter import Adapter
from conformance.case import Case, rounded
from conformance.correct import correct
from conformance.page import filled
from refimpl.enclosure import FORMATS
from refimpl.operations import operations
from tests.sweep.calls import Rng, draw
from tests.sweep.measure import Ratio, ratios

PAGE = Path(__file__).parents[2] / "docs" / "spec" / "accuracy.md"
COMMAND = "python -m tests.sweep --write"
SIZES = (1, 2, 2, 3, 5, 17, 33, 129, 1000)  # most rounds
LARGE = (4233, 50257, 200_000)  # one round in fifty, one row
Key = tuple[str, str, str, str]  # operation, direction, class, dtype


def main(argv: list[str] | None = None) -> int:
    """Sweep, and say what was worst."""
    parser = argparse.ArgumentParser(prog="python -m tests.sweep", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=200, help="calls of each operation in each dtype")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", metavar="OPERATION")
    parser.add_argument("--write", action="store_true", help=f"put the table into {PAGE.name}")
    given = parser.parse_args(argv)
    kernels, worst = correct(), dict[Key, tuple[Ratio, Case]]()
    failed = 0
    for number in range(given.rounds):
        rng = np.random.default_rng([given.seed, number])
        for name in sorted(operations()):
            if given.only not in name:
                continue
            for dtype in FORMATS:
                case = next_case(rng, number, name, dtype, worst)
                for found in ratios(case, kernels):
                    failed += found.ratio > 1.0
                    if found.ratio > 1.0:
                        sys.stdout.write(f"EXCEEDED {found}\n")
                    key = (name, found.direction, found.accuracy, dtype)
                    if tells(found, kernels, name) and (key not in worst or found.ratio > worst[key][0].ratio):
                        worst[key] = found, case
    text = table(worst)
    sys.stdout.write(f"{text}\n\n{failed} results of {given.rounds} rounds exceed their bound\n")
    if given.write:
        PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), COMMAND, {"looseness": text}), encoding="utf-8")
    return 1 if failed else 0


def next_case(rng: Rng, number: int, name: str, dtype: str, worst: dict[Key, tuple[Ratio, Case]]) -> Case:
    """A fresh call, a large one now and then, or a variation of the worst known."""
    if number % 50 == 49:
        return draw(rng, name, dtype, int(LARGE[number // 50 % 3]), rows=1)
    known = [entry for key, entry in worst.items() if key[0] == name and key[3] == dtype and entry[1].cotangent is not None]
    if number % 2 and known:
        return varied(rng, known[rng.integers(len(known))][1], dtype)
    return draw(rng, name, dtype, int(rng.choice(SIZES)))


def varied(rng: Rng, case: Case, dtype: str) -> Case:
    """A case with some numbers of one input changed by a little."""
    reals = [name for name, value in case.inputs.items() if value.dtype.kind not in "iu"]
    name = str(rng.choice(reals))
    x = case.inputs[name].astype(np.float64)
    change = 1.0 + rng.normal(size=x.shape) * (rng.random(x.shape) < 0.5) * 10.0 ** -rng.uniform(0.5, 6.0)
    cotangent = None if case.cotangent is None else rounded(case.cotangent.astype(np.float64) * (1.0 + rng.normal() * 0.01), dtype)
    return replace(case, inputs={**case.inputs, name: rounded(x * np.abs(change), dtype)}, cotangent=cotangent)


def tells(found: Ratio, kernels: tuple[Adapter, ...], name: str) -> bool:
    """Whether a ratio says something of the bound: not where the whole error is the rounding of a result computed more widely."""
    promise = next(a.promises[found.dtype] for a in kernels if a.name == found.kernel and name in a.operations)
    return found.dtype in (promise.compute, promise.store)


def table(worst: dict[Key, tuple[Ratio, Case]]) -> str:
    """Markdown: the worst ratio by operation, direction, class and dtype."""
    lines = [f"| operation | direction | class | {' | '.join(FORMATS)} |", "|---|---|---|" + "---|" * len(FORMATS)]
    for name, direction, accuracy in sorted({key[:3] for key in worst}, key=lambda k: (k[0], k[1] == "backward", "SABN".index(k[2]))):
        found = [worst.get((name, direction, accuracy, dtype)) for dtype in FORMATS]
        cells = ["-" if one is None else f"{one[0].ratio:.2f}" for one in found]
        lines.append(f"| `{name}` | {direction} | {accuracy} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
