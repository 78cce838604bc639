import pytest

from testkit.platform import Platform
from testkit.prove_scenarios import Scenario, flood, kill_replicas, play

pytestmark = pytest.mark.timeout(400)


async def test_two_replicas_do_nothing_twice(replicated: Platform) -> None:
    """Twenty tasks on two replicas of each service: every turn is asked for once."""
    quiet = Scenario("two replicas", 20, flood(20).disturb, latency_ms=100)
    outcome = await play(replicated, quiet)
    outcome.expect_proven()
    assert outcome.books.unreported == 0
    assert outcome.books.attempts == outcome.books.lines
    assert outcome.alarms == ()


async def test_one_of_two_replicas_may_die(replicated: Platform) -> None:
    """One of each service is killed at once; the others and their heirs carry on."""
    outcome = await play(replicated, kill_replicas(20))
    outcome.expect_proven()
