"""A PubAck is not delivery: the relay on a real server that loses things."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from contracts.delivery import Missing, MissingReply
from contracts.steps import CancelStep
from contracts.subjects import CANCEL_STEP, Service, missing
from determinism import Clock
from faults import TransientFault
from messaging.bus import Bus, Delivery
from messaging.relay import Relay, RelayPace
from messaging.subscriptions import Answer, Subscription, Work
from testkit.bus_world import RECEIVER, outgoing, until
from testkit.nats_server import NatsServer
from testkit.nats_world import NatsWorld, make_streams

PACE = RelayPace(
    sweep_s=0.2,
    ask_s=0.2,
    ask_timeout_s=1.0,
    silent_cap_s=0.5,
    resend_first_s=0.6,
    resend_cap_s=2.0,
    watched_s=1.0,
)
HOLD_S = 1.5


@dataclass(frozen=True)
class Row:
    """An outbox row."""

    message_id: str
    address: str
    receiver: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict[str, str])
    task_key: str = ""
    sends: int = 0


class Outbox:
    """An outbox in memory, with the real one's states and claims."""

    def __init__(self, clock: Clock) -> None:
        self.rows: dict[str, Row] = {}
        self.sent: set[str] = set()
        self.is_down = False
        self._clock = clock
        self._held_s: dict[str, float] = {}
        self._changed_s: dict[str, float] = {}

    def owe(self, number: int) -> str:
        """Add one row; return its message id."""
        made = outgoing(number)
        self.rows[made.message_id] = Row(
            made.message_id, str(made.address), str(RECEIVER), made.body
        )
        self._changed_s[made.message_id] = self._clock.monotonic()
        return made.message_id

    async def take(self, message_ids: Sequence[str]) -> Sequence[Row]:
        self._require_up()
        found = [key for key in message_ids if key in self.rows]
        return self._claim([key for key in found if key not in self.sent])

    async def claim_unsent(self) -> Sequence[Row]:
        self._require_up()
        return self._claim(self._free(is_sent=False, age_s=0.4))

    async def claim_unconfirmed(self) -> Sequence[Row]:
        self._require_up()
        return self._claim(self._free(is_sent=True, age_s=0.2))

    async def mark_sent(self, message_ids: Sequence[str]) -> None:
        for key in message_ids:
            if key in self.rows:
                row = self.rows[key]
                self.rows[key] = replace(row, sends=row.sends + 1)
                self.sent.add(key)
                self._release(key)

    async def confirm(self, message_ids: Sequence[str]) -> None:
        for key in message_ids:
            self.rows.pop(key, None)

    async def resend(self, message_ids: Sequence[str]) -> None:
        for key in message_ids:
            self.sent.discard(key)
            self._release(key)

    def _require_up(self) -> None:
        if self.is_down:
            raise TransientFault("the store is away")

    def _free(self, *, is_sent: bool, age_s: float) -> list[str]:
        now_s = self._clock.monotonic()
        return [
            key
            for key in self.rows
            if (key in self.sent) == is_sent
            and self._held_s.get(key, 0) <= now_s
            and now_s - self._changed_s[key] >= age_s
        ]

    def _claim(self, keys: list[str]) -> list[Row]:
        for key in keys:
            self._held_s[key] = self._clock.monotonic() + HOLD_S
        return [self.rows[key] for key in keys]

    def _release(self, key: str) -> None:
        self._held_s.pop(key, None)
        self._changed_s[key] = self._clock.monotonic()


class Receiver:
    """A service with an inbox in memory."""

    def __init__(self) -> None:
        self.inbox: dict[str, int] = {}
        self.asked = 0

    def subscriptions(self) -> tuple[Subscription, ...]:
        """Return its work and its answer to ``missing``."""
        return (
            Work(CANCEL_STEP, CancelStep, self._handle),
            Answer(missing(RECEIVER), Missing, self._tell),
        )

    async def _handle(self, _: CancelStep, delivery: Delivery) -> None:
        self.inbox[delivery.message_id] = self.inbox.get(delivery.message_id, 0) + 1

    async def _tell(self, request: Missing, _: Delivery) -> MissingReply:
        self.asked += 1
        lacking = (key for key in request.message_ids if key not in self.inbox)
        return MissingReply(missing=tuple(lacking))


@asynccontextmanager
async def relaying(relay: Relay) -> AsyncGenerator[None]:
    """Run the relay as its process does."""
    running = asyncio.create_task(relay.run())
    try:
        yield
    finally:
        running.cancel()
        await asyncio.wait({running})
        assert running.cancelled()


async def sender_of(world: NatsWorld) -> tuple[Bus, Outbox, Relay]:
    """Return one sender's bus, outbox and relay."""
    bus = await world.bus(Service.ORCHESTRATOR)
    outbox = Outbox(world.clock)
    return bus, outbox, Relay(bus, outbox, world.clock, PACE)


async def test_a_woken_row_is_published_at_once_and_confirmed(
    world: NatsWorld,
) -> None:
    """It arrives once, and its row goes when the receiver has it."""
    receiver = Receiver()
    await world.bus(RECEIVER, *receiver.subscriptions())
    _, outbox, relay = await sender_of(world)
    async with relaying(relay):
        began_s = world.clock.monotonic()
        relay.wake([outbox.owe(1)])
        await until(world.clock, lambda: "message_1" in receiver.inbox)
        assert world.clock.monotonic() - began_s < 0.4
        await until(world.clock, lambda: not outbox.rows)
    assert receiver.inbox == {"message_1": 1}


