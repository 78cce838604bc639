"""
Limits on spending, and the periods that they count in.

Spending is kept in buckets: one per calendar period, one per hour for a rolling
window, one for a lifetime. A limit's spending is the sum of the buckets from
``opens`` on, so that a new period begins with nothing spent and nothing to reset.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, assert_never
from zoneinfo import ZoneInfo

from contracts.budgets import Budget, BudgetPeriod, BudgetScope, BudgetView, ScopeKind
from contracts.usage import UsageRecord

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
HOUR: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Limit:
    """A budget of a tenant, as the books use it."""

    tenant: str
    budget: Budget
    pico_usd: int

    @property
    def scope(self) -> BudgetScope:
        """What it is put on."""
        return self.budget.scope

    @property
    def key(self) -> tuple[str, str, str]:
        """Its place in every list, and the order in which limits are locked."""
        scope = self.budget.scope
        return (scope.kind.value, scope.id, self.budget.period.value)


@dataclass(frozen=True, slots=True)
class Kinds:
    """The kinds of scope that a tenant has limits on."""

    limited: tuple[ScopeKind, ...]
    hard: tuple[ScopeKind, ...]


@dataclass(frozen=True, slots=True)
class Account:
    """A limit and what counts against it: ``limit = spent + held + free``."""

    limit: Limit
    spent: int
    """On the ledger, in the period that is open."""
    held: int
    """In the slices of leases that are not closed."""
    oldest: datetime | None = None
    """The first bucket that counts."""

    @property
    def free(self) -> int:
        """What nobody has."""
        return self.limit.pico_usd - self.spent - self.held

    @property
    def reachable(self) -> int:
        """What could be free if all that is held came back."""
        return self.limit.pico_usd - self.spent


def bucket(budget: Budget, at: datetime) -> datetime:
    """Return the bucket that spending at this time falls into."""
    match budget.period:
        case BudgetPeriod.DAY | BudgetPeriod.WEEK | BudgetPeriod.MONTH:
            return _start(budget, at, 0)
        case BudgetPeriod.ROLLING:
            return at.replace(minute=0, second=0, microsecond=0).astimezone(UTC)
        case BudgetPeriod.LIFETIME:
            return EPOCH
        case _:
            assert_never(budget.period)


def opens(budget: Budget, now: datetime) -> datetime:
    """Return the first bucket that counts now."""
    if budget.period is BudgetPeriod.ROLLING:
        # The hour that the window begins in counts whole: never a minute too few.
        return bucket(budget, now - timedelta(hours=budget.window_h))
    return bucket(budget, now)


def resets_at(account: Account, now: datetime) -> datetime | None:
    """Return when there is money again by time alone; None if never."""
    budget = account.limit.budget
    match budget.period:
        case BudgetPeriod.DAY | BudgetPeriod.WEEK | BudgetPeriod.MONTH:
            return _start(budget, now, 1)
        case BudgetPeriod.ROLLING:
            if account.oldest is None:
                return None
            return account.oldest + timedelta(hours=budget.window_h) + HOUR
        case BudgetPeriod.LIFETIME:
            return None
        case _:
            assert_never(budget.period)


def view(account: Account, now: datetime) -> BudgetView:
    """Return what is told of an account."""
    return BudgetView(
        budget=account.limit.budget,
        limit_pico_usd=account.limit.pico_usd,
        spent_pico_usd=account.spent,
        held_pico_usd=account.held,
        free_pico_usd=account.free,
        resets_at=resets_at(account, now),
    )


def scopes_of(record: UsageRecord) -> tuple[BudgetScope, ...]:
    """Return everything that a record's cost counts against."""
    ids = {
        ScopeKind.TENANT: record.tenant,
        ScopeKind.TEAM: record.team,
        ScopeKind.EMPLOYEE: record.employee,
        ScopeKind.TASK: record.task_id,
        ScopeKind.USER: record.user,
        ScopeKind.API_KEY: record.api_key_id,
    }
    return tuple(BudgetScope(kind=kind, id=of) for kind, of in ids.items() if of)


def matching(limits: Iterable[Limit], scopes: Iterable[BudgetScope]) -> list[Limit]:
    """Return the limits that are put on one of these scopes."""
    wanted = frozenset(scopes)
    return [each for each in limits if each.scope in wanted]


def _start(budget: Budget, at: datetime, later: int) -> datetime:
    """Return when the calendar period of a time began, or one that comes later."""
    zone = ZoneInfo(budget.time_zone)
    day = at.astimezone(zone).date()
    match budget.period:
        case BudgetPeriod.WEEK:
            day += timedelta(days=7 * later - day.weekday())
        case BudgetPeriod.MONTH:
            months = day.year * 12 + day.month - 1 + later
            day = day.replace(year=months // 12, month=months % 12 + 1, day=1)
        case _:
            day += timedelta(days=later)
    # Midnight by that day's own offset: a day of 23 or 25 hours is one day.
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)
