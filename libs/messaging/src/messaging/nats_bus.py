"""The real bus: ``Bus`` over NATS."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final, Generic, Self, TypeVar, assert_never

import nats.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription as NatsSubscription
from pydantic import BaseModel, ValidationError

from contracts import headers as names
from contracts.completions import CompletionRequest
from contracts.embeddings import EmbeddingRequest
from contracts.message import Message
from contracts.subjects import Address, Service, Track
from determinism import Clock, IdSource
from faults import Fault, PermanentFault, TransientFault
from messaging.answering import Answerer, Hearer, Listening, subscribe_core
from messaging.burial import DeadLetterSink, NoSink
from messaging.bus import FrameStream, Outgoing
from messaging.connection import Connection, Counters
from messaging.foreign import EventsFeed
from messaging.frame_sink import FrameAnswerer
from messaging.frame_stream import Completions, read_envelope
from messaging.limits import BusLimits
from messaging.refusals import Refused
from messaging.router import Router, StableRouter
from messaging.settle import Settler, middleware
from messaging.subscriptions import (
    Answer,
    AnswerInFrames,
    Events,
    Hear,
    Subscription,
    Work,
)
from messaging.wire import require_payload
from messaging.working import Worker, stop_all
from telemetry import SpanKind, carrier, get_logger, span

M = TypeVar("M", bound=Message)
T = TypeVar("T")

log = get_logger()

STREAM_FULL: Final = 503
PUBLISH_RETRY_S: Final = 0.5


class NatsBus:
    """
    Carries a service's messages over NATS.

    Args:
        service: Which service this is: its user, queue group and inboxes.
        url: The server's URL, without credentials.
        instance: This process's id, one subject token.
        clock: Time.
        ids: Draws jitter.
        user: The service's NATS user; None where the server asks for none.
        password: Its password.
        track: The track that this process serves.
        router: Draws the track of what is sent.
        limits: Deadlines and bounds.
    """

    def __init__(  # noqa: PLR0913 -- one process's bus, all by name
        self,
        service: Service,
        *,
        url: str,
        instance: str,
        clock: Clock,
        ids: IdSource,
        user: str | None = None,
        password: str | None = None,
        track: Track = Track.STABLE,
        router: Router | None = None,
        limits: BusLimits | None = None,
    ) -> None:
        self.service = service
        self.clock = clock
        self.ids = ids
        self.sink: DeadLetterSink = NoSink()
        """Where given-up messages go; set it before ``subscribe``."""
        self.settlers: dict[str, Settler] = {}
        self._instance = instance
        self._track = track
        self._router = router or StableRouter()
        self.connection = Connection(
            service=service,
            instance=instance,
            url=url,
            user=user,
            password=password,
            limits=limits or BusLimits(),
            middlewares=(middleware(self.settlers),),
        )
        self._completions = Completions(self.connection, self._router, clock)
        self._listening: list[Listening] = []

    @property
    def instance(self) -> str:
        """Return this process's id, one safe subject token."""
        return self._instance

    @property
    def counters(self) -> Counters:
        """Return what went wrong on the connection so far."""
        return self.connection.counters

    @property
    def open_completions(self) -> int:
        """Return how many completions are being read."""
        return self._completions.size

    @property
    def closed(self) -> asyncio.Event:
        """Return what is set when the connection is lost for good."""
        return self.connection.closed

    def on_reconnect(self, callback: Callable[[], None]) -> None:
        """Call this after every reconnect: the server may have lost its store."""
        self.connection.on_reconnect(callback)

    async def connect(self) -> None:
        """Connect; waits for as long as there is no server."""
        await self.connection.open()
        await self._completions.start()

    async def check(self) -> None:
        """
        Prove that the server answers, for readiness.

        Raises:
            TransientFault: It does not.
        """
        if not self.connection.is_connected:
            raise TransientFault("NATS is not connected; it is retried for ever")
        await self.connection.flush()

    async def subscribe(self, *subscriptions: Subscription) -> None:
        """
        Listen; returns once all are taken, waiting for durables not yet made.

        Requests are listened to first: the bootstrap may need their answers to
        make the durables.
        """
        listeners = [self._listener(each) for each in subscriptions]
        pulling = [each for each in listeners if isinstance(each, Worker)]
        others = [each for each in listeners if not isinstance(each, Worker)]
        for each in others:
            await each.start()
            self._listening.append(each)
        async with asyncio.TaskGroup() as group:
            for worker in pulling:
                self._listening.append(worker)
                group.create_task(worker.start())

    async def quiesce(self) -> None:
        """Take nothing new; finish, answer or nak everything that has come."""
        listening, self._listening = self._listening, []
        await stop_all(list(listening), self.connection.limits.drain_s)

    async def close(self) -> None:
        """Quiesce, flush and disconnect."""
        await self.quiesce()
        await self._completions.stop()
        await self.connection.close()

    async def publish(self, outgoing: Outgoing) -> None:
        """
        Put a message on its receiver's work stream; returns on PubAck.

        Raises:
            TransientFault: No PubAck in time, or the stream is full or not made
                yet; the message may or may not be stored.
            PermanentFault: The body is above the payload limit.
        """
        subject = self._router.subject(outgoing.address, outgoing.task_key)
        headers = {
            **outgoing.headers,
            names.MESSAGE_ID: outgoing.message_id,
            names.DEDUPE_ID: f"{outgoing.message_id}.{outgoing.send}",
        }
        if outgoing.task_key:
            headers[names.TASK_KEY] = outgoing.task_key
        # The stream would refuse it as if it were full, and it would be sent for ever.
        limits = self.connection.limits
        require_payload(
            subject,
            outgoing.body,
            headers,
            payload_bytes_max=limits.stored_bytes_max,
            limits=limits,
        )
        reply = await self.connection.request(
            subject, outgoing.body, headers, limits.publish_s
        )
        require_stored(subject, reply)

    async def announce(self, subject: str, message: Message) -> None:
        """Publish and forget: bells, deltas, cancels. Loss costs nothing."""
        try:
            await self.connection.publish(subject, message.encode(), carrier())
        except Fault as error:
            self.counters.dropped += 1
            log.info("announcement_dropped", error=error.detail)

    async def request(
        self, address: Address, request: Message, reply: type[M], *, timeout_s: float
    ) -> M:
        """
        Ask and wait for one reply.

        Raises:
            Refused: The other side answered with an error envelope.
            TransientFault: Nobody listens, or the connection is down.
            DeadlineExceeded: No reply in time.
            PermanentFault: The request is above the payload limit, or the reply
                does not decode.
        """
        subject = self._router.subject(address, None)
        with span(f"request {address.verb}", kind=SpanKind.CLIENT):
            msg = await self.connection.request(
                subject, request.encode(), carrier(), timeout_s
            )
        if names.ERROR in (msg.headers or {}):
            raise Refused(read_envelope(msg.data))
        try:
            return reply.model_validate_json(msg.data)
        except ValidationError as cause:
            detail = f"ask {address}: the reply is no {reply.__name__}"
            raise PermanentFault(detail, code="reply-unreadable") from cause

    def complete(
        self, request: CompletionRequest | EmbeddingRequest
    ) -> AbstractAsyncContextManager[FrameStream]:
        """Ask ai-broker; leaving the context without ``cancel`` lets it finish."""
        return self._completions.complete(request)

    @asynccontextmanager
    async def watch(
        self, subject: str, message: type[M]
    ) -> AsyncGenerator[AsyncIterator[M]]:
        """Hear a core subject while the context is open; the oldest are dropped."""
        heard = Heard[M](self.connection.limits.watch_buffered_max)

        async def on_message(msg: Msg) -> None:
            try:
                heard.put(message.model_validate_json(msg.data))
            except ValidationError:
                self.counters.dropped += 1

        subscription = await subscribe_core(self.connection, subject, "", on_message)
        try:
            yield heard
        finally:
            await unsubscribe(subscription)

    def _listener(self, subscription: Subscription) -> Listening:
        connection, track, clock = self.connection, self._track, self.clock
        match subscription:
            case Work():
                return Worker(self, subscription, track=track)
            case Answer():
                return Answerer(connection, subscription, track=track, clock=clock)
            case AnswerInFrames():
                return FrameAnswerer(connection, subscription, track=track, clock=clock)
            case Hear():
                return Hearer(connection, subscription)
            case Events():
                return EventsFeed(self, subscription)
            case _:
                assert_never(subscription)


