"""Upkeep: take new prices, forget leases that ended long ago, measure what is left."""

from collections import Counter
from datetime import timedelta
from typing import Final

import telemetry
from billing_meter.domain.limits import Account
from billing_meter.ports import Deps, Work
from contracts.budgets import ScopeKind
from faults import TransientFault

KEEP_INTERVAL_S: Final = 15.0
KEPT: Final = timedelta(days=1)
"""A late return or record of a lease finds it for this long after its end."""
BATCH: Final = 500
HOUR: Final = timedelta(hours=1)

log = telemetry.get_logger()


async def keep_forever(deps: Deps) -> None:
    """Do the upkeep at intervals until cancelled."""
    while True:
        await deps.clock.sleep(KEEP_INTERVAL_S)
        deps.shelf.refresh()
        try:
            await measure(deps)
            before = deps.clock.now() - KEPT
            await deps.store.run(
                lambda work, at=before: work.books.forget_leases(at, BATCH)
            )
        except TransientFault as fault:
            log.warning("upkeep_postponed", detail=fault.detail)


async def measure(deps: Deps) -> None:
    """Set the gauges of what is spent, held and free, by kind of scope."""
    now = deps.clock.now()

    def query(work: Work) -> tuple[list[Account], int]:
        accounts: list[Account] = []
        for limit in work.books.all_limits():
            accounts += work.books.accounts([limit], now)
        return accounts, work.books.charged_since(now - HOUR)

    accounts, last_hour = await deps.store.read(query)
    sums: Counter[tuple[str, str]] = Counter()
    for each in accounts:
        kind = each.limit.scope.kind.value
        sums[kind, "spent"] += each.spent
        sums[kind, "held"] += each.held
        sums[kind, "free"] += each.free
    for kind in ScopeKind:
        for state in ("spent", "held", "free"):
            telemetry.metrics.budget_pico_usd.set(
                sums[kind.value, state], kind=kind.value, state=state
            )
    telemetry.metrics.cost_last_hour_pico_usd.set(last_hour)
