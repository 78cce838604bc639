"""
Rate limits: requests and tokens per minute, and calls at once, by whose they are.

Rates are kept by GCRA: one number a limit, the time until which all that was taken is
spread out at the limit's pace.

    now                 taken until           now + 60 s
     ├──── ahead ────────────┼───── left ──────────┤

A minute's worth may be taken at once; then there is more at the limit's pace, so that
over any time at most its share and one minute's worth are taken. A call that takes
more than a whole minute's worth is let in where nothing else is taken, and those that
follow wait it off. Calls at once have places; each call holds one until its end.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from contracts.budgets import ScopeKind
from contracts.rates import Measure, RateStanding

WINDOW_US: Final = 60_000_000
BUSY_WAIT_US: Final = 1_000_000
"""When to come again while all places are taken: nobody knows when a call ends."""

Taken: TypeAlias = int
"""Of a rate, how far ahead it is taken in microseconds; of places, how many."""


@dataclass(frozen=True, slots=True)
class Bound:
    """One limit that a call is held to, and how much of it the call takes."""

    tenant: str
    kind: ScopeKind
    id: str
    measure: Measure
    limit: int
    cost: int = 1

    @property
    def policy(self) -> str:
        """Its name to callers, without whose it is."""
        return f"{self.kind}-{self.measure}"

    @property
    def key(self) -> str:
        """Where it is counted; the braces keep a tenant in one slot of a cluster."""
        return f"de:rates:{{{self.tenant}}}:{self.measure}:{self.kind}:{self.id}"

    @property
    def spread_us(self) -> int:
        """How much time the cost takes at the limit's pace."""
        return spread_us(self.cost, self.limit)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a call: every limit has counted it, or none has."""

    standings: tuple[RateStanding, ...]
    """Of each bound, in their order."""
    refused_by: Bound | None = None
    """The limit that is in the way the longest; None when all have counted."""
    wait_us: int = 0
    """When to come again; a guess for calls at once."""


def spread_us(cost: int, limit: int) -> int:
    """Return how much time a cost takes at the limit's pace."""
    return cost * WINDOW_US // limit


def wait_us(bound: Bound, taken: Taken) -> int:
    """Return how long the call must wait for this limit; 0 when it fits now."""
    if bound.measure is Measure.CONCURRENT:
        return 0 if taken < bound.limit else BUSY_WAIT_US
    return max(0, taken + min(bound.spread_us - WINDOW_US, 0))


def with_call(bound: Bound, taken: Taken) -> Taken:
    """Return what is taken with the call."""
    if bound.measure is Measure.CONCURRENT:
        return taken + 1
    return taken + bound.spread_us


def correction_us(bound: Bound, tokens: int) -> int:
    """Return what to add to what is taken, once the real tokens are known."""
    if tokens >= bound.cost:
        return spread_us(tokens - bound.cost, bound.limit)
    return -spread_us(bound.cost - tokens, bound.limit)


def decide(bounds: Sequence[Bound], taken: Sequence[Taken]) -> Verdict:
    """Return the verdict, by what of each limit is taken before the call."""
    waits = [wait_us(bound, each) for bound, each in zip(bounds, taken, strict=True)]
    longest_us = max(waits, default=0)
    if longest_us > 0:
        return refused(bounds, taken, waits.index(longest_us), longest_us)
    return admitted(
        bounds,
        [with_call(bound, each) for bound, each in zip(bounds, taken, strict=True)],
    )


def admitted(bounds: Sequence[Bound], taken: Sequence[Taken]) -> Verdict:
    """Return the verdict on a call that was counted; ``taken`` is with it."""
    standings = [
        _standing(bound, each, None if bound.measure is Measure.CONCURRENT else each)
        for bound, each in zip(bounds, taken, strict=True)
    ]
    return Verdict(tuple(standings))


def refused(
    bounds: Sequence[Bound], taken: Sequence[Taken], place: int, longest_us: int
) -> Verdict:
    """Return the verdict on a call that the bound in this place is in the way of."""
    standings = [
        _standing(bound, each, wait_us(bound, each) or None)
        for bound, each in zip(bounds, taken, strict=True)
    ]
    return Verdict(tuple(standings), bounds[place], longest_us)


def _standing(bound: Bound, taken: Taken, resets_us: int | None) -> RateStanding:
    if bound.measure is Measure.CONCURRENT:
        left = bound.limit - taken
    else:
        left = (WINDOW_US - taken) * bound.limit // WINDOW_US
    return RateStanding(
        policy=bound.policy,
        measure=bound.measure,
        limit=bound.limit,
        left=max(0, left),
        resets_in_s=None if resets_us is None else resets_us / 1_000_000,
    )
