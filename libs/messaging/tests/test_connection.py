"""Cures of how nats-py loses a connection or a message, on the real server."""

import asyncio

import nats
import pytest

from contracts.delivery import Missing, MissingReply
from contracts.frames import CancelCompletion, TextDelta
from contracts.steps import CancelStep
from contracts.subjects import (
    CANCEL_STEP,
    Service,
    Track,
    cancel_completion,
    live,
    missing,
)
from faults import PermanentFault, TransientFault
from messaging.bus import Delivery
from messaging.subscriptions import Answer, Hear, Work
from testkit.bus_world import RECEIVER, ask_missing, outgoing, until
from testkit.nats_server import NatsServer
from testkit.nats_world import NatsWorld, make_streams


async def answer(_: Missing, __: Delivery) -> MissingReply:
    """Lack nothing."""
    return MissingReply(missing=())


ANSWERING = Answer(missing(RECEIVER), Missing, answer)


async def test_headers_count_towards_the_payload_limit(world: NatsWorld) -> None:
    """Body below and headers above would close the connection for ever."""
    sender = await world.bus(Service.ORCHESTRATOR)
    connection = sender.connection
    limit = connection.client.max_payload
    subject = live("acme", "task_1")
    with pytest.raises(PermanentFault, match="above the limit"):
        await connection.publish(subject, b"x" * (limit - 1), {"A": "b" * 100})
    with pytest.raises(PermanentFault, match="headers"):
        await connection.publish(subject, b"x", {"A": "b" * 70_000})
    largest = limit - connection.limits.headers_reserve_bytes
    await connection.publish(subject, b"x" * largest, {"A": "b" * 40_000})
    await connection.flush()
    assert connection.is_connected
    assert not sender.closed.is_set()


async def test_a_connection_closed_for_good_is_told(world: NatsWorld) -> None:
    """What nats-py never reconnects from sets ``closed``, so the process ends."""
    bus = await world.bus(Service.ORCHESTRATOR)
    # Round the guard, as a bug would.
    body = b"x" * (bus.connection.client.max_payload - 1)
    await bus.connection.client.publish("live.acme.x", body, headers={"A": "b" * 100})
    async with asyncio.timeout(10):
        await bus.closed.wait()
    with pytest.raises(TransientFault):
        await bus.check()


async def test_closing_on_purpose_is_no_alarm(world: NatsWorld) -> None:
    """``closed`` is for losses; a drained bus has not lost its connection."""
    bus = await world.bus(Service.ORCHESTRATOR)
    await world.stop(bus)
    assert not bus.closed.is_set()


async def test_a_flush_follows_what_was_published(world: NatsWorld) -> None:
    """nats-py's PING overtakes the buffer; a drain would miss its UNSUB by it."""
    sender = await world.bus(Service.ORCHESTRATOR)
    client = await nats.connect(world.url)  # pyright: ignore[reportUnknownMemberType]
    heard = await client.subscribe("live.>")  # pyright: ignore[reportUnknownMemberType]
    await client.flush()
    for number in range(300):
        await sender.announce(live("acme", "t"), TextDelta(part=0, text=str(number)))
        await sender.connection.flush()
        await client.flush()
        assert heard.pending_msgs == number + 1
    await client.close()


async def test_quiescing_loses_no_request(world: NatsWorld) -> None:
    """Under load, the last replica's drain answers all that it was sent."""
    served = 0

    async def count(_: Missing, __: Delivery) -> MissingReply:
        nonlocal served
        await world.clock.sleep(0.01)
        served += 1
        return MissingReply(missing=())

    replica = await world.bus(RECEIVER, Answer(missing(RECEIVER), Missing, count, 500))
    asker = await world.bus(Service.ORCHESTRATOR)
    answered, refused = 0, 0

    async def ask() -> None:
        nonlocal answered, refused
        try:
            await ask_missing(asker, timeout_s=5)
            answered += 1
        except TransientFault as fault:
            refused += "nobody listens" in fault.detail

    async with asyncio.TaskGroup() as group:
        for number in range(400):
            group.create_task(ask())
            await world.clock.sleep(0.001)
            if number == 200:
                group.create_task(world.stop(replica))
    assert answered == served
    assert answered + refused == 400
    assert answered >= 200
    assert refused > 0


async def test_a_restart_of_the_server_is_survived(nats_server: NatsServer) -> None:
    """Requests, bells and work go on, and whoever wants to know is told."""
    await make_streams(nats_server.url)
    world = NatsWorld(nats_server.url)
    seen: list[str] = []
    heard: list[str] = []
    reconnects: list[bool] = []

    async def handle(_: CancelStep, delivery: Delivery) -> None:
        seen.append(delivery.message_id)

    async def hear(message: CancelCompletion) -> None:
        heard.append(message.completion_id)

    subject = cancel_completion("i")
    work = Work(CANCEL_STEP, CancelStep, handle)
    await world.bus(RECEIVER, ANSWERING, work, Hear(subject, CancelCompletion, hear))
    sender = await world.bus(Service.ORCHESTRATOR)
    sender.on_reconnect(lambda: reconnects.append(True))
    for number in range(2):
        await sender.publish(outgoing(number))
        await until(world.clock, lambda number=number: f"message_{number}" in seen)
        await ask_missing(sender)
        message = CancelCompletion(tenant="acme", completion_id=str(number))
        await sender.announce(subject, message)
        await until(world.clock, lambda number=number: str(number) in heard)
        if number == 0:
            await asyncio.to_thread(nats_server.restart)
            await until(world.clock, lambda: sender.connection.is_connected)
            await world.clock.sleep(0.5)
    assert reconnects == [True]
    await world.close()


