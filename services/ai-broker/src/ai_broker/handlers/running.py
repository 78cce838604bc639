"""One completion at work in this process, and who listens to it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from ai_broker.domain.answer import Delta, delta_of
from ai_broker.domain.catalogue import Candidate
from ai_broker.domain.vendor import Piece
from contracts.frames import Failed, Finished

PIECES_KEPT_MAX: Final = 20_000

End = Finished | Failed


class Running:
    """One completion at work; its pieces are kept for those who join late."""

    def __init__(self) -> None:
        self._pieces: list[Piece] = []
        self._changed: asyncio.Event | None = None
        """Set at the next change; made by the first who waits for it."""
        self._over = False
        self._abort: Callable[[], object] | None = None
        self.end: End | None = None
        """How it ended; None while it runs, or when the claim was lost."""
        self.cancelled = False
        self.delivered = False
        """Whether any content has reached a caller."""
        self.by: Candidate | None = None
        """Who says what is published."""

    def publish(self, piece: Piece, by: Candidate) -> None:
        """Keep a piece; past the bound, those who join get the end alone."""
        self.by = by
        if len(self._pieces) < PIECES_KEPT_MAX:
            self._pieces.append(piece)
            self._wake()

    def forget(self) -> None:
        """Drop the pieces of a failed attempt that nobody has seen."""
        self._pieces.clear()

    def finish(self, end: End | None) -> None:
        """End it; once."""
        if not self._over:
            self.end = end
            self._over = True
            self._wake()

    async def follow(self, *, deltas: bool) -> AsyncIterator[Delta]:
        """Yield the deltas from the first one to the end."""
        seen = 0
        while True:
            while deltas and seen < len(self._pieces):
                delta = delta_of(self._pieces[seen])
                seen += 1
                if delta is not None:
                    self.delivered = True
                    yield delta
            if self._over:
                return
            self._changed = self._changed or asyncio.Event()
            await self._changed.wait()

    def cancel(self) -> None:
        """Abort what is being waited for; idempotent."""
        self.cancelled = True
        if self._abort is not None:
            self._abort()

    @contextmanager
    def abortable(self, abort: Callable[[], object]) -> Generator[None]:
        """Let ``cancel`` call ``abort`` meanwhile."""
        self._abort = abort
        try:
            if self.cancelled:
                abort()
            yield
        finally:
            self._abort = None

    def _wake(self) -> None:
        # Mostly nobody follows, and then there is nobody to wake.
        if self._changed is not None:
            self._changed.set()
            self._changed = None


@dataclass(eq=False)
class Flight:
    """A question under way, whose answer equal ones may take."""

    completion_id: str
    over: asyncio.Event = field(default_factory=asyncio.Event)
