"""Time as an entrypoint: steps whose deadline has passed."""

from typing import Final

from faults import TransientFault
from orchestrator.handlers import runs
from orchestrator.ports import Deps
from telemetry import get_logger

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
