"""Calls that nobody waits for any more: read on, hung up, or free, never lost."""

import asyncio

import pytest
from broker_world import DONE, GOOD, USAGE, World, aborting, hedged, play

from ai_broker.domain.vendor import Started, Text
from ai_broker.handlers import Desk, cancel, tell
from contracts.frames import CancelCompletion
from contracts.problems import Code
from contracts.usage import EndState, TokenUsage, UsageSource

ANSWER = [*GOOD, DONE]
OPENED = Started(200, "req-2")
CANCEL = CancelCompletion(tenant="acme", completion_id="step_1:0")


async def cancelled_after(world: World, desk: Desk, seconds: float) -> None:
    """Ask, and cancel a little later."""

    async def give_up() -> None:
        await world.clock.sleep(seconds)
        await cancel(CANCEL, desk)

    began = world.clock.now()
    sink, _ = await asyncio.gather(world.ask(desk), give_up())
    assert sink.code is Code.CANCELLED
    assert (world.clock.now() - began).total_seconds() == pytest.approx(seconds)


def drains(world: World) -> tuple[Desk, "asyncio.Task[None]"]:
    """Give a replica that reads cancelled calls on."""
    aborting(world, "drain")
    desk = world.replica("a")
    return desk, asyncio.ensure_future(desk.drains.run())


def test_a_drained_call_is_read_to_its_end() -> None:
    """The caller is free at once; the ledger gets what the vendor really counted."""

    async def scene(world: World) -> None:
        desk, _ = drains(world)
        world.first.scripts = [[OPENED, Text(0, "Good "), 20.0, *ANSWER]]
        await cancelled_after(world, desk, 3)
        assert await world.owed() == []
        await world.clock.sleep(20)
        (record,) = await world.ledger()
        assert record.end_state is EndState.CANCELLED
        assert record.source is UsageSource.VENDOR
        assert record.usage == USAGE
        assert record.revision == 0

    play(scene)


def test_a_drained_call_has_an_end() -> None:
    """A vendor that never stops is hung up after a minute, and estimated."""

    async def scene(world: World) -> None:
        desk, _ = drains(world)
        world.first.scripts = [[OPENED, Text(0, "Good "), 5_000.0, *ANSWER]]
        await cancelled_after(world, desk, 3)
        await world.clock.sleep(59)
        assert await world.owed() == []
        await world.clock.sleep(3)
        (record,) = await world.ledger()
        assert record.end_state is EndState.CANCELLED
        assert record.source is UsageSource.ESTIMATED

    play(scene)


def test_a_drained_call_survives_the_end_of_its_process_as_unknown() -> None:
    """Told to stop, the replica records what it cannot hear any more."""

    async def scene(world: World) -> None:
        desk, task = drains(world)
        world.first.scripts = [[OPENED, Text(0, "Good "), 30.0, *ANSWER]]
        await cancelled_after(world, desk, 3)
        task.cancel()
        await asyncio.wait((task,))
        (record,) = await world.ledger()
        assert record.end_state is EndState.UNKNOWN
        assert record.source is UsageSource.UNKNOWN
        assert record.usage.total > 0

    play(scene)


def test_asking_again_while_it_drains_corrects_it_later() -> None:
    """The new claim records the old attempt as unknown; its end is revision 1."""

    async def scene(world: World) -> None:
        desk, _ = drains(world)
        world.first.scripts = [[OPENED, Text(0, "Good "), 20.0, *ANSWER], ANSWER]
        await cancelled_after(world, desk, 3)
        assert (await world.ask(desk)).text == "Good day"
        await tell(desk.deps)
        await world.clock.sleep(30)
        unknown, corrected, paid = await world.ledger()
        assert (unknown.revision, corrected.revision) == (0, 1)
        assert unknown.attempt_id == corrected.attempt_id != paid.attempt_id
        assert corrected.usage == USAGE
        assert corrected.end_state is EndState.CANCELLED

    play(scene)


def test_without_anybody_to_read_on_a_call_is_estimated() -> None:
    """A replica whose drains are not at work hangs up instead."""

    async def scene(world: World) -> None:
        aborting(world, "drain")
        desk = world.replica("a")
        world.first.scripts = [[OPENED, Text(0, "Good "), 20.0, *ANSWER]]
        await cancelled_after(world, desk, 3)
        (record,) = await world.ledger()
        assert record.end_state is EndState.CANCELLED
        assert record.source is UsageSource.ESTIMATED

    play(scene)


def test_a_loser_and_a_late_call_drain_too() -> None:
    """Hedged losers and calls past the deadline are read on like cancelled ones."""

    async def scene(world: World) -> None:
        aborting(world, "drain")
        desk = hedged(world)
        reading = asyncio.ensure_future(desk.drains.run())
        world.first.scripts = [[OPENED, 10.0, *ANSWER], [OPENED, 10.0, *ANSWER]]
        world.second.scripts = [ANSWER]
        assert (await world.ask(desk, model="smart")).text == "Good day"
        late = await world.ask(desk, completion_id="late", **world.within(5))
        assert late.code is Code.DEADLINE
        await world.clock.sleep(30)
        by_state = {each.end_state: each for each in await world.ledger()}
        for state in (EndState.CANCELLED, EndState.TIMED_OUT, EndState.COMPLETED):
            assert by_state[state].usage == USAGE
            assert by_state[state].source is UsageSource.VENDOR
        reading.cancel()

    play(scene)


def test_a_vendor_that_bills_no_cancelled_call_costs_nothing() -> None:
    """``no-bill`` is taken at its word: zero, and not an estimate."""

    async def scene(world: World) -> None:
        aborting(world, "no-bill")
        desk = world.replica("a")
        world.first.scripts = [[OPENED, Text(0, "Good "), 20.0, *ANSWER]]
        await cancelled_after(world, desk, 3)
        (record,) = await world.ledger()
        assert record.end_state is EndState.CANCELLED
        assert record.usage == TokenUsage()
        assert record.source is UsageSource.VENDOR

    play(scene)
