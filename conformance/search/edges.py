"""The edges of a call, told from the call itself: what in it is out of the ordinary, row by row, and which clauses it concerns.

A golden vector names its clauses by hand; a drawn call doesn't. Each operation has rules: an edge, the clause that speaks of it, and how
it shows. Most clauses of edges stand beside those of the definition. Some take their place (`instead`): what such a row gives doesn't
follow from the definition alone, or the clause asks for less than the definition does. An edge without a clause of its own only tells
one cause from another.

A fact of the call as a whole holds for each of its rows, and for a call without rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np

from conformance.case import Case
from conformance.search.rows import Call, Classes, Rows, Wide
from refimpl.enclosure import FORMATS
from refimpl.operations import operation

Shown = Rows | np.bool_ | bool  # by row, or of the call as a whole

FAR = 16.0  # a gap whose exponential float16 can't hold
OFFSET = 256.0  # a common offset that takes eight bits of what is added to it
APART = 2.0**-6  # q so near to p, in units of p, that the terms of a divergence cancel
UNSURE = 2.0**-5  # how far from 1 the sum of a distribution in half precision may be, being rounded


@dataclass(frozen=True)
class Rule:
    """An edge, the clause that speaks of it ("" for none), and the rows in which it shows, or whether it does in the call.

    `instead` of the definition's clauses, it alone speaks of those rows. `ordinary` is what many a call has by chance: it tells nothing
    where another edge shows. `of_rows` are those about which rows count, and how many of them and of classes there are; `backward` are
    those of gradients alone.
    """

    edge: str
    clause: str
    shows: Callable[[Call], Shown]
    instead: bool = False
    ordinary: bool = False
    of_rows: bool = False
    backward: bool = False


def _any(test: Callable[[Call], Classes]) -> Callable[[Call], Shown]:
    """The rows with a class of which that is true."""
    return lambda call: test(call).any(1)


def _subnormal(clause: str, test: Callable[[Call], Classes]) -> tuple[Rule, Rule]:
    """Of float16 they are everyday numbers, below 2^-14, of which the definition speaks as well."""
    edge = "a subnormal number"
    return (
        Rule(edge, clause, lambda call: call.case.dtype != "float16" and test(call).any(1), instead=True),
        Rule(edge, clause, lambda call: call.case.dtype == "float16" and test(call).any(1)),
    )


def _tiny(call: Call, values: Wide) -> Classes:
    return (values != 0.0) & (np.abs(values) < FORMATS[call.case.dtype].normal)


def _many(what: str, axis: int) -> tuple[Rule, Rule]:
    """Where a sum of ones in the call's dtype stops growing, and where the count is no number of that dtype any more."""

    def beyond(call: Call, most: float) -> bool:
        return call.scores.shape[axis] > most

    return (
        Rule(f"more {what} than the dtype counts", "", lambda call: beyond(call, 2.0 ** FORMATS[call.case.dtype].precision), of_rows=True),
        Rule(f"more {what} than the dtype holds", "", lambda call: beyond(call, FORMATS[call.case.dtype].largest), of_rows=True),
    )


EVERY = (
    Rule("no rows", "", lambda call: len(call.scores) == 0, of_rows=True),
    *_many("rows", 0),
    *_many("classes", 1),
    Rule("a cotangent of 0", "", lambda call: _zero_cotangent(call), backward=True),
    Rule("a layout in memory", "GEN-6", lambda call: bool(call.case.layouts)),
)


def _zero_cotangent(call: Call) -> Shown:
    zero = call.cotangents == 0.0
    return zero if zero.size == len(call.scores) else bool(zero.any())


def _softmax(strange: str, one: str, far: str) -> tuple[Rule, ...]:
    """The rules of a row of logits, by the clauses that speak of them."""
    return (
        Rule("a nan among the logits", strange, _kept(_any(lambda call: np.isnan(call.scores))), instead=True),
        Rule("an infinite logit", strange, _kept(_any(lambda call: call.scores == np.inf)), instead=True),
        Rule("all classes masked", strange, _kept(lambda call: call.masked.all(1)), instead=True),
        Rule("one class", one, lambda call: call.scores.shape[1] == 1, ordinary=True),
        Rule("a gap", far, _kept(lambda call: call.gaps.max(1, initial=0.0) > FAR)),
        Rule("an offset", far, _kept(lambda call: (np.abs(call.scores) >= OFFSET).all(1) & ~call.strange)),
    )


