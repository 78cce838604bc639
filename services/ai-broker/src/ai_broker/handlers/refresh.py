"""Use case: take a changed catalogue without dropping a request."""

from ai_broker.ports import Deps


async def refresh_forever(deps: Deps) -> None:
    """Look at intervals until cancelled."""
    while True:
        await deps.clock.sleep(deps.limits.refresh_s)
        if deps.offers is not None:
            await deps.offers.refresh()
