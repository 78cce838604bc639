"""
The five services, composed as in production on the simulation's ports.

Each is found by its package's ``app`` and ``settings``, so that nothing here knows
a service's insides.
"""

import asyncio
import importlib
import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import MetaData

from contracts.subjects import Service
from determinism import IdSource
from messaging.subscriptions import Runnable
from persistence.tables import SharedTables
from testkit.incarnation import GatedBus, GatedClock, GatedDatabase, Incarnation
from testkit.simulated_bus import SimulatedBus


@dataclass(frozen=True)
class Part:
    """A service of the world."""

    service: Service
    package: str

    @property
    def shared(self) -> SharedTables:
        """Return its shared tables."""
        # By name: only a service's own app may import its adapters.
        tables = importlib.import_module(f"{self.package}.adapters.tables")
        shared: SharedTables = tables.SHARED
        return shared

    @property
    def metadata(self) -> MetaData:
        """Return all its tables."""
        return self.shared.inbox.metadata


FIVE: Final = (
    Part(Service.BILLING_METER, "billing_meter"),
    Part(Service.AI_BROKER, "ai_broker"),
    Part(Service.AGENT_RUNTIME, "agent_runtime"),
    Part(Service.ORCHESTRATOR, "orchestrator"),
    Part(Service.GATEWAY, "gateway"),
)


@dataclass(frozen=True)
class Process:
    """One run of one replica, with its ports."""

    part: Part
    incarnation: Incarnation
    database: GatedDatabase
    bus: SimulatedBus
    port: GatedBus
    clock: GatedClock
    ids: IdSource

    # Any: each service's own Composed; the world uses its runnable and its deps.
    def compose(self, **extra: object) -> Any:
        """Wire the service; ``extra`` is given where it takes it."""
        app = importlib.import_module(f"{self.part.package}.app")
        settings = importlib.import_module(f"{self.part.package}.settings")
        given: Mapping[str, object] = {
            "settings": settings.Settings(
                database_url="sqlite:///simulated.db", instance=self.port.instance
            ),
            "database": self.database,
            "bus": self.port,
            "clock": self.clock,
            "ids": self.ids,
            **extra,
        }
        takes = inspect.signature(app.compose).parameters
        return app.compose(**{key: given[key] for key in given if key in takes})

    async def live(self, runnable: Runnable) -> None:
        """
        Connect, listen and run the loops, as ``messaging.runner`` does.

        Raises:
            ExceptionGroup: Starting failed, or a loop died.
        """
        self.bus.sink = runnable.sink
        async with asyncio.TaskGroup() as group:
            for loop in runnable.loops:
                group.create_task(_run(loop))
            await self.bus.connect()
            await self.bus.subscribe(*runnable.subscriptions)


async def _run(loop: Callable[[], Awaitable[None]]) -> None:
    await loop()
    raise RuntimeError("a loop returned; it should run until the process ends")
