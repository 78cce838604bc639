"""
Rate limits in Redis: all replicas together, by one script and the server's clock.

A Redis that fails is left alone for a second, then one call looks whether it is back;
meanwhile the others are told at once, so that nothing piles up behind it. A place
lasts for half a minute and is kept by its process for as long as its call goes on: a
process that dies gives its places back by dying.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Sequence
from typing import Final, cast

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError

import telemetry
from ai_broker.adapters.quota_scripts import ADMIT, KEEP, SETTLE
from ai_broker.domain.quota import (
    BUSY_WAIT_US,
    WINDOW_US,
    Bound,
    Verdict,
    admitted,
    correction_us,
    refused,
)
from contracts.rates import Measure
from determinism import Clock, within
from faults import DeadlineExceeded, TransientFault

ANSWER_S: Final = 0.5
"""How long Redis may take to count."""
AWAY_S: Final = 1.0
"""How long it is left alone after a failure."""
PLACE_S: Final = 30.0
"""How long a place lasts unless it is kept."""
AT_ONCE_MAX: Final = 8
"""
Calls of Redis at the same moment, and so connections to a server.

One thread answers there; more would only be more to open in the first burst. redis-py's
own bound lets late comers overtake, until those who wait give up.
"""
KEPT_AT_ONCE: Final = 500

log = telemetry.get_logger()

Argument = str | int
Client = Redis | RedisCluster


class RedisQuotas:
    """
    Counts in Redis, or in anything that speaks its protocol and runs Lua.

    Args:
        client: Connections to it.
        clock: Times how long it is left alone.
        place_s: How long a place lasts unless it is kept.
        answer_s: How long it may take to count.
    """

    def __init__(
        self,
        client: Client,
        clock: Clock,
        *,
        place_s: float = PLACE_S,
        answer_s: float = ANSWER_S,
    ) -> None:
        self._answer_s = answer_s
        self._client = client
        self._clock = clock
        self._place_us = int(place_s * 1_000_000)
        self._turns = asyncio.Semaphore(AT_ONCE_MAX)
        self._held: dict[str, Sequence[Bound]] = {}
        self._is_away = False
        self._asked_again_s = 0.0
        """Before this time nobody asks, while it is away."""

    async def admit(self, bounds: Sequence[Bound], holder: str) -> Verdict:
        """
        Count a call against all of its limits, or against none.

        Raises:
            TransientFault: Redis does not answer.
        """
        arguments: list[Argument] = [holder, self._place_us, WINDOW_US, BUSY_WAIT_US]
        for bound in bounds:
            is_rate = bound.measure is not Measure.CONCURRENT
            arguments += (0, bound.spread_us) if is_rate else (bound.limit, 0)
        answer = await self._run(ADMIT, [each.key for each in bounds], arguments)
        place, longest_us, *taken = cast("list[int]", answer)
        if place > 0:
            return refused(bounds, taken, place - 1, longest_us)
        places = [each for each in bounds if each.measure is Measure.CONCURRENT]
        if places:
            self._held[holder] = places
        return admitted(bounds, taken)

    async def settle(self, bounds: Sequence[Bound], holder: str, tokens: int) -> None:
        """
        Free a call's place, and correct its tokens to what it used.

        Raises:
            TransientFault: Redis does not answer; the place then lapses by itself.
        """
        self._held.pop(holder, None)
        counted = [each for each in bounds if each.measure is not Measure.REQUESTS]
        if not counted:
            return
        arguments: list[Argument] = [holder]
        for bound in counted:
            is_rate = bound.measure is Measure.TOKENS
            arguments.append(correction_us(bound, tokens) if is_rate else "")
        await self._run(SETTLE, [each.key for each in counted], arguments)

    async def keep(self) -> None:
        """
        Keep the places of the calls that go on.

        Raises:
            TransientFault: Redis does not answer.
        """
        by_tenant: dict[str, list[tuple[str, str]]] = {}
        for holder, places in self._held.items():
            for place in places:
                by_tenant.setdefault(place.tenant, []).append((place.key, holder))
        for pairs in by_tenant.values():
            for first in range(0, len(pairs), KEPT_AT_ONCE):
                some = pairs[first : first + KEPT_AT_ONCE]
                keys, holders = [key for key, _ in some], [each for _, each in some]
                await self._run(KEEP, keys, [self._place_us, *holders])

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _run(
        self, script: str, keys: Sequence[str], arguments: Sequence[Argument]
    ) -> object:
        now_s = self._clock.monotonic()
        if self._is_away:
            if now_s < self._asked_again_s:
                raise TransientFault("count in Redis: it does not answer just now")
            # Only this call looks whether it is back.
            self._asked_again_s = now_s + AWAY_S
        try:
            work = self._in_turn(script, keys, arguments)
            answer = await within(self._answer_s, work, "count in Redis")
        except (RedisError, OSError, DeadlineExceeded) as cause:
            self._failed(cause)
            raise TransientFault(f"count in Redis: {cause!r}") from cause
        if self._is_away:
            self._is_away = False
            log.info("rate_limits_counted_again")
        return answer

    async def _in_turn(
        self, script: str, keys: Sequence[str], arguments: Sequence[Argument]
    ) -> object:
        async with self._turns:
            return await self._evaluate(script, keys, arguments)

    async def _evaluate(
        self, script: str, keys: Sequence[str], arguments: Sequence[Argument]
    ) -> object:
        try:
            return await _awaited(
                self._client.evalsha(_DIGESTS[script], len(keys), *keys, *arguments)
            )
        except NoScriptError:
            # Redis forgets its scripts when it starts again; this one it then keeps.
            return await _awaited(
                self._client.eval(script, len(keys), *keys, *arguments)
            )

    def _failed(self, cause: Exception) -> None:
        self._asked_again_s = self._clock.monotonic() + AWAY_S
        if not self._is_away:
            self._is_away = True
            log.warning("rate_limits_not_counted", detail=repr(cause))


def open_redis(url: str, *, is_cluster: bool, clock: Clock) -> RedisQuotas:
    """Return quotas on a server or a cluster; nothing is connected before a call."""
    if is_cluster:
        client: Client = RedisCluster.from_url(
            url, socket_timeout=ANSWER_S, socket_connect_timeout=ANSWER_S
        )
    else:
        client = Redis.from_url(  # pyright: ignore[reportUnknownMemberType] -- redis-py
            url,
            socket_timeout=ANSWER_S,
            socket_connect_timeout=ANSWER_S,
            # A call that was counted must not be counted again.
            retry=Retry(NoBackoff(), 0),
        )
    return RedisQuotas(client, clock)


# redis-py's commands are typed for its sync and its async client at once.
async def _awaited(answer: object) -> object:
    return await cast("Awaitable[object]", answer)


_DIGESTS: Final = {
    script: hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()
    for script in (ADMIT, SETTLE, KEEP)
}
"""Redis knows scripts by these."""
