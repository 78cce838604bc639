"""Virtual time is exact, and a crash leaves nothing running."""

import asyncio

import pytest

from contracts.subjects import Service
from determinism import SystemClock
from testkit.chance import Chance
from testkit.clock import Deadlock, SimulatedClock, SimulationLoop, run_simulation
from testkit.incarnation import Incarnation

# Its sleep is the loop's, and the loop's time is virtual here.
CLOCK = SystemClock()

HOUR_S = 3600.0


def test_an_hour_passes_at_once() -> None:
    """Sleeps, timeouts and the clock agree on virtual time."""

    async def main(loop: SimulationLoop) -> float:
        clock = SimulatedClock(loop)
        began = clock.now()
        await clock.sleep(HOUR_S)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(HOUR_S):
                await asyncio.Event().wait()
        return (clock.now() - began).total_seconds()

    assert run_simulation(main, limit_s=3 * HOUR_S) == 2 * HOUR_S


def test_timers_of_one_time_keep_their_order() -> None:
    """What is due at the same time runs in the order it was set."""
    seen: list[int] = []

    async def main(loop: SimulationLoop) -> None:
        for number in range(50):
            loop.call_at(1.0, seen.append, number)
        await CLOCK.sleep(2)

    run_simulation(main, limit_s=10)
    assert seen == list(range(50))


def test_waiting_for_nothing_is_a_deadlock() -> None:
    """A run that cannot go on says so instead of hanging."""
    loop = SimulationLoop()
    with pytest.raises(Deadlock):
        loop.run_until_complete(asyncio.Event().wait())
    loop.abandon()
    loop.close()


def test_a_run_past_its_limit_ends() -> None:
    """A livelock is found by virtual time."""

    async def main(_: SimulationLoop) -> None:
        for _second in range(1_000):
            await CLOCK.sleep(1)

    with pytest.raises(TimeoutError):
        run_simulation(main, limit_s=100)


@pytest.mark.parametrize("steps", range(1, 12))
def test_a_crash_is_no_cancellation(steps: int) -> None:
    """Wherever it strikes, no except, no finally and no timer runs after it."""
    seen: list[str] = []
    crashed_at: list[int] = []

    async def child() -> None:
        try:
            await CLOCK.sleep(1)
            seen.append("child")
        finally:
            seen.append("child finally")

    async def program() -> None:
        asyncio.get_running_loop().call_later(2, seen.append, "timer")
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(child())
                await asyncio.sleep(0)
                seen.append("first")
                await CLOCK.sleep(3)
                seen.append("second")
        finally:
            seen.append("finally")

    async def main(_: SimulationLoop) -> list[str]:
        incarnation = Incarnation(
            "gateway-0-r1",
            Chance(1),
            crash_after_steps=steps,
            on_crash=lambda _where: crashed_at.append(len(seen)),
        )
        incarnation.start(program())
        await CLOCK.sleep(10)
        return list(seen)

    after = run_simulation(main, limit_s=20)
    whole = ["first", "child", "child finally", "timer", "second", "finally"]
    assert after == whole[: len(after)]
    if crashed_at:
        assert len(after) == crashed_at[0]


def test_chance_depends_on_seed_and_key_alone() -> None:
    """Draws elsewhere move nothing here."""
    alone, beside = Chance(7), Chance(7)
    beside.draw("other", Service.GATEWAY)
    first = [alone.draw("a") for _ in range(3)]
    assert first == [beside.draw("a") for _ in range(3)]
    assert first != [Chance(8).draw("a") for _ in range(3)]
    assert len(set(first)) == 3
