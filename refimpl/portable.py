"""exp, expm1, log and log1p of float64 arrays with the same bits on every machine; NumPy's are those of the processor's instructions.

Each is a double-double of `refimpl.elementary`, rounded: off by at most 0.5001 ulp, and by 2^-1074 more where the result is subnormal.
expm1(x) is exp(x) - 1 in double-double, and for |x| < 2^-30 its series x + x^2/2 + x^3/6, whose next term is below 2^-94 of it.
Elsewhere 18 u^2 of exp(x), over |exp(x) - 1| > 2^-31, are below 2^-70. log1p(y) is the logarithm of 1 + y, which a double-double holds.

The coefficients of the bounds are made from these: they stand in the vectors, which have to be the same wherever they are made.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from refimpl import elementary
from refimpl.doubledouble import two_sum
from refimpl.jit import inline, kernel, routine

Float = NDArray[np.float64]

_EXP, _EXPM1, _LOG, _LOG1P = range(4)


def exp(x: Any) -> Float:
    """e^x of each element."""
    return _each(_EXP, x)


def expm1(x: Any) -> Float:
    """e^x - 1 of each element."""
    return _each(_EXPM1, x)


def log(x: Any) -> Float:
    """ln x of each element: -inf at 0, nan below."""
    return _each(_LOG, x)


def log1p(x: Any) -> Float:
    """ln(1 + x) of each element: -inf at -1, nan below."""
    return _each(_LOG1P, x)


def _each(function: int, x: Any) -> Float:
    wide = np.asarray(x, np.float64)
    result = np.empty(wide.shape)
    _fill(function, np.ascontiguousarray(wide).reshape(-1), result.reshape(-1))
    return result


@inline
def _exponential(x: float, less: float) -> float:
    """e^x - less, for a number x within 5000 of 0."""
    h, l, n = elementary.exp_split(x, 0.0)
    if n < -1200:
        return 0.0 - less
    h, l = elementary.ldexp(h, l, n) if n < 1100 else (np.inf, 0.0)
    if h == np.inf:
        return h
    h, e = two_sum(h, -less)
    return h + (e + l)


@routine
def _logarithm(h: float, l: float) -> float:
    if h > 0.0 and h < np.inf:
        h, l = elementary.log(h, l)
        return h + l
    return h if h == np.inf else (-np.inf if h == 0.0 else np.nan)


@kernel
def _fill(function: int, x: Any, y: Any) -> None:
    """The function of each element of x into y."""
    for i in range(x.shape[0]):
        v = x[i]
        if function == _LOG:
            y[i] = _logarithm(v, 0.0)
        elif function == _LOG1P:
            if v > -1.0 and v < np.inf:
                h, l = two_sum(1.0, v)
                y[i] = _logarithm(h, l)
            else:
                y[i] = _logarithm(1.0 + v, 0.0)
        elif function == _EXPM1 and abs(v) < 2.0**-30:
            y[i] = v + v * v * (0.5 + v / 6.0)
        elif v != v:
            y[i] = v
        else:
            near = min(max(v, -5000.0), 5000.0)
            y[i] = _exponential(near, 1.0 if function == _EXPM1 else 0.0)
