"""
Waking whoever waits inside this process; nothing correct rests on it.

    ring = bell.listen()       # first
    ...                        # look whether there is something to do
    await ring.heard(limit_s)  # what rang since then is heard too
"""

import asyncio


class Ring:
    """The next ring of a bell, for whoever listens."""

    def __init__(self, rung: asyncio.Event) -> None:
        self._rung = rung

    async def heard(self, limit_s: float) -> None:
        """Return once it rang, perhaps before now, or when the limit has passed."""
        try:
            async with asyncio.timeout(limit_s):
                await self._rung.wait()
        except TimeoutError:
            return


class Bell:
    """Wakes everybody who listens at that moment."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()

    def ring(self) -> None:
        """Wake everybody who listens."""
        self._rung.set()
        self._rung = asyncio.Event()

    def listen(self) -> Ring:
        """Return the next ring: listen before looking, or one is missed."""
        return Ring(self._rung)
