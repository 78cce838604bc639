"""
What every bus promises; the real and the simulated one pass the same tests.

Subclass ``BusSuite`` in a test module and lend a fixture ``world`` that makes
buses on one network. Tests wait for conditions on the world's clock.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Protocol

import pytest

from contracts.completions import ChatTurn, CompletionRequest, Role, TextPart
from contracts.deadletters import ListDeadLetters
from contracts.delivery import Missing, MissingReply, Nothing
from contracts.frames import (
    CancelCompletion,
    Failed,
    Frame,
    Opened,
    TextDelta,
)
from contracts.message import Message
from contracts.problems import Code, ErrorEnvelope, problem
from contracts.steps import CancelStep
from contracts.subjects import (
    CANCEL_STEP,
    COMPLETE,
    Service,
    cancel_completion,
    dead_letters,
    live,
    missing,
)
from determinism import Clock
from faults import DeadlineExceeded, PermanentFault, TransientFault
from messaging.bus import Bus, Delivery, Outgoing
from messaging.refusals import Refused, refuse
from messaging.subscriptions import (
    Answer,
    AnswerInFrames,
    FrameSink,
    Hear,
    Subscription,
    Work,
)

TENANT = "acme"
PATIENCE_S = 20.0
LOOK_S = 0.02
RECEIVER = Service.AGENT_RUNTIME


class Letter(Protocol):
    """What a test reads of a dead letter."""

    @property
    def message_id(self) -> str:
        """The message's id."""
        ...

    @property
    def reason(self) -> str:
        """Why it was given up."""
        ...


class BusWorld(Protocol):
    """A network that buses of several services share."""

    clock: Clock
    """What the buses wait on."""
    bug_tries: int
    """How often a bug is tried before its message becomes a dead letter."""

    async def bus(
        self, service: Service, *subscriptions: Subscription
    ) -> "BusWithInstance":
        """Return a connected, subscribed bus of one more process of a service."""
        ...

    def letters(self, service: Service) -> tuple[Letter, ...]:
        """Return the service's dead letters."""
        ...

    async def stop(self, bus: Bus) -> None:
        """Drain one process and disconnect it."""
        ...

    async def inject(self, subject: str, body: bytes) -> None:
        """Publish raw bytes on a concrete subject, without headers."""
        ...


BusWithInstance = Bus


async def until(clock: Clock, condition: Callable[[], bool]) -> None:
    """Wait for a condition; fail when it does not come."""
    for _ in range(int(PATIENCE_S / LOOK_S)):
        if condition():
            return
        await clock.sleep(LOOK_S)
    raise AssertionError("the condition did not come within its deadline")


def work_message(number: int, tenant: str = TENANT) -> CancelStep:
    """Return a small work message."""
    return CancelStep(
        tenant=tenant, task_id=f"task_{number}", step_id=f"step_{number}", reason="x"
    )


def outgoing(number: int, *, send: int = 0, body: bytes | None = None) -> Outgoing:
    """Return the work message on its way, with an id derived from its number."""
    return Outgoing(
        address=CANCEL_STEP.to(TENANT),
        message_id=f"message_{number}",
        send=send,
        body=work_message(number).encode() if body is None else body,
        task_key=f"task_{number}",
    )


def completion_request(world: BusWorld, *, within_s: float = 60.0) -> CompletionRequest:
    """Return a question to a model."""
    return CompletionRequest(
        completion_id="step_1:0",
        tenant=TENANT,
        model="smart",
        turns=(ChatTurn(role=Role.USER, parts=(TextPart(text="hello"),)),),
        deadline=world.clock.now() + timedelta(seconds=within_s),
    )


def failed(code: Code = Code.CANCELLED) -> Failed:
    """Return an end frame; ``Finished`` would only need a longer builder."""
    return Failed(error=ErrorEnvelope(problem=problem(code, "the end")))


async def ignore(_: Message, __: Delivery) -> None:
    """Process a message by doing nothing."""


