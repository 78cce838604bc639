"""
A completion's answer in frames.

The first frame names the replica that answers, so that the caller can cancel
there. Frames are numbered from 0 without gaps; a ping comes when nothing else
did for five seconds; the end is explicit, ``finished`` or ``failed``. A stream
that stops without one of those was cut, and must never look clean.
"""

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from contracts.completions import AttemptSummary, Completion
from contracts.ids import CompletionId, InstanceId
from contracts.message import Message
from contracts.problems import ErrorEnvelope
from contracts.rates import RateStanding

PING_INTERVAL_S = 5.0
IDLE_LIMIT_S = 15.0


class Opened(Message):
    """Frame 0: who answers."""

    kind: Literal["opened"] = "opened"
    number: int = Field(default=0, ge=0)
    """Its place in this reply, set when it is sent."""
    completion_id: CompletionId
    """The question."""
    instance: InstanceId
    """Send a cancel to this replica."""
    rates: tuple[RateStanding, ...] | None = None
    """The rate limits that the call was held to; None without any."""


class Answerer(Message):
    """Who gives an answer, as far as it is known before its end."""

    vendor: str
    """Who answers."""
    model: str
    """Which model it was asked for; of a stored answer, the one that it named."""
    is_cached: bool = False
    """Whether an equal question's stored answer is given."""


class TextDelta(Message):
    """More of the answer's text."""

    kind: Literal["text"] = "text"
    number: int = Field(default=0, ge=0)
    """Its place in this reply, set when it is sent."""
    part: int = Field(ge=0)
    """Which part of the answer it belongs to."""
    text: str
    """What comes next."""
    by: Answerer | None = None
    """Who answers; with the first piece of all."""


class ReasoningDelta(Message):
    """More of the model's reasoning."""

    kind: Literal["reasoning"] = "reasoning"
    number: int = Field(default=0, ge=0)
    """Its place in this reply, set when it is sent."""
    part: int = Field(ge=0)
    """Which part of the answer it belongs to."""
    text: str = ""
    """What comes next."""
    signature: str | None = None
    """The vendor's proof, with the last piece."""
    redacted: str | None = None
    """Opaque reasoning that only the vendor can read; comes whole."""
    by: Answerer | None = None
    """Who answers; with the first piece of all."""


class ToolCallDelta(Message):
    """More of a tool call."""

    kind: Literal["tool-call"] = "tool-call"
    number: int = Field(default=0, ge=0)
    """Its place in this reply, set when it is sent."""
    part: int = Field(ge=0)
    """Which part of the answer it belongs to."""
    call_id: str | None = None
    """With the first piece."""
    name: str | None = None
    """With the first piece."""
    arguments: str = ""
    """More of the JSON text."""
    by: Answerer | None = None
    """Who answers; with the first piece of all."""


class VectorsDelta(Message):
    """Some of an embeddings question's vectors."""

    kind: Literal["vectors"] = "vectors"
    number: int = Field(default=0, ge=0)
    """Its place in this reply, set when it is sent."""
    first: int = Field(ge=0)
    """Which input the first of them belongs to."""
    vectors: tuple[bytes, ...]
    """Little-endian float32, base64 in JSON; one for each input from there on."""


class Ping(Message):
    """Still working."""

    kind: Literal["ping"] = "ping"
    number: int = Field(default=0, ge=0)
    """Its place in this reply, set when it is sent."""


class Finished(Message):
    """The end: the answer is stored and whole."""

    kind: Literal["finished"] = "finished"
    number: int = Field(default=0, ge=0)
    """Its place in this reply, set when it is sent."""
    completion: Completion
    """The whole answer, deltas included, vectors not."""


class Failed(Message):
    """The end: there is no whole answer."""

    kind: Literal["failed"] = "failed"
    number: int = Field(default=0, ge=0)
    """Its place in this reply, set when it is sent."""
    error: ErrorEnvelope
    """Why."""
    attempts: tuple[AttemptSummary, ...] = ()
    """What was tried, and is on the ledger."""


Frame = Annotated[
    Opened
    | TextDelta
    | ReasoningDelta
    | ToolCallDelta
    | VectorsDelta
    | Ping
    | Finished
    | Failed,
    Field(discriminator="kind"),
]
FRAME: TypeAdapter[Frame] = TypeAdapter(Frame)


class CancelCompletion(Message):
    """The caller gave up; stop the vendor call and settle what it cost."""

    tenant: str
    """Whose completion."""
    completion_id: CompletionId
    """Which."""
