"""
The outbox relay: a message lives until its receiver has it.

    wake ──► take ──► publish ──► mark_sent        at once, in pipelined batches
    sweep ─► claim_unsent ──► publish              what a crash or an outage left
    ask ───► claim_unconfirmed ──► missing? ──► confirm, or resend

A PubAck is not delivery: JetStream may lose its store. So the relay asks each
receiver which ids it has not got. A message that still waits in a healthy stream
is missing too; re-sends therefore slow down with each send, and only a reconnect,
which every wipe brings with it, makes them immediate.

All of the memory here is pace. What is owed is in the store, and another replica
goes on with it after the claims of a dead one expire.
"""

import asyncio
from collections import OrderedDict, defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable

from contracts.delivery import Missing, MissingReply
from contracts.subjects import Address, Service, missing
from determinism import Clock
from faults import Fault, PermanentFault, TransientFault
from messaging.bus import Bus, Outgoing
from messaging.refusals import Refused
from messaging.waiting import wait_for
from telemetry import get_logger, metrics

log = get_logger()

WOKEN_MAX: Final = 10_000
PACED_MAX: Final = 50_000
WATCHED_MAX: Final = 5_000
BATCH_MAX: Final = 256
ASKED_MAX: Final = 500
BATCHES_IN_FLIGHT_MAX: Final = 4


@dataclass(frozen=True, slots=True)
class RelayPace:
    """Production's values are the defaults; tests shorten some."""

    sweep_s: float = 1.0
    """Between looks for rows that were left unsent."""
    ask_s: float = 1.0
    """Between questions to a receiver."""
    ask_timeout_s: float = 5.0
    """A receiver's answer must come within this."""
    silent_cap_s: float = 15.0
    """The longest pause before a silent receiver is asked again."""
    resend_first_s: float = 3.0
    """A missing message is sent again no sooner than this after its first send."""
    resend_cap_s: float = 60.0
    """The longest pause between sends; it doubles up to this."""
    watched_s: float = 8.0
    """Claimed rows are asked about for this long, less than the store's hold."""


class OutboxItem(Protocol):
    """A claimed outbox row."""

    @property
    def message_id(self) -> str:
        """The receiver's inbox key."""
        ...

    @property
    def address(self) -> str:
        """Where to, without a track."""
        ...

    @property
    def receiver(self) -> str:
        """The service that must have it."""
        ...

    @property
    def body(self) -> bytes:
        """The encoded message."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """Trace context, as it was when the message was owed."""
        ...

    @property
    def task_key(self) -> str:
        """What the track is drawn by; empty for none."""
        ...

    @property
    def sends(self) -> int:
        """Times that a PubAck came."""
        ...


class OutboxStore(Protocol):
    """The store's outbox; each method is one short transaction."""

    async def take(self, message_ids: Sequence[str]) -> Sequence[OutboxItem]:
        """Claim rows that this process has just committed."""
        ...

    async def claim_unsent(self) -> Sequence[OutboxItem]:
        """Claim a page of rows that were left unsent, by whichever process."""
        ...

    async def mark_sent(self, message_ids: Sequence[str]) -> None:
        """Record PubAcks."""
        ...

    async def claim_unconfirmed(self) -> Sequence[OutboxItem]:
        """Claim a page of rows whose receivers should be asked about them."""
        ...

    async def confirm(self, message_ids: Sequence[str]) -> None:
        """Forget rows that their receiver has."""
        ...

    async def resend(self, message_ids: Sequence[str]) -> None:
        """Make rows unsent again that their receiver has not got."""
        ...


@runtime_checkable
class Reconnecting(Protocol):
    """A bus that tells when it was away."""

    def on_reconnect(self, callback: Callable[[], None]) -> None:
        """Call this after every reconnect."""
        ...


@dataclass(slots=True)
class _Silence:
    """A receiver that does not answer."""

    pause_s: float
    until_s: float