class WorkPromises:
    """Durable messages: delivered, settled, redelivered, given up."""

    async def test_a_published_message_reaches_its_handler(
        self, world: BusWorld
    ) -> None:
        """The body, the tenant and the message id arrive as they were sent."""
        seen: list[tuple[CancelStep, Delivery]] = []

        async def handle(message: CancelStep, delivery: Delivery) -> None:
            seen.append((message, delivery))

        await world.bus(RECEIVER, Work(CANCEL_STEP, CancelStep, handle))
        sender = await world.bus(Service.ORCHESTRATOR)
        await sender.publish(outgoing(1))
        await until(world.clock, lambda: bool(seen))
        message, delivery = seen[0]
        assert message == work_message(1)
        assert delivery.message_id == "message_1"
        assert delivery.tenant == TENANT
        assert delivery.deliveries == 1

    async def test_messages_wait_for_their_receiver(self, world: BusWorld) -> None:
        """What is published while no receiver runs is delivered when one does."""
        seen: list[str] = []

        async def handle(_: CancelStep, delivery: Delivery) -> None:
            seen.append(delivery.message_id)

        first = await world.bus(RECEIVER, Work(CANCEL_STEP, CancelStep, ignore))
        await world.stop(first)
        sender = await world.bus(Service.ORCHESTRATOR)
        await sender.publish(outgoing(2))
        await world.bus(RECEIVER, Work(CANCEL_STEP, CancelStep, handle))
        await until(world.clock, lambda: seen == ["message_2"])

    async def test_a_transient_fault_is_redelivered_with_its_delay(
        self, world: BusWorld
    ) -> None:
        """The same message comes again, not before the delay that was asked for."""
        times_s: list[float] = []

        async def handle(_: CancelStep, __: Delivery) -> None:
            times_s.append(world.clock.monotonic())
            if len(times_s) == 1:
                raise TransientFault("the store is away", retry_after_s=0.4)

        await world.bus(RECEIVER, Work(CANCEL_STEP, CancelStep, handle))
        sender = await world.bus(Service.ORCHESTRATOR)
        await sender.publish(outgoing(3))
        await until(world.clock, lambda: len(times_s) == 2)
        assert times_s[1] - times_s[0] >= 0.38

    async def test_a_transient_fault_never_exhausts_deliveries(
        self, world: BusWorld
    ) -> None:
        """More transient faults than a bug has tries still end in success."""
        tries = 0

        async def handle(_: CancelStep, __: Delivery) -> None:
            nonlocal tries
            tries += 1
            if tries <= world.bug_tries + 2:
                raise TransientFault("the store is away", retry_after_s=0.01)

        await world.bus(RECEIVER, Work(CANCEL_STEP, CancelStep, handle))
        sender = await world.bus(Service.ORCHESTRATOR)
        await sender.publish(outgoing(4))
        await until(world.clock, lambda: tries == world.bug_tries + 3)
        assert world.letters(RECEIVER) == ()

    async def test_a_permanent_fault_becomes_a_dead_letter(
        self, world: BusWorld
    ) -> None:
        """It is tried once and kept with the fault's code."""
        tries = 0

        async def handle(_: CancelStep, __: Delivery) -> None:
            nonlocal tries
            tries += 1
            raise PermanentFault("this can never work", code="not-found")

        await world.bus(RECEIVER, Work(CANCEL_STEP, CancelStep, handle))
        sender = await world.bus(Service.ORCHESTRATOR)
        await sender.publish(outgoing(5))
        await until(world.clock, lambda: bool(world.letters(RECEIVER)))
        letter = world.letters(RECEIVER)[0]
        assert (letter.message_id, letter.reason) == ("message_5", "not-found")
        assert tries == 1

    async def test_a_bug_is_retried_then_becomes_a_dead_letter(
        self, world: BusWorld
    ) -> None:
        """An exception loses nothing: it is tried up to the limit, then kept."""
        tries = 0

        async def handle(_: CancelStep, __: Delivery) -> None:
            nonlocal tries
            tries += 1
            raise ZeroDivisionError

        await world.bus(RECEIVER, Work(CANCEL_STEP, CancelStep, handle))
        sender = await world.bus(Service.ORCHESTRATOR)
        await sender.publish(outgoing(6))
        await until(world.clock, lambda: bool(world.letters(RECEIVER)))
        assert world.letters(RECEIVER)[0].reason == "internal-error"
        assert tries == world.bug_tries

    async def test_garbage_becomes_a_dead_letter(self, world: BusWorld) -> None:
        """Bytes that are no message are kept with a reason; others go on."""
        seen: list[str] = []

        async def handle(_: CancelStep, delivery: Delivery) -> None:
            seen.append(delivery.message_id)

        await world.bus(RECEIVER, Work(CANCEL_STEP, CancelStep, handle))
        sender = await world.bus(Service.ORCHESTRATOR)
        await sender.publish(outgoing(7, body=b"\xff\x00{{{"))
        await sender.publish(outgoing(8))
        await until(world.clock, lambda: bool(world.letters(RECEIVER)) and bool(seen))
        assert world.letters(RECEIVER)[0].reason == "invalid"
        assert seen == ["message_8"]

    async def test_a_message_for_another_tenant_becomes_a_dead_letter(
        self, world: BusWorld
    ) -> None:
        """Nobody writes into another tenant by naming it in the body."""
        await world.bus(RECEIVER, Work(CANCEL_STEP, CancelStep, ignore))
        sender = await world.bus(Service.ORCHESTRATOR)
        body = work_message(9, tenant="globex").encode()
        await sender.publish(outgoing(9, body=body))
        await until(world.clock, lambda: bool(world.letters(RECEIVER)))
        assert world.letters(RECEIVER)[0].reason == "forbidden"

    async def test_a_resend_passes_deduplication(self, world: BusWorld) -> None:
        """The same send is stored once; the next send of the same id is delivered."""
        seen: list[str] = []

        async def handle(_: CancelStep, delivery: Delivery) -> None:
            seen.append(delivery.message_id)

        await world.bus(RECEIVER, Work(CANCEL_STEP, CancelStep, handle))
        sender = await world.bus(Service.ORCHESTRATOR)
        await sender.publish(outgoing(10))
        await sender.publish(outgoing(10))
        await sender.publish(outgoing(10, send=1))
        await sender.publish(outgoing(11))
        await until(world.clock, lambda: "message_11" in seen)
        await until(world.clock, lambda: seen.count("message_10") == 2)

    async def test_handlers_run_at_most_as_many_as_workers(
        self, world: BusWorld
    ) -> None:
        """Concurrency is bounded per process, whatever waits in the stream."""
        running, most, done = 0, 0, 0

        async def handle(_: CancelStep, __: Delivery) -> None:
            nonlocal running, most, done
            running += 1
            most = max(most, running)
            await world.clock.sleep(0.05)
            running -= 1
            done += 1

        await world.bus(RECEIVER, Work(CANCEL_STEP, CancelStep, handle, workers=3))
        sender = await world.bus(Service.ORCHESTRATOR)
        for number in range(100, 112):
            await sender.publish(outgoing(number))
        await until(world.clock, lambda: done == 12)
        assert most == 3

    async def test_an_oversized_message_is_refused(self, world: BusWorld) -> None:
        """Too much is a permanent fault, and the bus works on."""
        seen: list[str] = []

        async def handle(_: CancelStep, delivery: Delivery) -> None:
            seen.append(delivery.message_id)

        await world.bus(RECEIVER, Work(CANCEL_STEP, CancelStep, handle))
        sender = await world.bus(Service.ORCHESTRATOR)
        with pytest.raises(PermanentFault) as caught:
            await sender.publish(outgoing(12, body=b"x" * (1024 * 1024 - 100)))
        assert caught.value.code == "too-large"
        await sender.publish(outgoing(13))
        await until(world.clock, lambda: seen == ["message_13"])


