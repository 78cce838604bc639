"""billing-meter, as the broker asks it."""

from typing import Final

from contracts import subjects
from contracts.budgets import LeaseReply, LeaseRequest, LeaseReturn
from contracts.delivery import Nothing
from contracts.prices import GetPrices, PriceBook
from determinism import Clock
from messaging.bus import Bus

TIMEOUT_S: Final = 3.0


class BusMeter:
    """
    The meter behind the bus.

    Args:
        bus: The way to it.
        clock: A request's own deadline is added to ours.
    """

    def __init__(self, bus: Bus, clock: Clock) -> None:
        self._bus = bus
        self._clock = clock

    async def lease(self, request: LeaseRequest) -> LeaseReply:
        """Ask for a slice; the meter may wait until the request's deadline."""
        wait_s = max(0.0, (request.deadline - self._clock.now()).total_seconds())
        return await self._bus.request(
            subjects.LEASE.to(request.tenant),
            request,
            LeaseReply,
            timeout_s=wait_s + TIMEOUT_S,
        )

    async def give_back(self, message: LeaseReturn) -> None:
        """Return a slice."""
        address = subjects.LEASE_RETURN.to(message.tenant)
        await self._bus.request(address, message, Nothing, timeout_s=TIMEOUT_S)

    async def prices(self) -> PriceBook:
        """Return the price book in force."""
        address = subjects.PRICES.to()
        return await self._bus.request(
            address, GetPrices(), PriceBook, timeout_s=TIMEOUT_S
        )