def _kept(test: Callable[[Call], Shown]) -> Callable[[Call], Shown]:
    """The same without the rows that are ignored."""
    return lambda call: test(call) & ~call.ignored


def _masks(test: Callable[[Call], Classes]) -> Callable[[Call], Shown]:
    """The rows with a softmax that count, with a class of which that is true."""
    return lambda call: test(call).any(1) & ~call.strange & ~call.ignored


def _targets(ignored: str, bad: str) -> tuple[Rule, ...]:
    """The rules of a class index, by the clauses that speak of them."""
    return (
        Rule("a negative target", bad, lambda call: call.below, instead=True),
        Rule("a target of V or more", bad, lambda call: call.beyond, instead=True),
        Rule("an ignored row", ignored, lambda call: call.ignored, instead=True, of_rows=True),
        Rule(
            "an ignored row that isn't finite",
            ignored,
            lambda call: call.ignored & ~np.isfinite(call.scores).all(1),
            instead=True,
            of_rows=True,
        ),
    )


def _pair(prefix: str) -> tuple[Rule, ...]:
    """The rules of p and q, rows of classes."""
    return (
        Rule("a nan", f"{prefix}-7", _any(lambda call: np.isnan(call.p) | np.isnan(call.q)), instead=True),
        Rule("a negative number", f"{prefix}-8", _any(lambda call: (call.p < 0.0) | (call.q < 0.0)), instead=True),
        Rule("an infinity", f"{prefix}-9", _any(lambda call: (call.p == np.inf) | (call.q == np.inf)), instead=True),
        Rule("p > 0 at q = 0", f"{prefix}-4", _any(lambda call: (call.p > 0.0) & (call.q == 0.0))),
        Rule("p = 0", f"{prefix}-3", _any(lambda call: call.p == 0.0)),
        Rule("p = q = 0", f"{prefix}-3", _any(lambda call: (call.p == 0.0) & (call.q == 0.0))),
        Rule("p = q = 0", f"{prefix}-6", _any(lambda call: (call.p == 0.0) & (call.q == 0.0))),
        *_subnormal(f"{prefix}-11", lambda call: _tiny(call, call.p) | _tiny(call, call.q)),
        Rule("q near p", f"{prefix}-10", _near, ordinary=True),
        Rule("not summing to 1", f"{prefix}-2", lambda call: _unsure(call.p) | _unsure(call.q), ordinary=True),
    )


def _near(call: Call) -> Rows:
    apart = np.subtract(call.q, call.p, out=np.full_like(call.p, np.inf), where=np.isfinite(call.q) & np.isfinite(call.p))
    return np.asarray((np.abs(apart) <= APART * call.p).all(1))


def _unsure(values: Wide) -> Rows:
    found: Rows = np.abs(values.sum(1) - 1.0) > UNSURE
    return found


def _zero_p(call: Call) -> Rows:
    return (call.p == (-np.inf if call.parameter("log_target") else 0.0))[:, 0]


def _unlikely(call: Call) -> Rows:
    return np.asarray(call.log_q == -np.inf)[:, 0]


def _mean(clause: str) -> tuple[Rule, Rule]:
    """The rules of a mean that divides by anything but its one row."""

    def means(call: Call) -> bool:
        return call.parameter("reduction") == "mean" and (len(call.scores) != 1 or "weight" in call.case.inputs)

    return (
        Rule("a mean", clause, means),
        Rule("a mean that leaves rows out", clause, lambda call: means(call) and bool(call.ignored.any())),
    )


def _without_rows(call: Call) -> bool:
    return call.parameter("reduction") == "mean" and (len(call.scores) == 0 if call.distribution else call.kept_weight == 0.0)


