"""
The bus over the simulated NATS: production's ``NatsBus`` on another connection.

Publishing, asking, frames, watching and settling are inherited, so what a
simulation proves it proves of the code that runs.
"""

from collections.abc import Callable
from typing import Final

from contracts.subjects import (
    EVENTS_DURABLE,
    WORK_VERBS,
    Kind,
    Service,
    Track,
    durable,
    events_pattern,
    events_stream,
    work_stream,
)
from determinism import Clock, IdSource
from messaging.burial import DeadLetterSink, NoSink
from messaging.frame_stream import Completions
from messaging.limits import BusLimits
from messaging.nats_bus import NatsBus
from messaging.router import Router, StableRouter
from messaging.settle import Settler
from testkit.simulated_connection import SimulatedConnection
from testkit.simulated_nats import SimulatedNats

PUBACK_S: Final = 1.0


def _always() -> bool:
    return True


class SimulatedBus(NatsBus):
    """
    A service's bus in the simulation.

    Args:
        server: The simulated NATS.
        service: Which service this is.
        instance: This process's id.
        clock: Virtual time.
        ids: Draws jitter.
        limits: Deadlines and bounds.
        router: Draws the track of what is sent.
        is_alive: Tells whether the process still lives.
    """

    # Not super().__init__: it would make FastStream's broker.
    def __init__(
        self,
        server: SimulatedNats,
        service: Service,
        *,
        instance: str,
        clock: Clock,
        ids: IdSource,
        limits: BusLimits | None = None,
        router: Router | None = None,
        is_alive: Callable[[], bool] = _always,
    ) -> None:
        self.service = service
        self.clock = clock
        self.ids = ids
        self.sink: DeadLetterSink = NoSink()
        self.settlers: dict[str, Settler] = {}
        self._instance = instance
        self._track = Track.STABLE
        self._router = router or StableRouter()
        self.connection = SimulatedConnection(
            server,
            service=service,
            instance=instance,
            limits=limits or BusLimits(publish_s=PUBACK_S),
            settlers=self.settlers,
            is_alive=is_alive,
        )
        self._completions = Completions(self.connection, self._router, clock)
        self._listening = []


def add_work_streams(server: SimulatedNats) -> None:
    """Make the streams and durables of all services, as the bootstrap does."""
    for verb in WORK_VERBS:
        stream = work_stream(verb.service)
        server.streams.add_stream(stream, f"{Kind.WORK}.{verb.service}.>")
        server.streams.add_durable(
            stream, durable(verb, Track.STABLE), verb.pattern(Track.STABLE)
        )


def add_events_stream(server: SimulatedNats, tenant: str) -> None:
    """Make a tenant's events stream and the orchestrator's durable on it."""
    stream = events_stream(tenant)
    server.streams.add_stream(stream, events_pattern(tenant))
    server.streams.add_durable(stream, EVENTS_DURABLE, events_pattern(tenant))


def simulated_bus(
    server: SimulatedNats, service: Service, *, clock: Clock, ids: IdSource
) -> SimulatedBus:
    """Return a bus of a process that never crashes; ``connect`` opens it."""
    return SimulatedBus(
        server, service, instance=ids.new(str(service)), clock=clock, ids=ids
    )


__all__ = [
    "SimulatedBus",
    "add_events_stream",
    "add_work_streams",
    "simulated_bus",
]
