"""Steps that ended long ago are forgotten, a batch at a time."""

from datetime import timedelta
from typing import Final

import telemetry
from agent_runtime.ports import Deps
from faults import Fault

BATCH: Final = 200

log = telemetry.get_logger()


async def prune_forever(deps: Deps) -> None:
    """Prune at intervals until cancelled."""
    while True:
        try:
            while await prune(deps) >= BATCH:
                pass
        except Fault as fault:
            log.warning("prune_postponed", code=fault.code, detail=fault.detail)
        await deps.clock.sleep(deps.pace.prune_s)


async def prune(deps: Deps) -> int:
    """Forget one batch; a full one tells that there may be more."""
    before = deps.clock.now() - timedelta(seconds=deps.pace.keep_s)
    return await deps.store.run(lambda work: work.prune(before, BATCH))
