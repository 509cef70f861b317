"""The error bounds of the family of smoothed losses, as linear forms (`refimpl.bounds`); `docs/spec/accuracy.md` derives them.

A row's loss is sum of c_v (-lp_v), with the target's entropy kept plus the sum of c_v ln t_v, where c_v = w_v t_v; its gradient is
f (p_v C - c_v) with C = sum of c_v and f = cotangent/denominator. A plain row has one class index, no smoothing and no weights: its c
is 1 at one class, so that nothing is multiplied and nothing is summed.
"""

from __future__ import annotations

import numpy as np

from refimpl import bounds, portable
from refimpl.bounds import Float, LogSoftmax, form, plus, times, without
from refimpl.family import Setting, coefficients


def terms(s: Setting) -> Float:
    """The error of the loss: of the rows (`_rows`), then of the reduction."""
    loss, errors = _rows(s)
    if not s.reduced:
        return bounds.stated(errors.reshape((*s.shape, bounds.K)))
    divisor = None if s.denominator is None else float(s.denominator.sum())
    return bounds.stated(bounds.reduced(loss, errors, divisor, _weighted(s), stores=not _plain(s)))


def terms_vjp(s: Setting, cotangent: Float) -> Float:
    """The error of f (p_v C - c_v).

    p_v C carries the relative error of p_v, that of the sum C with the errors in its terms, a product and a store; c_v the errors of
    the smoothing, products with w_v and f, and a store; then come the difference, the product with f, and f itself: a
    quotient, a store, the error of a sum of weights. Underflows: of p_v (times C), of c_v f and of their sum C f, of f (times
    what it multiplies).
    """
    lp = LogSoftmax.of(s.rows().astype(np.float64))
    _, c, c_error = coefficients(s)
    mass = c.sum(axis=1, keepdims=True)
    mass_error = c_error.sum(axis=1, keepdims=True)
    plain = _plain(s)
    f, f_unit, f_rows = np.broadcast_to(np.abs(cotangent).reshape(-1, 1), (s.kept.size, 1)), 0.0, 0.0
    with np.errstate(all="ignore"):
        if s.reduced and s.denominator is not None:
            f, f_unit, f_rows = f / s.denominator.sum(), 1.0, 1.0 if _weighted(s) else 0.0
        p, several = lp.probability, np.count_nonzero(c, axis=1, keepdims=True) > 1
        first = p * mass
        parts, value = first + c, np.abs(first - c)
        error = plus(
            times(first, lp.relative()),
            unit=p * mass_error + c_error + (0.0 if plain else 2.0) * parts + (2.0 + f_unit) * value,
            classes=np.where(several, first, 0.0),
            rows=f_rows * value,
            store=first + parts + value,
        )
        result = plus(times(f * np.ones_like(parts), error), tiny=4.0 + 2.0 * f * mass + parts + mass)
    without(~s.kept[:, None] | (f == 0.0), result)
    moved = [n for axis, n in enumerate(s.logits.shape) if axis != s.axis]
    return bounds.stated(np.moveaxis(result.reshape((*moved, s.classes, bounds.K)), -2, s.axis))


def _plain(s: Setting) -> bool:
    return s.index is not None and s.smoothing == 0.0 and s.weight is None


def _weighted(s: Setting) -> bool:
    return s.denominator is not None and s.denominator.size > 1


def _rows(s: Setting) -> tuple[Float, Float]:
    """The sum of the magnitudes of each row's terms, and the error of its loss.

    Each lp_v has its error; c_v has those of the smoothing; up to two products make a term, with a store; the terms are summed. With
    the target's entropy ln t_v has that of t_v and of a logarithm, and one more addition.
    """
    lp = LogSoftmax.of(s.rows().astype(np.float64))
    t, c, c_error = coefficients(s)
    held, plain = c > 0.0, _plain(s)
    with np.errstate(all="ignore"):
        size = np.abs(lp.value)
        main = np.where(held, c * size, 0.0).sum(axis=1)
        slope = np.where(held, c_error * size, 0.0).sum(axis=1)
        entropy = np.zeros_like(main)
        errors = np.einsum("rv,rvk->rk", c, np.ascontiguousarray(np.where(held[..., None], lp.error(), 0.0)))
        if s.entropy:
            logs = np.where(held, np.abs(portable.log(t)), 0.0)
            entropy = (c * logs).sum(axis=1)
            slope += np.where(held, c_error * (logs + 1.0), 0.0).sum(axis=1)
        loss = main + entropy
        several = np.count_nonzero(c, axis=1) > 1
        errors += form(
            loss.shape,
            unit=slope + (0.0 if plain else 3.0 * loss),
            log=entropy,
            classes=np.where(several, loss, 0.0),
            store=np.where(plain, 0.0, 2.0 * loss),
            tiny=4.0 + (0.0 if plain else float(s.classes)),
        )
    return np.where(s.kept, loss, 0.0), np.where(s.kept[:, None], errors, 0.0)
