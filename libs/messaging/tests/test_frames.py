"""A cut answer never looks clean; the other side is played by raw NATS."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import nats
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from contracts.completions import CompletionRequest
from contracts.frames import Failed, Frame, Opened, Ping, TextDelta
from contracts.subjects import COMPLETE, Service, Track, cancel_completion
from faults import TransientFault
from messaging.bus import Delivery
from messaging.subscriptions import AnswerInFrames, FrameSink
from testkit.bus_world import completion_request, failed
from testkit.nats_world import NatsWorld

OPENED = Opened(completion_id="step_1:0", instance="instance_b").encode()
Play = Callable[[Client, Msg], Awaitable[None]]


@asynccontextmanager
async def playing(world: NatsWorld, play: Play) -> AsyncGenerator[None]:
    """Answer completions by hand."""
    client = await nats.connect(world.url)  # pyright: ignore[reportUnknownMemberType]

    async def on_message(msg: Msg) -> None:
        await play(client, msg)

    subject = COMPLETE.pattern(Track.STABLE)
    await client.subscribe(subject, cb=on_message)  # pyright: ignore[reportUnknownMemberType]
    await client.flush()
    try:
        yield
    finally:
        await client.close()


async def read(world: NatsWorld, **changes: object) -> list[Frame]:
    """Ask and read to the end."""
    caller = world.build(Service.GATEWAY, **changes)
    await caller.connect()
    async with caller.complete(completion_request(world)) as frames:
        return [frame async for frame in frames]


async def test_a_gap_is_a_cut(world: NatsWorld) -> None:
    """A missing number ends the reading by ``stream-cut``, before the end frame."""

    async def play(client: Client, msg: Msg) -> None:
        await client.publish(msg.reply, OPENED)
        end = failed().model_copy(update={"number": 2})
        await client.publish(msg.reply, end.encode())

    async with playing(world, play):
        with pytest.raises(TransientFault) as caught:
            await read(world)
    assert caught.value.code == "stream-cut"


async def test_silence_is_a_cut(world: NatsWorld) -> None:
    """A replica that dies after its first frame is noticed by the idle limit."""

    async def play(client: Client, msg: Msg) -> None:
        await client.publish(msg.reply, OPENED)

    async with playing(world, play):
        began_s = world.clock.monotonic()
        with pytest.raises(TransientFault) as caught:
            await read(world, idle_limit_s=0.4)
    assert caught.value.code == "stream-cut"
    assert 0.4 <= world.clock.monotonic() - began_s < 3


async def test_a_frame_that_does_not_decode_is_a_cut(world: NatsWorld) -> None:
    """Garbage in an inbox ends that stream and nothing else."""

    async def play(client: Client, msg: Msg) -> None:
        await client.publish(msg.reply, OPENED)
        await client.publish(msg.reply, b"\xff garbage")

    async with playing(world, play):
        with pytest.raises(TransientFault) as caught:
            await read(world)
    assert caught.value.code == "stream-cut"


async def test_a_repeated_frame_is_a_cut(world: NatsWorld) -> None:
    """Two answers that mix in one inbox are never spliced."""

    async def play(client: Client, msg: Msg) -> None:
        await client.publish(msg.reply, OPENED)
        await client.publish(msg.reply, OPENED)

    async with playing(world, play):
        with pytest.raises(TransientFault) as caught:
            await read(world)
    assert caught.value.code == "stream-cut"


async def test_pings_keep_a_thinking_answer_alive(world: NatsWorld) -> None:
    """Longer silence than the idle limit is no cut while pings come."""

    async def answer(request: CompletionRequest, _: Delivery, sink: FrameSink) -> None:
        await sink.send(Opened(completion_id=request.completion_id, instance="i"))
        await world.clock.sleep(1.5)
        await sink.send(failed())

    broker = world.build(Service.AI_BROKER, ping_interval_s=0.2)
    await broker.connect()
    await broker.subscribe(AnswerInFrames(COMPLETE, CompletionRequest, answer))
    found = await read(world, idle_limit_s=0.6)
    assert isinstance(found[-1], Failed)
    assert [frame.number for frame in found] == list(range(len(found)))
    assert 4 <= sum(isinstance(frame, Ping) for frame in found) <= 9


async def test_a_slow_reader_loses_its_own_stream_only(world: NatsWorld) -> None:
    """Its buffer is bounded; a neighbour's answer comes whole."""

    async def answer(request: CompletionRequest, _: Delivery, sink: FrameSink) -> None:
        await sink.send(Opened(completion_id=request.completion_id, instance="i"))
        for number in range(20):
            await sink.send(TextDelta(part=0, text=str(number)))
            await world.clock.sleep(0.01)
        await sink.send(failed())

    await world.bus(
        Service.AI_BROKER, AnswerInFrames(COMPLETE, CompletionRequest, answer)
    )
    caller = world.build(Service.GATEWAY, frames_buffered_max=10)
    await caller.connect()
    request = completion_request(world)
    async with caller.complete(request) as slow, caller.complete(request) as quick:
        whole = [frame async for frame in quick]
        with pytest.raises(TransientFault) as caught:
            _ = [frame async for frame in slow]
    assert caught.value.code == "stream-cut"
    assert len(whole) == 22


