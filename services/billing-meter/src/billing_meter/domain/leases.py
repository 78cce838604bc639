"""
Leases: slices of limits that broker replicas spend from.

    asked ──grant──► open ──give_back──► returned ──settled──► closed
                      │                     │                    ▲
                      └──── ends_at ────────┴────────────────────┘

A lease holds its slice on every limit of its scopes at once. What the ledger
learns of its attempts moves from held to spent; the rest is free again when the
replica has returned it, or when the longest call that may have begun under it is
long over. So for every limit, always: ``limit = spent + held + free``, and nothing
is granted that is not free.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from billing_meter.domain.limits import Account
from contracts.budgets import BudgetScope, LeaseRequest

SHARE: Final = 8
"""A slice is at most this part of what is free, unless one call needs more."""


class LeaseState(StrEnum):
    """Where a lease stands."""

    OPEN = "open"
    RETURNED = "returned"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Terms:
    """How long leases live."""

    lease: timedelta = timedelta(seconds=30)
    """New reservations are allowed for this long."""
    tail: timedelta = timedelta(seconds=1_920)
    """The longest call, and a grace for its record to arrive."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A slice as the books have it."""

    lease_id: str
    tenant: str
    instance: str
    scopes: tuple[BudgetScope, ...]
    """All that were asked for; those without a limit hold nothing."""
    granted: int
    cap: int
    """The most that its attempts may still turn out to cost; only ever falls."""
    seen: int
    """What the ledger says that its attempts cost."""
    seen_attempts: int
    told_attempts: int | None
    """How many the replica made; None until it has returned the lease for good."""
    is_hard: bool
    state: LeaseState
    granted_at: datetime
    expires_at: datetime
    ends_at: datetime

    @property
    def held(self) -> int:
        """What it keeps from everybody else."""
        if self.state is LeaseState.CLOSED:
            return 0
        return max(0, self.cap - self.seen)


@dataclass(frozen=True, slots=True)
class Granted:
    """Here is a slice."""

    lease: Lease
    limited: tuple[BudgetScope, ...]


@dataclass(frozen=True, slots=True)
class Unlimited:
    """No limit is on any of the scopes."""


@dataclass(frozen=True, slots=True)
class Short:
    """There is not enough now."""

    account: Account
    """The limit that stands in the way."""
    is_final: bool
    """Whether it would not be enough either if all that is held came back."""


@dataclass(frozen=True, slots=True)
class Spoilt:
    """The lease id was returned already; a new one is needed."""


Answer = Granted | Unlimited | Short | Spoilt


def ask(
    known: Lease | None,
    request: LeaseRequest,
    accounts: Sequence[Account],
    terms: Terms,
    now: datetime,
    *,
    patient: bool,
) -> Answer:
    """
    Decide about a request: all of its limits or none.

    Args:
        known: The lease of this id, if it was granted before.
        request: What is asked for.
        accounts: The limits on its scopes.
        terms: How long leases live.
        now: The time.
        patient: Whether to wait for a whole call's money while others hold some;
            else whatever serves the minimum is granted.
    """
    limited = tuple(dict.fromkeys(each.limit.scope for each in accounts))
    if known is not None:
        is_usable = known.state is LeaseState.OPEN and known.tenant == request.tenant
        return Granted(known, limited) if is_usable else Spoilt()
    if not accounts:
        return Unlimited()
    least = max(request.pico_usd_min, 1)
    enough = max(request.pico_usd_enough or least, least)
    tight = min(accounts, key=lambda each: each.free)
    if tight.free < least:
        blocked = min(accounts, key=lambda each: each.reachable)
        is_final = blocked.reachable < least
        return Short(blocked if is_final else tight, is_final)
    if tight.free < enough and patient and _may_come(accounts, enough):
        return Short(tight, is_final=False)
    wanted = max(request.pico_usd_wanted, least)
    slice_pico_usd = max(min(wanted, tight.free // SHARE), min(enough, tight.free))
    return Granted(_open(request, accounts, slice_pico_usd, terms, now), limited)


def spoilt(lease_id: str, tenant: str, instance: str, now: datetime) -> Lease:
    """Return the closed lease that keeps an id from being granted ever after."""
    return Lease(
        lease_id=lease_id,
        tenant=tenant,
        instance=instance,
        scopes=(),
        granted=0,
        cap=0,
        seen=0,
        seen_attempts=0,
        told_attempts=0,
        is_hard=False,
        state=LeaseState.CLOSED,
        granted_at=now,
        expires_at=now,
        ends_at=now,
    )


def give_back(lease: Lease, spent: int, reserved: int, attempts: int | None) -> Lease:
    """
    Take back what a replica neither spent nor has reserved.

    Returns may come twice and in any order: a replica that has returned a lease
    reserves nothing new under it, so that spent and reserved together only fall.
    """
    if lease.state is LeaseState.CLOSED:
        return lease
    told = attempts if reserved == 0 and attempts is not None else lease.told_attempts
    cap = min(lease.cap, max(0, spent) + max(0, reserved))
    returned = replace(lease, cap=cap, told_attempts=told, state=LeaseState.RETURNED)
    return _settled(returned)


def charge(lease: Lease, pico_usd: int, *, is_new: bool) -> Lease:
    """
    Note what one of its attempts cost, or by how much that changed.

    Args:
        lease: The lease that the attempt was reserved under.
        pico_usd: The cost; the difference when a revision corrects it.
        is_new: Whether the attempt was not seen before.
    """
    seen = replace(
        lease,
        seen=lease.seen + pico_usd,
        seen_attempts=lease.seen_attempts + int(is_new),
    )
    return _settled(seen)


def lapse(lease: Lease, now: datetime) -> Lease:
    """Close a lease whose last call must be over; nobody returned it."""
    if now < lease.ends_at:
        return lease
    return replace(lease, state=LeaseState.CLOSED)


def _open(
    request: LeaseRequest,
    accounts: Sequence[Account],
    pico_usd: int,
    terms: Terms,
    now: datetime,
) -> Lease:
    expires_at = now + terms.lease
    return Lease(
        lease_id=request.lease_id,
        tenant=request.tenant,
        instance=request.instance,
        scopes=request.scopes,
        granted=pico_usd,
        cap=pico_usd,
        seen=0,
        seen_attempts=0,
        told_attempts=None,
        is_hard=any(each.limit.budget.is_hard for each in accounts),
        state=LeaseState.OPEN,
        granted_at=now,
        expires_at=expires_at,
        ends_at=expires_at + terms.tail,
    )


def _may_come(accounts: Sequence[Account], enough: int) -> bool:
    return all(each.free >= enough or each.held > 0 for each in accounts) and all(
        each.reachable >= enough for each in accounts
    )


def _settled(lease: Lease) -> Lease:
    """Close a returned lease once the ledger has every one of its attempts."""
    if lease.state is not LeaseState.RETURNED or lease.told_attempts is None:
        return lease
    if lease.seen_attempts < lease.told_attempts:
        return lease
    return replace(lease, state=LeaseState.CLOSED)
