"""
Prices looked up by vendor, model, variant, tenant, instant and hour, in microseconds.

Resolution goes tenant override → tenant contract → list price; within one key
the row in force is the newest that is not after the instant. A tier is a cliff:
once the whole input exceeds its size, every token of the call costs its rate. In a
window of the day other tiers hold. A name that nobody has agreed a price on leads to a
model by the book's names of models, in their order; else it is the model's own.
"""

import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import attrgetter, mul
from typing import Any, Final, assert_never

from contracts.prices import (
    MatchKind,
    ModelName,
    Price,
    PriceBook,
    PriceSource,
    PriceTier,
    UnitPrices,
)
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
NAMES_KEPT: Final = 10_000
"""Names whose model is remembered; callers can make up any number."""
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
class _Tiers:
    thresholds: tuple[int, ...]
    rates: tuple[Rates, ...]

    def of(self, size: int) -> Rates:
        """Return the rates of a call with this much input."""
        if len(self.rates) == 1:
            return self.rates[0]
        # The base tier begins at 0 and holds up to and including the next size.
        return self.rates[max(0, bisect_right(self.thresholds, size - 1) - 1)]


@dataclass(frozen=True, slots=True)
class _Row:
    tiers: _Tiers
    windows: tuple[tuple[int, int, _Tiers], ...]
    source: PriceSource

    def at(self, instant: datetime) -> _Tiers:
        """Return the tiers that hold at an instant's time of day."""
        if self.windows:
            at = instant.astimezone(UTC)
            minute = at.hour * 60 + at.minute
            for begins, ends, tiers in self.windows:
                if begins <= minute < ends:
                    return tiers
        return self.tiers


class PriceTable:
    """A compiled price book."""

    def __init__(self, book: PriceBook) -> None:
        self.digest: Final = book.digest
        self._ceiling: Final = _rates(book.ceiling)
        self._instants, self._rows = _compile(book.prices)
        self._models: Final = {(price.vendor, price.model) for price in book.prices}
        self._names: Final = _by_vendor(book.names)
        self._agreed: Final = {
            (price.vendor, price.model)
            for price in book.prices
            if price.source is not PriceSource.VENDOR_LIST
            or price.vendor not in self._names
        }
        self._found: dict[tuple[str, str], str] = {}

    def rate(self, record: UsageRecord) -> Rating:
        """
        Price one usage record at ``record.occurred_at``.

        Raises:
            UnknownVariant: The model is priced, but not in this tier or batch.
        """
        counts = COUNTS_OF(record.usage)
        row = self._find(record)
        if row is None:
            cost = sum(map(mul, self._ceiling, counts))
            return Rating(cost, is_known=False, source=PriceSource.CEILING)
        rates = row.at(record.occurred_at).of(sum(counts[: len(INPUT_PARTS)]))
        return Rating(sum(map(mul, rates, counts)), is_known=True, source=row.source)

    def model_of(self, vendor: str, name: str) -> str:
        """Return the model that the book prices a name as; the name if it has none."""
        if (vendor, name) in self._agreed:
            return name
        found = self._found.get((vendor, name))
        if found is None:
            found = self._look_up(vendor, name)
            if len(self._found) >= NAMES_KEPT:
                self._found.clear()
            self._found[vendor, name] = found
        return found

    def _look_up(self, vendor: str, name: str) -> str:
        lowered = name.lower()
        for matches, model in self._names.get(vendor, ()):
            if matches(lowered):
                return model
        return name

    def _find(self, record: UsageRecord) -> _Row | None:
        tier = None if record.service_tier in STANDARD_TIERS else record.service_tier
        model = self.model_of(record.vendor, record.model)
        for tenant in (record.tenant, None):
            key = (record.vendor, model, tier, record.batch, tenant)
            row = self._in_force(key, record.occurred_at)
            if row is not None:
                return row
        is_variant = tier is not None or record.batch
        if is_variant and (record.vendor, model) in self._models:
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
    """
    Compile a price book for lookups.

    Raises:
        PermanentFault: A name's pattern is no regular expression.
    """
    return PriceTable(book)


def _rates(prices: UnitPrices) -> Rates:
    return tuple(getattr(prices, part) for part in PARTS)


def _tiers(tiers: tuple[PriceTier, ...]) -> _Tiers:
    ordered = sorted(tiers, key=lambda tier: tier.input_tokens_above)
    return _Tiers(
        tuple(tier.input_tokens_above for tier in ordered),
        tuple(_rates(tier.prices) for tier in ordered),
    )


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
        windows = tuple(
            (each.from_minute, each.until_minute, _tiers(each.tiers))
            for each in price.windows
        )
        instants[key].append(price.effective_from)
        rows[key].append(_Row(_tiers(price.tiers), windows, price.source))
    return instants, rows


def _by_vendor(
    names: tuple[ModelName, ...],
) -> Mapping[str, list[tuple[Callable[[str], object], str]]]:
    found: dict[str, list[tuple[Callable[[str], object], str]]] = defaultdict(list)
    for name in names:
        found[name.vendor].append((_matcher(name), name.model))
    return found


def _matcher(name: ModelName) -> Callable[[str], object]:
    text = name.text
    match name.kind:
        case MatchKind.EQUALS:
            return text.__eq__
        case MatchKind.STARTS_WITH:
            return lambda asked: asked.startswith(text)
        case MatchKind.ENDS_WITH:
            return lambda asked: asked.endswith(text)
        case MatchKind.CONTAINS:
            return lambda asked: text in asked
        case MatchKind.PATTERN:
            try:
                return re.compile(text).search
            except re.error as cause:
                message = f"the name {text!r} of {name.model} is no pattern: {cause}"
                raise PermanentFault(message) from cause
        case _:
            assert_never(name.kind)
