"""
A network of real buses on a real server, with durables as the bootstrap makes them.

The limits are short, so that silence, backoff and draining are seen in a test's time.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace

import nats
import pytest
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DiscardPolicy,
    RetentionPolicy,
    StreamConfig,
)
from nats.js.client import JetStreamContext

from contracts.subjects import (
    EVENTS_DURABLE,
    WORK_VERBS,
    Service,
    Track,
    durable,
    events_pattern,
    events_stream,
    work_stream,
)
from determinism import Clock, SystemClock, SystemIds
from messaging.bus import Bus, Delivery
from messaging.limits import BusLimits
from messaging.nats_bus import NatsBus
from messaging.settlement import Bury
from messaging.subscriptions import Subscription

QUICK = BusLimits(
    ping_interval_s=0.5,
    idle_limit_s=1.5,
    pull_s=0.3,
    pull_pause_s=0.1,
    streams_poll_s=0.2,
    nak_first_s=0.05,
    nak_cap_s=1.0,
    bug_deliveries_max=3,
    drain_s=5.0,
    reconnect_wait_s=0.1,
)


@dataclass(frozen=True)
class Buried:
    """A message that a bus gave up."""

    message_id: str
    reason: str
    detail: str
    delivery: Delivery
    body: bytes


@dataclass
class ListSink:
    """Keeps dead letters in a list; refuses while told to."""

    letters: list[Buried] = field(default_factory=list[Buried])
    refusals: int = 0

    async def bury(self, delivery: Delivery, body: bytes, verdict: Bury) -> None:
        """Keep the message, unless it was told to refuse."""
        if self.refusals > 0:
            self.refusals -= 1
            raise OSError("the disk is full")
        found = Buried(
            delivery.message_id, verdict.reason, verdict.detail, delivery, body
        )
        self.letters.append(found)


class NatsWorld:
    """Real buses on one server, all without accounts."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.clock: Clock = SystemClock()
        self.limits = QUICK
        self.bug_tries = QUICK.bug_deliveries_max
        self.sinks: dict[Service, ListSink] = {}
        self._buses: list[NatsBus] = []

    def build(self, service: Service, **changes: object) -> NatsBus:
        """Return a bus that is not connected yet, with changed limits."""
        ids = SystemIds()
        bus = NatsBus(
            service,
            url=self.url,
            instance=ids.new("instance"),
            clock=self.clock,
            ids=ids,
            limits=replace(self.limits, **changes),
        )
        bus.sink = self.sinks.setdefault(service, ListSink())
        self._buses.append(bus)
        return bus

    async def bus(self, service: Service, *subscriptions: Subscription) -> NatsBus:
        """Return a connected, subscribed bus of one more process of a service."""
        bus = self.build(service)
        await bus.connect()
        await bus.subscribe(*subscriptions)
        return bus

    def letters(self, service: Service) -> tuple[Buried, ...]:
        """Return the service's dead letters."""
        return tuple(self.sinks.setdefault(service, ListSink()).letters)

    async def stop(self, bus: Bus) -> None:
        """Drain one process and disconnect it."""
        for each in self._buses:
            if each is bus:
                self._buses.remove(each)
                await each.close()
                return

    async def inject(self, subject: str, body: bytes) -> None:
        """Publish raw bytes on a concrete subject, without headers."""
        client = await nats.connect(self.url)  # pyright: ignore[reportUnknownMemberType]
        await client.publish(subject, body)
        await client.flush()
        await client.close()

    async def close(self) -> None:
        """Disconnect every bus that is left."""
        for bus in self._buses:
            await bus.close()


async def make_streams(url: str) -> None:
    """Delete every stream, then make the work streams and their durables."""
    client = await nats.connect(url)  # pyright: ignore[reportUnknownMemberType]
    jetstream = client.jetstream()  # pyright: ignore[reportUnknownMemberType]
    for info in await jetstream.streams_info():
        await jetstream.delete_stream(info.config.name or "")
    for service in {verb.service for verb in WORK_VERBS}:
        await make_work_stream(jetstream, service)
    await client.close()


async def make_work_stream(jetstream: JetStreamContext, service: Service) -> None:
    """Make one service's work queue with its durables."""
    verbs = [verb for verb in WORK_VERBS if verb.service == service]
    name = work_stream(service)
    await jetstream.add_stream(  # pyright: ignore[reportUnknownMemberType]
        StreamConfig(
            name=name,
            subjects=[verb.pattern(Track.STABLE) for verb in verbs],
            retention=RetentionPolicy.WORK_QUEUE,
            discard=DiscardPolicy.NEW,
            max_msgs=10_000,
        )
    )
    for verb in verbs:
        await add_durable(
            jetstream,
            name,
            durable(verb, Track.STABLE),
            filter_subject=verb.pattern(Track.STABLE),
        )


async def make_events_stream(jetstream: JetStreamContext, tenant: str) -> None:
    """Make one tenant's events stream with the orchestrator's durable."""
    await jetstream.add_stream(  # pyright: ignore[reportUnknownMemberType]
        StreamConfig(
            name=events_stream(tenant),
            subjects=[events_pattern(tenant)],
            duplicate_window=0.1,
        )
    )
    await add_durable(
        jetstream,
        events_stream(tenant),
        EVENTS_DURABLE,
        filter_subject=events_pattern(tenant),
    )


async def add_durable(
    jetstream: JetStreamContext, stream: str, name: str, *, filter_subject: str
) -> None:
    """Make a durable as the bootstrap does, with a short ack wait."""
    await jetstream.add_consumer(  # pyright: ignore[reportUnknownMemberType]
        stream,
        ConsumerConfig(
            durable_name=name,
            filter_subject=filter_subject,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=2.0,
            max_deliver=-1,
            max_ack_pending=1000,
        ),
    )


@pytest.fixture(name="world")
async def nats_world(nats_url: str) -> AsyncIterator[NatsWorld]:
    """Lend a network on the shared server, with fresh streams."""
    await make_streams(nats_url)
    made = NatsWorld(nats_url)
    try:
        yield made
    finally:
        await made.close()
