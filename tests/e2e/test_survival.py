from typing import Final

import pytest

from embedded.stack import SERVICES
from testkit.platform import Platform
from testkit.prove_scenarios import flood, kill_nats, kill_service, play

pytestmark = pytest.mark.timeout(400)

RSS_BYTES_MAX: Final = 400 << 20
MAY_LOSE_REPORTS: Final = "ai-broker"
"""Only its own death makes the platform miss what the vendor reported."""


@pytest.mark.parametrize("service", [str(each) for each in SERVICES])
async def test_a_killed_service_loses_nothing(platform: Platform, service: str) -> None:
    """
    ``kill -9`` in the middle of ten tasks: all complete, and the books agree.

    Each call that reached the vendor has one line in force, with the vendor's own
    token counts wherever it could tell us; each turn was answered and paid once.
    """
    outcome = await play(platform, kill_service(service, 10))
    outcome.expect_proven()
    assert (outcome.books.unreported == 0) or service == MAY_LOSE_REPORTS
    assert platform.restarts()[service] >= 1


@pytest.mark.parametrize("wipe", [False, True], ids=["killed", "store deleted"])
async def test_a_killed_nats_loses_nothing(platform: Platform, *, wipe: bool) -> None:
    """NATS may lose everything it had: ten running tasks complete all the same."""
    outcome = await play(platform, kill_nats(10, wipe=wipe))
    outcome.expect_proven()


async def test_two_hundred_tasks_at_once_complete(platform: Platform) -> None:
    """All complete in bounded memory, each call once, without an alarm in the logs."""
    outcome = await play(platform, flood(200))
    outcome.expect_proven()
    assert outcome.books.unreported == 0
    assert outcome.books.attempts == outcome.books.lines
    assert outcome.alarms == ()
    assert max(outcome.rss_bytes_max.values()) < RSS_BYTES_MAX
