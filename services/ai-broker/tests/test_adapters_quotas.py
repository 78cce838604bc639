"""One suite for counting rates in memory, in a server and in a cluster."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Final

import pytest
from redis.asyncio import Redis

from ai_broker.adapters.memory_quotas import SWEEP_MIN, MemoryQuotas
from ai_broker.adapters.redis_quotas import ANSWER_S, RedisQuotas, open_redis
from ai_broker.domain.quota import WINDOW_US, Bound, Verdict
from ai_broker.ports.rates import Quotas
from contracts.budgets import ScopeKind
from contracts.rates import Measure
from determinism import SystemClock, SystemIds
from faults import TransientFault
from testkit.until import until
from testkit.valkey_server import redis_cluster_url, redis_url, running_valkey

__all__ = ["redis_cluster_url", "redis_url"]

PLACE_S: Final = 30.0
LIMIT_S: Final = 10.0


@pytest.fixture(params=["memory", "server", "cluster"])
async def quotas(request: pytest.FixtureRequest) -> AsyncGenerator[Quotas]:
    """Count in memory, in a server and in a cluster in turn."""
    if request.param == "memory":
        yield MemoryQuotas(SystemClock())
        return
    is_cluster = request.param == "cluster"
    url = request.getfixturevalue("redis_cluster_url" if is_cluster else "redis_url")
    opened = open_redis(url, is_cluster=is_cluster, clock=SystemClock())
    yield opened
    await opened.close()


@pytest.fixture
def limit() -> Callable[..., Bound]:
    """Make limits of a tenant that no other test counts for."""
    tenant = SystemIds().new("tenant")

    def make(
        measure: Measure,
        most: int,
        cost: int = 1,
        of: tuple[ScopeKind, str] | None = None,
    ) -> Bound:
        kind, whose = of or (ScopeKind.TENANT, tenant)
        return Bound(tenant, kind, whose, measure, most, cost)

    return make


Limit = Callable[..., Bound]
ADA = (ScopeKind.USER, "ada")
BOB = (ScopeKind.USER, "bob")


def connected(url: str) -> Redis:
    """Return a client of a server."""
    return Redis.from_url(url)  # pyright: ignore[reportUnknownMemberType] -- redis-py


def is_in(verdict: Verdict) -> bool:
    """Tell whether the call was counted."""
    return verdict.refused_by is None


async def test_a_minutes_worth_is_admitted_and_no_more(
    quotas: Quotas, limit: Limit
) -> None:
    """A burst takes the whole minute; the next call is told when to come."""
    limits = [limit(Measure.REQUESTS, 5)]
    verdicts = [await quotas.admit(limits, str(n)) for n in range(6)]
    assert [is_in(each) for each in verdicts] == [True] * 5 + [False]
    assert [each.standings[0].left for each in verdicts] == [4, 3, 2, 1, 0, 0]
    assert verdicts[0].standings[0].policy == "tenant-requests"
    assert verdicts[5].refused_by == limits[0]
    assert 10_000_000 < verdicts[5].wait_us <= 12_000_000


async def test_what_was_taken_is_given_back_by_time(
    quotas: Quotas, limit: Limit
) -> None:
    """After the wait that was told, and not before, one more is let in."""
    clock = SystemClock()
    assert is_in(await quotas.admit([limit(Measure.TOKENS, 600, 600)], "all"))
    limits = [limit(Measure.TOKENS, 600)]
    refused = await quotas.admit(limits, "more")
    began_s = clock.monotonic()
    assert 0 < refused.wait_us <= 100_000

    async def look() -> bool:
        return is_in(await quotas.admit(limits, "again"))

    await until(look, LIMIT_S, "the next call to be let in")
    assert clock.monotonic() - began_s >= refused.wait_us / 1_000_000


async def test_a_call_that_one_limit_refuses_is_counted_by_none(
    quotas: Quotas, limit: Limit
) -> None:
    """Rejected calls eat no quota, of whichever limit comes first."""
    places = limit(Measure.CONCURRENT, 9, 1, BOB)
    tight = [limit(Measure.REQUESTS, 2), places, limit(Measure.TOKENS, 100, 80, ADA)]
    assert is_in(await quotas.admit(tight, "a"))
    refusals = [await quotas.admit(tight, str(n)) for n in range(5)]
    assert [each.refused_by for each in refusals] == [tight[2]] * 5
    # Of the refused: one request and eight places are left, of tokens as much as was.
    assert [each.left for each in refusals[4].standings] == [1, 8, 20]
    wide = [tight[0], places]
    assert is_in(await quotas.admit(wide, "b"))
    assert not is_in(await quotas.admit(wide, "c"))


async def test_tokens_are_corrected_by_what_was_used(
    quotas: Quotas, limit: Limit
) -> None:
    """An estimate that was too high gives back; one too low takes more."""
    first = [limit(Measure.TOKENS, 1_000, 900)]
    assert is_in(await quotas.admit(first, "a"))
    assert not is_in(await quotas.admit(first, "b"))
    await quotas.settle(first, "a", 50)
    assert is_in(await quotas.admit(first, "b"))
    await quotas.settle(first, "b", 3_000)
    found = await quotas.admit([limit(Measure.TOKENS, 1_000, 1)], "c")
    assert not is_in(found)
    assert WINDOW_US < found.wait_us < 3 * WINDOW_US


async def test_nothing_is_saved_up(quotas: Quotas, limit: Limit) -> None:
    """What is given back never makes more than a minute's worth."""
    first = [limit(Measure.TOKENS, 1_000, 900)]
    assert is_in(await quotas.admit(first, "a"))
    for _ in range(3):
        await quotas.settle(first, "a", 0)
    whole = [limit(Measure.TOKENS, 1_000, 1_000)]
    assert is_in(await quotas.admit(whole, "b"))
    assert not is_in(await quotas.admit([limit(Measure.TOKENS, 1_000, 50)], "c"))


