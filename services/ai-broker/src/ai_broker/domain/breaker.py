"""
The circuit breaker of one vendor's model: a table of states and events.

    closed ──sick, too often──► open ──admitted when due──► half-open
       ▲                         ▲                            │   │
       └──────── well, twice ────│────────────────────────────┘   │
                                 └──────────── sick ──────────────┘

Closed, it counts the last calls: five failures in a row, or half of at least ten
within half a minute, open it. Open, it refuses for a pause that doubles with every
opening in a row, from 5 s to a minute, less up to a quarter by chance, so that
replicas do not all probe at once. Half-open, one call at a time may try.

A result counts in the epoch that admitted its call: whatever a call that began
before the breaker opened brings later says nothing about now. Refusals by rate limit
and by the request's own faults are neither sick nor well: pacing and the caller deal
with those, and a probe that ends so gives its place back.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from ai_broker.domain.vendor import Failure
from ai_broker.domain.verdict import RATE_LIMITED, Again, Elsewhere, Verdict

CONSECUTIVE_MAX: Final = 5
RATE_CALLS_MIN: Final = 10
RATE_MAX: Final = 0.5
WINDOW: Final = timedelta(seconds=30)
CALLS_KEPT: Final = 20
PAUSE_FIRST_S: Final = 5.0
PAUSE_MAX_S: Final = 60.0
PAUSE_JITTER: Final = 0.25
PROBES_MAX: Final = 1
PROVEN_MIN: Final = 2
PROBE_LOOK_S: Final = 1.0
"""When to look again while somebody else probes."""


class State(StrEnum):
    """Whether calls are let through."""

    CLOSED = "closed"
    HALF_OPEN = "half-open"
    OPEN = "open"


class Event(StrEnum):
    """What the breaker is told."""

    ADMITTED = "admitted"
    WELL = "well"
    SICK = "sick"
    NEUTRAL = "neutral"


LEVEL: Final[Mapping[State, int]] = {
    State.CLOSED: 0,
    State.HALF_OPEN: 1,
    State.OPEN: 2,
}
"""What ``ai_breaker_state`` shows."""


@dataclass(frozen=True, slots=True)
class Breaker:
    """One breaker; every event makes a new one."""

    state: State = State.CLOSED
    epoch: int = 0
    """Grows with every change of state."""
    calls: tuple[tuple[datetime, bool], ...] = ()
    """When the last calls ended, and whether well; only while closed."""
    openings: int = 0
    """Times it opened since it was last closed."""
    until: datetime | None = None
    """While open: when a probe is due."""
    probing: int = 0
    """While half-open: probes on their way."""
    proven: int = 0
    """While half-open: probes that went well."""


Transition = Callable[[Breaker, datetime, float], Breaker]


def refuses_for_s(breaker: Breaker, now: datetime) -> float | None:
    """Return in how many seconds it may admit a call; None when it does now."""
    match breaker.state:
        case State.OPEN if breaker.until is not None and now < breaker.until:
            return (breaker.until - now).total_seconds()
        case State.HALF_OPEN if breaker.probing >= PROBES_MAX:
            return PROBE_LOOK_S
        case _:
            return None


def follow(
    breaker: Breaker, event: Event, epoch: int, now: datetime, draw: float
) -> Breaker:
    """
    Return the breaker after an event.

    Args:
        breaker: Before.
        event: What happened.
        epoch: The breaker's when the call was admitted; for ``ADMITTED`` its own.
        now: The time.
        draw: From [0, 1), for the length of a pause.
    """
    if epoch != breaker.epoch:
        return breaker
    transition = _TABLE.get((breaker.state, event))
    return breaker if transition is None else transition(breaker, now, draw)


def symptom(failure: Failure, verdict: Verdict) -> Event:
    """Say what a failed call tells of its vendor's health."""
    is_ill = isinstance(verdict, Again | Elsewhere) and failure.status != RATE_LIMITED
    return Event.SICK if is_ill else Event.NEUTRAL


def _count(breaker: Breaker, now: datetime, *, well: bool) -> Breaker:
    recent = tuple(each for each in breaker.calls if now - each[0] <= WINDOW)
    return replace(breaker, calls=(*recent, (now, well))[-CALLS_KEPT:])


def _closed_well(breaker: Breaker, now: datetime, _draw: float) -> Breaker:
    return _count(breaker, now, well=True)


def _closed_sick(breaker: Breaker, now: datetime, draw: float) -> Breaker:
    counted = _count(breaker, now, well=False)
    ends = [well for _, well in counted.calls]
    last = ends[-CONSECUTIVE_MAX:]
    in_a_row = len(last) == CONSECUTIVE_MAX and not any(last)
    rate = ends.count(False) / len(ends)
    if in_a_row or (len(ends) >= RATE_CALLS_MIN and rate >= RATE_MAX):
        return _opened(counted, now, draw)
    return counted


def _opened(breaker: Breaker, now: datetime, draw: float) -> Breaker:
    pause_s = min(PAUSE_FIRST_S * 2.0 ** min(breaker.openings, 10), PAUSE_MAX_S)
    pause_s *= 1 - PAUSE_JITTER * draw
    return Breaker(
        state=State.OPEN,
        epoch=breaker.epoch + 1,
        openings=breaker.openings + 1,
        until=now + timedelta(seconds=pause_s),
    )


def _probing_began(breaker: Breaker, _now: datetime, _draw: float) -> Breaker:
    return replace(
        breaker,
        state=State.HALF_OPEN,
        epoch=breaker.epoch + 1,
        until=None,
        probing=1,
        proven=0,
    )


def _probe_added(breaker: Breaker, _now: datetime, _draw: float) -> Breaker:
    return replace(breaker, probing=breaker.probing + 1)


def _probe_well(breaker: Breaker, _now: datetime, _draw: float) -> Breaker:
    proven = breaker.proven + 1
    if proven >= PROVEN_MIN:
        return Breaker(epoch=breaker.epoch + 1)
    return replace(breaker, probing=breaker.probing - 1, proven=proven)


def _probe_neutral(breaker: Breaker, _now: datetime, _draw: float) -> Breaker:
    return replace(breaker, probing=breaker.probing - 1)


_TABLE: Final[Mapping[tuple[State, Event], Transition]] = {
    (State.CLOSED, Event.WELL): _closed_well,
    (State.CLOSED, Event.SICK): _closed_sick,
    (State.OPEN, Event.ADMITTED): _probing_began,
    (State.HALF_OPEN, Event.ADMITTED): _probe_added,
    (State.HALF_OPEN, Event.WELL): _probe_well,
    (State.HALF_OPEN, Event.SICK): _opened,
    (State.HALF_OPEN, Event.NEUTRAL): _probe_neutral,
}
"""An absent pair changes nothing: an open breaker waits for nothing but its time."""
