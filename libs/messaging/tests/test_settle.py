"""Cures of what FastStream loses while consuming, on the real server."""

import asyncio
import itertools

import nats
from nats.js import JetStreamContext

from contracts.steps import CancelStep
from contracts.subjects import CANCEL_STEP, Service, Track, durable, work_stream
from faults import TransientFault
from messaging.bus import Delivery
from messaging.subscriptions import Work
from testkit.bus_world import RECEIVER, message_of, outgoing, until
from testkit.nats_world import QUICK, NatsWorld, add_durable

STREAM = work_stream(RECEIVER)
DURABLE = durable(CANCEL_STEP, Track.STABLE)


async def jetstream_of(world: NatsWorld) -> JetStreamContext:
    """Return JetStream's API through the receiver's own connection."""
    bus = await world.bus(Service.BOOTSTRAP)
    return bus.connection.client.jetstream()  # pyright: ignore[reportUnknownMemberType]


async def test_an_exception_does_not_remove_the_message(world: NatsWorld) -> None:
    """FastStream's default terms it at once; here it stays and succeeds later."""
    tries = 0

    async def handle(_: CancelStep, __: Delivery) -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise ZeroDivisionError

    await world.bus(RECEIVER, Work(CANCEL_STEP, CancelStep, handle))
    sender = await world.bus(Service.ORCHESTRATOR)
    await sender.publish(outgoing(1))
    await until(world.clock, lambda: tries == 2)
    assert world.letters(RECEIVER) == ()


async def test_redeliveries_back_off(world: NatsWorld) -> None:
    """A bare nak comes back within milliseconds; ours waits longer each time."""
    times_s: list[float] = []

    async def handle(_: CancelStep, __: Delivery) -> None:
        times_s.append(world.clock.monotonic())
        if len(times_s) < 5:
            raise TransientFault("away")

    await world.bus(RECEIVER, Work(CANCEL_STEP, CancelStep, handle))
    sender = await world.bus(Service.ORCHESTRATOR)
    await sender.publish(outgoing(2))
    await until(world.clock, lambda: len(times_s) == 5)
    gaps_s = [after - before for before, after in itertools.pairwise(times_s)]
    for number, gap_s in enumerate(gaps_s):
        assert gap_s >= QUICK.nak_first_s * 2**number / 2 * 0.9
    assert gaps_s[3] > gaps_s[0]


async def test_a_dead_letter_leaves_the_stream(world: NatsWorld) -> None:
    """Past max_deliver a message would stay for ever; a buried one is termed."""

    async def handle(_: CancelStep, __: Delivery) -> None:
        raise ZeroDivisionError

    await world.bus(RECEIVER, Work(CANCEL_STEP, CancelStep, handle))
    sender = await world.bus(Service.ORCHESTRATOR)
    await sender.publish(outgoing(3))
    await until(world.clock, lambda: bool(world.letters(RECEIVER)))
    jetstream = await jetstream_of(world)
    async with asyncio.timeout(5):
        while (await jetstream.stream_info(STREAM)).state.messages:
            await world.clock.sleep(0.02)
    assert len(world.letters(RECEIVER)) == 1


async def test_what_cannot_be_buried_is_not_given_up(world: NatsWorld) -> None:
    """The store refuses twice: the message comes again until it is kept."""
    await world.bus(RECEIVER, Work(CANCEL_STEP, CancelStep, _ignore))
    world.sinks[RECEIVER].refusals = 2
    sender = await world.bus(Service.ORCHESTRATOR)
    await sender.publish(outgoing(4, body=b"garbage"))
    await until(world.clock, lambda: bool(world.letters(RECEIVER)))
    assert world.letters(RECEIVER)[0].delivery.deliveries == 3


async def test_long_work_is_not_delivered_twice(world: NatsWorld) -> None:
    """``in_progress`` keeps a message ours for longer than the ack wait."""
    starts = 0
    done = asyncio.Event()

    async def handle(_: CancelStep, __: Delivery) -> None:
        nonlocal starts
        starts += 1
        await world.clock.sleep(3.0)
        done.set()

    bus = world.build(RECEIVER, heartbeat_s=0.5)
    await bus.connect()
    await bus.subscribe(Work(CANCEL_STEP, CancelStep, handle))
    sender = await world.bus(Service.ORCHESTRATOR)
    await sender.publish(outgoing(5))
    async with asyncio.timeout(10):
        await done.wait()
    await world.clock.sleep(0.3)
    assert starts == 1


