"""Turns, and ratios of what was timed in the same round.

Everyone takes a turn in every round, in reversed order in every other one, so that a machine that slows down slows all of them, and
none always follows the same neighbour. A turn is one call that isn't counted, which finds the caches and the allocator as another left
them, then up to CALLS that are; its time is their median. A call of LONG seconds, to which that makes no difference, is a turn. Before a
turn there is a PAUSE: OpenMP's workers (PyTorch's) spin on for some milliseconds after a call, and would take that time from whoever
comes next.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median, quantiles

CALLS = 5  # counted calls of a turn, at most
ENOUGH = 0.3  # seconds of counted calls after which a turn ends
LONG = 1.0  # seconds
PAUSE = 0.02  # seconds


@dataclass(frozen=True)
class Clock:
    """What tells the time, in seconds, and what waits."""

    now: Callable[[], float] = time.perf_counter
    sleep: Callable[[float], None] = time.sleep


@dataclass(frozen=True)
class Spread:
    """The median of some numbers, between their quartiles."""

    low: float
    median: float
    high: float


def spread(numbers: Sequence[float]) -> Spread:
    """The median and the quartiles; of a single number, that number."""
    if len(numbers) == 1:
        return Spread(numbers[0], numbers[0], numbers[0])
    return Spread(*quantiles(numbers, n=4, method="inclusive"))


def ratios(numerator: Sequence[float], denominator: Sequence[float]) -> list[float]:
    """Times over times, each pair from the same round."""
    return [a / b for a, b in zip(numerator, denominator, strict=True)]


def take_turns(
    calls: Mapping[str, Callable[[], object]], rounds: int, clock: Clock | None = None
) -> tuple[dict[str, list[float]], dict[str, str]]:
    """The seconds of every caller's call, one for each round; and of those that failed, which then left, what they said."""
    clock = Clock() if clock is None else clock
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    failures: dict[str, str] = {}
    names = list(calls)
    for number in range(rounds):
        for name in names if number % 2 == 0 else reversed(names):
            if name in failures:
                continue
            gc.collect()
            clock.sleep(PAUSE)
            try:
                seconds[name].append(_turn(calls[name], clock))
            except Exception as error:  # whatever a library raises is its answer, and is shown as such
                failures[name] = first_line(error)
    return seconds, failures


def _turn(call: Callable[[], object], clock: Clock) -> float:
    first = _seconds(call, clock)
    if first >= LONG:
        return first
    times: list[float] = []
    while len(times) < CALLS and sum(times) < ENOUGH:
        times.append(_seconds(call, clock))
    return median(times)


def _seconds(call: Callable[[], object], clock: Clock) -> float:
    begin = clock.now()
    call()
    return clock.now() - begin


def first_line(error: BaseException) -> str:
    """The kind of an error and the first line of what it says."""
    said = str(error).strip().splitlines()
    return type(error).__name__ + (f": {said[0]}" if said else "")
