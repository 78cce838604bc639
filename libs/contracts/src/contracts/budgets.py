"""
Budget leases: slices of limits that billing-meter hands to broker replicas.

A lease covers all scopes of a request or none. Expiry stops new reservations
only; the meter holds the slice until it is returned or the longest call plus
grace has passed, so a crash never lets money be spent twice.
"""

from enum import StrEnum

from pydantic import Field

from contracts.ids import TenantId, Token
from contracts.message import Instant, Message
from contracts.money import PicoUsd
from contracts.problems import Problem


class ScopeKind(StrEnum):
    """What a limit is put on."""

    TENANT = "tenant"
    TEAM = "team"
    EMPLOYEE = "employee"
    TASK = "task"
    USER = "user"
    API_KEY = "api-key"


class BudgetScope(Message):
    """One thing that a limit is put on."""

    kind: ScopeKind
    """Which kind."""
    id: str = Field(min_length=1, max_length=256)
    """Which one, within the tenant."""


class LeaseRequest(Message):
    """A broker replica asks for a slice."""

    lease_id: Token
    """Asking twice with one id gives one lease."""
    tenant: TenantId
    """Whose money."""
    instance: Token
    """The replica that will spend it."""
    scopes: tuple[BudgetScope, ...] = Field(min_length=1, max_length=16)
    """All that the spending counts against, in a fixed order."""
    pico_usd_min: PicoUsd
    """Less than this is of no use."""
    pico_usd_wanted: PicoUsd
    """What would be good to have."""
    deadline: Instant
    """Recall and wait until this time before refusing."""


class LeaseGrant(Message):
    """A slice of every limit that applies."""

    lease_id: Token
    """Its id."""
    pico_usd: PicoUsd
    """How much may be reserved from it."""
    is_hard: bool
    """Whether a limit may never be overshot."""
    expires_at: Instant
    """No new reservation after this time."""


class LeaseReply(Message):
    """A grant, or the reason for none."""

    grant: LeaseGrant | None = None
    """The slice."""
    refusal: Problem | None = None
    """The scope that is used up, and when it resets."""
    refused_scope: BudgetScope | None = None
    """Which scope that is."""
    resets_at: Instant | None = None
    """When that scope has money again."""


class LeaseReturn(Message):
    """A replica gives back what it did not spend."""

    lease_id: Token
    """Which lease."""
    tenant: TenantId
    """Whose money."""
    instance: Token
    """The replica."""
    spent_pico_usd: PicoUsd
    """Settled against the lease."""
    reserved_pico_usd: PicoUsd
    """Still reserved by calls under way."""


class LeaseRecall(Message):
    """billing-meter → replicas: return what lies idle of these scopes."""

    tenant: TenantId
    """Whose money."""
    scopes: tuple[BudgetScope, ...] = Field(min_length=1, max_length=16)
    """Which scopes need it."""
