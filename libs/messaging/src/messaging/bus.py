"""
The bus as services see it: a Protocol with a real and a simulated twin.

Services state what they listen to as data (``subscriptions``) and send through
``Bus``; no service knows NATS, FastStream or a track.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from contracts.completions import CompletionRequest
from contracts.embeddings import EmbeddingRequest
from contracts.frames import Frame
from contracts.message import Message
from contracts.subjects import Address

M = TypeVar("M", bound=Message)


@dataclass(frozen=True, slots=True)
class Delivery:
    """What came with a message, beside its body."""

    subject: str
    """The concrete subject."""
    message_id: str
    """The inbox's key; equal on every re-send."""
    tenant: str | None
    """The subject's tenant token; None on platform subjects."""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    """NATS headers, trace context included."""
    deliveries: int = 1
    """How often the message has been delivered, this time included."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A durable message on its way from an outbox row to a work stream."""

    address: Address
    """Where to; the router adds the track."""
    message_id: str
    """The inbox's key at the receiver."""
    send: int
    """0 for the first send; makes ``Nats-Msg-Id`` differ on a re-send."""
    body: bytes
    """The encoded message."""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    """Trace context, as it was when the message was owed."""
    task_key: str | None = None
    """The task id that the track is drawn by."""


class FrameStream(Protocol):
    """A completion's answer as it comes."""

    def __aiter__(self) -> AsyncIterator[Frame]:
        """
        Yield frames in order, without gaps, up to ``Finished`` or ``Failed``.

        Raises:
            TransientFault: ``stream-cut`` after a gap or 15 s of silence, or
                ``overloaded``/``temporarily-unavailable`` when no replica takes
                it. Ask again with the same completion id.
            DeadlineExceeded: The request's deadline passed.
        """
        ...

    async def cancel(self) -> None:
        """Tell the answering replica that the caller gave up; idempotent."""
        ...


class Bus(Protocol):
    """What a service may send."""

    @property
    def instance(self) -> str:
        """Return this process's id, one safe subject token."""
        ...

    async def publish(self, outgoing: Outgoing) -> None:
        """
        Put a message on its receiver's work stream; returns on PubAck.

        Raises:
            TransientFault: No PubAck in time; it may or may not be stored.
            PermanentFault: The body is above the payload limit.
        """
        ...

    async def announce(self, subject: str, message: Message) -> None:
        """Publish and forget: bells, deltas, cancels. Loss costs nothing."""
        ...

    async def request(
        self, address: Address, request: Message, reply: type[M], *, timeout_s: float
    ) -> M:
        """
        Ask and wait for one reply.

        Raises:
            Refused: The other side answered with an error envelope.
            TransientFault: Nobody listens, or the connection is down.
            DeadlineExceeded: No reply in time.
        """
        ...

    def complete(
        self, request: CompletionRequest | EmbeddingRequest
    ) -> AbstractAsyncContextManager[FrameStream]:
        """
        Ask ai-broker for an answer, or for vectors.

        Leaving the context without ``cancel`` lets it finish.
        """
        ...

    def watch(
        self, subject: str, message: type[M]
    ) -> AbstractAsyncContextManager[AsyncIterator[M]]:
        """
        Hear a core subject while the context is open.

        The buffer is bounded: when the reader is slow the oldest are dropped,
        so only bells and deltas may be heard this way. Bodies that do not
        decode are dropped too.
        """
        ...
