"""
Events of other systems: one stream per tenant, found while running.

An event without an id of its own is known by its place: (when the stream was
created, sequence). A stream that was deleted and made again counts from 1 anew, so a
creation time holds only for events that are older than its look-up: a newer event is
looked up again, and none is given a creation time later than itself.
"""

import asyncio
from datetime import UTC, datetime
from typing import Final

import nats.errors
from nats.aio.msg import Msg
from pydantic import BaseModel

from contracts.ids import derived_id
from contracts.subjects import EVENTS_DURABLE, events_pattern, events_stream
from faults import Fault, TransientFault
from messaging.bus import Delivery
from messaging.connection import Connection
from messaging.crew import Crew
from messaging.pulling import PullConsumer
from messaging.settle import Settler, Settling
from messaging.subscriptions import Events, ForeignEvent
from messaging.waiting import wait_for
from messaging.working import Services, stop_all
from telemetry import get_logger

log = get_logger()

API_TIMEOUT_S: Final = 5.0
PREFIX: Final = events_stream("x").removesuffix("x")
STREAMS_MAX: Final = 10_000
STREAMS_REMEMBERED_MAX: Final = 3
LONG_AGO: Final = datetime(1970, 1, 1, tzinfo=UTC)
TEMPLATE: Final = "events"
CREATED_HEADER: Final = "De-Stream-Created"
SEQUENCE_HEADER: Final = "De-Stream-Sequence"
"""Added to an event's dead letter, so that a replay gives it the same identity."""


class TenantFeed:
    """
    One tenant's events.

    Args:
        shared: What every consumer of the bus shares.
        subscription: What handles an event.
        tenant: Whose stream.
    """

    def __init__(self, shared: Services, subscription: Events, tenant: str) -> None:
        self._shared = shared
        self._what = subscription
        self._tenant = tenant
        self._created: list[datetime] = []
        self._confirmed_until = LONG_AGO
        """Up to this time of the server, the stream was the newest that we know."""
        self._consumer = PullConsumer(
            shared.connection,
            stream=events_stream(tenant),
            durable=EVENTS_DURABLE,
            subject=events_pattern(tenant),
            workers=subscription.workers,
            handle=self._on_message,
            clock=shared.clock,
        )
        settling = Settling(
            template=TEMPLATE,
            describe=self._describe,
            sink=shared.sink,
            clock=shared.clock,
            ids=shared.ids,
            limits=shared.connection.limits,
            forget=self._consumer.forget,
        )
        shared.settlers[f"{self._consumer.stream}.{EVENTS_DURABLE}"] = Settler(settling)

    async def exists(self) -> bool:
        """Return whether the bootstrap has made the durable."""
        return await self._consumer.exists()

    async def start(self) -> None:
        """Pull from the tenant's durable."""
        await self._consumer.start()

    async def stop(self, limit_s: float) -> None:
        """Pull no more; finish or nak what was fetched."""
        await self._consumer.stop(limit_s)

    async def _on_message(self, msg: Msg) -> None:
        metadata = msg.metadata
        event = ForeignEvent(
            tenant=self._tenant,
            subject=msg.subject,
            headers=dict(msg.headers or {}),
            body=msg.data,
            stream_created=await self._created_before(metadata.timestamp),
            sequence=metadata.sequence.stream,
            deliveries=metadata.num_delivered,
        )
        await self._what.handle(event)

    async def _created_before(self, timestamp: datetime) -> datetime:
        if timestamp > self._confirmed_until:
            await self._look_up_created()
        before = [created for created in self._created if created <= timestamp]
        if not before:
            detail = f"an event of {self._tenant}'s former stream; it is gone"
            raise TransientFault(detail, code="stream-replaced")
        return max(before)

    async def _look_up_created(self) -> None:
        subject = f"$JS.API.STREAM.INFO.{events_stream(self._tenant)}"
        reply = await self._shared.connection.request(subject, b"", {}, API_TIMEOUT_S)
        info = StreamInfo.model_validate_json(reply.data)
        if info.created is None or info.ts is None:
            detail = f"look up the stream of {self._tenant}'s events: it is not there"
            raise TransientFault(detail)
        if info.created not in self._created:
            self._created = [*self._created[-STREAMS_REMEMBERED_MAX:], info.created]
        self._confirmed_until = max(self._confirmed_until, info.ts)

    def _describe(self, msg: Msg) -> Delivery:
        metadata = msg.metadata
        known = [each for each in self._created if each <= metadata.timestamp]
        # An event whose stream's creation was never learnt is told by its time.
        created = max(known) if known else metadata.timestamp
        place = {
            CREATED_HEADER: created.isoformat(),
            SEQUENCE_HEADER: str(metadata.sequence.stream),
        }
        return Delivery(
            subject=msg.subject,
            message_id=derived_id("event", self._tenant, *place.values()),
            tenant=self._tenant,
            headers={**(msg.headers or {}), **place},
            deliveries=metadata.num_delivered,
        )


class EventsFeed:
    """
    Every tenant's events; new streams are picked up by polling.

    Args:
        shared: What every consumer of the bus shares.
        subscription: What handles an event.
    """

    def __init__(self, shared: Services, subscription: Events) -> None:
        self._shared = shared
        self._what = subscription
        self._feeds: dict[str, TenantFeed] = {}
        self._look = asyncio.Event()
        self._polling = Crew(1)
        shared.connection.on_reconnect(self._on_reconnect)

    async def start(self) -> None:
        """Start on the streams that are there, and watch for others."""
        self._polling.start(self._poll())

    async def stop(self, limit_s: float) -> None:
        """Pull no more; finish or nak what was fetched."""
        await self._polling.cancel()
        await stop_all(list(self._feeds.values()), limit_s)

    def _on_reconnect(self) -> None:
        self._look.set()

    async def _poll(self) -> None:
        connection = self._shared.connection
        while True:
            self._look.clear()
            try:
                await self._pick_up(await stream_tenants(connection))
            except (Fault, nats.errors.Error, ValueError) as error:
                log.warning("events_streams_unknown", error=repr(error))
            await wait_for(
                self._look, connection.limits.streams_poll_s, self._shared.clock
            )

    async def _pick_up(self, tenants: set[str]) -> None:
        for tenant in sorted(tenants - set(self._feeds)):
            feed = TenantFeed(self._shared, self._what, tenant)
            # The durable is made after the stream; the next poll sees it.
            if await feed.exists():
                await feed.start()
                self._feeds[tenant] = feed
                log.info("events_stream_found", tenant=tenant)


async def stream_tenants(connection: Connection) -> set[str]:
    """Return the tenants that have an events stream."""
    found: set[str] = set()
    offset = 0
    while offset < STREAMS_MAX:
        body = f'{{"subject": "events.>", "offset": {offset}}}'.encode()
        reply = await connection.request(
            "$JS.API.STREAM.NAMES", body, {}, API_TIMEOUT_S
        )
        page = _StreamNames.model_validate_json(reply.data)
        names = page.streams or []
        found |= {name.removeprefix(PREFIX) for name in names if PREFIX in name}
        offset += len(names)
        if not names or offset >= page.total:
            break
    return found


class StreamInfo(BaseModel):
    """The part of JetStream's answer that is used."""

    created: datetime | None = None
    ts: datetime | None = None
    """When the server said so."""


class _StreamNames(BaseModel):
    """A page of stream names."""

    total: int = 0
    streams: list[str] | None = None
