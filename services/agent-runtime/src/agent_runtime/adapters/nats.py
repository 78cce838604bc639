"""Ports over the bus: the model behind ai-broker, and those who watch."""

from contextlib import AbstractAsyncContextManager, suppress
from typing import Final

from contracts import subjects
from contracts.completions import CompletionRequest
from contracts.message import Message
from determinism import within
from faults import Fault
from messaging.bus import Bus, FrameStream

SHOW_LIMIT_S: Final = 1.0


class BrokerModel:
    """Completions by ai-broker."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    def complete(
        self, request: CompletionRequest
    ) -> AbstractAsyncContextManager[FrameStream]:
        """Ask; leaving the context without ``cancel`` lets the answer finish."""
        return self._bus.complete(request)


class LiveWatchers:
    """Whoever hears a task's live subject."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def show(self, tenant: str, task_id: str, message: Message) -> None:
        """Send one piece; what cannot be sent is dropped, the next snapshot heals."""
        announcing = self._bus.announce(subjects.live(tenant, task_id), message)
        with suppress(Fault):
            await within(SHOW_LIMIT_S, announcing, "show a task's live text")
