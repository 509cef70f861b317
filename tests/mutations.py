"""JSON values that are changed in one place, for checks that are to notice."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from typing import Any

STRANGE = (None, True, 0, -1, 2**64, 1e308, "", "x", "nan", "0x1p+0", "../x", "é", [], {}, [None], ["0x1p+0"] * 17, {"": 0})


def objects(value: Any) -> Iterator[Any]:
    """A value and all that it holds."""
    yield value
    for one in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from objects(one)


def mutate(value: Any, draws: random.Random) -> None:
    """Changes one thing somewhere in a JSON value."""
    holders = [one for one in objects(value) if isinstance(one, dict | list) and one]
    one = draws.choice(holders)
    key = draws.choice(sorted(one)) if isinstance(one, dict) else draws.randrange(len(one))
    action = draws.randrange(4)
    if action == 0:
        del one[key]
    elif action == 1 and isinstance(one, dict):
        one[draws.choice(("extra", "kind", "hi", "../x", ""))] = one[key]
    elif action == 2 and isinstance(one, list):
        one.append(one[key])
    else:
        one[key] = copy.deepcopy(draws.choice(STRANGE))
