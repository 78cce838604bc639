"""Waking whoever waits inside this process; nothing correct rests on it."""

import asyncio


class Bell:
    """Wakes everybody who waits at that moment."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()

    def ring(self) -> None:
        """Wake everybody who waits."""
        self._rung.set()
        self._rung = asyncio.Event()

    async def wait(self, limit_s: float) -> None:
        """Return at the next ring, or when the limit has passed."""
        try:
            async with asyncio.timeout(limit_s):
                await self._rung.wait()
        except TimeoutError:
            return
