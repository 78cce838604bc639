"""The simulated bus keeps every promise of the real one."""

import asyncio
from dataclasses import dataclass, field

import pytest

from contracts.subjects import Service
from determinism import Clock, SeededIds
from messaging.bus import Bus, Delivery
from messaging.limits import BusLimits
from messaging.settlement import Bury
from messaging.subscriptions import Subscription
from testkit.bus_suite import BusSuite, BusWorld
from testkit.clock import SimulatedClock
from testkit.simulated_bus import SimulatedBus, add_work_streams
from testkit.simulated_nats import SimulatedNats


@dataclass(frozen=True)
class Buried:
    """A message that a bus gave up."""

    message_id: str
    reason: str


@dataclass
class ListSink:
    """Keeps dead letters in a list."""

    letters: list[Buried] = field(default_factory=list[Buried])

    async def bury(self, delivery: Delivery, body: bytes, verdict: Bury) -> None:
        """Keep the message."""
        self.letters.append(Buried(delivery.message_id, verdict.reason))


class SimulatedWorld:
    """Buses on one simulated network without faults."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.clock: Clock = SimulatedClock(loop)
        self.limits = BusLimits(bug_deliveries_max=3)
        self.bug_tries = self.limits.bug_deliveries_max
        self.nats = SimulatedNats(loop, seed=1)
        add_work_streams(self.nats)
        self._ids = SeededIds(1)
        self._sinks: dict[Service, ListSink] = {}

    async def bus(self, service: Service, *subscriptions: Subscription) -> SimulatedBus:
        """Return a connected, subscribed bus of one more process of a service."""
        bus = SimulatedBus(
            self.nats,
            service,
            instance=self._ids.new("instance"),
            clock=self.clock,
            ids=self._ids,
            limits=self.limits,
        )
        bus.sink = self._sinks.setdefault(service, ListSink())
        await bus.connect()
        await bus.subscribe(*subscriptions)
        return bus

    def letters(self, service: Service) -> tuple[Buried, ...]:
        """Return the service's dead letters."""
        return tuple(self._sinks.setdefault(service, ListSink()).letters)

    async def stop(self, bus: Bus) -> None:
        """Drain one process and disconnect it."""
        assert isinstance(bus, SimulatedBus)
        await bus.close()

    async def inject(self, subject: str, body: bytes) -> None:
        """Publish raw bytes on a concrete subject, without headers."""
        self.nats.publish(subject, body, {}, "")


@pytest.fixture
async def world() -> BusWorld:
    """Lend one network in virtual time."""
    return SimulatedWorld(asyncio.get_running_loop())


class TestSimulatedBus(BusSuite):
    """The shared suite, on the simulated network."""
