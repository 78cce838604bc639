"""Everything that services do on the bus works within their own permissions."""

import asyncio
from datetime import timedelta

from contracts.completions import ChatTurn, CompletionRequest, Role, TextPart
from contracts.deadletters import DeadLetterPage, ListDeadLetters
from contracts.delivery import Missing, MissingReply, Nothing
from contracts.frames import CancelCompletion, Failed, Opened, TextDelta
from contracts.message import Message
from contracts.subjects import (
    COMPLETE,
    SUBMIT,
    Service,
    cancel_completion,
    dead_letter_notice,
    dead_letters,
    live,
    missing,
    task_changed,
)
from determinism import SystemClock
from messaging.bus import Delivery, Outgoing
from messaging.nats_bus import NatsBus
from messaging.subscriptions import (
    Answer,
    AnswerInFrames,
    Events,
    ForeignEvent,
    FrameSink,
    Hear,
    Subscription,
    Work,
)
from testkit.bus_world import failed, until
from testkit.secured_nats import Secured

CLOCK = SystemClock()


async def running(secured: Secured, service: Service, *subs: Subscription) -> NatsBus:
    """Return a service's subscribed bus, under its own user."""
    bus = secured.bus(service)
    await bus.connect()
    async with asyncio.timeout(15):
        await bus.subscribe(*subs)
    return bus


async def close(*buses: NatsBus) -> None:
    """Close them, and see that nothing was refused to any."""
    refused = [bus.counters.permission_violations for bus in buses]
    for bus in buses:
        await bus.close()
    assert refused == [0] * len(buses)


async def test_work_is_pulled_and_asked_about(reconciled: Secured) -> None:
    """Publish with PubAck, pull from the durable, ack, and ask what is missing."""
    seen: list[str] = []

    async def handle(_: Message, delivery: Delivery) -> None:
        seen.append(delivery.message_id)

    async def tell(request: Missing, _: Delivery) -> MissingReply:
        lacking = (key for key in request.message_ids if key not in seen)
        return MissingReply(missing=tuple(lacking))

    asked = missing(Service.ORCHESTRATOR)
    orchestrator = await running(
        reconciled,
        Service.ORCHESTRATOR,
        Work(SUBMIT, Nothing, handle),
        Answer(asked, Missing, tell),
    )
    gateway = await running(reconciled, Service.GATEWAY)
    await gateway.publish(Outgoing(SUBMIT.to("acme"), "message_1", 0, b"{}"))
    await until(CLOCK, lambda: seen == ["message_1"])
    question = Missing(message_ids=("message_1", "message_2"))
    reply = await gateway.request(asked.to(None), question, MissingReply, timeout_s=5)
    assert reply.missing == ("message_2",)
    await close(orchestrator, gateway)


async def test_completions_flow_and_are_cancelled(reconciled: Secured) -> None:
    """Frames reach both callers' inboxes, and their cancels reach the replica."""
    cancelled: list[str] = []

    async def answer(request: CompletionRequest, _: Delivery, sink: FrameSink) -> None:
        name = request.completion_id
        await sink.send(Opened(completion_id=name, instance=broker_id))
        while name not in cancelled:
            await sink.send(TextDelta(part=0, text="."))
            await CLOCK.sleep(0.02)
        await sink.send(failed())

    async def hear(message: CancelCompletion) -> None:
        cancelled.append(message.completion_id)

    broker = reconciled.bus(Service.AI_BROKER)
    broker_id = broker.instance
    await broker.connect()
    await broker.subscribe(
        AnswerInFrames(COMPLETE, CompletionRequest, answer),
        Hear(cancel_completion(broker_id), CancelCompletion, hear),
    )
    buses = [broker]
    for service in (Service.GATEWAY, Service.AGENT_RUNTIME):
        caller = await running(reconciled, service)
        buses.append(caller)
        request = CompletionRequest(
            completion_id=f"by-{service}",
            tenant="acme",
            model="smart",
            turns=(ChatTurn(role=Role.USER, parts=(TextPart(text="hello"),)),),
            deadline=CLOCK.now() + timedelta(seconds=20),
        )
        async with caller.complete(request) as frames:
            reading = aiter(frames)
            assert isinstance(await anext(reading), Opened)
            await frames.cancel()
            assert isinstance([frame async for frame in reading][-1], Failed)
    assert cancelled == ["by-gateway", "by-agent-runtime"]
    await close(*buses)


async def test_a_tenants_event_reaches_the_orchestrator(reconciled: Secured) -> None:
    """Stream names, durables and acks are within the orchestrator's permissions."""
    heard: list[ForeignEvent] = []

    async def handle(event: ForeignEvent) -> None:
        heard.append(event)

    orchestrator = await running(reconciled, Service.ORCHESTRATOR, Events(handle))
    acme = await reconciled.connect("tenant-acme")
    await acme.request("events.acme.invoice.received", b"{}", timeout=5)
    await until(CLOCK, lambda: bool(heard))
    assert heard[0].tenant == "acme"
    await close(orchestrator)


async def test_bells_and_deltas_reach_the_gateway(reconciled: Secured) -> None:
    """It watches tasks, deltas and dead letters; it asks for dead letters too."""

    async def answer(_: ListDeadLetters, __: Delivery) -> DeadLetterPage:
        return DeadLetterPage(dead_letters=())

    verb = dead_letters(Service.AGENT_RUNTIME)
    agents = await running(
        reconciled, Service.AGENT_RUNTIME, Answer(verb, ListDeadLetters, answer)
    )
    orchestrator = await running(reconciled, Service.ORCHESTRATOR)
    gateway = await running(reconciled, Service.GATEWAY)
    for sender, subject in (
        (orchestrator, task_changed("acme", "task_1")),
        (agents, live("acme", "task_1")),
        (agents, dead_letter_notice(Service.AGENT_RUNTIME)),
    ):
        async with gateway.watch(subject, Nothing) as bells:
            await sender.announce(subject, Nothing())
            async with asyncio.timeout(5):
                assert await anext(bells) == Nothing()
    request = ListDeadLetters(tenant="acme")
    page = await gateway.request(verb.to("acme"), request, DeadLetterPage, timeout_s=5)
    assert page.dead_letters == ()
    await close(agents, orchestrator, gateway)