async def test_places_are_freed_by_the_end_of_a_call(
    quotas: Quotas, limit: Limit
) -> None:
    """Calls at once are limited; a call that ends makes room, and only for one."""
    limits = [limit(Measure.CONCURRENT, 2), limit(Measure.REQUESTS, 100)]
    assert is_in(await quotas.admit(limits, "a"))
    assert is_in(await quotas.admit(limits, "b"))
    refused = await quotas.admit(limits, "c")
    assert refused.refused_by == limits[0]
    assert [each.left for each in refused.standings] == [0, 98]
    for _ in range(2):
        await quotas.settle(limits, "a", 0)
    assert is_in(await quotas.admit(limits, "c"))
    assert not is_in(await quotas.admit(limits, "d"))
    await quotas.keep()
    assert not is_in(await quotas.admit(limits, "d"))


async def test_scopes_do_not_share(quotas: Quotas, limit: Limit) -> None:
    """Each user has a limit of its own."""
    for scope in (ADA, BOB):
        limits = [limit(Measure.REQUESTS, 1, 1, scope)]
        assert is_in(await quotas.admit(limits, "a"))
        assert not is_in(await quotas.admit(limits, "b"))


async def test_more_than_a_whole_minute_is_let_in_alone(
    quotas: Quotas, limit: Limit
) -> None:
    """A long prompt is not refused for ever; those after it wait it off."""
    large = [limit(Measure.TOKENS, 100, 250)]
    assert is_in(await quotas.admit(large, "a"))
    after = await quotas.admit(large, "b")
    assert not is_in(after)
    assert 2 * WINDOW_US < after.wait_us <= 2.5 * WINDOW_US


async def test_calls_at_the_same_moment_are_counted_one_by_one(
    quotas: Quotas, limit: Limit
) -> None:
    """However many ask at once, exactly as many as allowed are let in."""
    limits = [limit(Measure.REQUESTS, 20), limit(Measure.CONCURRENT, 30)]
    asking = (quotas.admit(limits, str(number)) for number in range(100))
    verdicts = await asyncio.gather(*asking)
    assert sum(map(is_in, verdicts)) == 20


async def test_a_crowd_is_served_in_turn(redis_url: str, limit: Limit) -> None:
    """Those who come later do not overtake those who wait, until they give up."""
    counting = RedisQuotas(connected(redis_url), SystemClock(), answer_s=LIMIT_S)
    limits = [limit(Measure.REQUESTS, 1_000_000)]
    done = [0] * 64
    when_first_is_done: list[int] = []

    async def ask_on(place: int) -> None:
        for _ in range(30):
            assert is_in(await counting.admit(limits, "a"))
            done[place] += 1
        when_first_is_done.append(min(done))

    await asyncio.gather(*map(ask_on, range(64)))
    assert when_first_is_done[0] >= 20
    await counting.close()


async def test_replicas_share_what_redis_counts(redis_url: str, limit: Limit) -> None:
    """Two processes, one limit: not one each."""
    clock = SystemClock()
    pair = [open_redis(redis_url, is_cluster=False, clock=clock) for _ in range(2)]
    limits = [limit(Measure.REQUESTS, 10), limit(Measure.CONCURRENT, 50)]
    verdicts = [await pair[n % 2].admit(limits, str(n)) for n in range(20)]
    assert sum(map(is_in, verdicts)) == 10
    for each in pair:
        await each.close()


