"""What billing-meter tells of its ledger."""

from enum import StrEnum

from pydantic import Field

from contracts.ids import AttemptId, TaskId, TenantId
from contracts.message import Count, Instant, Message
from contracts.money import PicoUsd
from contracts.usage import EndState, TokenUsage, UsageSource


class Account(StrEnum):
    """Accounts of the double entry."""

    VENDOR_PAYABLE = "vendor-payable"
    TENANT_COGS = "tenant-cogs"
    SUSPENSE = "suspense"


class LedgerLine(Message):
    """One attempt's line: usage, price and the entry that it made."""

    transaction_id: str
    """The entries that sum to zero."""
    attempt_id: AttemptId
    """The vendor call."""
    revision: int = Field(ge=0)
    """0 first; a higher one reversed the one before."""
    tenant: TenantId
    """Who pays."""
    task_id: TaskId | None = None
    """The task."""
    vendor: str
    """Who was called."""
    model: str
    """Which model."""
    usage: TokenUsage
    """What it consumed."""
    source: UsageSource
    """Whether the vendor said so."""
    end_state: EndState
    """How it ended."""
    account: Account
    """Where the cost was posted: ``tenant-cogs``, or ``suspense`` at a ceiling."""
    pico_usd: PicoUsd
    """The cost."""
    price_digest: str
    """The price book that was used."""
    occurred_at: Instant
    """When the attempt ended."""
    recorded_at: Instant
    """When it was posted."""


class GetTaskCost(Message):
    """Ask what tasks have cost so far."""

    tenant: TenantId
    """Whose."""
    task_ids: tuple[TaskId, ...] = Field(min_length=1, max_length=200)
    """Which."""


class TaskCost(Message):
    """What one task has cost so far."""

    task_id: TaskId
    """The task."""
    pico_usd: PicoUsd
    """Sum of its lines in force."""
    attempts: Count
    """Attempts behind the sum."""
    estimated_attempts: Count = 0
    """Of these, such whose usage the vendor did not report."""


class TaskCosts(Message):
    """What tasks have cost so far; one without lines costs 0."""

    costs: tuple[TaskCost, ...]
    """In the order asked."""


class ListLedger(Message):
    """Ask for ledger lines in force, oldest first."""

    tenant: TenantId
    """Whose."""
    task_id: TaskId | None = None
    """Only this task's."""
    limit: int = Field(default=100, ge=1, le=500)
    """Page size."""
    cursor: str | None = None
    """Where the last page ended."""


class LedgerPage(Message):
    """A page of ledger lines."""

    lines: tuple[LedgerLine, ...]
    """The lines."""
    next_cursor: str | None = None
    """Ask again with this for more."""
