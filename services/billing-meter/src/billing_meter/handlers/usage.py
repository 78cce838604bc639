"""Use cases: meter usage, and tell what things cost."""

from collections import Counter
from collections.abc import Iterable
from datetime import datetime

import telemetry
from billing_meter.domain import charges, leases
from billing_meter.domain.charges import Change
from billing_meter.domain.leases import Lease
from billing_meter.domain.ledger import Posting
from billing_meter.domain.metering import (
    Judged,
    Post,
    Quarantine,
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

    def transaction(work: Work) -> list[Judged]:
        if not work.admit(delivery.message_id):
            return []
        known = work.known([record.attempt_id for record in records])
        judged = judge(records, batch.tenant, known, deps.shelf.table, now)
        work.note([each for each in judged if each.is_noted])
        work.append([posting for each in judged for posting in _postings(each)])
        for each in judged:
            _quarantine(each, delivery, work, now)
        _charge(work, batch.tenant, judged)
        return judged

    judged = await deps.store.run(transaction)
    _count(judged)
    for each in judged:
        _report(each)
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
    shelf = deps.shelf
    book = shelf.book if request.digest is None else shelf.find(request.digest)
    if book is None:
        detail = f"no price book {request.digest}: ask without a digest for the newest"
        raise refuse(Code.NOT_FOUND, detail)
    return book


def _postings(judged: Judged) -> tuple[Posting, ...]:
    return judged.verdict.postings if isinstance(judged.verdict, Post) else ()


def _quarantine(judged: Judged, delivery: Delivery, work: Work, now: datetime) -> None:
    """Keep a record that must not be posted, for a human to look at."""
    if not isinstance(judged.verdict, Quarantine):
        return
    letter = _letter(judged, judged.verdict, delivery, now)
    if letter.message_id == delivery.message_id:
        raise PermanentFault(judged.verdict.detail, code=judged.verdict.reason)
    work.bury(letter)


def _charge(work: Work, tenant: str, judged: Iterable[Judged]) -> None:
    """Count what was posted against limits and leases, each attempt once."""
    costs = [
        (each.record, each.verdict.postings[-1].line.pico_usd)
        for each in judged
        if isinstance(each.verdict, Post)
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
    judged: Judged, why: Quarantine, delivery: Delivery, now: datetime
) -> DeadLetter:
    record = judged.record
    key = (record.attempt_id, str(record.revision), judged.digest)
    alone = UsageBatch(
        batch_id=derived_id("usage", *key), tenant=record.tenant, records=(record,)
    )
    return DeadLetter(
        id=derived_id("dead", *key),
        service=Service.BILLING_METER,
        tenant=record.tenant,
        subject=delivery.subject,
        message_id=alone.batch_id,
        reason=why.reason,
        detail=why.detail,
        body=alone.encode(),
        headers=dict(delivery.headers),
        deliveries=delivery.deliveries,
        created_at=now,
    )


def _count(judged: Iterable[Judged]) -> None:
    """Count what was posted, a batch at a time."""
    entries: Counter[str] = Counter()
    costs: Counter[str] = Counter()
    for each in judged:
        if isinstance(each.verdict, Post):
            line = each.verdict.postings[-1].line
            entries[line.account.value] += 1
            costs[line.account.value] += line.pico_usd
    for account, number in entries.items():
        telemetry.metrics.ledger_entries_total.add(number, account=account)
        telemetry.metrics.ledger_pico_usd_total.add(costs[account], account=account)


def _report(judged: Judged) -> None:
    """Show a record in its call's own trace, and tell of one that was not posted."""
    record = judged.record
    if record.trace is not None:
        headers = {"traceparent": record.trace}
        with telemetry.consumer_span("meter usage", headers, _attributes(record)):
            pass
    if isinstance(judged.verdict, Quarantine):
        log.error(
            "usage_quarantined",
            attempt_id=record.attempt_id,
            reason=judged.verdict.reason,
            detail=judged.verdict.detail,
        )
        telemetry.metrics.dead_letters_total.add(
            1, service=Service.BILLING_METER, reason=judged.verdict.reason
        )


def _attributes(record: UsageRecord) -> telemetry.Attributes:
    return {
        names.DE_ATTEMPT: record.attempt_id,
        names.DE_COMPLETION: record.completion_id,
        names.GEN_AI_PROVIDER: record.vendor,
    }
