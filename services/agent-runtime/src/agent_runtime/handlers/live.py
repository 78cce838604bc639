"""
Text of the turn in progress, for those who watch.

Pieces are gathered for some milliseconds; about once a second, and when the turn
begins, a snapshot from offset 0 goes out instead, so that whoever joins late or
lost a piece is whole again soon. Nothing waits for it and losing it costs nothing.
"""

import asyncio
from typing import Final

from agent_runtime.ports import Deps, Running
from contracts.tasks import LiveDelta

SNAPSHOT_CHARS_MAX: Final = 65_536


class LiveText:
    """The text of one turn, on its way to watchers."""

    def __init__(self, running: Running, turn: int, deps: Deps) -> None:
        self._running = running
        self._turn = turn
        self._deps = deps
        self._text = ""
        self._shown = 0
        self._snapshot_at = 0.0
        self._grew = asyncio.Event()

    def add(self, text: str) -> None:
        """Take more text; returns at once."""
        self._text += text
        self._grew.set()

    async def run(self) -> None:
        """Show the text as it grows, until cancelled."""
        await self._snapshot()
        while True:
            await self._grew.wait()
            await self._deps.clock.sleep(self._deps.pace.coalesce_s)
            await self.flush()

    async def flush(self) -> None:
        """Show what has not been shown."""
        self._grew.clear()
        age_s = self._deps.clock.monotonic() - self._snapshot_at
        is_small = len(self._text) <= SNAPSHOT_CHARS_MAX
        if is_small and age_s >= self._deps.pace.snapshot_s:
            await self._snapshot()
            return
        while self._shown < len(self._text):
            end = self._shown + SNAPSHOT_CHARS_MAX
            offset, piece = self._shown, self._text[self._shown : end]
            # Moved before the await: what comes meanwhile belongs to the next piece.
            self._shown += len(piece)
            await self._show(offset, piece)

    async def _snapshot(self) -> None:
        self._snapshot_at = self._deps.clock.monotonic()
        text, self._shown = self._text, len(self._text)
        await self._show(0, text)

    async def _show(self, offset: int, text: str) -> None:
        step = self._running.claimed.step
        delta = LiveDelta(
            task_id=step.task_id,
            step_id=step.step_id,
            fence=self._running.claimed.lease.fence,
            turn=self._turn,
            offset=offset,
            text=text,
        )
        await self._deps.watchers.show(step.tenant, step.task_id, delta)