async def test_prefetch_is_bounded(world: NatsWorld) -> None:
    """FastStream holds one message more than its workers, and no second one."""
    release = asyncio.Event()
    running = 0

    async def handle(_: CancelStep, __: Delivery) -> None:
        nonlocal running
        running += 1
        await release.wait()

    await world.bus(RECEIVER, Work(CANCEL_STEP, CancelStep, handle, workers=2))
    sender = await world.bus(Service.ORCHESTRATOR)
    for number in range(20):
        await sender.publish(outgoing(number))
    await until(world.clock, lambda: running == 2)
    await world.clock.sleep(0.3)
    jetstream = await jetstream_of(world)
    info = await jetstream.consumer_info(STREAM, DURABLE)
    assert info.num_ack_pending is not None
    assert 2 <= info.num_ack_pending <= 4
    release.set()


async def test_stopping_gives_unfinished_work_back_at_once(world: NatsWorld) -> None:
    """What outlasts the drain is nak'd: another replica has it before the ack wait."""
    started = asyncio.Event()
    times_s: list[float] = []

    async def stuck(_: CancelStep, __: Delivery) -> None:
        started.set()
        await asyncio.Event().wait()

    async def quick(_: CancelStep, __: Delivery) -> None:
        times_s.append(world.clock.monotonic())

    first = world.build(RECEIVER, drain_s=0.2)
    await first.connect()
    await first.subscribe(Work(CANCEL_STEP, CancelStep, stuck, workers=1))
    sender = await world.bus(Service.ORCHESTRATOR)
    for number in range(3):
        await sender.publish(outgoing(number))
    await asyncio.wait_for(started.wait(), 5)
    await world.bus(RECEIVER, Work(CANCEL_STEP, CancelStep, quick))
    began_s = world.clock.monotonic()
    await world.stop(first)
    await until(world.clock, lambda: len(times_s) == 3)
    assert times_s[-1] - began_s < 1.9


async def test_stopping_finishes_what_was_fetched(world: NatsWorld) -> None:
    """A drain within its limit settles everything once, and strands nothing."""
    done: list[str] = []

    async def handle(_: CancelStep, delivery: Delivery) -> None:
        await world.clock.sleep(0.1)
        done.append(delivery.message_id)

    first = await world.bus(RECEIVER, Work(CANCEL_STEP, CancelStep, handle, workers=4))
    sender = await world.bus(Service.ORCHESTRATOR)
    for number in range(12):
        await sender.publish(outgoing(number))
    await until(world.clock, lambda: bool(done))
    await world.stop(first)
    jetstream = await jetstream_of(world)
    info = await jetstream.consumer_info(STREAM, DURABLE)
    assert info.num_ack_pending == 0
    assert len(done) == len(set(done)) == 12 - (info.num_pending or 0)


async def test_a_deleted_durable_is_found_again(world: NatsWorld) -> None:
    """Pulling pauses while it is gone, and goes on when it is made again."""
    seen: list[str] = []

    async def handle(_: CancelStep, delivery: Delivery) -> None:
        seen.append(delivery.message_id)

    await world.bus(RECEIVER, Work(CANCEL_STEP, CancelStep, handle))
    jetstream = await jetstream_of(world)
    await jetstream.delete_consumer(STREAM, DURABLE)
    sender = await world.bus(Service.ORCHESTRATOR)
    await sender.publish(outgoing(6))
    await world.clock.sleep(0.5)
    assert seen == []
    subject = CANCEL_STEP.pattern(Track.STABLE)
    await add_durable(jetstream, STREAM, DURABLE, filter_subject=subject)
    await until(world.clock, lambda: seen == ["message_6"])


async def test_a_service_waits_for_a_durable_that_is_not_made_yet(
    world: NatsWorld,
) -> None:
    """It never makes one itself, and starts as soon as the bootstrap has."""
    jetstream = await jetstream_of(world)
    await jetstream.delete_consumer(STREAM, DURABLE)
    bus = world.build(RECEIVER)
    await bus.connect()
    work = Work(CANCEL_STEP, CancelStep, _ignore)
    subscribing = asyncio.create_task(bus.subscribe(work))
    await world.clock.sleep(0.3)
    assert not subscribing.done()
    subject = CANCEL_STEP.pattern(Track.STABLE)
    await add_durable(jetstream, STREAM, DURABLE, filter_subject=subject)
    await asyncio.wait_for(subscribing, 5)


async def test_a_message_without_an_id_has_one_derived_from_its_place(
    world: NatsWorld,
) -> None:
    """Raw bytes on a work subject become a dead letter of their own each."""
    await world.bus(RECEIVER, Work(CANCEL_STEP, CancelStep, _ignore))
    subject = CANCEL_STEP.to("acme").on(Track.STABLE)
    client = await nats.connect(world.url)  # pyright: ignore[reportUnknownMemberType]
    for body in (b"", b"\xff\xfe", b"[" * 5000, message_of(1).encode()[:-1]):
        await client.publish(subject, body)
    await client.flush()
    await client.close()
    await until(world.clock, lambda: len(world.letters(RECEIVER)) == 4)
    assert len({letter.message_id for letter in world.letters(RECEIVER)}) == 4


async def _ignore(_: CancelStep, __: Delivery) -> None:
    """Process a message by doing nothing."""
