"""Waiting for an event or for time to pass, whichever comes first."""

import asyncio

from determinism import Clock


async def wait_for(event: asyncio.Event, limit_s: float, clock: Clock) -> None:
    """Return when the event is set or the time has passed, on this clock."""
    waiting = asyncio.ensure_future(event.wait())
    sleeping = asyncio.ensure_future(clock.sleep(limit_s))
    try:
        await asyncio.wait({waiting, sleeping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
        sleeping.cancel()
