"""A vendor goes dark under load: callers do not notice, and it is found again."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta

import pytest
from broker_world import DONE, GOOD, Sink, World, play
from prometheus_client import generate_latest

from ai_broker.domain.vendor import Failure, FailureKind
from ai_broker.handlers import Desk
from contracts.problems import Code
from contracts.usage import EndState
from telemetry import Telemetry, configure

DARK = Failure(FailureKind.REFUSED, "dark", 503)
ANSWER = [*GOOD, DONE]


@pytest.fixture
def metered() -> Iterator[Telemetry]:
    """Telemetry whose metrics a test can read."""
    telemetry = configure("ai-broker", "broker_1", log_level="CRITICAL")
    yield telemetry
    telemetry.shutdown()


def value_of(metered: Telemetry, series: str) -> float:
    """Read one series; 0 when it was never written."""
    lines = generate_latest(metered.registry).decode().splitlines()
    found = (line for line in lines if line.startswith(series + " "))
    return float(next(found, "x 0").rpartition(" ")[2])


STATE = 'ai_breaker_state{model="model-1",vendor="first"}'
FAILOVERS = 'ai_failovers_total{reason="server-error",vendor="first"}'
RETRIES = 'ai_retries_total{reason="server-error",vendor="first"}'


async def load(world: World, desk: Desk, name: str, calls: int) -> list[Sink]:
    """Ask twice a second, each question once."""

    async def one(number: int) -> Sink:
        await world.clock.sleep(number / 2)
        return await world.ask(desk, model="smart", completion_id=f"{name}:{number}")

    return list(await asyncio.gather(*(one(number) for number in range(calls))))


def test_a_dark_vendor_stays_invisible_and_is_found_again(metered: Telemetry) -> None:
    """No caller sees an error; the breaker opens, probes, closes; metrics tell it."""

    async def scene(world: World) -> None:
        desk = world.replica("a")
        world.first.always = world.second.always = ANSWER
        await load(world, desk, "before", 20)
        assert len(world.first.attempts) == 20
        assert value_of(metered, STATE) == 0

        world.first.always = [DARK]
        dark = await load(world, desk, "dark", 240)
        assert {each.text for each in dark} == {"Good day"}
        assert value_of(metered, STATE) == 2
        wasted = len(world.first.attempts) - 20
        assert 5 <= wasted < 25, "a handful to open, then one for each pause"
        assert value_of(metered, FAILOVERS) + value_of(metered, RETRIES) == wasted
        assert len(world.second.attempts) == 240

        world.first.always = ANSWER
        await load(world, desk, "after", 160)
        assert value_of(metered, STATE) == 0
        calls = len(world.first.attempts)
        again = await load(world, desk, "well", 10)
        assert {each.finished.completion.vendor for each in again} == {"first"}
        assert len(world.first.attempts) == calls + 10

        ledger = await world.ledger()
        failed = [each for each in ledger if each.end_state is EndState.FAILED]
        assert len(failed) == wasted
        assert {each.usage.total for each in failed} == {0}

    play(scene)


def test_a_vendor_that_goes_silent_is_passed_over_too() -> None:
    """Silence costs each caller patience, not an answer; then the breaker spares it."""

    async def scene(world: World) -> None:
        desk = world.replica("a")
        world.first.always, world.second.always = [500.0], ANSWER
        sinks = await load(world, desk, "silent", 200)
        assert {each.text for each in sinks} == {"Good day"}
        asked = len(world.first.attempts)
        assert asked < 80, "those that asked before the first patience ran out"
        ledger = await world.ledger()
        lost = [each for each in ledger if each.end_state is EndState.TIMED_OUT]
        assert len(lost) == asked

    play(scene)


def test_with_everybody_dark_the_first_due_is_waited_for() -> None:
    """A probe that is due soon is waited for; others hear when to come back."""

    async def scene(world: World) -> None:
        desk = world.replica("a")
        world.first.always = world.second.always = [DARK]
        hint_s, number = 0.0, 0
        while number < 4 or hint_s <= 1:  # until no probe is due within a second
            number += 1
            sink = await world.ask(
                desk, model="smart", completion_id=f"dark:{number}", **world.within(20)
            )
            assert sink.failed.error.retryable
            hint_s = sink.failed.error.retry_after_s or 0.0
        asked = len(world.first.attempts) + len(world.second.attempts)

        hurried = await world.ask(
            desk, model="smart", completion_id="now", **world.within(0.5)
        )
        assert hurried.code is Code.UNAVAILABLE
        assert hurried.failed.error.problem.status == 503
        wait_s = hurried.failed.error.retry_after_s
        assert wait_s is not None
        assert wait_s > 0.5
        assert len(world.first.attempts) + len(world.second.attempts) == asked

        world.first.always = world.second.always = ANSWER
        await world.clock.sleep(max(0.0, wait_s - 9))
        patient = await world.ask(
            desk, model="smart", completion_id="later", **world.within(60)
        )
        assert patient.text == "Good day"

    play(scene)


def test_nobody_waits_long_behind_somebody_elses_probe() -> None:
    """However much time is left: the others' probes may never end."""

    async def scene(world: World) -> None:
        desk = world.replica("a")
        world.first.always = world.second.always = [DARK]
        for number in range(8):
            await world.ask(
                desk, model="smart", completion_id=f"dark:{number}", **world.within(20)
            )
        await world.clock.sleep(120)  # every pause is over
        world.first.always = world.second.always = [500.0]

        async def probing(name: str) -> Sink:
            return await world.ask(
                desk, model="smart", completion_id=name, **world.within(100)
            )

        async def waiting() -> timedelta:
            await world.clock.sleep(1)
            began = world.clock.now()
            sink = await world.ask(
                desk, model="smart", completion_id="behind", **world.within(90)
            )
            assert sink.code is Code.UNAVAILABLE
            return world.clock.now() - began

        *_, waited = await asyncio.gather(probing("one"), probing("two"), waiting())
        assert timedelta(seconds=8) < waited < timedelta(seconds=12)

    play(scene)


def test_two_replicas_asked_at_once_make_one_call() -> None:
    """One completion id on two replicas of one store: one vendor call, one answer."""

    async def scene(world: World) -> None:
        world.first.scripts = [[1.0, *ANSWER]]
        one, two = await asyncio.gather(
            world.ask(world.replica("a")), world.ask(world.replica("b"))
        )
        assert one.text == two.text == "Good day"
        assert one.finished.completion == two.finished.completion
        assert len(world.first.attempts) == 1
        assert len(await world.ledger()) == 1

    play(scene)
