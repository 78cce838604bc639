"""Tasks of one subscription: bounded, owned, drained together."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from telemetry import get_logger

log = get_logger()


class Crew:
    """
    Runs handlers side by side, up to a bound.

    A task group would do, but its block must be open for as long as the
    subscription lives, while nats-py calls back from a task of its own.
    """

    def __init__(self, bound: int) -> None:
        self._bound = bound
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def is_full(self) -> bool:
        """Return whether one more would be above the bound."""
        return len(self._tasks) >= self._bound

    @property
    def size(self) -> int:
        """Return how many run."""
        return len(self._tasks)

    # Any: what a coroutine yields and is sent is asyncio's business.
    def start(self, job: Coroutine[Any, Any, None]) -> None:
        """Run a job that answers for its own errors."""
        task = asyncio.create_task(job)  # tidy: the crew is its owner
        self._tasks.add(task)
        task.add_done_callback(self._done)

    async def drain(self, limit_s: float) -> None:
        """Wait for all, and cancel those that outlast the limit."""
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=limit_s)
        await self.cancel()

    async def cancel(self) -> None:
        """Cancel all and wait until they have ended."""
        tasks = set(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("handler_escaped", error=repr(error))
