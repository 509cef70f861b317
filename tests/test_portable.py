"""refimpl.portable: within an ulp of the exact function, exact at the ends, and free of NumPy's own functions where vectors are made."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flint import arb, ctx

from refimpl import portable

INF, NAN = math.inf, math.nan
ENDS: dict[str, dict[float, float]] = {
    "exp": {INF: INF, -INF: 0.0, 0.0: 1.0, 710.0: INF, 1e308: INF, -746.0: 0.0, -1e308: 0.0, 5e-324: 1.0},
    "expm1": {INF: INF, -INF: -1.0, 0.0: 0.0, 710.0: INF, -746.0: -1.0, 5e-324: 5e-324, 1e-300: 1e-300},
    "log": {INF: INF, 0.0: -INF, 1.0: 0.0, -1.0: NAN, -INF: NAN},
    "log1p": {INF: INF, 0.0: 0.0, -1.0: -INF, -2.0: NAN, -INF: NAN, 5e-324: 5e-324},
}
EXACT: dict[str, Callable[[arb], arb]] = {"exp": arb.exp, "expm1": arb.expm1, "log": arb.log, "log1p": arb.log1p}


def inputs(name: str) -> Any:
    rng = np.random.default_rng([3, *name.encode()])
    x = np.concatenate([rng.normal(size=500) * scale for scale in (2.0**-60, 2.0**-30, 2.0**-20, 0.01, 1.0, 30.0, 300.0)])
    if name == "log":
        return np.concatenate([np.abs(x), 1.0 + x[:1500], [5e-324, 1e-310, 1.7e308]])
    return np.concatenate([x[x > -0.999], [1e300, 2.0**60]]) if name == "log1p" else x


@pytest.mark.parametrize("name", ENDS)
def test_the_ends(name: str) -> None:
    at, expected = map(np.array, zip(*ENDS[name].items(), strict=True))
    assert np.array_equal(getattr(portable, name)(at), expected, equal_nan=True)
    assert np.isnan(getattr(portable, name)([NAN])[0])


def test_a_number_stays_one_and_an_array_its_shape() -> None:
    assert portable.exp(0.0).shape == ()
    assert portable.log(np.ones((2, 3)).T).shape == (3, 2)


@pytest.mark.parametrize("name", ENDS)
def test_every_value_is_within_an_ulp(name: str) -> None:
    x = inputs(name)
    ctx.prec = 200
    for at, value in zip(x, getattr(portable, name)(x), strict=True):
        exact = EXACT[name](arb(float(at)))
        if math.isfinite(value):
            assert abs(arb(float(value)) - exact) < arb(0.5001 * float(np.spacing(abs(value)))) + arb(2.0**-1074)
        else:
            assert exact > arb(2.0**1023) * 1.9999


def test_the_bounds_take_no_function_of_the_processor() -> None:
    folder = Path(portable.__file__).parent
    for path in (folder / "bounds.py", folder / "family_terms.py", folder / "divergence.py", *(folder / "operations").glob("*.py")):
        found = re.findall(r"np\.(?:exp|expm1|exp2|log|log1p|log2|logaddexp|power)\(", path.read_text(encoding="utf-8"))
        assert not found, path.name
