"""
Prices looked up by vendor, model, variant, tenant and instant.

Resolution goes tenant override → tenant contract → list price; within one key
the row in force is the newest that is not after the instant. A tier is a cliff:
once the whole input exceeds its size, every token of the call costs its rate.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter, mul
from typing import Any, Final

from contracts.prices import Price, PriceBook, PriceSource, UnitPrices
from contracts.usage import TokenUsage, UsageRecord
from faults import PermanentFault

PARTS: Final = tuple(TokenUsage.model_fields)
INPUT_PARTS: Final = (
    "input_tokens",
    "cache_read_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "input_audio_tokens",
)
# Any: counts, which attrgetter cannot say.
COUNTS_OF: Final[Callable[[TokenUsage], Any]] = attrgetter(*PARTS)
INPUTS_OF: Final[Callable[[TokenUsage], Any]] = attrgetter(*INPUT_PARTS)
STANDARD_TIERS: Final = frozenset({None, "default", "standard", "auto"})

Rates = tuple[int, ...]
"""Pico-USD per token, in the order of ``PARTS``."""
Key = tuple[str, str, str | None, bool, str | None]
"""Vendor, model, service tier, batch, tenant."""


class UnknownVariant(PermanentFault):
    """The model has prices, but none for this service tier or batch."""

    code = "unknown-price-variant"


@dataclass(frozen=True, slots=True)
class Rating:
    """What one usage record costs."""

    pico_usd: int
    """The cost, exact."""
    is_known: bool
    """False when the ceiling was used: post to suspense, alert, re-rate later."""
    source: PriceSource
    """Where the price comes from."""


@dataclass(frozen=True, slots=True)
class _Row:
    thresholds: tuple[int, ...]
    rates: tuple[Rates, ...]
    source: PriceSource


class PriceTable:
    """A compiled price book."""

    def __init__(self, book: PriceBook) -> None:
        self.digest: Final = book.digest
        self._ceiling: Final = _rates(book.ceiling)
        self._instants, self._rows = _compile(book.prices)
        self._models: Final = {(price.vendor, price.model) for price in book.prices}

    def rate(self, record: UsageRecord) -> Rating:
        """
        Price one usage record at ``record.occurred_at``.

        Raises:
            UnknownVariant: The model is priced, but not in this tier or batch.
        """
        row = self._find(record)
        if row is None:
            cost = _cost(self._ceiling, record.usage)
            return Rating(cost, is_known=False, source=PriceSource.CEILING)
        size = sum(INPUTS_OF(record.usage))
        # The base tier begins at 0 and holds up to and including the next size.
        tier = max(0, bisect_right(row.thresholds, size - 1) - 1)
        return Rating(
            _cost(row.rates[tier], record.usage), is_known=True, source=row.source
        )

    def _find(self, record: UsageRecord) -> _Row | None:
        tier = None if record.service_tier in STANDARD_TIERS else record.service_tier
        for tenant in (record.tenant, None):
            key = (record.vendor, record.model, tier, record.batch, tenant)
            row = self._in_force(key, record.occurred_at)
            if row is not None:
                return row
        is_variant = tier is not None or record.batch
        if is_variant and (record.vendor, record.model) in self._models:
            message = (
                f"{record.vendor}/{record.model} has no price for service tier "
                f"{tier!r}, batch {record.batch}: add it to the price book"
            )
            raise UnknownVariant(message)
        return None

    def _in_force(self, key: Key, at: datetime) -> _Row | None:
        instants = self._instants.get(key)
        if instants is None:
            return None
        index = bisect_right(instants, at) - 1
        return self._rows[key][index] if index >= 0 else None


def compile_book(book: PriceBook) -> PriceTable:
    """Compile a price book for lookups."""
    return PriceTable(book)


def _rates(prices: UnitPrices) -> Rates:
    return tuple(getattr(prices, part) for part in PARTS)


def _cost(rates: Rates, usage: TokenUsage) -> int:
    return sum(map(mul, rates, COUNTS_OF(usage)))


def _compile(
    prices: tuple[Price, ...],
) -> tuple[Mapping[Key, list[datetime]], Mapping[Key, list[_Row]]]:
    instants: dict[Key, list[datetime]] = defaultdict(list)
    rows: dict[Key, list[_Row]] = defaultdict(list)
    precedence = list(PriceSource)
    # At one instant the later row wins, so overrides are sorted last.
    ordered = sorted(
        prices, key=lambda p: (p.effective_from, precedence.index(p.source))
    )
    for price in ordered:
        key = (price.vendor, price.model, price.service_tier, price.batch, price.tenant)
        tiers = sorted(price.tiers, key=lambda tier: tier.input_tokens_above)
        instants[key].append(price.effective_from)
        rows[key].append(
            _Row(
                tuple(tier.input_tokens_above for tier in tiers),
                tuple(_rates(tier.prices) for tier in tiers),
                price.source,
            )
        )
    return instants, rows
