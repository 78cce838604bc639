"""What a watch yields outlives the deadlines of whoever reads it."""

import asyncio

import pytest

from messaging.nats_bus import Heard


async def test_a_reader_that_gave_up_reads_on_later() -> None:
    """A deadline that cancels a read ends neither the watch nor the next read."""
    heard = Heard[int](2)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await anext(heard)
    heard.put(1)
    assert await anext(heard) == 1


async def test_a_slow_reader_loses_the_oldest() -> None:
    """Memory is bounded; what is newest is what counts."""
    heard = Heard[int](2)
    for number in range(4):
        heard.put(number)
    assert [await anext(heard), await anext(heard)] == [2, 3]
