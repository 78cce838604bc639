"""What the service must process: one durable per verb and track."""

import asyncio
from typing import Any, Protocol, TypeVar

from nats.aio.msg import Msg

from contracts.ids import derived_id
from contracts.message import Message
from contracts.subjects import Track, durable, work_stream
from determinism import Clock, IdSource
from messaging.burial import DeadLetterSink
from messaging.bus import Delivery
from messaging.connection import Connection
from messaging.pulling import PullConsumer
from messaging.settle import Settler, Settling
from messaging.subscriptions import Work
from messaging.wire import decode, delivery_of, require_tenant

M = TypeVar("M", bound=Message)


class Services(Protocol):
    """What every consumer of the bus shares."""

    connection: Connection
    sink: DeadLetterSink
    clock: Clock
    ids: IdSource
    settlers: dict[str, Settler]


class Worker:
    """
    Pulls one verb's durable and hands its messages to the handler.

    Args:
        shared: What every consumer of the bus shares.
        subscription: What to process, and by what.
        track: The track that this process serves.
    """

    # Any: a message of whatever type the subscription names.
    def __init__(
        self, shared: Services, subscription: Work[Any], *, track: Track
    ) -> None:
        verb = subscription.verb
        self._what = subscription
        self._consumer = PullConsumer(
            shared.connection,
            stream=work_stream(verb.service),
            durable=durable(verb, track),
            subject=verb.pattern(track),
            workers=subscription.workers,
            handle=self._on_message,
            clock=shared.clock,
        )
        settling = Settling(
            template=str(verb),
            describe=describe_work,
            sink=shared.sink,
            clock=shared.clock,
            ids=shared.ids,
            limits=shared.connection.limits,
            forget=self._consumer.forget,
        )
        key = f"{self._consumer.stream}.{self._consumer.durable}"
        shared.settlers[key] = Settler(settling)

    async def start(self) -> None:
        """Wait until the durable is there, then pull from it."""
        await self._consumer.start()

    async def stop(self, limit_s: float) -> None:
        """Pull no more; finish or nak what was fetched."""
        await self._consumer.stop(limit_s)

    async def _on_message(self, msg: Msg) -> None:
        await process(self._what, msg.data, describe_work(msg))


async def process(subscription: Work[Any], body: bytes, delivery: Delivery) -> None:
    """
    Decode a message, check whose it is, and hand it to the handler.

    Raises:
        ValidationError: The body does not decode.
        Refused: It speaks for another tenant than its subject.
    """
    message = decode(subscription.message, body)
    require_tenant(message, delivery, subscription.verb)
    await subscription.handle(message, delivery)


def describe_work(msg: Msg) -> Delivery:
    """Describe a work message; one without an id gets its place in the stream."""
    metadata = msg.metadata
    otherwise = derived_id(
        "unnamed",
        metadata.stream,
        str(metadata.sequence.stream),
        metadata.timestamp.isoformat(),
    )
    return delivery_of(
        msg.subject,
        msg.headers,
        otherwise=otherwise,
        deliveries=metadata.num_delivered,
    )


async def stop_all(stopping: list[Any], limit_s: float) -> None:
    """Stop subscriptions side by side, each within the limit."""
    async with asyncio.TaskGroup() as group:
        for each in stopping:
            group.create_task(each.stop(limit_s))
