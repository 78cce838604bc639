"""A service answers for its deliveries, over the real bus."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from contracts.deadletters import (
    DeadLetter,
    DeadLetterNotice,
    DeadLetterPage,
    DeadLetterState,
    ListDeadLetters,
    ReplayDeadLetter,
)
from contracts.delivery import Missing, MissingReply, Nothing
from contracts.problems import Code
from contracts.steps import CancelStep
from contracts.subjects import (
    CANCEL_STEP,
    Service,
    dead_letter_notice,
    dead_letters,
    missing,
    replay,
)
from faults import PermanentFault
from messaging.burial import StoreSink
from messaging.bus import Bus, Delivery
from messaging.foreign import SEQUENCE_HEADER
from messaging.housekeeping import dispatcher, housekeeping, repaired
from messaging.refusals import Refused
from messaging.subscriptions import Work
from testkit.bus_world import message_of, outgoing, until
from testkit.nats_world import NatsWorld

SERVICE = Service.AGENT_RUNTIME


class Store:
    """Inbox and dead letters in memory."""

    def __init__(self) -> None:
        self.inbox: set[str] = set()
        self.letters: dict[str, DeadLetter] = {}

    async def known(self, message_ids: Sequence[str]) -> set[str]:
        return self.inbox & set(message_ids)

    async def bury(self, letter: DeadLetter) -> None:
        self.letters.setdefault(letter.id, letter)

    async def dead_letters(self, request: ListDeadLetters) -> DeadLetterPage:
        mine = [
            letter
            for letter in self.letters.values()
            if request.tenant in {None, letter.tenant}
        ]
        page = mine[: request.limit]
        cursor = page[-1].id if len(mine) > len(page) else None
        return DeadLetterPage(dead_letters=tuple(page), next_cursor=cursor)

    async def dead_letter(
        self, letter_id: str, tenant: str | None
    ) -> DeadLetter | None:
        letter = self.letters.get(letter_id)
        return letter if letter and tenant in {None, letter.tenant} else None

    async def mark_replayed(self, letter_id: str) -> None:
        changed = {"state": DeadLetterState.REPLAYED}
        self.letters[letter_id] = self.letters[letter_id].model_copy(update=changed)


class Handler:
    """Fails for good until it is repaired."""

    def __init__(self) -> None:
        self.is_broken = True
        self.seen: list[tuple[CancelStep, Delivery]] = []

    async def handle(self, message: CancelStep, delivery: Delivery) -> None:
        """Refuse, or remember."""
        if self.is_broken:
            raise PermanentFault("not now", code="conflict")
        self.seen.append((message, delivery))


async def serving(world: NatsWorld) -> tuple[Store, Handler, Bus]:
    """Run the service; return its store, its handler and an asker's bus."""
    store, handler = Store(), Handler()
    work = Work(CANCEL_STEP, CancelStep, handler.handle)
    bus = world.build(SERVICE)
    bus.sink = StoreSink(SERVICE, store, bus, world.clock)
    await bus.connect()
    await bus.subscribe(work, *housekeeping(SERVICE, store, dispatcher([work])))
    return store, handler, await world.bus(Service.GATEWAY)


async def test_missing_names_what_the_inbox_has_not_got(world: NatsWorld) -> None:
    """Known ids are left out; the order is the question's."""
    store, _, asker = await serving(world)
    store.inbox |= {"b"}
    reply = await asker.request(
        missing(SERVICE).to(None),
        Missing(message_ids=("c", "b", "a")),
        MissingReply,
        timeout_s=5,
    )
    assert reply.missing == ("c", "a")


async def test_a_dead_letter_is_announced_listed_and_replayed(
    world: NatsWorld,
) -> None:
    """From the stream to the store, to an operator, and through the handler again."""
    store, handler, gateway = await serving(world)
    sender = await world.bus(Service.ORCHESTRATOR)
    subject = dead_letter_notice(SERVICE)
    async with gateway.watch(subject, DeadLetterNotice) as notices:
        await sender.publish(outgoing(1))
        notice = await anext(notices)
    page = await gateway.request(
        dead_letters(SERVICE).to("acme"),
        ListDeadLetters(tenant="acme"),
        DeadLetterPage,
        timeout_s=5,
    )
    assert [letter.id for letter in page.dead_letters] == [notice.id]
    assert page.dead_letters[0].reason == "conflict"
    handler.is_broken = False
    request = ReplayDeadLetter(tenant="acme", id=notice.id)
    await gateway.request(replay(SERVICE).to("acme"), request, Nothing, timeout_s=5)
    message, delivery = handler.seen[0]
    assert message == message_of(1)
    assert (delivery.message_id, delivery.tenant) == ("message_1", "acme")
    assert store.letters[notice.id].state is DeadLetterState.REPLAYED