class RequestPromises:
    """Requests: answered once, or an error that says why."""

    async def test_a_request_is_answered(self, world: BusWorld) -> None:
        """The reply that the handler returned comes back."""

        async def answer(request: Missing, _: Delivery) -> MissingReply:
            return MissingReply(missing=request.message_ids[:1])

        await world.bus(RECEIVER, Answer(missing(RECEIVER), Missing, answer))
        asker = await world.bus(Service.ORCHESTRATOR)
        reply = await asker.request(
            missing(RECEIVER).to(None),
            Missing(message_ids=("a", "b")),
            MissingReply,
            timeout_s=5,
        )
        assert reply.missing == ("a",)

    async def test_nobody_listening_is_told_at_once(self, world: BusWorld) -> None:
        """No responders is a transient fault, long before the timeout."""
        asker = await world.bus(Service.ORCHESTRATOR)
        began_s = world.clock.monotonic()
        with pytest.raises(TransientFault) as caught:
            await _ask_nothing(asker)
        assert not isinstance(caught.value, DeadlineExceeded)
        assert world.clock.monotonic() - began_s < 2

    async def test_silence_is_a_deadline(self, world: BusWorld) -> None:
        """A handler that takes too long for its asker is DeadlineExceeded there."""

        async def answer(_: Missing, __: Delivery) -> MissingReply:
            await world.clock.sleep(1.0)
            return MissingReply(missing=())

        await world.bus(RECEIVER, Answer(missing(RECEIVER), Missing, answer))
        asker = await world.bus(Service.ORCHESTRATOR)
        with pytest.raises(DeadlineExceeded):
            await _ask_nothing(asker, timeout_s=0.2)

    async def test_a_refusal_comes_back_as_it_is(self, world: BusWorld) -> None:
        """The asker reads the code and the detail of the refusal."""

        async def answer(_: Missing, __: Delivery) -> MissingReply:
            raise refuse(Code.NOT_FOUND, "there is no such thing")

        await world.bus(RECEIVER, Answer(missing(RECEIVER), Missing, answer))
        asker = await world.bus(Service.ORCHESTRATOR)
        with pytest.raises(Refused) as caught:
            await _ask_nothing(asker)
        assert caught.value.envelope.problem.code == Code.NOT_FOUND
        assert caught.value.envelope.problem.detail == "there is no such thing"

    async def test_faults_and_bugs_become_envelopes(self, world: BusWorld) -> None:
        """A fault keeps its code; a bug is internal-error without its text."""
        faults: list[Exception] = [
            TransientFault("away", retry_after_s=3),
            PermanentFault("never", code="conflict"),
            ZeroDivisionError("a secret"),
        ]

        async def answer(_: Missing, __: Delivery) -> MissingReply:
            raise faults.pop(0)

        await world.bus(RECEIVER, Answer(missing(RECEIVER), Missing, answer))
        asker = await world.bus(Service.ORCHESTRATOR)
        found: list[ErrorEnvelope] = []
        for _ in range(3):
            with pytest.raises(Refused) as caught:
                await _ask_nothing(asker)
            found.append(caught.value.envelope)
        codes = [each.problem.code for each in found]
        assert codes == [Code.UNAVAILABLE, Code.CONFLICT, Code.INTERNAL]
        assert [each.retryable for each in found] == [True, False, False]
        assert found[0].retry_after_s == 3
        assert "secret" not in found[2].problem.detail

    async def test_a_bad_body_is_refused_with_its_fields(self, world: BusWorld) -> None:
        """A request that does not decode is answered ``invalid``, at once."""

        async def answer(_: Missing, __: Delivery) -> MissingReply:
            return MissingReply(missing=())

        await world.bus(RECEIVER, Answer(missing(RECEIVER), Missing, answer))
        asker = await world.bus(Service.ORCHESTRATOR)
        with pytest.raises(Refused) as caught:
            await asker.request(
                missing(RECEIVER).to(None), Nothing(), MissingReply, timeout_s=5
            )
        found = caught.value.envelope.problem
        assert found.code == Code.INVALID
        assert found.errors[0].pointer == "/message_ids"

    async def test_another_tenants_name_in_the_body_is_forbidden(
        self, world: BusWorld
    ) -> None:
        """The body's tenant must be the subject's; operators use the platform's."""
        asked: list[str | None] = []

        async def answer(request: ListDeadLetters, _: Delivery) -> Nothing:
            asked.append(request.tenant)
            return Nothing()

        verb = dead_letters(RECEIVER)
        await world.bus(RECEIVER, Answer(verb, ListDeadLetters, answer))
        asker = await world.bus(Service.GATEWAY)
        for named in ("globex", None):
            with pytest.raises(Refused) as caught:
                await asker.request(
                    verb.to(TENANT), ListDeadLetters(tenant=named), Nothing, timeout_s=5
                )
            assert caught.value.envelope.problem.code == Code.FORBIDDEN
        for address, named in ((verb.to(TENANT), TENANT), (verb.to(None), "globex")):
            request = ListDeadLetters(tenant=named)
            await asker.request(address, request, Nothing, timeout_s=5)
        assert asked == [TENANT, "globex"]

    async def test_a_full_replica_says_so_at_once(self, world: BusWorld) -> None:
        """Above its concurrency a replica answers ``overloaded``, retryable."""
        release = asyncio.Event()

        async def answer(_: Missing, __: Delivery) -> MissingReply:
            await release.wait()
            return MissingReply(missing=())

        await world.bus(
            RECEIVER, Answer(missing(RECEIVER), Missing, answer, concurrency=1)
        )
        asker = await world.bus(Service.ORCHESTRATOR)
        async with asyncio.TaskGroup() as group:
            first = group.create_task(_ask_nothing(asker))
            await world.clock.sleep(0.2)
            with pytest.raises(Refused) as caught:
                await _ask_nothing(asker)
            release.set()
        assert caught.value.envelope.problem.code == Code.OVERLOADED
        assert caught.value.envelope.retryable
        assert first.result().missing == ()

    async def test_an_oversized_reply_becomes_an_error(self, world: BusWorld) -> None:
        """The asker reads ``too-large`` instead of waiting for nothing."""

        async def answer(_: Missing, __: Delivery) -> MissingReply:
            return MissingReply(missing=("x" * 160,) * 7000)

        await world.bus(RECEIVER, Answer(missing(RECEIVER), Missing, answer))
        asker = await world.bus(Service.ORCHESTRATOR)
        with pytest.raises(Refused) as caught:
            await _ask_nothing(asker)
        assert caught.value.envelope.problem.code == Code.TOO_LARGE

    async def test_replicas_share_requests(self, world: BusWorld) -> None:
        """Each request is answered once, by one of the replicas."""
        answered: list[str] = []

        def answer_as(
            name: str,
        ) -> Callable[[Missing, Delivery], "asyncio.Future[MissingReply]"]:
            async def answer(_: Missing, __: Delivery) -> MissingReply:
                answered.append(name)
                return MissingReply(missing=())

            return answer  # type: ignore[return-value]

        for name in ("one", "two"):
            await world.bus(
                RECEIVER, Answer(missing(RECEIVER), Missing, answer_as(name))
            )
        asker = await world.bus(Service.ORCHESTRATOR)
        for _ in range(20):
            await _ask_nothing(asker)
        assert len(answered) == 20

    async def test_stopping_answers_what_had_arrived(self, world: BusWorld) -> None:
        """Draining a replica loses none of the requests that it was sent."""

        async def answer(_: Missing, __: Delivery) -> MissingReply:
            await world.clock.sleep(0.2)
            return MissingReply(missing=())

        first = await world.bus(RECEIVER, Answer(missing(RECEIVER), Missing, answer))
        await world.bus(RECEIVER, Answer(missing(RECEIVER), Missing, answer))
        asker = await world.bus(Service.ORCHESTRATOR)
        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(_ask_nothing(asker)) for _ in range(40)]
            await world.clock.sleep(0.05)
            await world.stop(first)
            asked += [group.create_task(_ask_nothing(asker)) for _ in range(10)]
        assert all(each.result().missing == () for each in asked)