class Relay:
    """
    Empties one service's outbox.

    Args:
        bus: Where messages and questions go; after its reconnects, missing
            messages are sent again at once.
        store: The service's outbox.
        clock: Paces sweeps, questions and re-sends.
        pace: How fast.
    """

    def __init__(
        self,
        bus: Bus,
        store: OutboxStore,
        clock: Clock,
        pace: RelayPace | None = None,
    ) -> None:
        self._bus = bus
        self._store = store
        self._clock = clock
        self._pace = pace or RelayPace()
        self._woken: OrderedDict[str, None] = OrderedDict()
        self._wake = asyncio.Event()
        self._hurries = (asyncio.Event(), asyncio.Event())
        self._failed: OrderedDict[str, None] = OrderedDict()
        self._sent_s: OrderedDict[str, float] = OrderedDict()
        self._watched: OrderedDict[str, tuple[float, OutboxItem]] = OrderedDict()
        self._silent: dict[str, _Silence] = {}
        if isinstance(bus, Reconnecting):
            bus.on_reconnect(self.hurry)

    def wake(self, message_ids: Sequence[str]) -> None:
        """
        Publish these rows now; they have just been committed.

        Above the bound an id is left to the sweeper, which finds its row anyway.
        """
        for message_id in message_ids:
            if len(self._woken) < WOKEN_MAX:
                self._woken[message_id] = None
        self._wake.set()

    def hurry(self) -> None:
        """Forget all pace: the server was away, and may have lost its store."""
        self._sent_s.clear()
        self._silent.clear()
        for hurry in self._hurries:
            hurry.set()
        self._wake_failed()

    async def run(self) -> None:
        """Relay until cancelled; a store that fails is tried again."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._publish_woken())
            sweep, ask = self._hurries
            group.create_task(self._repeat(self.sweep, self._pace.sweep_s, sweep))
            group.create_task(self._repeat(self.ask, self._pace.ask_s, ask))

    async def sweep(self) -> None:
        """Publish what was left unsent, page by page until none is left."""
        self._wake_failed()
        while rows := await self._store.claim_unsent():
            if not await self._publish(rows):
                return

    async def ask(self) -> None:
        """Ask receivers what they have not got; confirm or send again."""
        for row in await self._store.claim_unconfirmed():
            if len(self._watched) < WATCHED_MAX:
                until_s = self._clock.monotonic() + self._pace.watched_s
                self._watched[row.message_id] = (until_s, row)
        by_receiver: dict[str, list[OutboxItem]] = defaultdict(list)
        now_s = self._clock.monotonic()
        for message_id, (until_s, row) in tuple(self._watched.items()):
            if until_s < now_s:
                # Our claim is about to expire; the store hands the row out again.
                del self._watched[message_id]
            elif self._may_ask(row.receiver, now_s):
                by_receiver[row.receiver].append(row)
        async with asyncio.TaskGroup() as group:
            for receiver, rows in by_receiver.items():
                group.create_task(self._ask_safely(receiver, rows))

    async def _publish_woken(self) -> None:
        """Publish batch after batch, a few of them side by side."""
        slots = asyncio.Semaphore(BATCHES_IN_FLIGHT_MAX)
        async with asyncio.TaskGroup() as group:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._woken:
                    await slots.acquire()
                    ids = [
                        self._woken.popitem(last=False)[0]
                        for _ in range(min(BATCH_MAX, len(self._woken)))
                    ]
                    group.create_task(self._publish_ids(ids, slots))

    async def _publish_ids(self, ids: list[str], slots: asyncio.Semaphore) -> None:
        try:
            await self._publish(await self._store.take(ids))
        except Fault as error:
            # The rows stay; the sweeper claims them.
            log.warning("relay_store_failed", error=error.detail)
        finally:
            slots.release()

    async def _publish(self, rows: Sequence[OutboxItem]) -> bool:
        """Publish rows and mark those that got a PubAck; say whether all did."""
        is_whole = True
        for start in range(0, len(rows), BATCH_MAX):
            page = rows[start : start + BATCH_MAX]
            acked = await asyncio.gather(*(self._publish_one(row) for row in page))
            sent = [row.message_id for row, ok in zip(page, acked, strict=True) if ok]
            if sent:
                await self._store.mark_sent(sent)
            is_whole = is_whole and len(sent) == len(page)
        return is_whole

    async def _publish_one(self, row: OutboxItem) -> bool:
        address = Address.parse(row.address)
        outgoing = Outgoing(
            address=address,
            message_id=row.message_id,
            send=row.sends,
            body=row.body,
            headers=row.headers,
            task_key=row.task_key or None,
        )
        try:
            await self._bus.publish(outgoing)
        except TransientFault as error:
            log.info("relay_publish_failed", error=error.detail)
            if len(self._failed) < WOKEN_MAX:
                self._failed[row.message_id] = None
            return False
        except PermanentFault as error:
            log.error("relay_publish_refused", error=error.detail)  # noqa: TRY400 -- a refusal, not a crash
            return False
        self._note_sent(row.message_id)
        return True

    async def _ask_safely(self, receiver: str, rows: Sequence[OutboxItem]) -> None:
        try:
            await self._ask_receiver(receiver, rows)
        except Fault as error:
            # The rows stay; their claims expire and they are asked about again.
            log.warning("relay_store_failed", error=error.detail)

    async def _ask_receiver(self, receiver: str, rows: Sequence[OutboxItem]) -> None:
        for start in range(0, len(rows), ASKED_MAX):
            page = rows[start : start + ASKED_MAX]
            lacking = await self._lacking(receiver, page)
            if lacking is None:
                return
            have = [row for row in page if row.message_id not in lacking]
            if have:
                await self._store.confirm([row.message_id for row in have])
                self._forget(have)
            await self._send_again(
                [row for row in page if row.message_id in lacking and self._is_due(row)]
            )

    async def _lacking(
        self, receiver: str, rows: Sequence[OutboxItem]
    ) -> frozenset[str] | None:
        """Return what the receiver has not got; None when it does not answer."""
        question = Missing(message_ids=tuple(row.message_id for row in rows))
        try:
            reply = await self._bus.request(
                missing(Service(receiver)).to(None),
                question,
                MissingReply,
                timeout_s=self._pace.ask_timeout_s,
            )
        except (Fault, Refused) as error:
            self._note_silent(receiver, str(error))
            return None
        self._silent.pop(receiver, None)
        return frozenset(reply.missing)

    async def _send_again(self, rows: Sequence[OutboxItem]) -> None:
        if not rows:
            return
        ids = [row.message_id for row in rows]
        await self._store.resend(ids)
        for row in rows:
            template = str(Address.parse(row.address).verb)
            metrics.messages_resent_total.add(1, subject=template)
        log.info("message_resent", count=len(rows), receiver=rows[0].receiver)
        self._forget(rows)
        await self._publish(await self._store.take(ids))

    def _is_due(self, row: OutboxItem) -> bool:
        sent_s = self._sent_s.get(row.message_id)
        if sent_s is None:
            # Sent by another process, or before a reconnect: do not wait.
            return True
        doublings = min(max(row.sends - 1, 0), 16)
        pause_s = min(self._pace.resend_first_s * 2**doublings, self._pace.resend_cap_s)
        return self._clock.monotonic() - sent_s >= pause_s

    def _may_ask(self, receiver: str, now_s: float) -> bool:
        silence = self._silent.get(receiver)
        return silence is None or silence.until_s <= now_s

    def _note_silent(self, receiver: str, reason: str) -> None:
        before = self._silent.get(receiver)
        pause_s = self._pace.ask_s if before is None else before.pause_s * 2
        pause_s = min(pause_s, self._pace.silent_cap_s)
        until_s = self._clock.monotonic() + pause_s
        self._silent[receiver] = _Silence(pause_s, until_s)
        log.info("receiver_silent", receiver=receiver, reason=reason)

    def _wake_failed(self) -> None:
        # This process holds their claims, so it may take them again at once.
        failed, self._failed = self._failed, OrderedDict()
        self.wake(tuple(failed))

    def _note_sent(self, message_id: str) -> None:
        self._sent_s[message_id] = self._clock.monotonic()
        self._sent_s.move_to_end(message_id)
        if len(self._sent_s) > PACED_MAX:
            self._sent_s.popitem(last=False)

    def _forget(self, rows: Sequence[OutboxItem]) -> None:
        for row in rows:
            self._watched.pop(row.message_id, None)
            self._sent_s.pop(row.message_id, None)

    async def _repeat(
        self, job: Callable[[], Awaitable[None]], pause_s: float, hurry: asyncio.Event
    ) -> None:
        while True:
            try:
                await job()
            except Fault as error:
                # The store or the bus is away; what is owed waits in the store.
                log.warning("relay_failed", error=error.detail)
            await wait_for(hurry, pause_s, self._clock)
            hurry.clear()
