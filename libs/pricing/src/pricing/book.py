"""
Price books written by people, in USD per million tokens, frozen into messages.

The document's numbers are decimal strings; 1 USD per million tokens is exactly
1,000,000 pico-USD a token, so every listed price is a whole number of them.
"""

import hashlib
from collections.abc import Sequence
from decimal import Decimal
from typing import Final

import orjson

from contracts.ids import TenantId
from contracts.message import Document, Instant
from contracts.prices import (
    ModelName,
    Price,
    PriceBook,
    PriceSource,
    PriceTier,
    UnitPrices,
)
from faults import PermanentFault

PICO_PER_MILLIONTH: Final = 10**6


class ListedPrice(Document):
    """One row of a price document; amounts are USD per million tokens."""

    vendor: str
    """Catalogue name."""
    model: str
    """The vendor's model name."""
    effective_from: Instant
    """Holds from here on."""
    service_tier: str | None = None
    """Only for this tier; the standard one when absent."""
    batch: bool = False
    """Only for batch calls."""
    tenant: TenantId | None = None
    """Only for this tenant: an override, or what its contract says."""
    input: str
    """Uncached input."""
    output: str
    """Output, reasoning included."""
    cache_read: str | None = None
    """Input read from a cache; as uncached input when absent."""
    cache_write_5m: str | None = None
    """Input written to a five-minute cache; as uncached input when absent."""
    cache_write_1h: str | None = None
    """Input written to a one-hour cache; as uncached input when absent."""
    source: PriceSource = PriceSource.VENDOR_LIST
    """Where it comes from."""


class PriceDocument(Document):
    """The file ``prices.yaml``."""

    version: str
    """A name for people."""
    ceiling_input: str
    """USD per million input tokens when a price is unknown."""
    ceiling_output: str
    """USD per million output tokens when a price is unknown."""
    prices: tuple[ListedPrice, ...]
    """The rows."""


def read_book(document: PriceDocument) -> PriceBook:
    """Freeze a price document into a price book, digest included."""
    rows = tuple(_price(row) for row in document.prices)
    ceiling = _unit_prices(document.ceiling_input, document.ceiling_output)
    return make_book(document.version, rows, ceiling)


def make_book(
    version: str,
    prices: Sequence[Price],
    ceiling: UnitPrices,
    names: Sequence[ModelName] = (),
) -> PriceBook:
    """Build a price book and its digest."""
    rows = tuple(prices)
    return PriceBook(
        version=version,
        digest=book_digest(rows, ceiling, names),
        prices=rows,
        names=tuple(names),
        ceiling=ceiling,
    )


def book_digest(
    prices: Sequence[Price], ceiling: UnitPrices, names: Sequence[ModelName] = ()
) -> str:
    """Return the SHA-256 of the prices' canonical JSON, in hex."""
    content: dict[str, object] = {
        "prices": [_canonical(price) for price in prices],
        "ceiling": ceiling.model_dump(mode="json"),
    }
    if names:
        content["names"] = [name.model_dump(mode="json") for name in names]
    canonical = orjson.dumps(content, option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(canonical).hexdigest()


def _canonical(price: Price) -> dict[str, object]:
    # What is not there is left out: a book keeps its digest when a field is added.
    return price.model_dump(mode="json", exclude=None if price.windows else {"windows"})


def _price(row: ListedPrice) -> Price:
    prices = _unit_prices(
        row.input,
        row.output,
        row.cache_read,
        row.cache_write_5m,
        row.cache_write_1h,
    )
    return Price(
        vendor=row.vendor,
        model=row.model,
        service_tier=row.service_tier,
        batch=row.batch,
        tenant=row.tenant,
        effective_from=row.effective_from,
        tiers=(PriceTier(input_tokens_above=0, prices=prices),),
        source=row.source,
    )


def _unit_prices(
    usd_input: str,
    usd_output: str,
    usd_cache_read: str | None = None,
    usd_cache_write_5m: str | None = None,
    usd_cache_write_1h: str | None = None,
) -> UnitPrices:
    pico_input, pico_output = pico(usd_input), pico(usd_output)
    return UnitPrices(
        input_tokens=pico_input,
        cache_read_tokens=pico(usd_cache_read or usd_input),
        cache_write_5m_tokens=pico(usd_cache_write_5m or usd_input),
        cache_write_1h_tokens=pico(usd_cache_write_1h or usd_input),
        input_audio_tokens=pico_input,
        output_tokens=pico_output,
        reasoning_tokens=pico_output,
        output_audio_tokens=pico_output,
    )


def pico(usd_per_million: str) -> int:
    """
    Return USD per million tokens as pico-USD per token: "0.15" is 150,000.

    Raises:
        PermanentFault: It is negative, or no whole number of pico-USD.
    """
    exact = Decimal(usd_per_million) * PICO_PER_MILLIONTH
    if exact < 0 or exact != exact.to_integral_value():
        message = (
            f"{usd_per_million!r} USD per million tokens is no whole number of "
            "pico-USD per token: give at most six decimals, not below 0"
        )
        raise PermanentFault(message)
    return int(exact)