RULES: Mapping[str, tuple[Rule, ...]] = {
    "entropy": (
        Rule("a nan", "ENT-6", _any(lambda call: np.isnan(call.p)), instead=True),
        Rule("a negative number", "ENT-7", _any(lambda call: call.p < 0.0), instead=True),
        Rule("an infinity", "ENT-8", _any(lambda call: call.p == np.inf), instead=True),
        Rule("p = 0", "ENT-3", _any(lambda call: call.p == 0.0)),
        Rule("p = 0", "ENT-5", _any(lambda call: call.p == 0.0)),
        *_subnormal("ENT-9", lambda call: _tiny(call, call.p)),
        Rule("not summing to 1", "ENT-2", lambda call: _unsure(call.p), ordinary=True),
    ),
    "cross_entropy": _pair("CE"),
    "kl_divergence": _pair("KLD"),
    "entropy_with_logits": (
        *_softmax("EWL-5", "EWL-6", "EWL-2"),
        Rule("a masked class", "EWL-4", _masks(lambda call: call.masked)),
        Rule("one class left", "EWL-6", lambda call: ((~call.masked).sum(1) == 1) & ~call.strange, ordinary=True),
    ),
    "log_softmax": (
        *_softmax("LSM-5", "LSM-6", "LSM-2"),
        Rule("a masked class", "LSM-4", _masks(lambda call: call.masked)),
    ),
    "kl_div": (
        Rule("nothing is kept", "KLP-12", lambda call: _empty_mean(call), instead=True, of_rows=True),
        Rule("a nan", "KLP-9", lambda call: (np.isnan(call.p) | np.isnan(call.log_q))[:, 0], instead=True),
        Rule("a negative number", "KLP-10", lambda call: (call.p < 0.0)[:, 0] & (not call.parameter("log_target")), instead=True),
        Rule("an infinity", "KLP-11", lambda call: ((call.p == np.inf) | (call.log_q == np.inf))[:, 0], instead=True),
        Rule("p > 0 at log_q = -inf", "KLP-6", lambda call: _unlikely(call) & ~_zero_p(call)),
        Rule("p = 0", "KLP-5", _zero_p),
        Rule("p = 0", "KLP-7", lambda call: _zero_p(call) & ~_unlikely(call)),
        Rule("p = 0 at log_q = -inf", "KLP-5", lambda call: _zero_p(call) & _unlikely(call)),
        Rule("p = 0 at log_q = -inf", "KLP-8", lambda call: _zero_p(call) & _unlikely(call)),
        *_subnormal("KLP-14", lambda call: _tiny(call, call.p) & (not call.parameter("log_target"))),
        Rule("log_target", "KLP-2", lambda call: bool(call.parameter("log_target"))),
        Rule("a mean", "KLP-3", lambda call: call.parameter("reduction") == "mean" and call.log_q.size != 1),
        Rule("a batchmean", "KLP-3", lambda call: call.parameter("reduction") == "batchmean"),
        Rule("a sum", "", lambda call: call.parameter("reduction") == "sum" and call.log_q.size != 1),
        Rule("a cotangent of 0", "KLP-13", _zero_cotangent, backward=True),
    ),
    "nll_loss": (
        Rule("nothing is kept", "NLL-6", _without_rows, instead=True, of_rows=True),
        *_targets("NLL-5", "NLL-7"),
        Rule("a target of nan", "NLL-4", _kept(_any(lambda call: np.isnan(call.scores) & call.own)), instead=True),
        Rule("a target of -inf", "NLL-3", _kept(_any(lambda call: call.masked & call.own & (call.weight > 0.0)))),
        Rule("a target of -inf and weight 0", "", _masks(lambda call: call.masked & call.own & (call.weight == 0.0))),
        Rule("another class that isn't finite", "NLL-3", _kept(_any(lambda call: ~np.isfinite(call.scores) & ~call.own))),
        *_mean("NLL-2"),
        Rule("weights", "", lambda call: "weight" in call.case.inputs, ordinary=True),
    ),
    "softmax_cross_entropy": (
        Rule("nothing is kept", "SCE-11", _without_rows, instead=True, of_rows=True),
        *_targets("SCE-10", "SCE-12"),
        *_softmax("SCE-9", "SCE-13", "SCE-2"),
        Rule("a masked class with mass", "SCE-8", _masks(lambda call: call.masked & call.mass)),
        Rule("a masked class of probability 0", "SCE-7", _masks(lambda call: call.masked & ~call.mass & call.distribution)),
        Rule("a masked class of weight 0", "SCE-7", _masks(lambda call: call.masked & call.own & (call.weight == 0.0))),
        Rule("a masked class without mass", "SCE-8", _masks(lambda call: call.masked & ~call.own & ~call.mass)),
        Rule("smoothing", "SCE-3", lambda call: call.smoothing > 0.0),
        Rule("a distribution", "SCE-5", lambda call: call.distribution),
        Rule("a distribution not summing to 1", "SCE-5", lambda call: call.distribution and _unsure(call.wide("target"))),
        *_mean("SCE-4"),
        Rule("weights", "", lambda call: "weight" in call.case.inputs, ordinary=True),
        Rule("further axes", "", lambda call: len(call.shape) > 1, of_rows=True),
    ),
    "smoothed_attention_loss": (
        Rule("nothing is kept", "SAL-8", lambda call: _no_tokens(call), instead=True, of_rows=True),
        *_targets("SAL-7", "SAL-9"),
        *_softmax("SAL-6", "SAL-10", ""),
        Rule("a masked class with mass", "SAL-5", _masks(lambda call: call.masked & call.mass)),
        Rule("a masked class without mass", "SAL-4", _masks(lambda call: call.masked & ~call.mass)),
        Rule("a masked class without mass", "SAL-5", _masks(lambda call: call.masked & ~call.mass)),
        Rule("a target without mass", "SAL-4", lambda call: call.smoothing == 1.0),
        Rule("a mean", "SAL-2", lambda call: bool(call.parameter("normalize_length")) or len(call.scores) != 1),
        Rule("normalize_length", "SAL-2", lambda call: bool(call.parameter("normalize_length"))),
    ),
}


