"""Time as an entrypoint: steps whose deadline has passed, runs that are too old."""

from typing import Final

from faults import TransientFault
from orchestrator.handlers import runs
from orchestrator.ports import Deps
from telemetry import get_logger

PRUNE_PAUSE_S: Final = 0.1

log: Final = get_logger()


async def watch_deadlines(deps: Deps, period_s: float) -> None:
    """Look for passed deadlines until cancelled; a store that fails is asked again."""
    while True:
        rang = 0
        try:
            rang = await runs.fail_overdue(deps)
        except TransientFault as fault:
            log.warning("deadlines_not_read", code=fault.code, detail=fault.detail)
        if rang < runs.OVERDUE_BATCH:
            await deps.clock.sleep(period_s)


async def forget_old(deps: Deps, period_s: float) -> None:
    """Forget what is kept no longer, batch by batch, until cancelled."""
    while True:
        pruned = 0
        try:
            pruned = await runs.prune(deps)
        except TransientFault as fault:
            log.warning("prune_postponed", code=fault.code, detail=fault.detail)
        # The pause between batches lets requests in; the next one is not far.
        is_more = pruned >= runs.PRUNE_BATCH
        await deps.clock.sleep(PRUNE_PAUSE_S if is_more else period_s)