class Heard(Generic[T]):
    """
    What was heard and not read yet; when it is full the oldest is dropped.

    No generator: one whose ``anext`` was cancelled, by a deadline perhaps, is over.
    """

    def __init__(self, bound: int) -> None:
        self._items: deque[T] = deque(maxlen=bound)
        self._arrived = asyncio.Event()

    def put(self, item: T) -> None:
        """Take what was just heard."""
        self._items.append(item)
        self._arrived.set()

    def __aiter__(self) -> Self:
        """Return itself."""
        return self

    async def __anext__(self) -> T:
        """Wait for the next; never ends by itself."""
        while not self._items:
            self._arrived.clear()
            await self._arrived.wait()
        return self._items.popleft()


def require_stored(subject: str, reply: Msg) -> None:
    """
    Read a PubAck.

    Raises:
        TransientFault: The stream refused: it is full, or the server is not well.
    """
    try:
        ack = _PubAck.model_validate_json(reply.data)
    except ValidationError as cause:
        raise TransientFault(f"publish to {subject}: no PubAck came") from cause
    if ack.error is not None:
        detail = f"publish to {subject}: {ack.error.description} ({ack.error.err_code})"
        raise TransientFault(detail, retry_after_s=PUBLISH_RETRY_S)


class _ApiError(BaseModel):
    """JetStream's error."""

    code: int = STREAM_FULL
    err_code: int = 0
    description: str = ""


class _PubAck(BaseModel):
    """JetStream's answer to a publish."""

    stream: str = ""
    error: _ApiError | None = None


async def unsubscribe(subscription: NatsSubscription) -> None:
    """End a core subscription; a closed connection has ended it already."""
    try:
        await subscription.unsubscribe()
    except nats.errors.Error as error:
        log.debug("unsubscribe_failed", error=repr(error))
