"""Periods: when spending counts, and when there is money again."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing_meter.domain.limits import Account, Limit, bucket, opens, resets_at
from contracts.budgets import Budget, BudgetPeriod, BudgetScope, ScopeKind

SCOPE = BudgetScope(kind=ScopeKind.TENANT, id="acme")
CALENDAR = (BudgetPeriod.DAY, BudgetPeriod.WEEK, BudgetPeriod.MONTH)
ZONES = ("UTC", "Asia/Kolkata", "America/Sao_Paulo", "Europe/Berlin", "Pacific/Apia")
FIRST = datetime(2000, 1, 1, tzinfo=UTC)
INSTANTS = st.integers(0, 60 * 366 * 24 * 3600).map(
    lambda seconds: FIRST + timedelta(seconds=seconds)
)


def budget(period: BudgetPeriod, **options: object) -> Budget:
    """Return a budget of ten dollars."""
    fields = {"scope": SCOPE, "period": period, "limit_usd": "10"}
    return Budget.model_validate(fields | options)


def account(of: Budget, oldest: datetime | None = None) -> Account:
    """Return an account with nothing spent."""
    return Account(Limit("acme", of, 10), 0, 0, oldest)


@given(at=INSTANTS, period=st.sampled_from(CALENDAR), zone=st.sampled_from(ZONES))
def test_every_instant_is_in_one_calendar_period(
    at: datetime, period: BudgetPeriod, zone: str
) -> None:
    """A period begins at or before, ends after, and all its instants share it."""
    of = budget(period, time_zone=zone)
    begins, ends = bucket(of, at), resets_at(account(of), at)
    assert ends is not None
    assert begins <= at < ends
    assert bucket(of, begins) == begins == bucket(of, ends - timedelta(seconds=1))
    assert bucket(of, ends) == ends
    assert opens(of, at) == begins


@given(at=INSTANTS, age_h=st.integers(0, 100), window_h=st.integers(1, 48))
def test_a_rolling_window_forgets_no_hour_too_early(
    at: datetime, age_h: int, window_h: int
) -> None:
    """What is younger than the window counts; an hour older, it does not."""
    of = budget(BudgetPeriod.ROLLING, window_h=window_h)
    counted = bucket(of, at - timedelta(hours=age_h)) >= opens(of, at)
    assert counted == (age_h <= window_h)


def test_a_month_begins_at_its_own_midnight() -> None:
    """In Shanghai the month is eight hours older than in Greenwich."""
    of = budget(BudgetPeriod.MONTH, time_zone="Asia/Shanghai")
    at = datetime(2026, 11, 30, 16, 30, tzinfo=UTC)
    assert bucket(of, at) == datetime(2026, 11, 30, 16, tzinfo=UTC)
    told = resets_at(account(of), at)
    assert told == datetime(2027, 1, 1, tzinfo=ZoneInfo("Asia/Shanghai"))


def test_a_day_with_25_hours_is_one_day() -> None:
    """The clock goes back, the budget does not begin twice."""
    of = budget(BudgetPeriod.DAY, time_zone="Europe/Berlin")
    at = datetime(2026, 10, 25, 12, tzinfo=UTC)
    ends = resets_at(account(of), at)
    assert ends is not None
    assert ends - bucket(of, at) == timedelta(hours=25)


def test_a_lifetime_never_resets() -> None:
    """Only a higher limit brings money to it."""
    of = budget(BudgetPeriod.LIFETIME)
    at = datetime(2026, 1, 1, tzinfo=UTC)
    assert bucket(of, at) == bucket(of, at + timedelta(days=9_000))
    assert resets_at(account(of), at) is None


def test_a_rolling_budget_frees_its_oldest_hour_first() -> None:
    """Money comes back when the first counted hour leaves the window."""
    of = budget(BudgetPeriod.ROLLING, window_h=24)
    at = datetime(2026, 1, 2, 10, 30, tzinfo=UTC)
    oldest = datetime(2026, 1, 2, 3, tzinfo=UTC)
    told = resets_at(account(of, oldest), at)
    assert told == datetime(2026, 1, 3, 4, tzinfo=UTC)
    assert opens(of, datetime(2026, 1, 3, 4, tzinfo=UTC)) > oldest
    assert resets_at(account(of), at) is None


@pytest.mark.parametrize("limit_usd", ["", "-1", "1e3", "1.1234567890123", "9999999"])
def test_a_limit_that_is_no_amount_is_refused(limit_usd: str) -> None:
    """No float, no sign, no more than an entry of the ledger can hold."""
    with pytest.raises(ValueError, match="limit_usd"):
        budget(BudgetPeriod.DAY, limit_usd=limit_usd)


@pytest.mark.parametrize("zone", ["Mars/Olympus", "../etc/passwd", ""])
def test_a_time_zone_that_is_none_is_refused(zone: str) -> None:
    """The error names what would be right."""
    with pytest.raises(ValueError, match="IANA"):
        budget(BudgetPeriod.DAY, time_zone=zone)


def test_a_limit_is_read_to_the_pico_dollar() -> None:
    """What people write is what the books keep."""
    assert budget(BudgetPeriod.DAY, limit_usd="0.000000000001").limit_pico_usd == 1
    assert budget(BudgetPeriod.DAY, limit_usd=None).limit_pico_usd is None
