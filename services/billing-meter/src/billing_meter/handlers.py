"""Use cases: meter usage, and tell what things cost."""

from datetime import datetime
from typing import assert_never

import telemetry
from billing_meter.domain.metering import (
    Post,
    Quarantine,
    Repeat,
    Superseded,
    Verdict,
    digest,
    judge,
)
from billing_meter.ports import Deps, Work
from contracts.deadletters import DeadLetter
from contracts.ids import derived_id
from contracts.ledger import GetTaskCost, LedgerPage, ListLedger, TaskCosts
from contracts.prices import GetPrices, PriceBook
from contracts.problems import Code
from contracts.subjects import Service
from contracts.usage import UsageBatch, UsageRecord
from faults import PermanentFault
from messaging.bus import Delivery
from messaging.refusals import refuse

log = telemetry.get_logger()


async def meter_usage(batch: UsageBatch, delivery: Delivery, deps: Deps) -> None:
    """
    Post a batch's records; a repeated batch or record changes nothing.

    Raises:
        PermanentFault: A dead letter is replayed and must still not be posted: it
            stays open, or its usage would be lost.
    """
    now = deps.clock.now()
    # One order in every writer: two batches that share tasks wait for each other
    # instead of for ever, and a revision is posted before the one that reverses it.
    records = sorted(
        batch.records, key=lambda r: (r.task_id or "", r.attempt_id, r.revision)
    )

    def transaction(work: Work) -> list[tuple[UsageRecord, Verdict]]:
        if not work.admit(delivery.message_id):
            return []
        return [
            (record, _meter(record, batch, delivery, deps, work, now))
            for record in records
        ]

    for record, verdict in await deps.store.run(transaction):
        _report(record, verdict)


async def task_costs(request: GetTaskCost, deps: Deps) -> TaskCosts:
    """Tell what tasks have cost so far."""
    costs = await deps.store.read(
        lambda work: work.task_costs(request.tenant, request.task_ids)
    )
    return TaskCosts(costs=tuple(costs))


async def ledger(request: ListLedger, deps: Deps) -> LedgerPage:
    """Return a page of ledger lines in force."""
    return await deps.store.read(lambda work: work.lines(request))


async def prices(request: GetPrices, deps: Deps) -> PriceBook:
    """Return the price book in force, or the one that was asked for."""
    if request.digest not in {None, deps.book.digest}:
        detail = f"no price book {request.digest}: ask without a digest for the newest"
        raise refuse(Code.NOT_FOUND, detail)
    return deps.book


def _meter(
    record: UsageRecord,
    batch: UsageBatch,
    delivery: Delivery,
    deps: Deps,
    work: Work,
    now: datetime,
) -> Verdict:
    if record.tenant != batch.tenant:
        detail = f"{record.attempt_id} is {record.tenant}'s in {batch.tenant}'s batch"
        verdict: Verdict = Quarantine("tenant-mismatch", detail)
    else:
        verdict = judge(record, work.known(record), deps.prices, now)
    match verdict:
        case Post(postings):
            work.note(record, digest(record))
            for posting in postings:
                work.append(posting)
        case Superseded():
            work.note(record, digest(record))
        case Quarantine(reason, detail):
            letter = _letter(record, reason, detail, delivery, now)
            if letter.message_id == delivery.message_id:
                raise PermanentFault(detail, code=reason)
            work.bury(letter)
        case Repeat():
            pass
        case _:
            assert_never(verdict)
    return verdict


def _letter(
    record: UsageRecord, reason: str, detail: str, delivery: Delivery, now: datetime
) -> DeadLetter:
    key = (record.attempt_id, str(record.revision), digest(record))
    alone = UsageBatch(
        batch_id=derived_id("usage", *key), tenant=record.tenant, records=(record,)
    )
    return DeadLetter(
        id=derived_id("dead", *key),
        service=Service.BILLING_METER,
        tenant=record.tenant,
        subject=delivery.subject,
        message_id=alone.batch_id,
        reason=reason,
        detail=detail,
        body=alone.encode(),
        headers=dict(delivery.headers),
        deliveries=delivery.deliveries,
        created_at=now,
    )


def _report(record: UsageRecord, verdict: Verdict) -> None:
    match verdict:
        case Post(postings):
            line = postings[-1].line
            account = line.account.value
            telemetry.metrics.ledger_entries_total.add(1, account=account)
            telemetry.metrics.ledger_pico_usd_total.add(line.pico_usd, account=account)
        case Quarantine(reason, detail):
            log.error(
                "usage_quarantined",
                attempt_id=record.attempt_id,
                reason=reason,
                detail=detail,
            )
            telemetry.metrics.dead_letters_total.add(
                1, service=Service.BILLING_METER, reason=reason
            )
        case Repeat() | Superseded():
            pass
        case _:
            assert_never(verdict)