async def test_a_row_that_nobody_woke_is_swept(world: NatsWorld) -> None:
    """A crash between commit and publish costs a sweep, not the message."""
    receiver = Receiver()
    await world.bus(RECEIVER, *receiver.subscriptions())
    _, outbox, relay = await sender_of(world)
    outbox.owe(2)
    async with relaying(relay):
        await until(world.clock, lambda: not outbox.rows)
    assert receiver.inbox == {"message_2": 1}


async def test_many_rows_are_published_in_batches(world: NatsWorld) -> None:
    """Two thousand rows arrive once each, and all are confirmed."""
    receiver = Receiver()
    await world.bus(RECEIVER, *receiver.subscriptions())
    _, outbox, relay = await sender_of(world)
    async with relaying(relay):
        relay.wake([outbox.owe(number) for number in range(2000)])
        await until(world.clock, lambda: not outbox.rows)
    assert set(receiver.inbox) == {f"message_{number}" for number in range(2000)}
    assert receiver.asked < 40


async def test_a_row_waits_for_a_receiver_that_is_down(world: NatsWorld) -> None:
    """A PubAck does not end it; its receiver's word does, whenever that comes."""
    _, outbox, relay = await sender_of(world)
    receiver = Receiver()
    async with relaying(relay):
        relay.wake([outbox.owe(3)])
        await until(world.clock, lambda: "message_3" in outbox.sent)
        await world.clock.sleep(1.0)
        assert "message_3" in outbox.rows
        await world.bus(RECEIVER, *receiver.subscriptions())
        await until(world.clock, lambda: not outbox.rows)
    assert set(receiver.inbox) == {"message_3"}


async def test_a_wiped_server_costs_no_message(nats_server: NatsServer) -> None:
    """JetStream acked and lost them all: each is sent again, and arrives."""
    await make_streams(nats_server.url)
    world = NatsWorld(nats_server.url)
    _, outbox, relay = await sender_of(world)
    receiver = Receiver()
    async with relaying(relay):
        relay.wake([outbox.owe(number) for number in range(50)])
        await until(world.clock, lambda: len(outbox.sent) == 50)
        await asyncio.to_thread(nats_server.restart, wipe=True)
        await make_streams(nats_server.url)
        await world.bus(RECEIVER, *receiver.subscriptions())
        await until(world.clock, lambda: not outbox.rows)
    assert len(receiver.inbox) == 50
    await world.close()


async def test_a_resend_passes_deduplication(world: NatsWorld) -> None:
    """A message that the receiver lost comes again within the dedupe window."""
    receiver = Receiver()
    await world.bus(RECEIVER, *receiver.subscriptions())
    _, outbox, relay = await sender_of(world)
    async with relaying(relay):
        relay.wake([outbox.owe(4)])
        await until(world.clock, lambda: "message_4" in receiver.inbox)
        receiver.inbox.clear()
        await until(world.clock, lambda: "message_4" in receiver.inbox)
        await until(world.clock, lambda: not outbox.rows)
    assert set(receiver.inbox) == {"message_4"}


async def test_a_queue_that_waits_is_not_flooded(world: NatsWorld) -> None:
    """What is missing because its receiver is slow is sent again ever more slowly."""
    receiver = Receiver()
    answer = receiver.subscriptions()[1]
    await world.bus(RECEIVER, answer)
    bus, outbox, relay = await sender_of(world)
    async with relaying(relay):
        relay.wake([outbox.owe(5)])
        await world.clock.sleep(4.0)
    assert isinstance(bus, object)
    assert 2 <= outbox.rows["message_5"].sends <= 4


async def test_a_store_that_is_away_does_not_end_the_relay(world: NatsWorld) -> None:
    """It goes on when the store is back."""
    receiver = Receiver()
    await world.bus(RECEIVER, *receiver.subscriptions())
    _, outbox, relay = await sender_of(world)
    outbox.is_down = True
    async with relaying(relay):
        relay.wake([outbox.owe(6)])
        await world.clock.sleep(0.6)
        assert receiver.inbox == {}
        outbox.is_down = False
        await until(world.clock, lambda: not outbox.rows)


async def test_a_stream_that_is_made_late_gets_the_message(world: NatsWorld) -> None:
    """A publish that nobody took is tried again, without a reconnect."""
    bus, outbox, relay = await sender_of(world)
    client = await world.bus(Service.BOOTSTRAP)
    jetstream = client.connection.client.jetstream()  # pyright: ignore[reportUnknownMemberType]
    await jetstream.delete_stream("WORK_AGENT_RUNTIME")
    receiver = Receiver()
    async with relaying(relay):
        relay.wake([outbox.owe(7)])
        await world.clock.sleep(0.5)
        await make_streams(world.url)
        await world.bus(RECEIVER, *receiver.subscriptions())
        await until(world.clock, lambda: not outbox.rows)
    assert bus.instance
    assert set(receiver.inbox) == {"message_7"}
