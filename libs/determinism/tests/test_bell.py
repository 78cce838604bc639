"""Whoever listens first misses no ring, and nobody waits past the limit."""

from determinism import Bell, SystemClock

LONG_S = 60.0


async def test_a_ring_between_listening_and_waiting_is_heard() -> None:
    """What happens while somebody looks is not slept through."""
    bell, clock = Bell(), SystemClock()
    began_s = clock.monotonic()
    first, other = bell.listen(), bell.listen()
    bell.ring()
    await first.heard(LONG_S)
    await other.heard(LONG_S)
    assert clock.monotonic() - began_s < LONG_S


async def test_a_ring_that_came_before_is_none() -> None:
    """It tells of what the next look finds anyway; without another, time passes."""
    bell, clock = Bell(), SystemClock()
    bell.ring()
    began_s = clock.monotonic()
    await bell.listen().heard(0.05)
    assert clock.monotonic() - began_s >= 0.04
