"""Use case: the caller gave up."""

import telemetry
from ai_broker.handlers.desk import Desk
from contracts.frames import CancelCompletion

log = telemetry.get_logger()


async def cancel(message: CancelCompletion, desk: Desk) -> None:
    """Abort the completion if it runs here; its attempt is settled by its owner."""
    running = desk.running.get((message.tenant, message.completion_id))
    if running is None:
        return
    log.info(
        "completion_cancel_requested",
        tenant=message.tenant,
        completion_id=message.completion_id,
    )
    running.cancel()
