"""The bell over the bus."""

from contracts.subjects import task_changed
from contracts.tasks import TaskChanged
from messaging.bus import Bus


class BusBell:
    """Rings on ``evt.orchestrator.task.<tenant>.<task>``."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def ring(self, changed: TaskChanged) -> None:
        """Announce and forget."""
        subject = task_changed(changed.tenant, changed.task_id)
        await self._bus.announce(subject, changed)
