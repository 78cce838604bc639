"""The price book: effective-dated prices, pinned by the digest of its content."""

from enum import StrEnum

from pydantic import Field

from contracts.ids import TenantId
from contracts.message import Instant, Message
from contracts.money import PicoUsd


class PriceSource(StrEnum):
    """Where a price comes from."""

    VENDOR_LIST = "vendor-list"
    TENANT_CONTRACT = "tenant-contract"
    TENANT_OVERRIDE = "tenant-override"
    CEILING = "ceiling"
    SANDBOX = "sandbox"


class UnitPrices(Message):
    """Pico-USD per token, part by part of ``TokenUsage``."""

    input_tokens: PicoUsd
    """Uncached input."""
    cache_read_tokens: PicoUsd
    """Input read from the vendor's cache."""
    cache_write_5m_tokens: PicoUsd
    """Input written to a five-minute cache."""
    cache_write_1h_tokens: PicoUsd
    """Input written to a one-hour cache."""
    input_audio_tokens: PicoUsd
    """Audio among the input."""
    output_tokens: PicoUsd
    """Output."""
    reasoning_tokens: PicoUsd
    """Hidden reasoning."""
    output_audio_tokens: PicoUsd
    """Audio among the output."""


class PriceTier(Message):
    """Prices that hold for the whole call once its input exceeds a size."""

    input_tokens_above: int = Field(ge=0)
    """All input, cached or not; 0 is the base tier."""
    prices: UnitPrices
    """Per token."""


class PriceWindow(Message):
    """Prices that hold at some hours of every day, by UTC: an off-peak discount."""

    from_minute: int = Field(ge=0, lt=1_440)
    """Of the day; 0 is midnight."""
    until_minute: int = Field(ge=0, le=1_440)
    """The first minute that it does not hold any more; 1440 is midnight."""
    tiers: tuple[PriceTier, ...] = Field(min_length=1)
    """As in ``Price``, in their place."""


class MatchKind(StrEnum):
    """How a text is looked for in a model's name."""

    EQUALS = "equals"
    STARTS_WITH = "starts-with"
    ENDS_WITH = "ends-with"
    CONTAINS = "contains"
    PATTERN = "pattern"


class ModelName(Message):
    """One name of a model, or many: vendors put dates and regions into them."""

    vendor: str
    """Catalogue name."""
    kind: MatchKind
    """How ``text`` is looked for; the first that is found decides."""
    text: str = Field(min_length=1, max_length=200)
    """In lower case, as the name is before it is looked for."""
    model: str
    """The ``Price.model`` that it is a name of."""


class Price(Message):
    """What one model costs at one vendor, from one instant on."""

    vendor: str
    """Catalogue name."""
    model: str
    """The vendor's model name."""
    service_tier: str | None = None
    """Only for this tier; None is the standard one."""
    batch: bool = False
    """Only for batch calls."""
    tenant: TenantId | None = None
    """Only for this tenant."""
    effective_from: Instant
    """Holds from here until the next row of the same key."""
    tiers: tuple[PriceTier, ...] = Field(min_length=1)
    """By ``input_tokens_above``, rising; the first is 0."""
    source: PriceSource
    """Where it comes from."""
    windows: tuple[PriceWindow, ...] = Field(default=(), max_length=24)
    """Hours with other prices; they do not overlap."""


class PriceBook(Message):
    """All prices; immutable, known by its digest."""

    version: str
    """A name for people: ``2026-11-23``."""
    digest: str = Field(pattern=r"^[0-9a-f]{64}$")
    """SHA-256 of the prices' canonical JSON."""
    prices: tuple[Price, ...]
    """The rows."""
    names: tuple[ModelName, ...] = ()
    """Other names of models, in the order that they are tried in."""
    ceiling: UnitPrices
    """Posted to suspense when a price is unknown; never 0."""


class GetPrices(Message):
    """Ask for a price book."""

    digest: str | None = None
    """A certain one; the newest when absent."""
