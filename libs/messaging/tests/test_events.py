"""Events of other systems: found while running, known by their place."""

import nats
import pytest
from nats.js import JetStreamContext

from contracts.deadletters import DeadLetter
from contracts.subjects import Service, events_stream
from determinism import SystemClock
from faults import PermanentFault
from messaging.housekeeping import dispatcher
from messaging.subscriptions import Events, ForeignEvent
from testkit.bus_world import until
from testkit.nats_world import NatsWorld, make_events_stream


class Heard:
    """A handler that remembers."""

    def __init__(self) -> None:
        self.events: list[ForeignEvent] = []

    async def handle(self, event: ForeignEvent) -> None:
        """Remember the event; refuse those that say so."""
        if event.body == b"malformed":
            raise PermanentFault("the event is no CloudEvent", code="invalid")
        self.events.append(event)


async def jetstream_of(world: NatsWorld) -> JetStreamContext:
    """Return JetStream's API."""
    bus = await world.bus(Service.BOOTSTRAP)
    return bus.connection.client.jetstream()  # pyright: ignore[reportUnknownMemberType]


async def test_events_arrive_undecoded_with_their_place(world: NatsWorld) -> None:
    """Body and headers are as published; stream and sequence tell it apart."""
    jetstream = await jetstream_of(world)
    await make_events_stream(jetstream, "acme")
    heard = Heard()
    await world.bus(Service.ORCHESTRATOR, Events(heard.handle))
    client = await nats.connect(world.url)  # pyright: ignore[reportUnknownMemberType]
    body = b"\x00\xff not JSON"
    await client.publish("events.acme.a.b", body, headers={"ce-Id": "1", "X": "y"})
    await client.close()
    await until(world.clock, lambda: bool(heard.events))
    event = heard.events[0]
    info = await jetstream.stream_info(events_stream("acme"))
    assert (event.tenant, event.subject, event.body) == (
        "acme",
        "events.acme.a.b",
        body,
    )
    assert event.headers == {"ce-Id": "1", "X": "y"}
    assert (event.sequence, event.deliveries) == (1, 1)
    assert info.created is not None
    assert abs((event.stream_created - info.created).total_seconds()) < 0.001


async def test_a_stream_that_appears_later_is_picked_up(world: NatsWorld) -> None:
    """A new tenant needs no restart of the orchestrator."""
    heard = Heard()
    await world.bus(Service.ORCHESTRATOR, Events(heard.handle))
    await world.clock.sleep(0.3)
    await make_events_stream(await jetstream_of(world), "late")
    await world.inject("events.late.x", b"{}")
    await until(world.clock, lambda: bool(heard.events))
    assert [each.tenant for each in heard.events] == ["late"]


async def test_a_stream_made_anew_gives_events_another_identity(
    world: NatsWorld,
) -> None:
    """Sequence 1 of the second stream is not sequence 1 of the first."""
    jetstream = await jetstream_of(world)
    await make_events_stream(jetstream, "acme")
    heard = Heard()
    await world.bus(Service.ORCHESTRATOR, Events(heard.handle))
    await world.inject("events.acme.x", b"first")
    await until(world.clock, lambda: len(heard.events) == 1)
    await jetstream.delete_stream(events_stream("acme"))
    await make_events_stream(jetstream, "acme")
    await world.inject("events.acme.x", b"second")
    await until(world.clock, lambda: len(heard.events) == 2)
    first, second = heard.events
    assert (first.sequence, second.sequence) == (1, 1)
    assert first.stream_created < second.stream_created


async def test_a_refused_event_is_replayed_with_its_identity(world: NatsWorld) -> None:
    """Its dead letter knows its place, so that a replay is no second event."""
    await make_events_stream(await jetstream_of(world), "acme")
    heard = Heard()
    subscription = Events(heard.handle)
    await world.bus(Service.ORCHESTRATOR, subscription)
    client = await nats.connect(world.url)  # pyright: ignore[reportUnknownMemberType]
    await client.publish("events.acme.x", b"malformed", headers={"X": "y"})
    await client.close()
    await until(world.clock, lambda: bool(world.letters(Service.ORCHESTRATOR)))
    buried = world.letters(Service.ORCHESTRATOR)[0]
    letter = DeadLetter(
        id="dead_1",
        service="orchestrator",
        tenant=buried.delivery.tenant,
        subject=buried.delivery.subject,
        message_id=buried.message_id,
        reason=buried.reason,
        detail=buried.detail,
        body=buried.body,
        headers=dict(buried.delivery.headers),
        created_at=SystemClock().now(),
    )
    dispatch = dispatcher([subscription])
    with pytest.raises(PermanentFault):
        await dispatch(letter)
    await dispatch(letter.model_copy(update={"body": b"{}"}))
    event = heard.events[0]
    assert event.headers == {"X": "y"}
    assert (event.tenant, event.sequence) == ("acme", 1)
