"""The circuit breaker: when it opens, whom it probes with, how it closes."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_broker.domain.breaker import (
    CONSECUTIVE_MAX,
    PAUSE_MAX_S,
    PROBES_MAX,
    PROVEN_MIN,
    RATE_CALLS_MIN,
    WINDOW,
    Breaker,
    Event,
    State,
    follow,
    refuses_for_s,
    symptom,
)
from ai_broker.domain.vendor import Failure, FailureKind
from ai_broker.domain.verdict import Again, Elsewhere, Nowhere, Spent, Unfit, Verdict
from contracts.problems import Code

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


def after(
    events: list[Event], breaker: Breaker | None = None, at: datetime = NOW
) -> Breaker:
    """Tell a breaker several things at once."""
    current = breaker or Breaker()
    for each in events:
        current = follow(current, each, current.epoch, at, 0.0)
    return current


OPEN = after([Event.SICK] * CONSECUTIVE_MAX)


@pytest.mark.parametrize(
    ("events", "state"),
    [
        ([Event.SICK] * (CONSECUTIVE_MAX - 1), State.CLOSED),
        ([Event.SICK] * CONSECUTIVE_MAX, State.OPEN),
        ([Event.SICK] * 4 + [Event.WELL] + [Event.SICK] * 4, State.CLOSED),
        ([Event.WELL, Event.SICK] * (RATE_CALLS_MIN // 2), State.OPEN),
        ([Event.WELL, Event.WELL, Event.SICK] * RATE_CALLS_MIN, State.CLOSED),
        ([Event.NEUTRAL] * 99, State.CLOSED),
    ],
)
def test_it_opens_by_a_row_or_by_a_rate(events: list[Event], state: State) -> None:
    """Five failures in a row, or half of ten calls; rate limits count as neither."""
    assert after(events).state is state


def test_old_failures_are_forgotten() -> None:
    """What failed longer ago than the window does not open it."""
    current = after([Event.SICK] * (CONSECUTIVE_MAX - 1))
    later = NOW + WINDOW + timedelta(seconds=1)
    assert after([Event.SICK], current, later).state is State.CLOSED


def test_a_pause_grows_with_every_opening() -> None:
    """5, 10, 20, 40 s and then a minute, until it was closed once."""
    current, at, pauses = OPEN, NOW, list[float]()
    for _ in range(6):
        pause_s = refuses_for_s(current, at)
        assert pause_s is not None
        pauses.append(pause_s)
        at += timedelta(seconds=pause_s)
        assert refuses_for_s(current, at) is None
        current = after([Event.ADMITTED, Event.SICK], current, at)
    assert pauses == [5, 10, 20, 40, 60, 60]
    assert refuses_for_s(current, at) == PAUSE_MAX_S


def test_half_open_admits_probes_one_by_one() -> None:
    """While a probe is out nobody else is let through; two that go well close it."""
    probing = after([Event.ADMITTED], OPEN)
    assert probing.state is State.HALF_OPEN
    assert refuses_for_s(probing, NOW) is not None
    once = after([Event.WELL], probing)
    assert once.state is State.HALF_OPEN
    assert refuses_for_s(once, NOW) is None
    closed = after([Event.ADMITTED, Event.WELL] * (PROVEN_MIN - 1), once)
    assert closed.state is State.CLOSED
    assert closed.openings == 0


def test_a_probe_without_a_result_gives_its_place_back() -> None:
    """A cancelled or rate-limited probe neither closes nor opens it."""
    probing = after([Event.ADMITTED, Event.NEUTRAL], OPEN)
    assert probing.state is State.HALF_OPEN
    assert refuses_for_s(probing, NOW) is None


def test_results_of_an_earlier_epoch_say_nothing() -> None:
    """A call that began before the breaker opened neither closes nor keeps it open."""
    probing = after([Event.ADMITTED], OPEN)
    for event in (Event.WELL, Event.SICK):
        assert follow(probing, event, 0, NOW, 0.0) == probing


@pytest.mark.parametrize(
    ("status", "verdict", "event"),
    [
        (500, Again(1), Event.SICK),
        (None, Again(1), Event.SICK),
        (401, Elsewhere(), Event.SICK),
        (429, Again(1), Event.NEUTRAL),
        (429, Elsewhere(), Event.NEUTRAL),
        (429, Spent(), Event.NEUTRAL),
        (400, Unfit(is_too_large=True), Event.NEUTRAL),
        (400, Nowhere(Code.INVALID), Event.NEUTRAL),
    ],
)
def test_only_the_vendor_s_own_failures_are_sick(
    status: int | None, verdict: Verdict, event: Event
) -> None:
    """Rate limits are pacing's, bad requests the caller's, empty accounts ours."""
    failure = Failure(FailureKind.REFUSED, "no", status)
    assert symptom(failure, verdict) is event


@given(
    st.lists(
        st.tuples(
            st.sampled_from(Event), st.floats(0, 70), st.integers(0, 3), st.floats(0, 1)
        ),
        max_size=80,
    )
)
def test_whatever_happens_it_recovers(
    history: list[tuple[Event, float, int, float]],
) -> None:
    """Probes stay bounded, and a vendor that is well again is always found out."""
    current, at = Breaker(), NOW
    for event, later_s, stale, draw in history:
        at += timedelta(seconds=later_s)
        if event is Event.ADMITTED and refuses_for_s(current, at) is not None:
            continue
        epoch = current.epoch if event is Event.ADMITTED else current.epoch - stale
        is_idle = current.state is State.HALF_OPEN and not current.probing
        if is_idle and event is not Event.ADMITTED:
            continue
        current = follow(current, event, epoch, at, draw)
        assert 0 <= current.probing <= PROBES_MAX
    if current.probing:
        current = follow(current, Event.NEUTRAL, current.epoch, at, 0.0)
    at += timedelta(seconds=PAUSE_MAX_S)
    for _ in range(PROVEN_MIN):
        assert refuses_for_s(current, at) is None
        current = after([Event.ADMITTED, Event.WELL], current, at)
    assert current.state is State.CLOSED