async def test_connecting_waits_for_a_server(nats_server: NatsServer) -> None:
    """A service that starts before NATS does is connected once it is there."""
    await asyncio.to_thread(nats_server.kill)
    world = NatsWorld(nats_server.url)
    bus = world.build(Service.GATEWAY)
    connecting = asyncio.create_task(bus.connect())
    await world.clock.sleep(0.5)
    assert not connecting.done()
    with pytest.raises(TransientFault, match="not connected"):
        await bus.publish(outgoing(1))
    await asyncio.to_thread(nats_server.start)
    await asyncio.wait_for(connecting, 10)
    await bus.check()
    await world.close()


async def test_a_frozen_server_is_a_deadline_not_a_hang(
    nats_server: NatsServer,
) -> None:
    """Every await outward ends: publish, request and readiness check."""
    await make_streams(nats_server.url)
    world = NatsWorld(nats_server.url)
    bus = world.build(Service.ORCHESTRATOR, publish_s=0.3, flush_s=0.3)
    await bus.connect()
    nats_server.pause()
    try:
        async with asyncio.timeout(5):
            for attempt in (
                bus.publish(outgoing(1)),
                ask_missing(bus, timeout_s=0.3),
                bus.check(),
            ):
                with pytest.raises(TransientFault):
                    await attempt
    finally:
        nats_server.resume()
    await world.close()


async def test_a_slow_consumer_is_counted(world: NatsWorld) -> None:
    """What is dropped above the bound is seen in a counter, not only by absence."""
    release = asyncio.Event()

    async def hear(_: CancelCompletion) -> None:
        await release.wait()

    subject = cancel_completion("slow")
    slow = world.build(Service.AI_BROKER, pending_messages_max=10)
    await slow.connect()
    await slow.subscribe(Hear(subject, CancelCompletion, hear))
    sender = await world.bus(Service.GATEWAY)
    message = CancelCompletion(tenant="acme", completion_id="c")
    for _ in range(50):
        await sender.announce(subject, message)
    await until(world.clock, lambda: slow.counters.slow_consumers >= 35)
    release.set()
    assert slow.connection.is_connected


async def test_a_slow_watcher_loses_the_oldest(world: NatsWorld) -> None:
    """Its buffer is bounded, and what it reads late is the newest."""
    watcher = world.build(Service.GATEWAY, watch_buffered_max=5)
    await watcher.connect()
    sender = await world.bus(Service.AGENT_RUNTIME)
    subject = live("acme", "task_2")
    async with watcher.watch(subject, TextDelta) as deltas:
        for number in range(20):
            await sender.announce(subject, TextDelta(part=0, text=str(number)))
        await sender.connection.flush()
        await watcher.connection.flush()
        await world.clock.sleep(0.1)
        found = [(await anext(deltas)).text for _ in range(5)]
    assert found == ["15", "16", "17", "18", "19"]


async def test_a_full_stream_is_a_transient_fault(world: NatsWorld) -> None:
    """``discard new`` answers with an error, which must not look like a PubAck."""
    sender = await world.bus(Service.ORCHESTRATOR)
    jetstream = sender.connection.client.jetstream()  # pyright: ignore[reportUnknownMemberType]
    config = (await jetstream.stream_info("WORK_AGENT_RUNTIME")).config
    config.max_msgs = 1
    await jetstream.update_stream(config)  # pyright: ignore[reportUnknownMemberType]
    await sender.publish(outgoing(1))
    with pytest.raises(TransientFault, match="maximum messages"):
        await sender.publish(outgoing(2))


async def test_a_stream_that_is_not_made_yet_is_a_transient_fault(
    world: NatsWorld,
) -> None:
    """After a wipe nobody takes the message, and that is told at once."""
    sender = await world.bus(Service.ORCHESTRATOR)
    jetstream = sender.connection.client.jetstream()  # pyright: ignore[reportUnknownMemberType]
    await jetstream.delete_stream("WORK_AGENT_RUNTIME")
    began_s = world.clock.monotonic()
    with pytest.raises(TransientFault):
        await sender.publish(outgoing(1))
    assert world.clock.monotonic() - began_s < 2


async def test_a_request_without_an_inbox_is_dropped(world: NatsWorld) -> None:
    """Nobody can be answered, so nothing is asked; the next request is."""
    bus = await world.bus(RECEIVER, ANSWERING)
    subject = missing(RECEIVER).to(None).on(Track.STABLE)
    await world.inject(subject, b'{"message_ids": ["a"]}')
    await until(world.clock, lambda: bus.counters.dropped == 1)
    asker = await world.bus(Service.ORCHESTRATOR)
    assert (await ask_missing(asker)).missing == ()
