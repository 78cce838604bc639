"""Settled attempts reach the ledger at once, in messages that a stream can take."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from broker_world import DONE, GOOD, World, play

from ai_broker.domain.vendor import UsageSeen
from ai_broker.handlers import tell, tell_forever
from ai_broker.ports.store import Store, Work
from contracts.message import JsonObject
from contracts.usage import TokenUsage
from messaging.limits import BusLimits

T = TypeVar("T")
STORED_MAX = BusLimits().stored_bytes_max - BusLimits().headers_reserve_bytes


@dataclass
class Busy:
    """A store in which something happens before its first commit has come back."""

    inner: Store
    meanwhile: Callable[[], Awaitable[object]] | None

    async def run(self, transaction: Callable[[Work], T]) -> T:
        result = await self.inner.run(transaction)
        happens, self.meanwhile = self.meanwhile, None
        if happens is not None:
            await happens()
        return result

    async def read(self, query: Callable[[Work], T]) -> T:
        return await self.inner.read(query)


def test_what_settles_while_others_are_told_does_not_wait() -> None:
    """A ring that comes during the telling's own commit is heard after it."""

    async def scene(world: World) -> None:
        desk = world.replica("a")
        world.first.scripts = [[*GOOD, DONE]]
        store = Busy(desk.deps.store, lambda: world.ask(desk))
        telling = asyncio.create_task(tell_forever(replace(desk.deps, store=store)))
        await world.clock.sleep(2 * desk.deps.limits.gather_s)
        telling.cancel()
        assert len(await world.owed()) == 1

    play(scene)


def test_records_that_are_too_much_for_one_message_go_in_several() -> None:
    """A vendor that says a lot about its usage holds up nobody's ledger."""

    async def scene(world: World) -> None:
        desk = world.replica("a")
        said: JsonObject = {"note": "n" * 15_000}
        usage = UsageSeen(TokenUsage(input_tokens=9, output_tokens=3), said, final=True)
        world.first.always = [*GOOD[:-1], usage, DONE]
        for number in range(100):
            await world.ask(desk, completion_id=f"step_{number}:0")
        assert await tell(desk.deps) == 100
        sizes = [len(each) for each in await world.owed()]
        assert len(sizes) > 1
        assert max(sizes) <= STORED_MAX
        records = await world.ledger()
        assert len(records) == 100
        assert all(each.raw_usage == said for each in records)

    play(scene)


def test_a_vendor_s_endless_usage_is_counted_and_not_kept() -> None:
    """Its tokens go to the ledger; of what it said beside them only the size."""

    async def scene(world: World) -> None:
        desk = world.replica("a")
        said: JsonObject = {"note": "n" * 2_000_000}
        usage = UsageSeen(TokenUsage(input_tokens=9, output_tokens=3), said, final=True)
        world.first.scripts = [[*GOOD[:-1], usage, DONE]]
        await world.ask(desk)
        (record,) = await world.ledger()
        assert record.usage == usage.usage
        assert record.raw_usage == {"omitted_bytes": 2_000_011}
        assert max(len(each) for each in await world.owed()) < STORED_MAX

    play(scene)
