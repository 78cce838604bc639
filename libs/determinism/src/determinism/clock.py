"""Wall time, elapsed time and waiting, behind one Protocol."""

import asyncio
import time
from collections.abc import Awaitable
from datetime import UTC, datetime
from typing import Protocol, TypeVar

from faults import DeadlineExceeded

T = TypeVar("T")


class Clock(Protocol):
    """What a service may know of time."""

    def now(self) -> datetime:
        """Return the wall time as an aware UTC datetime."""
        ...

    def monotonic(self) -> float:
        """Return seconds since an arbitrary start; never goes backwards."""
        ...

    async def sleep(self, duration_s: float) -> None:
        """Return after ``duration_s`` seconds of this clock."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        """Return the wall time as an aware UTC datetime."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return the seconds of the monotonic clock."""
        return time.monotonic()

    async def sleep(self, duration_s: float) -> None:
        """Return after ``duration_s`` seconds."""
        await asyncio.sleep(duration_s)


async def within(limit_s: float, awaitable: Awaitable[T], attempt: str) -> T:
    """
    Await with a deadline, naming what was attempted when it passes.

    Args:
        limit_s: Seconds allowed.
        awaitable: The work to wait for; cancelled when the time is up.
        attempt: What is being tried, for the error: "ask billing-meter for prices".

    Raises:
        DeadlineExceeded: The time passed.
    """
    try:
        async with asyncio.timeout(limit_s):
            return await awaitable
    except TimeoutError as cause:
        message = f"{attempt}: no answer within {limit_s:g} s"
        raise DeadlineExceeded(message) from cause
