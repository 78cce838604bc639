"""A second call helps a slow first one; whatever is given up keeps its ledger line."""

import asyncio
import contextlib

import pytest
from broker_world import DONE, GOOD, USAGE, Rates, World, hedged, play

from ai_broker.domain.vendor import Failure, FailureKind, Reasoning, Started, Text
from ai_broker.handlers import cancel
from contracts.frames import CancelCompletion
from contracts.problems import Code
from contracts.usage import EndState, UsageSource
from faults import TransientFault

ANSWER = [*GOOD, DONE]
OPENED = Started(200, "req-2")
CANCEL = CancelCompletion(tenant="acme", completion_id="step_1:0")


def test_the_first_content_wins_and_the_loser_is_metered() -> None:
    """A silent first call is helped after the delay; both have their ledger lines."""

    async def scene(world: World) -> None:
        desk = hedged(world)
        world.first.scripts = [[OPENED, 30.0, *ANSWER]]
        world.second.scripts = [[0.5, *ANSWER]]
        began = world.clock.now()
        sink = await world.ask(desk, model="smart")
        assert sink.text == "Good day"
        assert 1.4 < (world.clock.now() - began).total_seconds() < 1.7
        assert sink.finished.completion.vendor == "second"
        loser, winner = await world.ledger()
        assert (loser.vendor, winner.vendor) == ("first", "second")
        assert (loser.attempt_number, winner.attempt_number) == (1, 2)
        assert loser.end_state is EndState.CANCELLED
        assert loser.source is UsageSource.ESTIMATED
        assert loser.usage.total > 0
        assert winner.usage == USAGE

    play(scene)


def test_a_first_call_that_speaks_in_time_is_left_alone() -> None:
    """Nobody else is asked before the delay, nor once there is content."""

    async def scene(world: World) -> None:
        desk = hedged(world)
        world.first.scripts = [
            [0.9, OPENED, Text(0, "Good "), 20.0, Text(0, "day"), DONE]
        ]
        sink = await world.ask(desk, model="smart")
        assert sink.text == "Good day"
        assert world.second.attempts == []

    play(scene)


@pytest.mark.parametrize(
    "failure",
    [
        Failure(FailureKind.REPORTED, "overloaded", 529),
        Failure(FailureKind.REFUSED, "down", 503),
        Failure(FailureKind.CUT, "cut"),
    ],
)
def test_an_error_never_wins(failure: Failure) -> None:
    """A second call that fails is settled, and the first one goes on."""

    async def scene(world: World) -> None:
        desk = hedged(world)
        world.first.scripts = [[OPENED, 5.0, *ANSWER]]
        world.second.scripts = [[OPENED, failure]]
        sink = await world.ask(desk, model="smart")
        assert sink.text == "Good day"
        assert sink.finished.completion.vendor == "first"
        assert len(world.second.attempts) == 1
        paid, failed = await world.ledger()
        assert paid.end_state is EndState.COMPLETED
        assert failed.vendor == "second"
        assert failed.end_state in {EndState.FAILED, EndState.CUT}

    play(scene)


def test_the_second_goes_on_when_the_first_fails() -> None:
    """Either of the two may bring the answer."""

    async def scene(world: World) -> None:
        desk = hedged(world)
        down = Failure(FailureKind.REFUSED, "down", 503)
        world.first.scripts = [[OPENED, 2.0, down]]
        world.second.scripts = [[4.0, *ANSWER]]
        sink = await world.ask(desk, model="smart")
        assert sink.text == "Good day"
        ends = [each.end_state for each in await world.ledger()]
        assert ends == [EndState.FAILED, EndState.COMPLETED]

    play(scene)