async def test_stopping_a_broker_ends_its_answers_explicitly(world: NatsWorld) -> None:
    """What outlasts the drain ends in ``Failed``, retryable, not in silence."""

    async def answer(request: CompletionRequest, _: Delivery, sink: FrameSink) -> None:
        await sink.send(Opened(completion_id=request.completion_id, instance="i"))
        await asyncio.Event().wait()

    broker = world.build(Service.AI_BROKER, drain_s=0.2)
    await broker.connect()
    await broker.subscribe(AnswerInFrames(COMPLETE, CompletionRequest, answer))
    caller = await world.bus(Service.GATEWAY)
    async with caller.complete(completion_request(world)) as frames:
        reading = aiter(frames)
        assert isinstance(await anext(reading), Opened)
        await world.stop(broker)
        end = [frame async for frame in reading][-1]
    assert isinstance(end, Failed)
    assert end.error.retryable


async def test_inboxes_are_forgotten(world: NatsWorld) -> None:
    """A thousand completions leave no subscription and no entry behind."""

    async def answer(_: CompletionRequest, __: Delivery, sink: FrameSink) -> None:
        await sink.send(failed())

    await world.bus(
        Service.AI_BROKER, AnswerInFrames(COMPLETE, CompletionRequest, answer)
    )
    caller = await world.bus(Service.GATEWAY)
    before = caller.open_completions
    for _ in range(200):
        async with caller.complete(completion_request(world)) as frames:
            _ = [frame async for frame in frames]
    assert caller.open_completions == before == 0


async def test_a_cancel_follows_a_take_over(world: NatsWorld) -> None:
    """A second ``Opened`` names the new owner, and a cancel goes to it."""
    cancelled = asyncio.Event()
    second = Opened(number=1, completion_id="step_1:0", instance="instance_c").encode()

    async def play(client: Client, msg: Msg) -> None:
        async def on_cancel(_: Msg) -> None:
            cancelled.set()

        await client.subscribe(  # pyright: ignore[reportUnknownMemberType]
            cancel_completion("instance_c"), cb=on_cancel
        )
        await client.flush()
        await client.publish(msg.reply, OPENED)
        await client.publish(msg.reply, second)

    async with playing(world, play):
        caller = world.build(Service.GATEWAY)
        await caller.connect()
        async with caller.complete(completion_request(world)) as frames:
            reader = aiter(frames)
            await anext(reader)
            await anext(reader)
            await frames.cancel()
            async with asyncio.timeout(5):
                await cancelled.wait()
    assert cancelled.is_set()
