"""What a worker does: one shard at a time, with what the driver has to know of it. Everything here is imported by name in the worker."""

from __future__ import annotations

import os
import platform
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version

from conformance import spec
from conformance.campaign.asking import confirmed, resolved
from conformance.campaign.space import Campaign
from conformance.campaign.tally import Tally
from conformance.finding import Finding

Ask = Callable[[Campaign, int, int], Tally]

_ONE = threading.Lock()  # of a worker with several threads one asks the backend at a time, as its library may have settings of the process


@dataclass(frozen=True)
class Done:
    """A finished shard: its tally, the processors' time in seconds that it took, the versions that it is of, and who did it."""

    tally: Tally
    cpu: float
    versions: Mapping[str, str]
    place: str


def work(ask: Ask, campaign: Campaign, start: int, stop: int) -> Done:
    """Ask the points from `start` to before `stop`."""
    with _ONE:
        _, versions = present(campaign)  # loads the library, which is no part of the time
        began = time.process_time()
        tally = ask(campaign, start, stop)
        return Done(tally, time.process_time() - began, versions, place())


@cache
def present(campaign: Campaign) -> tuple[Campaign, dict[str, str]]:
    """The campaign with its mode named, and the versions of lossref, of the spec and of the backend's libraries, as they are here."""
    named, description = resolved(campaign)
    return named, {"lossref": version("lossref"), "spec": spec.version().number, **description.versions}


def confirm(campaign: Campaign, point: int) -> Finding:
    """What the judge finds of the answer to a point."""
    with _ONE:
        return confirmed(campaign, point)


def place() -> str:
    """This process, in words."""
    return f"process {os.getpid()} on {platform.node()}"
