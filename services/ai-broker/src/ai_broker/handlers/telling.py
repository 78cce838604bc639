"""
Use case: settled attempts are told to the ledger, many in one message.

A settlement's commit marks its record as untold and owes nothing more; here records
that gathered for a moment are owed together, in one commit that marks them as told.
Whoever is killed in between leaves them untold, and the next look finds them.
"""

from typing import Final

import telemetry
from ai_broker.domain import attempt as attempts
from ai_broker.ports import Deps
from ai_broker.ports.store import Work
from faults import TransientFault

RECORDS_MAX: Final = 250

log = telemetry.get_logger()


async def tell_forever(deps: Deps) -> None:
    """Tell whenever something was settled here, and now and then for the others."""
    while True:
        # Listened for before the look: what settles during its commit rings too.
        ring = deps.settled.listen()
        try:
            while await tell(deps) == RECORDS_MAX:
                pass
        except TransientFault as fault:
            log.warning("telling_postponed", detail=fault.detail)
        await ring.heard(deps.limits.look_s)
        await deps.clock.sleep(deps.limits.gather_s)


async def tell(deps: Deps) -> int:
    """Owe one batch of records to the ledger; return how many it holds."""

    def transaction(work: Work) -> int:
        records = work.take_untold(RECORDS_MAX)
        for each in attempts.owe_usage(records):
            work.owe(each)
        return len(records)

    return await deps.store.run(transaction)
