"""
Slices that go back: idle ones, expired ones, recalled ones, and those of the dead.

A slice is closed in the store first, so that no commit can reserve under it any more;
then what its attempts cost and may still cost is read from the same store, which is
why any replica can return any other's. It is told again until nothing is under way.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Final

import telemetry
from ai_broker.domain.attempt import Attempt
from ai_broker.domain.budget import Lent, Slice
from ai_broker.handlers.purse import Purse
from ai_broker.handlers.tariff import Tariff
from ai_broker.ports import Meter, Slices
from contracts.budgets import LeaseRecall, LeaseReturn
from determinism import Clock
from faults import Fault
from messaging.refusals import Refused

LOOK_S: Final = 1.0
LOOKS_PER_TELLING: Final = 5
"""Closed slices are told again when one of their attempts ends, or this seldom."""
IDLE: Final = timedelta(seconds=10)
ORPHANED: Final = timedelta(seconds=3)
"""How long after its time another replica's slice counts as left behind."""
BATCH: Final = 100
STOP_S: Final = 3.0
"""How long the end of the process waits for its slices to be returned."""

log = telemetry.get_logger()


class Returns:
    """
    Gives slices back; ``run`` owns the work.

    Args:
        purse: The slices in use here.
        meter: Takes them back.
        slices: What was lent to whom.
        tariff: What attempts cost.
        clock: The time.
        instance: This process.
    """

    def __init__(
        self,
        *,
        purse: Purse,
        meter: Meter,
        slices: Slices,
        tariff: Tariff,
        clock: Clock,
        instance: str,
    ) -> None:
        self._purse = purse
        self._meter = meter
        self._store = slices
        self._tariff = tariff
        self._clock = clock
        self._instance = instance
        self._bell = asyncio.Event()
        self._looks = 0

    def settled(self, attempts: Sequence[Attempt]) -> None:
        """Hear from the store that a commit settled attempts: a return may change."""
        for each in attempts:
            lease_id = each.record.lease_id
            if each.settled and lease_id and lease_id not in self._purse.lent:
                self._bell.set()

    async def recall(self, message: LeaseRecall) -> None:
        """Return what lies idle of these scopes, and forget what was known of them."""
        self._purse.forget(message.tenant)
        wanted = frozenset(message.scopes)
        for pot, lent in list(self._purse.lent.values()):
            is_meant = lent.tenant == message.tenant and wanted & set(pot.scopes)
            if is_meant and lent.left > 0:
                await self._give_back(lent)

    async def run(self) -> None:
        """Return what is due at intervals, and everything at the end."""
        try:
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_S):
                        await self._bell.wait()
                await self._look()
        finally:
            with suppress(TimeoutError):
                async with asyncio.timeout(STOP_S):
                    for _, lent in list(self._purse.lent.values()):
                        await self._give_back(lent)

    async def _look(self) -> None:
        now = self._clock.now()
        for _, lent in list(self._purse.lent.values()):
            is_idle = not lent.taken and lent.used_at + IDLE <= now
            if is_idle or not lent.is_usable(now):
                await self._give_back(lent)
        self._purse.prune()
        self._measure()
        self._looks += 1
        if not self._bell.is_set() and self._looks % LOOKS_PER_TELLING:
            return
        self._bell.clear()
        try:
            for each in await self._store.due(self._instance, now - ORPHANED, BATCH):
                await self._tell(each)
        except Fault as fault:
            log.warning("slices_not_returned", detail=fault.detail)

    async def _give_back(self, lent: Slice) -> None:
        """Close a slice of ours and return it; what fails is tried again."""
        lent.is_closed = True
        if lent.pending and self._clock.now() < lent.expires_at + IDLE:
            # Their commit would be refused: the next look finds them committed.
            return
        self._purse.drop(lent.lease_id)
        try:
            await self._tell(
                Lent(lent.lease_id, lent.tenant, self._instance, lent.expires_at)
            )
        except Fault as fault:
            log.warning("slice_not_returned", detail=fault.detail)

    async def _tell(self, lent: Lent) -> None:
        await self._tariff.require()
        attempts = await self._store.close(lent.lease_id)
        spent = sum(self._tariff.at_most(e.record) for e in attempts if e.settled)
        reserved = sum(e.reserved_pico_usd for e in attempts if not e.settled)
        message = LeaseReturn(
            lease_id=lent.lease_id,
            tenant=lent.tenant,
            instance=lent.instance,
            spent_pico_usd=spent,
            reserved_pico_usd=reserved,
            attempts=None if reserved else len(attempts),
        )
        try:
            await self._meter.give_back(message)
        except Refused as refused:
            log.warning("slice_refused", lease_id=lent.lease_id, detail=str(refused))
            return
        if all(each.settled for each in attempts):
            await self._store.forget(lent.lease_id)

    def _measure(self) -> None:
        left = reserved = 0
        for _, lent in self._purse.lent.values():
            left += lent.left
            reserved += lent.reserved
        gauge = telemetry.metrics.budget_slices_pico_usd
        gauge.set(left, state="left")
        gauge.set(reserved, state="reserved")