class BellPromises:
    """Core subjects: heard by all who listen, lost without harm."""

    async def test_an_announcement_is_heard_by_every_replica(
        self, world: BusWorld
    ) -> None:
        """Each process that hears a subject hears the message."""
        heard: list[str] = []

        async def hear(message: CancelCompletion) -> None:
            heard.append(message.completion_id)

        subject = cancel_completion("instance_x")
        for _ in range(2):
            await world.bus(Service.AI_BROKER, Hear(subject, CancelCompletion, hear))
        sender = await world.bus(Service.GATEWAY)
        message = CancelCompletion(tenant=TENANT, completion_id="c1")
        await sender.announce(subject, message)
        await until(world.clock, lambda: heard == ["c1", "c1"])

    async def test_hearing_survives_garbage_and_bugs(self, world: BusWorld) -> None:
        """What does not decode, or fails, is dropped; the next is heard."""
        heard: list[str] = []

        async def hear(message: CancelCompletion) -> None:
            if message.completion_id == "bad":
                raise ZeroDivisionError
            heard.append(message.completion_id)

        subject = cancel_completion("instance_y")
        await world.bus(Service.AI_BROKER, Hear(subject, CancelCompletion, hear))
        sender = await world.bus(Service.GATEWAY)
        await world.inject(subject, b"\xff garbage")
        for name in ("bad", "good"):
            message = CancelCompletion(tenant=TENANT, completion_id=name)
            await sender.announce(subject, message)
        await until(world.clock, lambda: heard == ["good"])

    async def test_a_watch_hears_while_it_is_open(self, world: BusWorld) -> None:
        """Deltas arrive in order; what does not decode is dropped."""
        sender = await world.bus(Service.AGENT_RUNTIME)
        watcher = await world.bus(Service.GATEWAY)
        subject = live(TENANT, "task_1")
        async with watcher.watch(subject, TextDelta) as deltas:
            await world.inject(subject, b"garbage")
            for number in range(3):
                await sender.announce(subject, TextDelta(part=0, text=str(number)))
            found = [(await anext(deltas)).text for _ in range(3)]
        assert found == ["0", "1", "2"]


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
        await until(world.clock, lambda: cancelled == ["step_1:0"])


