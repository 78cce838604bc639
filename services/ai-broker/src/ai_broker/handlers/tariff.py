"""What calls cost here: the meter's price book, fetched and kept, stale or not."""

from typing import Final

import telemetry
from ai_broker.ports import Meter
from contracts.usage import UsageRecord
from determinism import Clock
from faults import Fault
from pricing import PriceTable, UnknownVariant, compile_book

FETCH_S: Final = 300.0
RETRY_S: Final = 5.0

log = telemetry.get_logger()


class Tariff:
    """
    The price book in force.

    Args:
        meter: Where it is fetched.
        clock: When to look again.
    """

    def __init__(self, meter: Meter, clock: Clock) -> None:
        self._meter = meter
        self._clock = clock
        self._table: PriceTable | None = None

    async def keep(self) -> None:
        """Fetch the book at intervals until cancelled; an old one beats none."""
        while True:
            try:
                await self._fetch()
                wait_s = FETCH_S
            except Fault as fault:
                wait_s = RETRY_S
                log.warning("prices_not_fetched", detail=fault.detail)
            await self._clock.sleep(wait_s)

    async def require(self) -> None:
        """
        Return once there is a book.

        Raises:
            TransientFault: There is none yet, and the meter does not answer.
        """
        if self._table is None:
            await self._fetch()

    def known(self, record: UsageRecord) -> int | None:
        """Return what a usage record costs; None where no price is known."""
        if self._table is None:
            return None
        try:
            rating = self._table.rate(record)
        except UnknownVariant:
            return None
        return rating.pico_usd if rating.is_known else None

    def at_most(self, record: UsageRecord) -> int:
        """Return what a usage record costs, by the ceiling where no price is known."""
        if self._table is None:
            return 0
        try:
            return self._table.rate(record).pico_usd
        except UnknownVariant:
            # The ledger refuses such a record until the variant is priced.
            nameless = record.model_copy(update={"vendor": "", "model": ""})
            return self._table.rate(nameless).pico_usd

    @property
    def is_open(self) -> bool:
        """Tell whether there is a book."""
        return self._table is not None

    async def _fetch(self) -> None:
        book = await self._meter.prices()
        if self._table is None or self._table.digest != book.digest:
            self._table = compile_book(book)
            log.info("prices_fetched", version=book.version, digest=book.digest)
