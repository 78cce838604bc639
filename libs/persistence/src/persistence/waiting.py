"""Waiting for an outcome that a cancellation must not leave unknown."""

import asyncio
from typing import Any


async def settled(outcome: asyncio.Future[Any]) -> None:
    """
    Return once the outcome is there, whatever it is.

    For a caller that was cancelled already and raises its CancelledError afterwards:
    further cancellations change nothing about that, so they only wake the wait.
    """
    while not outcome.done():
        try:
            await asyncio.wait([outcome])
        # tidy: its caller raises the first cancellation once the outcome is known
        except asyncio.CancelledError:
            continue
    if not outcome.cancelled():
        outcome.exception()  # seen: asyncio need not report it as never retrieved
