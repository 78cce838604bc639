"""Waiting for a condition: asked again and again, with a deadline, never a sleep."""

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from determinism import Clock, SystemClock

T = TypeVar("T")

POLL_S: Final = 0.05
CLOCK: Final = SystemClock()


class NotInTimeError(AssertionError):
    """What was waited for did not happen."""


async def until(
    condition: Callable[[], Awaitable[T | None]],
    limit_s: float,
    what: str | Callable[[], str],
    *,
    poll_s: float = POLL_S,
    clock: Clock = CLOCK,
) -> T:
    """
    Return the condition's first true answer.

    Args:
        condition: Asked until it answers something true.
        limit_s: Seconds allowed, real ones.
        what: What is waited for, for the error; a callable is asked at the end.
        poll_s: Seconds between two questions.
        clock: Whose seconds.

    Raises:
        NotInTimeError: The time passed.
    """
    limit = clock.monotonic() + limit_s
    while True:
        found = await condition()
        if found:
            return found
        if clock.monotonic() > limit:
            text = what if isinstance(what, str) else what()
            raise NotInTimeError(f"waited {limit_s:g} s for {text}")
        await clock.sleep(poll_s)
