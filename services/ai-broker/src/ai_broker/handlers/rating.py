"""Loops: take changed rate limits, and keep the places of calls that go on."""

import telemetry
from ai_broker.ports import Deps
from ai_broker.ports.rates import Rates
from faults import TransientFault


async def refresh_rates_forever(deps: Deps, rates: Rates) -> None:
    """Look at intervals whether the file has changed, until cancelled."""
    while True:
        await deps.clock.sleep(deps.limits.refresh_s)
        await rates.file.refresh()


async def keep_places_forever(deps: Deps, rates: Rates) -> None:
    """Keep places at intervals, until cancelled."""
    while True:
        await deps.clock.sleep(deps.limits.keep_places_s)
        try:
            await rates.quotas.keep()
        except TransientFault:
            telemetry.metrics.rate_limits_skipped_total.add(1, step="keep")
