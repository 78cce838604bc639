"""
Budget leases: slices of limits that billing-meter hands to broker replicas.

A lease covers all scopes of a request or none. Expiry stops new reservations
only; the meter holds the slice until it is returned or the longest call plus
grace has passed, so a crash never lets money be spent twice.
"""

from decimal import Decimal
from enum import StrEnum
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, field_validator

from contracts.ids import TenantId, Token
from contracts.message import Count, Document, Instant, Message
from contracts.money import INT64_MAX, PICO_PER_USD, PicoUsd
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
    pico_usd_enough: PicoUsd | None = None
    """One whole call; less, down to the minimum, is taken when no more can come."""


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
    scopes: tuple[BudgetScope, ...] = ()
    """Those of the request that have a limit."""


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
    is_unlimited: bool = False
    """No limit is on any of the scopes: spend without a lease."""
    limited_kinds: tuple[ScopeKind, ...] | None = None
    """The kinds of scope that this tenant has limits on; None from who cannot say."""
    hard_kinds: tuple[ScopeKind, ...] | None = None
    """Those of them that have hard limits."""
    is_final: bool = False
    """Waiting cannot help: what others hold would not be enough either."""


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
    attempts: Count | None = None
    """Vendor calls made under the lease; known once none is under way."""


class LeaseRecall(Message):
    """
    billing-meter → replicas: return what lies idle of these scopes.

    It is also the bell that a limit changed: forget what was known of them.
    """

    tenant: TenantId
    """Whose money."""
    scopes: tuple[BudgetScope, ...] = Field(min_length=1, max_length=16)
    """Which scopes need it."""


LIMIT_USD_PATTERN: Final = r"^\d{1,7}(\.\d{1,12})?$"


class BudgetPeriod(StrEnum):
    """How often a budget begins anew."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    ROLLING = "rolling"
    LIFETIME = "lifetime"


class Budget(Document):
    """A limit on what a scope may spend in a period; scope and period are its key."""

    scope: BudgetScope
    """What it is put on."""
    period: BudgetPeriod
    """A calendar day, week from Monday or month; the last hours; or for ever."""
    limit_usd: str | None = Field(pattern=LIMIT_USD_PATTERN)
    """Dollars as a decimal text: ``12.50``; null takes the limit away."""
    is_hard: bool = True
    """Never overshot; a soft one may be, by what calls cost above their estimate."""
    time_zone: str = Field(default="UTC", max_length=64)
    """Where the calendar period begins: ``Asia/Shanghai``."""
    window_h: int = Field(default=720, ge=1, le=8_784)
    """How many hours ``rolling`` looks back."""

    @field_validator("limit_usd")
    @classmethod
    def _fits(cls, limit_usd: str | None) -> str | None:
        if limit_usd is not None and _pico(limit_usd) > INT64_MAX:
            message = "is above 9223372 dollars, the most that a limit can be"
            raise ValueError(message)
        return limit_usd

    @field_validator("time_zone")
    @classmethod
    def _exists(cls, time_zone: str) -> str:
        try:
            ZoneInfo(time_zone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as cause:
            message = "is no time zone of the IANA database, such as Europe/Berlin"
            raise ValueError(message) from cause
        return time_zone

    @property
    def limit_pico_usd(self) -> int | None:
        """The limit in pico-USD; None takes it away."""
        return None if self.limit_usd is None else _pico(self.limit_usd)


class ApplyBudget(Message):
    """Create, change or take away a budget."""

    tenant: TenantId
    """Whose."""
    budget: Budget
    """The document."""


class BudgetView(Message):
    """A budget and what is left: ``limit = spent + held + free``."""

    budget: Budget
    """The document."""
    limit_pico_usd: PicoUsd
    """The limit."""
    spent_pico_usd: PicoUsd
    """On the ledger in this period."""
    held_pico_usd: PicoUsd
    """In slices that broker replicas hold."""
    free_pico_usd: PicoUsd
    """The rest; below 0 once a soft budget was overshot or a limit lowered."""
    resets_at: Instant | None = None
    """When there is money again; None for a lifetime."""


class ListBudgets(Message):
    """Ask for a tenant's budgets."""

    tenant: TenantId
    """Whose."""
    limit: int = Field(default=100, ge=1, le=200)
    """Page size."""
    cursor: str | None = Field(default=None, max_length=400)
    """Where the last page ended."""


class BudgetPage(Message):
    """Budgets by scope and period."""

    budgets: tuple[BudgetView, ...]
    """The budgets."""
    next_cursor: str | None = None
    """Ask again with this for more."""


class GetBalances(Message):
    """Ask what is left of certain scopes."""

    tenant: TenantId
    """Whose."""
    scopes: tuple[BudgetScope, ...] = Field(min_length=1, max_length=16)
    """Which; those without a limit are left out of the answer."""


def _pico(usd: str) -> int:
    return int(Decimal(usd) * PICO_PER_USD)