class BusSuite(WorkPromises, RequestPromises, BellPromises, FramePromises):
    """Everything that every bus promises."""


Answering = Callable[[CompletionRequest, Delivery, FrameSink], "asyncio.Future[None]"]


async def _broker(
    world: BusWorld,
    answer: object,
    *others: Subscription,
    concurrency: int = 512,
) -> Bus:
    framed = AnswerInFrames(
        COMPLETE,
        CompletionRequest,
        answer,  # type: ignore[arg-type]
        concurrency=concurrency,
    )
    return await world.bus(Service.AI_BROKER, framed, *others)


async def _complete(world: BusWorld, *, within_s: float = 60.0) -> list[Frame]:
    caller = await world.bus(Service.GATEWAY)
    request = completion_request(world, within_s=within_s)
    async with caller.complete(request) as frames:
        return [frame async for frame in _each(frames)]


async def _each(frames: AsyncIterator[Frame] | object) -> AsyncIterator[Frame]:
    async for frame in frames:  # type: ignore[attr-defined]
        yield frame


def _opened(request: CompletionRequest) -> Opened:
    return Opened(completion_id=request.completion_id, instance="instance_b")


async def _ask_nothing(asker: Bus, *, timeout_s: float = 10.0) -> MissingReply:
    return await asker.request(
        missing(RECEIVER).to(None),
        Missing(message_ids=("a",)),
        MissingReply,
        timeout_s=timeout_s,
    )
