"""What a service listens to, stated as data so that any bus can carry it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, Protocol, TypeVar

from contracts.frames import (
    Failed,
    Finished,
    Opened,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    VectorsDelta,
)
from contracts.message import Message
from contracts.subjects import Service, Verb
from messaging.burial import DeadLetterSink
from messaging.bus import Delivery

M = TypeVar("M", bound=Message)

FrameBody = (
    Opened
    | TextDelta
    | ReasoningDelta
    | ToolCallDelta
    | VectorsDelta
    | Finished
    | Failed
)


class FrameSink(Protocol):
    """Where an answer in frames goes; numbers them and pings while idle."""

    async def send(self, frame: FrameBody) -> None:
        """Send one frame; after ``Finished`` or ``Failed`` nothing may follow."""
        ...


@dataclass(frozen=True)
class Work(Generic[M]):
    """
    A durable work subject: ack after the handler returns.

    A TransientFault is nak'd with a delay for ever; a PermanentFault or a body
    that does not decode becomes a dead letter; a bug is retried with backoff
    and becomes a dead letter past the limit. A body whose ``tenant`` differs
    from the subject's is a dead letter: nobody writes into another tenant.
    """

    verb: Verb
    message: type[M]
    handle: Callable[[M, Delivery], Awaitable[None]]
    workers: int = 16
    """Concurrent handlers per process."""


@dataclass(frozen=True)
class Answer(Generic[M]):
    """
    A request subject, answered once, in a queue group with the other replicas.

    Whatever the handler raises becomes an error envelope: a Refused as it is, a
    fault by its code, a bug as ``internal-error`` without its text.
    """

    verb: Verb
    request: type[M]
    answer: Callable[[M, Delivery], Awaitable[Message]]
    concurrency: int = 64
    """Above this, 503 at once."""


@dataclass(frozen=True)
class AnswerInFrames(Generic[M]):
    """A request subject answered by a stream of frames."""

    verb: Verb
    request: type[M]
    answer: Callable[[M, Delivery, FrameSink], Awaitable[None]]
    concurrency: int = 512
    """Above this, 503 at once."""


@dataclass(frozen=True)
class Hear(Generic[M]):
    """A core subject heard by every replica; what does not decode is dropped."""

    subject: str
    message: type[M]
    hear: Callable[[M], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class ForeignEvent:
    """A message of a tenant's events stream, undecoded."""

    tenant: str
    """From the stream that it came by."""
    subject: str
    """``events.<tenant>.<type…>``."""
    headers: dict[str, str]
    """NATS headers, with the case that the publisher used."""
    body: bytes
    """As it came."""
    stream_created: datetime
    """With ``sequence`` the identity of an event that has no id."""
    sequence: int
    """Its place in the stream."""
    deliveries: int = 1
    """How often it has been delivered, this time included."""


@dataclass(frozen=True)
class Events:
    """Every tenant's events stream; streams that appear later are picked up."""

    handle: Callable[[ForeignEvent], Awaitable[None]]
    workers: int = 4
    """Concurrent handlers per tenant and process."""


# Any: a handler of one message type is no handler of every message type, and
# the bus decodes by the type that stands beside the handler.
Subscription = Work[Any] | Answer[Any] | AnswerInFrames[Any] | Hear[Any] | Events


@dataclass(frozen=True)
class Runnable:
    """A wired service: what it listens to and the loops that it owns."""

    service: Service
    subscriptions: tuple[Subscription, ...]
    loops: tuple[Callable[[], Awaitable[None]], ...] = field(default=())
    """Each runs until cancelled; one that raises takes the process down."""
    sink: DeadLetterSink = field(kw_only=True)
    """Where given-up messages go."""
