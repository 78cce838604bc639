"""
Double entry: every posting is a line and entries that sum to zero.

A record of a known attempt with a higher revision reverses the line in force
and posts a new one; nothing is ever updated in its amounts or deleted.

    vendor-payable  ── credit ──►  what we owe the vendor
    tenant-cogs     ◄── debit ──   what the tenant's call cost us
    suspense        ◄── debit ──   the same at a ceiling price, to be re-rated
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from contracts.ids import derived_id
from contracts.ledger import Account, LedgerLine
from contracts.usage import UsageRecord
from pricing import Rating


@dataclass(frozen=True, slots=True)
class Entry:
    """One side of a transaction; the sides of one sum to zero."""

    transaction_id: str
    account: Account
    tenant: str
    pico_usd: int


@dataclass(frozen=True, slots=True)
class Posting:
    """One transaction: a line, its entries, and the line that it reverses."""

    line: LedgerLine
    entries: tuple[Entry, ...]
    reverses_id: str | None = None


def post(
    record: UsageRecord, rating: Rating, price_digest: str, now: datetime
) -> Posting:
    """Post what a record costs: to the tenant when the price is known."""
    account = Account.TENANT_COGS if rating.is_known else Account.SUSPENSE
    line = LedgerLine(
        transaction_id=derived_id("tx", record.attempt_id, str(record.revision)),
        attempt_id=record.attempt_id,
        revision=record.revision,
        tenant=record.tenant,
        task_id=record.task_id,
        vendor=record.vendor,
        model=record.model,
        usage=record.usage,
        source=record.source,
        end_state=record.end_state,
        account=account,
        pico_usd=rating.pico_usd,
        price_digest=price_digest,
        occurred_at=record.occurred_at,
        recorded_at=now,
    )
    return Posting(line, _entries(line, line.pico_usd))


def reverse(line: LedgerLine, now: datetime) -> Posting:
    """Undo a line with its mirror image; the line itself stays as it was."""
    mirror = line.model_copy(
        update={
            "transaction_id": derived_id("tx", line.transaction_id, "reversal"),
            "pico_usd": -line.pico_usd,
            "recorded_at": now,
        }
    )
    return Posting(mirror, _entries(mirror, mirror.pico_usd), line.transaction_id)


def imbalance(entries: Sequence[Entry]) -> int:
    """Return the sum of the entries; anything but 0 is a broken ledger."""
    return sum(entry.pico_usd for entry in entries)


def _entries(line: LedgerLine, pico_usd: int) -> tuple[Entry, ...]:
    return (
        Entry(line.transaction_id, line.account, line.tenant, pico_usd),
        Entry(line.transaction_id, Account.VENDOR_PAYABLE, line.tenant, -pico_usd),
    )
