"""Leases: what is granted, what is held, and when it is free again."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing_meter.domain import leases
from billing_meter.domain.leases import (
    SHARE,
    Granted,
    Lease,
    LeaseState,
    Short,
    Spoilt,
    Terms,
    Unlimited,
)
from billing_meter.domain.limits import Account, Limit
from contracts.budgets import (
    Budget,
    BudgetPeriod,
    BudgetScope,
    LeaseRequest,
    ScopeKind,
)

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
TERMS = Terms()
AMOUNTS = st.integers(1, 10_000)


def request(least: int, enough: int, wanted: int) -> LeaseRequest:
    """Ask for a slice."""
    return LeaseRequest(
        lease_id="lease_1",
        tenant="acme",
        instance="broker-1",
        scopes=(BudgetScope(kind=ScopeKind.TENANT, id="acme"),),
        pico_usd_min=least,
        pico_usd_enough=enough,
        pico_usd_wanted=wanted,
        deadline=NOW,
    )


def account(limit: int, spent: int = 0, held: int = 0, name: str = "acme") -> Account:
    """Return an account of a tenant or another scope."""
    kind = ScopeKind.TENANT if name == "acme" else ScopeKind.EMPLOYEE
    scope = BudgetScope(kind=kind, id=name)
    budget = Budget(scope=scope, period=BudgetPeriod.DAY, limit_usd="1")
    return Account(Limit("acme", budget, limit), spent, held)


def granted(pico_usd: int) -> Lease:
    """Return a lease of this size."""
    asked = request(pico_usd, pico_usd, pico_usd)
    answer = leases.ask(None, asked, [account(pico_usd)], TERMS, NOW, patient=False)
    assert isinstance(answer, Granted)
    assert answer.lease.granted == pico_usd
    return answer.lease


def test_without_limits_nothing_is_lent() -> None:
    """A tenant without budgets is told so, and asks no more."""
    answer = leases.ask(None, request(1, 1, 1), [], TERMS, NOW, patient=True)
    assert answer == Unlimited()


@given(
    free=st.integers(-100, 10_000),
    other=st.integers(-100, 10_000),
    least=AMOUNTS,
    more=st.integers(0, 10_000),
    wanted=st.integers(0, 100_000),
    patient=st.booleans(),
)
def test_a_grant_serves_the_call_and_fits_every_limit(
    *, free: int, other: int, least: int, more: int, wanted: int, patient: bool
) -> None:
    """
    All limits or none; and what nobody holds back is never refused.

    Nothing is held by others here, so that waiting could bring nothing.
    """
    accounts = [account(free), account(other, name="clerk")]
    asked = request(least, least + more, wanted)
    answer = leases.ask(None, asked, accounts, TERMS, NOW, patient=patient)
    tight = min(free, other)
    if tight < least:
        assert isinstance(answer, Short)
        assert answer.is_final
        assert answer.account.free == tight
        return
    assert isinstance(answer, Granted)
    assert least <= answer.lease.granted <= tight
    assert answer.lease.granted >= min(least + more, tight)
    assert answer.lease.granted <= max(wanted // 1, least + more)


def test_slices_are_small_when_little_is_left() -> None:
    """One replica never takes all of what several need."""
    asked = request(1, 10, 1_000)
    sizes: list[int] = []
    for free in (100_000, 1_000, 100, 40, 5):
        answer = leases.ask(None, asked, [account(free)], TERMS, NOW, patient=True)
        assert isinstance(answer, Granted)
        sizes.append(answer.lease.granted)
    assert sizes == [1_000, 1_000 // SHARE, 100 // SHARE, 10, 5]


def test_less_than_a_whole_call_is_taken_only_when_no_more_can_come() -> None:
    """While others hold enough, patience waits for it; then what is there serves."""
    asked = request(5, 50, 50)
    crowded = [account(limit=100, spent=10, held=80)]
    waits = leases.ask(None, asked, crowded, TERMS, NOW, patient=True)
    assert waits == Short(crowded[0], is_final=False)
    takes = leases.ask(None, asked, crowded, TERMS, NOW, patient=False)
    assert isinstance(takes, Granted)
    assert takes.lease.granted == 10
    lost = [account(limit=100, spent=80, held=10)]
    at_once = leases.ask(None, asked, lost, TERMS, NOW, patient=True)
    assert isinstance(at_once, Granted)


def test_a_refusal_is_final_only_when_all_that_is_held_would_not_do() -> None:
    """What others hold may come back, so it is no reason to refuse for good."""
    held = leases.ask(
        None, request(5, 5, 5), [account(10, 5, 3)], TERMS, NOW, patient=False
    )
    assert isinstance(held, Short)
    assert not held.is_final
    gone = leases.ask(
        None, request(5, 5, 5), [account(10, 6, 2)], TERMS, NOW, patient=False
    )
    assert isinstance(gone, Short)
    assert gone.is_final


def test_an_id_gets_one_lease() -> None:
    """A repeat is the same lease; one that was returned is never lent again."""
    lease = granted(10)
    again = leases.ask(lease, request(1, 1, 1), [account(0)], TERMS, NOW, patient=True)
    assert isinstance(again, Granted)
    assert again.lease == lease
    back = leases.give_back(lease, 0, 0, 0)
    assert isinstance(
        leases.ask(back, request(1, 1, 1), [account(99)], TERMS, NOW, patient=True),
        Spoilt,
    )
    theirs = replace(lease, tenant="globex")
    assert isinstance(
        leases.ask(theirs, request(1, 1, 1), [], TERMS, NOW, patient=True), Spoilt
    )


def test_what_is_idle_comes_back_at_once_and_the_rest_by_the_ledger() -> None:
    """Returned with one call under way: it holds what that call may cost."""
    lease = leases.charge(granted(100), 20, is_new=True)
    assert lease.held == 80
    back = leases.give_back(lease, spent=20, reserved=30, attempts=None)
    assert (back.held, back.state) == (30, LeaseState.RETURNED)
    ended = leases.give_back(back, spent=45, reserved=0, attempts=2)
    assert ended.held == 25
    closed = leases.charge(ended, 25, is_new=True)
    assert (closed.held, closed.state) == (0, LeaseState.CLOSED)


def test_prices_that_differ_leave_nothing_held_for_ever() -> None:
    """Replica and ledger priced a call differently: its last record settles it."""
    ended = leases.give_back(granted(100), spent=45, reserved=0, attempts=1)
    closed = leases.charge(ended, 30, is_new=True)
    assert (closed.held, closed.state) == (0, LeaseState.CLOSED)


@given(
    told=st.lists(
        st.tuples(st.integers(0, 100), st.integers(0, 100)), min_size=1, max_size=6
    )
)
def test_returns_in_any_order_hold_what_the_least_of_them_says(
    told: list[tuple[int, int]],
) -> None:
    """A late or repeated return never takes money out of the budget again."""
    lease = granted(150)
    for spent, reserved in told:
        lease = leases.give_back(lease, spent, reserved, None)
    assert lease.held == min(150, *(spent + reserved for spent, reserved in told))


def test_a_lease_that_nobody_returns_ends_after_the_longest_call() -> None:
    """A crash holds the slice for so long, and not longer."""
    lease = granted(10)
    before = lease.expires_at + TERMS.tail / 2
    assert leases.lapse(lease, before).held == 10
    assert leases.lapse(lease, lease.ends_at).held == 0
    assert lease.ends_at - NOW == TERMS.lease + TERMS.tail


@pytest.mark.parametrize("correction", [-15, 0, 5])
def test_a_correction_moves_money_and_counts_no_attempt(correction: int) -> None:
    """A revision changes what an attempt cost, not how many there were."""
    lease = leases.charge(granted(100), 20, is_new=True)
    corrected = leases.charge(lease, correction, is_new=False)
    assert corrected.seen_attempts == 1
    assert corrected.held == 80 - correction
