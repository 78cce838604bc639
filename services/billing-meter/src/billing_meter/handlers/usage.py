"""Use cases: meter usage, and tell what things cost."""

from collections.abc import Iterable
from datetime import datetime
from typing import assert_never

import telemetry
from billing_meter.domain import charges, leases
from billing_meter.domain.charges import Change
from billing_meter.domain.leases import Lease
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
from telemetry import names

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
        verdicts = [
            (record, _meter(record, batch, delivery, deps, work, now))
            for record in records
        ]
        _charge(work, batch.tenant, verdicts)
        return verdicts

    for record, verdict in await deps.store.run(transaction):
        _report(record, verdict)
    deps.changes.ring()


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


def _charge(
    work: Work, tenant: str, verdicts: Iterable[tuple[UsageRecord, Verdict]]
) -> None:
    """Count what was posted against limits and leases, each attempt once."""
    costs = [
        (record, verdict.postings[-1].line.pico_usd)
        for record, verdict in verdicts
        if isinstance(verdict, Post)
    ]
    if not costs:
        return
    books = work.books
    books.share(tenant)
    known = dict(books.charges([record.attempt_id for record, _ in costs]))
    lent = _leases(work, tenant, (record.lease_id for record, _ in costs))
    changes: list[Change] = []
    for record, pico_usd in costs:
        lease = lent.get(record.lease_id or "")
        change = charges.change(record, pico_usd, known.get(record.attempt_id), lease)
        known[record.attempt_id] = change.charge
        changes.append(change)
        if (lease := lent.get(change.charge.lease_id or "")) is not None:
            lent[lease.lease_id] = leases.charge(
                lease, change.pico_usd, is_new=change.is_new
            )
    books.put_charges(
        {each.charge.attempt_id: each.charge for each in changes}.values()
    )
    for lease in lent.values():
        books.save_lease(lease)
    scopes = [scope for each in changes for scope in each.charge.scopes]
    books.spend(charges.spending(books.limits(tenant, scopes), changes))


def _leases(work: Work, tenant: str, ids: Iterable[str | None]) -> dict[str, Lease]:
    # In one order in every writer, since each is locked until the commit.
    found = [work.books.lease(each) for each in sorted({i for i in ids if i})]
    return {
        each.lease_id: each
        for each in found
        if each is not None and each.tenant == tenant
    }


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
    """Count what became of a record, and show it in its call's own trace."""
    headers = {"traceparent": record.trace} if record.trace else {}
    with telemetry.consumer_span("meter usage", headers, _attributes(record)):
        _count(record, verdict)


def _attributes(record: UsageRecord) -> telemetry.Attributes:
    return {
        names.DE_ATTEMPT: record.attempt_id,
        names.DE_COMPLETION: record.completion_id,
        names.GEN_AI_PROVIDER: record.vendor,
    }


def _count(record: UsageRecord, verdict: Verdict) -> None:
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
