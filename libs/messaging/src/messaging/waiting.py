"""Waiting for an event or for time to pass, whichever comes first."""

import asyncio

from determinism import Clock


async def wait_for(event: asyncio.Event, limit_s: float, clock: Clock) -> None:
    """Return when the event is set or the time has passed, on this clock."""
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(_set(event))
        sleeping = group.create_task(clock.sleep(limit_s))
        await asyncio.wait({waiting, sleeping}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        sleeping.cancel()


async def _set(event: asyncio.Event) -> None:
    await event.wait()
