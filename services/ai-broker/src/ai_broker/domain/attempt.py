"""
One call of one vendor, from intent to its line on the ledger.

    dispatched ──settle──► settled, revision 0
        │
        └─ give_up ─► unknown, revision 0 ──settle──► settled, revision 1

The attempt carries its usage record from the start: before the call it says what
must be assumed if nothing is ever heard. So whoever finds a dead owner's attempt
can record it without knowing the request.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from ai_broker.domain.catalogue import Candidate
from contracts import subjects
from contracts.completions import AttemptSummary, CompletionRequest
from contracts.ids import derived_id
from contracts.message import JsonObject
from contracts.owed import Owed
from contracts.quality import QualitySignals
from contracts.usage import EndState, TokenUsage, UsageBatch, UsageRecord, UsageSource

BATCH_BYTES_MAX: Final = 768 * 1024
"""Of one message: a stream takes 1 MiB with headers. One record is far smaller."""


@dataclass(frozen=True)
class Attempt:
    """An attempt as the store has it."""

    record: UsageRecord
    """What the ledger knows, or will be told if nothing more is heard."""
    fence: int
    """The claim of the completion that it was dispatched under."""
    deadline: datetime
    """When the call is given up."""
    settled: bool = False
    """Whether its record is final, or taken for final, and goes to the ledger."""
    reserved_pico_usd: int = 0
    """What it may cost at most, under the lease that its record names."""


@dataclass(frozen=True)
class Settlement:
    """How an attempt ended and what it consumed."""

    usage: TokenUsage
    source: UsageSource
    end_state: EndState
    model: str | None = None
    service_tier: str | None = None
    finish_reason: str | None = None
    http_status: int | None = None
    vendor_request_id: str | None = None
    raw_usage: JsonObject | None = None
    quality: QualitySignals | None = None


def dispatch(
    request: CompletionRequest,
    candidate: Candidate,
    *,
    attempt_id: str,
    number: int,
    assumed: TokenUsage,
    now: datetime,
    lease_id: str | None = None,
) -> UsageRecord:
    """Return the record of an attempt about to be made, as if it stayed unheard."""
    return UsageRecord(
        attempt_id=attempt_id,
        revision=0,
        attempt_number=number,
        tenant=request.tenant,
        completion_id=request.completion_id,
        task_id=request.task_id,
        step_id=request.step_id,
        employee=request.employee,
        user=request.user,
        api_key_id=request.api_key_id,
        team=request.team,
        lease_id=lease_id,
        vendor=candidate.vendor,
        own_key=candidate.own_key,
        requested_model=request.model,
        model=candidate.model,
        usage=assumed,
        source=UsageSource.UNKNOWN,
        end_state=EndState.UNKNOWN,
        started_at=now,
        occurred_at=now,
    )


def settle(attempt: Attempt, settlement: Settlement, now: datetime) -> Attempt | None:
    """
    Return the settled attempt; None when its true end is recorded already.

    An attempt that was given up as unknown is settled once more, by a higher
    revision, when its owner turns out to be alive.
    """
    if attempt.settled and attempt.record.end_state is not EndState.UNKNOWN:
        return None
    return settled(attempt, settlement, now)


def settled(attempt: Attempt, settlement: Settlement, now: datetime) -> Attempt:
    """Return an attempt, open or given up, with its true end."""
    record = attempt.record
    changes: dict[str, object] = {
        "revision": record.revision + 1 if attempt.settled else record.revision,
        "usage": settlement.usage,
        "source": settlement.source,
        "end_state": settlement.end_state,
        "model": settlement.model or record.model,
        "service_tier": settlement.service_tier,
        "finish_reason": settlement.finish_reason,
        "http_status": settlement.http_status,
        "vendor_request_id": settlement.vendor_request_id,
        "raw_usage": settlement.raw_usage,
        "quality": settlement.quality,
        "occurred_at": now,
    }
    return replace(attempt, record=record.model_copy(update=changes), settled=True)


def give_up(attempt: Attempt, now: datetime) -> Attempt:
    """Return the attempt as unknown: its owner is gone and nothing was heard."""
    record = attempt.record.model_copy(update={"occurred_at": now})
    return replace(attempt, record=record, settled=True)


def owe_usage(records: Sequence[UsageRecord]) -> list[Owed]:
    """Return the messages that bring records to the ledger, one tenant's in each."""
    by_tenant: dict[str, list[UsageRecord]] = {}
    for record in records:
        by_tenant.setdefault(record.tenant, []).append(record)
    return [owed for mine in by_tenant.values() for owed in _batches(mine)]


def _batches(records: Sequence[UsageRecord]) -> list[Owed]:
    """Return one message, or several where one would be too large."""
    owed = _batch(records)
    if len(records) == 1 or len(owed.message.encode()) <= BATCH_BYTES_MAX:
        return [owed]
    middle = len(records) // 2
    return _batches(records[:middle]) + _batches(records[middle:])


def _batch(records: Sequence[UsageRecord]) -> Owed:
    tenant = records[0].tenant
    keys = (f"{each.attempt_id}.{each.revision}" for each in records)
    batch_id = derived_id("usage", *keys)
    return Owed(
        address=subjects.USAGE.to(tenant),
        message=UsageBatch(batch_id=batch_id, tenant=tenant, records=tuple(records)),
        message_id=batch_id,
    )


def summary(attempt: Attempt) -> AttemptSummary:
    """Return what a caller is told of an attempt."""
    record = attempt.record
    return AttemptSummary(
        attempt_id=record.attempt_id,
        vendor=record.vendor,
        model=record.model,
        end_state=record.end_state,
        usage=record.usage,
        source=record.source,
    )
