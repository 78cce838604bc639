"""Use cases: lost attempts get their ledger line; old answers are forgotten."""

from datetime import timedelta
from typing import Final

import telemetry
from ai_broker.handlers import books
from ai_broker.handlers.caller import failure
from ai_broker.ports import Deps
from ai_broker.ports.store import Work
from contracts.problems import Code
from faults import TransientFault

BATCH: Final = 100

log = telemetry.get_logger()


async def sweep_forever(deps: Deps) -> None:
    """Sweep at intervals until cancelled."""
    while True:
        try:
            while await sweep(deps) == BATCH:
                pass
        except TransientFault as fault:
            log.warning("sweep_postponed", detail=fault.detail)
        await deps.clock.sleep(deps.limits.sweep_s)


async def sweep(deps: Deps) -> int:
    """Record abandoned attempts as unknown; return how many were found."""
    now = deps.clock.now()
    before = now - timedelta(seconds=deps.limits.grace_s)
    detail = "the replica that asked the vendor died: ask again with the same id"
    failed = failure(Code.VENDOR_UNAVAILABLE, detail, retryable=True)

    def transaction(work: Work) -> int:
        lost = work.overdue(before, now, BATCH)
        for each in lost:
            books.abandon(work, each, failed, now)
        return len(lost)

    found = await deps.store.run(transaction)
    if found:
        log.warning("attempts_abandoned", count=found)
    return found


async def prune_forever(deps: Deps) -> None:
    """Prune at intervals until cancelled."""
    while True:
        try:
            while await prune(deps) == BATCH:
                pass
        except TransientFault as fault:
            log.warning("prune_postponed", detail=fault.detail)
        await deps.clock.sleep(deps.limits.prune_s)


async def prune(deps: Deps) -> int:
    """Forget a batch of completions that ended long ago; return how many."""
    before = deps.clock.now() - timedelta(seconds=deps.limits.keep_s)
    return await deps.store.run(lambda work: work.prune(before, BATCH))