@pytest.mark.parametrize(
    ("caps", "rates", "hedges"),
    [
        ({"cost_ratio_max": 1.5}, {"first": 10, "second": 15}, 1),
        ({"cost_ratio_max": 1.4}, {"first": 10, "second": 15}, 0),
        ({"cost_max_pico_usd": 10**9}, {"second": 10}, 1),
        ({"cost_max_pico_usd": 10_000}, {"second": 10}, 0),
        ({"cost_ratio_max": 99}, {"first": 10}, 0),
    ],
)
def test_a_second_call_keeps_to_its_cap(
    caps: dict[str, object], rates: dict[str, int], hedges: int
) -> None:
    """What it may cost at its worst decides, and an unknown price is too dear."""

    async def scene(world: World) -> None:
        world.prices = Rates(rates)
        desk = hedged(world, **caps)
        world.first.scripts = [[OPENED, 5.0, *ANSWER]]
        world.second.scripts = [[20.0, *ANSWER]]
        sink = await world.ask(desk, model="smart")
        assert sink.text == "Good day"
        assert len(world.second.attempts) == hedges

    play(scene)


def test_a_cancel_ends_both_calls() -> None:
    """Nothing runs on, and both are on the ledger."""

    async def scene(world: World) -> None:
        desk = hedged(world)
        world.first.scripts = [[OPENED, 50.0, *ANSWER]]
        world.second.scripts = [[OPENED, 50.0, *ANSWER]]

        async def give_up() -> None:
            await world.clock.sleep(3)
            await cancel(CANCEL, desk)

        sink, _ = await asyncio.gather(world.ask(desk, model="smart"), give_up())
        assert sink.code is Code.CANCELLED
        assert {each.end_state for each in await world.ledger()} == {EndState.CANCELLED}
        assert len(sink.failed.attempts) == 2

    play(scene)


def test_a_crash_leaves_no_hedge_without_its_line() -> None:
    """Both attempts were on disk before their calls; who takes over records both."""

    async def scene(world: World) -> None:
        database = world.database

        def crash() -> None:
            world.database = database.reopen()

        desk = hedged(world)
        world.first.scripts = [[OPENED, 3.0, crash, *ANSWER], ANSWER]
        world.second.scripts = [[OPENED, 50.0, *ANSWER]]
        dead = asyncio.ensure_future(world.ask(desk, model="smart"))
        await world.clock.sleep(20)
        sink = await world.ask(hedged(world), model="smart")
        assert sink.text == "Good day"
        with contextlib.suppress(TransientFault):
            await dead
        one, two, paid = await world.ledger()
        assert one.end_state is two.end_state is EndState.UNKNOWN
        assert paid.end_state is EndState.COMPLETED

    play(scene)


def test_nothing_of_a_failed_beginning_reaches_the_caller() -> None:
    """Reasoning alone is held back; when it breaks off, another answers alone."""

    async def scene(world: World) -> None:
        thought, cut = Reasoning(0, "Let me see"), Failure(FailureKind.CUT, "cut")
        world.first.scripts = [
            [OPENED, thought, Text(1, ""), cut],
            [OPENED, thought, cut],
        ]
        world.first.always = [OPENED, thought, cut]
        world.second.scripts = [ANSWER]
        sink = await world.ask(world.replica("a"), model="smart")
        assert sink.text == "Good day"
        assert all("see" not in str(each) for each in sink.frames)

    play(scene)


def test_the_delay_is_learned() -> None:
    """After a percentile of recent first tokens a second call is made, not before."""

    async def scene(world: World) -> None:
        world.prices = Rates({"first": 10, "second": 10})
        desk = hedged(world, after_ms=None, after="p95", cost_ratio_max=1)
        world.first.scripts = [[0.6, *ANSWER] for _ in range(3)]
        world.first.always = [0.4, *ANSWER]
        for number in range(25):
            await world.ask(desk, model="smart", completion_id=f"c:{number}")
        assert world.second.attempts == []
        world.first.scripts = [[OPENED, 9.0, *ANSWER]]
        world.second.scripts = [ANSWER]
        began = world.clock.now()
        sink = await world.ask(desk, model="smart")
        assert sink.text == "Good day"
        gone_s = (world.clock.now() - began).total_seconds()
        assert 0.59 < gone_s < 0.65

    play(scene)
