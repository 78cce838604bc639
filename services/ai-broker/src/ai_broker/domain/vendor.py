"""
What a vendor says while it answers, in no vendor's words.

A call is ``Started``, then pieces and usage snapshots in any order, then ``Done``.
A call that ends otherwise raises ``VendorError``; one that just stops was cut.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from contracts.completions import FinishReason
from contracts.message import Json, JsonObject
from contracts.usage import TokenUsage


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request in a vendor's own form."""

    body: JsonObject
    dropped: tuple[str, ...] = ()
    """Fields that it has no place for, left out as the caller allowed."""


@dataclass(frozen=True, slots=True)
class Started:
    """The vendor took the request: its headers came."""

    http_status: int
    request_id: str | None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    """Names in lower case: rate limits are among them."""


@dataclass(frozen=True, slots=True)
class Text:
    """More text of a part."""

    part: int
    text: str


@dataclass(frozen=True, slots=True)
class Reasoning:
    """More reasoning of a part; the signature or the sealed form comes whole."""

    part: int
    text: str = ""
    signature: str | None = None
    redacted: str | None = None


@dataclass(frozen=True, slots=True)
class ToolCallPiece:
    """More of a tool call; id and name come with the first piece."""

    part: int
    call_id: str | None = None
    name: str | None = None
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class Declined:
    """More of the vendor's words of refusal."""

    part: int
    text: str


@dataclass(frozen=True, slots=True)
class UsageSeen:
    """A usage snapshot; a later one replaces it, they are never summed."""

    usage: TokenUsage
    raw: JsonObject
    final: bool
    """Whether it counts the whole call."""


@dataclass(frozen=True, slots=True)
class Done:
    """The proper end of an answer; its usage is the last snapshot before."""

    finish_reason: FinishReason
    model: str
    service_tier: str | None = None
    logprobs: Json = None
    stop_sequence: str | None = None


@dataclass(frozen=True, slots=True)
class Vectors:
    """Some of an embeddings question's vectors, little-endian float32 each."""

    first: int
    """Which input the first of them belongs to."""
    vectors: tuple[bytes, ...]


Piece = Text | Reasoning | ToolCallPiece | Declined
VendorEvent = Started | Piece | Vectors | UsageSeen | Done


class FailureKind(StrEnum):
    """How a call failed, which decides what it may have cost."""

    REFUSED = "refused"
    """An HTTP error status: the vendor answered, and bills nothing."""
    UNREACHED = "unreached"
    """No connection: the request never left."""
    LOST = "lost"
    """The connection broke before any answer: it may have been served."""
    SILENT = "silent"
    """Nothing came for too long: it may be served still."""
    CUT = "cut"
    """The answer stopped without its end marker."""
    MALFORMED = "malformed"
    """What came is not the protocol."""
    REPORTED = "reported"
    """The vendor reported an error inside its answer."""
    ENDLESS = "endless"
    """Its answer grew past every limit, and was cut off by us."""


@dataclass(frozen=True)
class Failure:
    """A failed call, with what decides whether to call again."""

    kind: FailureKind
    message: str
    status: int | None = None
    """The HTTP status, or the one that an error inside a stream stands for."""
    code: str | None = None
    """The vendor's own word: ``rate_limit_error``."""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    """Response headers, names in lower case."""
    request_id: str | None = None


class VendorError(Exception):
    """A call failed; everything known of it is in ``failure``."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure
