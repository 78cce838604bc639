"""
The sandbox's own door to time and chance: clock, sleep, ids.

It has its own because it stands for a foreign system and imports nothing of ours.
"""

import asyncio
import secrets
import time
from dataclasses import dataclass, field
from itertools import count


@dataclass(frozen=True)
class World:
    """The real clock and unique ids; the only place that reads either."""

    _origin: str = field(default_factory=lambda: secrets.token_hex(6))  # noqa: TID251 - this is the door
    _numbers: "count[int]" = field(default_factory=lambda: count(1))

    def now(self) -> float:
        """Return the Unix time in seconds."""
        return time.time()  # noqa: TID251 - this is the door

    async def sleep(self, seconds: float) -> None:
        """Wait; the caller bounds it."""
        await asyncio.sleep(seconds)  # noqa: TID251 - this is the door

    def new_id(self) -> str:
        """Return an id that no other call of any sandbox process gets."""
        return f"{self._origin}{next(self._numbers):08x}"
