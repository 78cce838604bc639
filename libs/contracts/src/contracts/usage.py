"""
What a vendor call consumed: the one record that billing is made of.

One record per (attempt id, revision). The token counts are a disjoint
partition: no token is in two of them, so the sum of cost is the sum of parts.
"""

from enum import StrEnum

from pydantic import Field

from contracts.ids import (
    AttemptId,
    CompletionId,
    EmployeeName,
    MessageId,
    Name,
    StepId,
    TaskId,
    TenantId,
    Token,
)
from contracts.message import Count, Instant, JsonObject, Message
from contracts.quality import QualitySignals


class TokenUsage(Message):
    """Tokens as a disjoint partition."""

    input_tokens: Count = 0
    """Uncached input, cache reads and writes excluded."""
    cache_read_tokens: Count = 0
    """Input that the vendor read from its cache."""
    cache_write_5m_tokens: Count = 0
    """Input written to a cache that lives five minutes."""
    cache_write_1h_tokens: Count = 0
    """Input written to a cache that lives an hour."""
    input_audio_tokens: Count = 0
    """Audio among the input."""
    output_tokens: Count = 0
    """Text and tool calls of the answer, reasoning excluded."""
    reasoning_tokens: Count = 0
    """Hidden reasoning, billed as output by most vendors."""
    output_audio_tokens: Count = 0
    """Audio among the output."""

    @property
    def total(self) -> int:
        """Return all tokens."""
        return sum(self.parts().values())

    def parts(self) -> dict[str, int]:
        """Return the partition by field name."""
        return {name: getattr(self, name) for name in TokenUsage.model_fields}

    def __add__(self, other: "TokenUsage") -> "TokenUsage":
        """Return the sum, part by part; never of two snapshots of one stream."""
        mine, theirs = self.parts(), other.parts()
        return TokenUsage(**{name: mine[name] + theirs[name] for name in mine})


class UsageSource(StrEnum):
    """How the counts came to be known."""

    VENDOR = "vendor"
    ESTIMATED = "estimated"
    UNKNOWN = "unknown"


class EndState(StrEnum):
    """How an attempt ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed-out"
    CUT = "cut"
    UNKNOWN = "unknown"


class UsageRecord(Message):
    """What one vendor attempt consumed, as far as it is known by now."""

    attempt_id: AttemptId
    """The attempt; with ``revision`` the ledger's key, for ever."""
    revision: int = Field(ge=0)
    """0 first; a higher one replaces what was known, by reversal and repost."""
    attempt_number: int = Field(ge=1)
    """Which attempt of its completion this is."""
    tenant: TenantId
    """Who pays."""
    completion_id: CompletionId
    """The completion that the attempt was made for."""
    task_id: TaskId | None = None
    """The task, when an employee asked."""
    step_id: StepId | None = None
    """The task's step."""
    employee: EmployeeName | None = None
    """Who asked."""
    user: str | None = Field(default=None, max_length=256)
    """The caller's end user, when given."""
    api_key_id: Token | None = None
    """The API key that the request came in by."""
    team: Name | None = None
    """The team of the caller or the employee."""
    lease_id: Token | None = None
    """The lease that the attempt was reserved under; see ``contracts.budgets``."""
    vendor: str
    """The catalogue's vendor name: ``openai``."""
    own_key: bool = False
    """Whether the tenant's own key was used, so that the vendor bills the tenant."""
    requested_model: str
    """What the caller asked for, an alias perhaps."""
    model: str
    """What the vendor said that it ran."""
    service_tier: str | None = None
    """The tier that the vendor returned, not the one asked for."""
    batch: bool = False
    """Whether the vendor's batch price applies."""
    usage: TokenUsage
    """The counts."""
    source: UsageSource
    """Whether the vendor reported them."""
    end_state: EndState
    """How the attempt ended."""
    finish_reason: str | None = None
    """The canonical finish reason of a completed attempt."""
    http_status: int | None = None
    """The vendor's HTTP status, if one came."""
    vendor_request_id: str | None = None
    """The vendor's own id of the call."""
    raw_usage: JsonObject | None = None
    """The vendor's usage object, untouched; of a huge one its ``omitted_bytes``."""
    quality: QualitySignals | None = None
    """What can be said of a completed attempt's answer; never part of its price."""
    trace: str | None = None
    """W3C ``traceparent`` of the call, since a batch has many."""
    started_at: Instant
    """When the attempt was dispatched."""
    occurred_at: Instant
    """When it ended; prices in force at this time apply."""


class UsageBatch(Message):
    """Records on their way to the ledger; the batch has no meaning of its own."""

    batch_id: MessageId
    """The message id."""
    tenant: TenantId
    """Whose records these are; every record's tenant is the same."""
    records: tuple[UsageRecord, ...] = Field(min_length=1, max_length=500)
    """At most 500."""
