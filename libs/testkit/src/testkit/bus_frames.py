"""What every bus promises of answers in frames: numbered, ended, cancellable."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest

from contracts.completions import CompletionRequest
from contracts.embeddings import EmbeddingRequest
from contracts.frames import (
    CancelCompletion,
    Failed,
    Frame,
    Opened,
    TextDelta,
    VectorsDelta,
)
from contracts.problems import Code
from contracts.subjects import COMPLETE, EMBED, Service, cancel_completion
from faults import DeadlineExceeded, PermanentFault, TransientFault
from messaging.bus import Bus, Delivery
from messaging.subscriptions import AnswerInFrames, FrameSink, Hear, Subscription
from testkit.bus_world import BusWorld, completion_request, failed, until


class FramePromises:
    """Answers in frames: numbered, ended, cancellable, never cut in silence."""

    async def test_frames_arrive_numbered_and_in_order(self, world: BusWorld) -> None:
        """Numbers count from 0 without gaps, and the end ends the reading."""

        async def answer(
            request: CompletionRequest, _: Delivery, sink: FrameSink
        ) -> None:
            await sink.send(_opened(request))
            for number in range(5):
                await sink.send(TextDelta(part=0, text=str(number)))
            await sink.send(failed())

        await _broker(world, answer)
        found = await _complete(world)
        assert [frame.number for frame in found] == list(range(7))
        texts = [frame.text for frame in found if isinstance(frame, TextDelta)]
        assert texts == ["0", "1", "2", "3", "4"]
        assert isinstance(found[-1], Failed)

    async def test_no_broker_is_a_transient_fault_at_once(
        self, world: BusWorld
    ) -> None:
        """Nobody listening is told long before the deadline."""
        began_s = world.clock.monotonic()
        with pytest.raises(TransientFault) as caught:
            await _complete(world)
        assert not isinstance(caught.value, DeadlineExceeded)
        assert world.clock.monotonic() - began_s < 2

    async def test_an_answer_without_an_end_gets_one(self, world: BusWorld) -> None:
        """A handler that returns too early ends in ``Failed``, not in silence."""

        async def answer(
            request: CompletionRequest, _: Delivery, sink: FrameSink
        ) -> None:
            await sink.send(_opened(request))

        await _broker(world, answer)
        end = (await _complete(world))[-1]
        assert isinstance(end, Failed)
        assert end.error.problem.code == Code.INTERNAL

    async def test_an_answer_that_raises_gets_an_end(self, world: BusWorld) -> None:
        """A fault in the handler is the end frame's error."""

        async def answer(
            request: CompletionRequest, _: Delivery, sink: FrameSink
        ) -> None:
            await sink.send(_opened(request))
            raise PermanentFault("the model is unknown", code="model-unknown")

        await _broker(world, answer)
        end = (await _complete(world))[-1]
        assert isinstance(end, Failed)
        assert end.error.problem.code == Code.MODEL_UNKNOWN

    async def test_a_silent_answer_passes_its_deadline(self, world: BusWorld) -> None:
        """The request's deadline ends the waiting, pings or not."""
        release = asyncio.Event()

        async def answer(
            request: CompletionRequest, _: Delivery, sink: FrameSink
        ) -> None:
            await sink.send(_opened(request))
            await release.wait()

        await _broker(world, answer)
        with pytest.raises(DeadlineExceeded):
            await _complete(world, within_s=0.3)
        release.set()

    async def test_a_full_broker_says_so_at_once(self, world: BusWorld) -> None:
        """Above its concurrency a replica answers ``overloaded``."""
        release = asyncio.Event()

        async def answer(
            request: CompletionRequest, _: Delivery, sink: FrameSink
        ) -> None:
            await sink.send(_opened(request))
            await release.wait()
            await sink.send(failed())

        await _broker(world, answer, concurrency=1)
        caller = await world.bus(Service.GATEWAY)
        async with caller.complete(completion_request(world)) as first:
            frames = aiter(first)
            assert isinstance(await anext(frames), Opened)
            with pytest.raises(TransientFault) as caught:
                await _complete(world)
            assert caught.value.code == "overloaded"
            release.set()
            assert isinstance([frame async for frame in frames][-1], Failed)

    async def test_a_cancel_reaches_the_answering_replica(
        self, world: BusWorld
    ) -> None:
        """It goes to the instance that the first frame named, once."""
        cancelled: list[CancelCompletion] = []
        stop = asyncio.Event()

        async def hear(message: CancelCompletion) -> None:
            cancelled.append(message)
            stop.set()

        async def answer(
            request: CompletionRequest, _: Delivery, sink: FrameSink
        ) -> None:
            await sink.send(_opened(request))
            await stop.wait()
            await sink.send(failed())

        hearing = Hear(cancel_completion("instance_b"), CancelCompletion, hear)
        await _broker(world, answer, hearing)
        caller = await world.bus(Service.GATEWAY)
        async with caller.complete(completion_request(world)) as frames:
            reading = aiter(frames)
            assert isinstance(await anext(reading), Opened)
            await frames.cancel()
            await frames.cancel()
            assert isinstance([frame async for frame in reading][-1], Failed)
        assert [each.completion_id for each in cancelled] == ["step_1:0"]

    async def test_a_cancel_before_the_first_frame_is_remembered(
        self, world: BusWorld
    ) -> None:
        """It is sent as soon as the replica is known, though nobody reads on."""
        cancelled: list[str] = []
        asked, go = asyncio.Event(), asyncio.Event()

        async def hear(message: CancelCompletion) -> None:
            cancelled.append(message.completion_id)

        async def answer(
            request: CompletionRequest, _: Delivery, sink: FrameSink
        ) -> None:
            asked.set()
            await go.wait()
            await sink.send(_opened(request))
            await sink.send(failed())

        hearing = Hear(cancel_completion("instance_b"), CancelCompletion, hear)
        await _broker(world, answer, hearing)
        caller = await world.bus(Service.GATEWAY)
        async with caller.complete(completion_request(world)) as frames:
            await asked.wait()
            await frames.cancel()
        go.set()
        await until(world.clock, lambda: bool(cancelled))
        assert cancelled == ["step_1:0"]

    async def test_vectors_have_a_subject_of_their_own(self, world: BusWorld) -> None:
        """An embeddings request goes to its verb; its frames come like any others."""
        vectors = tuple(bytes([place]) * 4 for place in range(3))

        async def answer(
            request: EmbeddingRequest, delivery: Delivery, sink: FrameSink
        ) -> None:
            assert delivery.tenant == request.tenant == "acme"
            assert request.inputs == ("red", "blue", "green")
            await sink.send(
                Opened(completion_id=request.completion_id, instance="instance_b")
            )
            await sink.send(VectorsDelta(first=0, vectors=vectors))
            await sink.send(failed())

        await world.bus(
            Service.AI_BROKER, AnswerInFrames(EMBED, EmbeddingRequest, answer)
        )
        caller = await world.bus(Service.GATEWAY)
        request = EmbeddingRequest(
            completion_id="embed:1",
            tenant="acme",
            model="m",
            inputs=("red", "blue", "green"),
            deadline=world.clock.now() + timedelta(seconds=60),
        )
        async with caller.complete(request) as frames:
            found = [frame async for frame in frames]
        assert [frame.number for frame in found] == [0, 1, 2]
        assert isinstance(found[1], VectorsDelta)
        assert found[1].vectors == vectors


Answering = Callable[[CompletionRequest, Delivery, FrameSink], Awaitable[None]]


async def _broker(
    world: BusWorld,
    answer: Answering,
    *others: Subscription,
    concurrency: int = 512,
) -> Bus:
    framed = AnswerInFrames(
        COMPLETE, CompletionRequest, answer, concurrency=concurrency
    )
    return await world.bus(Service.AI_BROKER, framed, *others)


async def _complete(world: BusWorld, *, within_s: float = 60.0) -> list[Frame]:
    caller = await world.bus(Service.GATEWAY)
    request = completion_request(world, within_s=within_s)
    async with caller.complete(request) as frames:
        return [frame async for frame in frames]


def _opened(request: CompletionRequest) -> Opened:
    return Opened(completion_id=request.completion_id, instance="instance_b")
