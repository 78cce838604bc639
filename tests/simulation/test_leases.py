"""Lease storms: eight brokers, twenty limits, crashes and slices that run out."""

from datetime import timedelta

import pytest

from billing_meter.domain.leases import Terms
from testkit.clock import SimulationLoop
from testkit.lean_world import LeanWorld
from testkit.lease_storm import storm
from testkit.lease_worlds import SqlWorld, Weather


@pytest.mark.timeout(300)
def test_a_storm_neither_overshoots_nor_starves() -> None:
    """A thousand reservations; ``./just prove leases`` makes a hundred thousand."""
    told = storm(1, 1_000, LeanWorld)
    assert told.findings == ()
    assert told.counts["reservations"] >= 1_000
    assert told.counts["crashes"] > 0
    assert told.counts["refused: budget-exhausted"] > 0


@pytest.mark.timeout(300)
def test_a_storm_on_real_stores_and_the_simulated_nats() -> None:
    """The same, with nothing simpler than in production but the wire."""
    told = storm(1, 150, SqlWorld)
    assert told.findings == ()
    assert told.counts["reservations"] >= 150


@pytest.mark.timeout(300)
def test_equal_seeds_make_equal_storms() -> None:
    """A seed repeats what it found."""
    assert storm(5, 100, LeanWorld) == storm(5, 100, LeanWorld)


@pytest.mark.timeout(300)
def test_money_that_is_freed_when_its_lease_expires_is_found_out() -> None:
    """A meter that forgets calls under way says of their money that it is free."""
    hasty = Terms(lease=timedelta(seconds=5), tail=timedelta())

    def world(loop: SimulationLoop, seed: int, weather: Weather) -> LeanWorld:
        return LeanWorld(loop, seed, weather, hasty)

    told = storm(1, 600, world)
    assert any("is owed" in finding for finding in told.findings)
