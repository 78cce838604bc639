"""The system clock and deadlines."""

import asyncio
from datetime import UTC

import pytest

from determinism import SystemClock, within
from faults import DeadlineExceeded, TransientFault


async def test_the_clock_is_aware_and_never_goes_back() -> None:
    """Instants carry UTC; elapsed time only grows."""
    clock = SystemClock()
    assert clock.now().tzinfo is UTC
    began = clock.monotonic()
    await clock.sleep(0.01)
    assert clock.monotonic() - began >= 0.009


async def test_an_answer_in_time_is_returned() -> None:
    """A deadline changes nothing for what keeps it."""

    async def answer() -> int:
        return 7

    assert await within(5, answer(), "ask") == 7


async def test_a_deadline_says_what_was_attempted() -> None:
    """It is transient, names the attempt and the limit, and stops the work."""
    stopped = asyncio.Event()

    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    with pytest.raises(DeadlineExceeded, match=r"ask the meter: .* 0\.01 s") as raised:
        await within(0.01, hang(), "ask the meter")
    assert isinstance(raised.value, TransientFault)
    assert stopped.is_set()


async def test_a_cancellation_is_no_deadline() -> None:
    """Who is told to stop stops, with the cancellation and nothing else."""
    task = asyncio.create_task(within(5, asyncio.Event().wait(), "wait"))
    await asyncio.wait([task], timeout=0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_error_in_time_is_its_own() -> None:
    """A deadline does not rename what failed before it."""

    async def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await within(5, fail(), "divide")