async def test_a_place_that_nobody_keeps_lapses(redis_url: str, limit: Limit) -> None:
    """The calls of a process that died do not count for ever; kept ones do."""
    clock = SystemClock()
    dead, alive, next_one = [
        RedisQuotas(connected(redis_url), clock, place_s=0.5) for _ in range(3)
    ]
    limits = [limit(Measure.CONCURRENT, 2)]
    assert is_in(await dead.admit(limits, "a"))
    assert is_in(await alive.admit(limits, "b"))

    async def look() -> bool:
        await alive.keep()
        return is_in(await next_one.admit(limits, "c"))

    assert not is_in(await next_one.admit(limits, "c"))
    await until(look, LIMIT_S, "the dead process's place to be free")
    await alive.keep()
    assert not is_in(await next_one.admit(limits, "d"))
    for each in (dead, alive, next_one):
        await each.close()


async def test_nothing_stays_in_redis_for_ever(redis_url: str, limit: Limit) -> None:
    """Every key ends by itself, also after a correction."""
    opened = open_redis(redis_url, is_cluster=False, clock=SystemClock())
    bounds = [limit(measure, 100, 50) for measure in Measure]
    assert is_in(await opened.admit(bounds, "a"))
    client = connected(redis_url)
    lasts_s = [await client.ttl(each.key) for each in bounds]
    assert [0 < each <= 31 for each in lasts_s] == [True] * 3
    await opened.settle(bounds, "a", 70)
    lasts_s = [await client.ttl(each.key) for each in bounds]
    assert 30 < lasts_s[1] <= 43
    assert lasts_s[2] == -2  # it is gone
    await client.aclose()
    await opened.close()


async def test_a_redis_that_dies_is_a_fault_at_once_and_comes_back(
    limit: Limit,
) -> None:
    """While it is away nobody waits for it; it is noticed when it is back, empty."""
    clock = SystemClock()
    with running_valkey() as server:
        counting = open_redis(server.url, is_cluster=False, clock=clock)
        limits = [limit(Measure.REQUESTS, 1), limit(Measure.CONCURRENT, 5)]
        assert is_in(await counting.admit(limits, "a"))
        server.kill()
        for _ in range(200):
            with pytest.raises(TransientFault, match="Redis"):
                await counting.admit(limits, "b")
        with pytest.raises(TransientFault, match="Redis"):
            await counting.settle(limits, "a", 0)
        server.start()

        async def look() -> bool:
            try:
                return is_in(await counting.admit(limits, "c"))
            except TransientFault:
                return False

        await until(look, LIMIT_S, "Redis to be asked again")
        assert not is_in(await counting.admit(limits, "d"))
        await counting.close()


class Turned(SystemClock):
    """A clock that stands still until a test turns it."""

    at_s = 0.0

    def monotonic(self) -> float:
        return self.at_s


async def test_a_frozen_redis_holds_nobody_up(limit: Limit) -> None:
    """Those that ask at once wait half a second together; the rest do not at all."""
    time = SystemClock()
    with running_valkey() as server:
        counting = open_redis(server.url, is_cluster=False, clock=Turned())
        limits = [limit(Measure.REQUESTS, 1_000)]
        assert is_in(await counting.admit(limits, "a"))
        server.pause()
        began_s = time.monotonic()
        asking = (counting.admit(limits, str(number)) for number in range(300))
        answers = await asyncio.gather(*asking, return_exceptions=True)
        assert {type(each) for each in answers} == {TransientFault}
        for _ in range(1_000):
            with pytest.raises(TransientFault, match="just now"):
                await counting.admit(limits, "b")
        # One after the other they would take minutes.
        assert time.monotonic() - began_s < 10 * ANSWER_S
        server.resume()
        await counting.close()


async def test_only_one_call_looks_whether_redis_is_back(limit: Limit) -> None:
    """The others of that moment pass at once, as those before."""
    clock = Turned()
    with running_valkey() as server:
        counting = open_redis(server.url, is_cluster=False, clock=clock)
        server.pause()
        limits = [limit(Measure.REQUESTS, 1_000)]
        with pytest.raises(TransientFault, match="DeadlineExceeded"):
            await counting.admit(limits, "a")
        clock.at_s = 1.5
        asking = (counting.admit(limits, str(number)) for number in range(50))
        answers = await asyncio.gather(*asking, return_exceptions=True)
        waited = [each for each in answers if "just now" not in str(each)]
        assert [type(each) for each in waited] == [TransientFault]
        server.resume()
        clock.at_s = 3.0
        assert is_in(await counting.admit(limits, "b"))
        await counting.close()


async def test_memory_forgets_rates_that_are_free_again() -> None:
    """Users come and go; what is kept is what something is taken of."""
    counting = MemoryQuotas(SystemClock())
    for number in range(SWEEP_MIN + 10):
        user = (ScopeKind.USER, str(number))
        bound = Bound("acme", *user, Measure.REQUESTS, 1_000_000)
        assert is_in(await counting.admit([bound], "a"))
    assert counting.size < SWEEP_MIN
