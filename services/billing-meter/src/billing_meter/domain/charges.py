"""
What an attempt counts against limits: once, whatever comes how often.

A charge belongs to an attempt. A higher revision of its usage changes the charge by
the difference, in the bucket where the attempt was first counted.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from billing_meter.domain.leases import Lease
from billing_meter.domain.limits import Limit, bucket, matching, scopes_of
from contracts.budgets import BudgetScope
from contracts.usage import UsageRecord

SpentKey = tuple[Limit, datetime]
"""A limit and one of its buckets."""


@dataclass(frozen=True, slots=True)
class Charge:
    """What one attempt costs its scopes."""

    attempt_id: str
    tenant: str
    scopes: tuple[BudgetScope, ...]
    lease_id: str | None
    charged_at: datetime
    """Which period it counts in."""
    pico_usd: int


@dataclass(frozen=True, slots=True)
class Change:
    """A charge and by how much it differs from what was counted before."""

    charge: Charge
    pico_usd: int
    is_new: bool


def change(
    record: UsageRecord, pico_usd: int, before: Charge | None, lease: Lease | None
) -> Change:
    """
    Return how a record's cost changes what is counted.

    An attempt never counts before its lease was granted: a broker's clock that is
    behind must not charge a period that was full already.
    """
    if before is not None:
        corrected = replace(before, pico_usd=pico_usd)
        return Change(corrected, pico_usd - before.pico_usd, is_new=False)
    at = record.occurred_at
    if lease is not None:
        at = max(at, lease.granted_at)
    made = Charge(
        attempt_id=record.attempt_id,
        tenant=record.tenant,
        scopes=scopes_of(record),
        lease_id=None if lease is None else lease.lease_id,
        charged_at=at,
        pico_usd=pico_usd,
    )
    return Change(made, pico_usd, is_new=True)


def spending(
    limits: Iterable[Limit], changes: Iterable[Change]
) -> Mapping[SpentKey, int]:
    """Return what changes add to the buckets of the limits that they count against."""
    known = tuple(limits)
    if not known:
        return {}
    added: Counter[SpentKey] = Counter()
    for each in changes:
        for limit in matching(known, each.charge.scopes):
            added[limit, bucket(limit.budget, each.charge.charged_at)] += each.pico_usd
    return added
