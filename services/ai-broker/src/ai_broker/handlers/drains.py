"""
Calls that nobody waits for any more, read to their end so that their usage is known.

A vendor that bills a whole answer after its client hung up would make every estimate
wrong; so its calls go on here, bounded in number and in time. The attempt's row stays
open meanwhile, with a later deadline: if this process dies, the sweep records it as
unknown. When it is told to stop, it does so itself; the vendor's report corrects both.
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import telemetry
from ai_broker.domain.attempt import Settlement
from ai_broker.handlers import books
from ai_broker.handlers.call import DRAIN_S, Call, Ending
from ai_broker.ports import Deps
from ai_broker.ports.store import Work
from contracts.usage import EndState
from faults import TransientFault

KEPT_MAX: Final = 64
"""More are hung up and estimated."""
STOP_S: Final = 3.0
"""How long the end of the process waits for their records."""

log = telemetry.get_logger()

Reading = asyncio.Task[tuple[Ending, Settlement]]


@dataclass(eq=False)
class _Kept:
    call: Call
    task: Reading
    until: datetime


class Drains:
    """
    The calls that are read on; ``run`` owns them.

    Args:
        deps: What the handlers use.
    """

    def __init__(self, deps: Deps) -> None:
        self._deps = deps
        self._kept: list[_Kept] = []
        self._bell = asyncio.Event()
        self._is_open = False

    async def adopt(self, call: Call, task: Reading) -> bool:
        """Take a muted call over; False when there is no room, or nobody at work."""
        if not self._is_open or len(self._kept) >= KEPT_MAX:
            return False
        until = self._deps.clock.now() + timedelta(seconds=DRAIN_S)
        attempt = call.opened.attempt
        try:
            await self._deps.store.run(
                lambda work: books.postpone(work, attempt, until)
            )
        except TransientFault as fault:
            log.warning("drain_not_kept", detail=fault.detail)
            return False
        if not self._is_open:
            return False
        self._kept.append(_Kept(call, task, until))
        task.add_done_callback(lambda _: self._bell.set())
        self._bell.set()
        return True

    async def run(self) -> None:
        """Settle calls as they end, until cancelled."""
        self._is_open = True
        try:
            while True:
                self._bell.clear()
                for each in [kept for kept in self._kept if kept.task.done()]:
                    await self._settle(each)
                self._hang_up()
                await self._rest()
        finally:
            self._is_open = False
            await self._abandon()

    async def _settle(self, kept: _Kept) -> None:
        attempt, now = kept.call.opened.attempt, self._deps.clock.now()
        attempt_id = attempt.record.attempt_id
        _, settled = kept.task.result()
        try:
            await books.commit(
                self._deps,
                lambda work: books.close_attempt(work, attempt, settled, now),
            )
        except TransientFault as fault:
            log.warning(
                "attempt_not_settled", attempt_id=attempt_id, detail=fault.detail
            )
        self._kept.remove(kept)

    def _hang_up(self) -> None:
        now = self._deps.clock.now()
        for each in self._kept:
            if now >= each.until:
                each.call.stop(EndState.TIMED_OUT)

    async def _rest(self) -> None:
        now = self._deps.clock.now()
        dues = [each.until for each in self._kept if each.until > now]
        left_s = (min(dues) - now).total_seconds() if dues else None
        with suppress(TimeoutError):
            async with asyncio.timeout(left_s):
                await self._bell.wait()

    async def _abandon(self) -> None:
        """Record whatever has not ended as unknown: nobody will hear it."""
        kept, self._kept = self._kept, []
        if not kept:
            return
        for each in kept:
            each.task.cancel()
        await asyncio.wait([each.task for each in kept], timeout=STOP_S)
        now = self._deps.clock.now()

        def transaction(work: Work) -> None:
            for each in kept:
                books.give_up(work, each.call.opened.attempt, now)

        try:
            async with asyncio.timeout(STOP_S):
                await self._deps.store.run(transaction)
        except (TransientFault, TimeoutError):
            log.warning("drains_not_recorded", count=len(kept))
        else:
            log.warning("drains_abandoned", count=len(kept))