def _empty_mean(call: Call) -> bool:
    reduction, shape = call.parameter("reduction"), call.shape
    return (reduction == "mean" and call.log_q.size == 0) or (reduction == "batchmean" and bool(shape) and shape[0] == 0)


def _no_tokens(call: Call) -> bool:
    return call.case.inputs["logits"].shape[0] == 0 or (bool(call.parameter("normalize_length")) and bool(call.ignored.all()))


def edges_of(case: Case, row: int | None = None, direction: str = "backward") -> tuple[str, ...]:
    """The edges of a call, or of one of its rows, by its number in C order; in the order of the rules.

    Forward are none that are of gradients alone.
    """
    shown = [(rule, shows) for rule, shows in _shown(case) if direction == "backward" or not rule.backward]
    found = [rule for rule, shows in shown if (shows.any() if row is None else shows[row])]
    telling = [rule for rule in found if not rule.ordinary] or found
    return tuple(dict.fromkeys(rule.edge for rule in telling))


def clauses_of(case: Case) -> tuple[str, ...]:
    """The clauses that a call concerns, those of its edges first; in the order of the rules."""
    shown = list(_shown(case))
    found = [rule.clause for rule, _ in shown]
    whole = np.logical_or.reduce([shows for rule, shows in shown if rule.instead], initial=False)
    if not np.all(whole):
        found += definition(case.operation)
    return tuple(dict.fromkeys(filter(None, found)))


@cache
def rules(name: str) -> tuple[Rule, ...]:
    """All rules of an operation."""
    return (*RULES[name], *EVERY)


@cache
def definition(name: str) -> tuple[str, ...]:
    """The clauses of an operation that no rule speaks of: what it gives, and its gradient."""
    return tuple(clause.id for clause in operation(name).clauses if clause.id not in {rule.clause for rule in rules(name)})


def _shown(case: Case) -> Iterator[tuple[Rule, Rows]]:
    """The rules that show in a call, each with the rows in which it does; one row stands for a call without any."""
    call = Call(case)
    for rule in rules(case.operation):
        shows = np.atleast_1d(rule.shows(call))
        if shows.any():
            yield rule, np.broadcast_to(shows, max(1, len(call.scores)))