async def test_a_failed_replay_says_why_and_leaves_the_letter_open(
    world: NatsWorld,
) -> None:
    """The handler's fault is the answer, and nothing is marked."""
    store, _, gateway = await serving(world)
    sender = await world.bus(Service.ORCHESTRATOR)
    await sender.publish(outgoing(2))
    await until(world.clock, lambda: bool(store.letters))
    request = ReplayDeadLetter(id=next(iter(store.letters)))
    with pytest.raises(Refused) as caught:
        await gateway.request(replay(SERVICE).to(None), request, Nothing, timeout_s=5)
    assert caught.value.envelope.problem.detail == "not now"
    assert store.letters[request.id].state is DeadLetterState.OPEN


async def test_a_repaired_body_takes_the_place_of_a_broken_one(
    world: NatsWorld,
) -> None:
    """Garbage is repaired by hand; another tenant's name in it is still refused."""
    store, handler, gateway = await serving(world)
    handler.is_broken = False
    sender = await world.bus(Service.ORCHESTRATOR)
    await sender.publish(replace(outgoing(3), body=b"garbage"))
    await until(world.clock, lambda: bool(store.letters))
    letter_id = next(iter(store.letters))
    address = replay(SERVICE).to("acme")
    foreign = message_of(3, tenant="globex").encode()
    request = ReplayDeadLetter(tenant="acme", id=letter_id, body=foreign)
    with pytest.raises(Refused) as caught:
        await gateway.request(address, request, Nothing, timeout_s=5)
    assert caught.value.envelope.problem.code == Code.FORBIDDEN
    good = message_of(3).encode()
    request = ReplayDeadLetter(tenant="acme", id=letter_id, body=good)
    await gateway.request(address, request, Nothing, timeout_s=5)
    assert [message for message, _ in handler.seen] == [message_of(3)]


async def test_another_tenants_letter_is_not_there(world: NatsWorld) -> None:
    """Its id tells nobody that it exists."""
    store, _, gateway = await serving(world)
    sender = await world.bus(Service.ORCHESTRATOR)
    await sender.publish(outgoing(4))
    await until(world.clock, lambda: bool(store.letters))
    request = ReplayDeadLetter(tenant="globex", id=next(iter(store.letters)))
    with pytest.raises(Refused) as caught:
        await gateway.request(
            replay(SERVICE).to("globex"), request, Nothing, timeout_s=5
        )
    assert caught.value.envelope.problem.code == Code.NOT_FOUND


async def test_a_page_of_large_letters_still_fits(world: NatsWorld) -> None:
    """The page shrinks until it can be sent; the cursor leads to the rest."""
    store, _, gateway = await serving(world)
    for number in range(40):
        store.letters[f"dead_{number}"] = DeadLetter(
            id=f"dead_{number}",
            service=str(SERVICE),
            subject="work.agent-runtime.stable.cancel.acme",
            message_id=f"message_{number}",
            reason="invalid",
            detail="too much",
            body=b"x" * 50_000,
            created_at=world.clock.now(),
        )
    page = await gateway.request(
        dead_letters(SERVICE).to(None), ListDeadLetters(), DeadLetterPage, timeout_s=5
    )
    assert 1 <= len(page.dead_letters) < 40
    assert page.next_cursor is not None


def test_a_repaired_cloud_event_speaks_for_itself() -> None:
    """What the broken message said of itself does not outlive the repair."""
    letter = DeadLetter(
        id="dead_1",
        service="orchestrator",
        subject="events.acme.invoice.received",
        message_id="m",
        reason="invalid",
        detail="no ce-id",
        body=b"{}",
        headers={
            "Ce-Source": "erp",
            "Content-Type": "text/plain",
            SEQUENCE_HEADER: "7",
        },
        created_at=datetime(2026, 11, 23, tzinfo=UTC),
    )
    whole = b'{"specversion": "1.0", "id": "1", "source": "erp", "type": "t"}'
    assert repaired(letter, whole).headers == {SEQUENCE_HEADER: "7"}
    assert repaired(letter, b'{"kind": "letter"}').headers == letter.headers
    assert repaired(letter, b"garbage").headers == letter.headers
