"""
The list prices of the pinned ``genai-prices`` package, frozen into a price book.

Only the importer and tests come here: what the package knows is asked at every instant
where one of its prices may change, and at every time of day, by its own resolution of
dates, hours and variants. So a row says what the package would have said, and the book
needs neither the package nor its network client.

Left out: models without a price per input token (by the hour, by the page), which the
notes name; units that are no tokens (web searches); and variants that no usage record
can name (routes, speeds).
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_CEILING, Decimal
from importlib.metadata import version
from itertools import pairwise
from typing import Final, assert_never

from genai_prices.data import providers
from genai_prices.types import (
    ClauseAnd,
    ClauseContains,
    ClauseEndsWith,
    ClauseEquals,
    ClauseOr,
    ClauseRegex,
    ClauseStartsWith,
    ConditionalPrice,
    MatchLogic,
    ModelInfo,
    ModelPrice,
    Provider,
    StartDateConstraint,
    TieredPrices,
    TimeOfDateConstraint,
)

from contracts.prices import (
    MatchKind,
    ModelName,
    Price,
    PriceBook,
    PriceSource,
    PriceTier,
    PriceWindow,
    UnitPrices,
)
from pricing.book import PICO_PER_MILLIONTH, make_book

BEGINNING: Final = date(2020, 1, 1)
"""The first price of a model holds from here on."""
DAY_MINUTES: Final = 1_440
VENDORS: Final = {
    "openai": "openai",
    "anthropic": "anthropic",
    "azure": "azure",
    "google": "google",
    "deepseek": "deepseek",
    "moonshotai": "moonshotai",
    "zhipuai": "zhipuai",
    "mistral": "mistral",
    "groq": "groq",
    "together": "together",
}
"""Catalogue name → the package's. OpenRouter's 923 models make too large a book."""
KEYS: Final = {
    "input_tokens": ("input_mtok",),
    "cache_read_tokens": ("cache_read_mtok", "input_mtok"),
    "cache_write_5m_tokens": ("cache_write_5m_mtok", "cache_write_mtok", "input_mtok"),
    "cache_write_1h_tokens": ("cache_write_1h_mtok", "cache_write_mtok", "input_mtok"),
    "input_audio_tokens": ("input_audio_mtok", "input_mtok"),
    "output_tokens": ("output_mtok",),
    "reasoning_tokens": ("output_reasoning_mtok", "output_mtok"),
    "output_audio_tokens": ("output_audio_mtok", "output_mtok"),
}
"""Where each part's price is found; the first that there is counts."""


@dataclass(frozen=True, slots=True)
class Variant:
    """What a call may ask for beside its model, in our words and the package's."""

    service_tier: str | None
    is_batch: bool
    context: Mapping[str, str]


STANDARD: Final = Variant(None, is_batch=False, context={})


@dataclass
class Notes:
    """What the importer could not take as it is."""

    skipped: list[str] = field(default_factory=list[str])
    rounded: set[str] = field(default_factory=set[str])
    """Models with a price that is no whole pico-USD: rounded up to the next."""


def import_book(seed: PriceBook, vendors: Iterable[str] = VENDORS) -> PriceBook:
    """Return the seed's book with the package's prices of these vendors."""
    return import_with_notes(seed, vendors)[0]


def import_with_notes(
    seed: PriceBook, vendors: Iterable[str] = VENDORS
) -> tuple[PriceBook, Notes]:
    """
    Return the book, and what could not be taken as it is.

    Args:
        seed: Its rows of other vendors, its tenants' rows and its ceiling are kept.
        vendors: Catalogue names.
    """
    notes, wanted = Notes(), tuple(vendors)
    known = {provider.id: provider for provider in providers}
    prices = [
        each
        for each in seed.prices
        if each.vendor not in wanted or each.tenant is not None
    ]
    names = [each for each in seed.names if each.vendor not in wanted]
    for vendor in wanted:
        provider = known[VENDORS[vendor]]
        for model, is_own in _models(provider, known):
            rows = list(_rows(vendor, model, notes, has_variants=is_own))
            if not rows:
                notes.skipped.append(f"{vendor}/{model.id}: no price per input token")
            prices += rows
            # Without rows too: its names must not lead to the next model that fits.
            names += _names(vendor, model)
    title = f"genai-prices {version('genai-prices')}"
    return make_book(title, prices, seed.ceiling, names), notes


def _models(
    provider: Provider, known: Mapping[str, Provider]
) -> Iterator[tuple[ModelInfo, bool]]:
    """Yield a provider's models, then those of whom it resells."""
    mine = {model.id for model in provider.models}
    yield from ((model, True) for model in provider.models)
    for other in provider.fallback_model_providers or ():
        for model in known[other].models:
            if model.id not in mine:
                mine.add(model.id)
                # The package gives resold models their standard price alone.
                yield model, False


def _rows(
    vendor: str, model: ModelInfo, notes: Notes, *, has_variants: bool
) -> Iterator[Price]:
    variants = _variants(model) if has_variants else ()
    for variant in (STANDARD, *variants):
        last: Price | None = None
        for at in _dates(model, variant):
            row = _row(vendor, model, variant, at, notes)
            if row is None:
                continue
            same = {"effective_from": row.effective_from}
            if last is None or last.model_copy(update=same) != row:
                last = row
                yield row


def _variants(model: ModelInfo) -> Sequence[Variant]:
    found: dict[tuple[tuple[str, str], ...], Variant] = {}
    for each in model.price_variants or ():
        key = tuple(sorted(each.when.items()))
        match key:
            case (("service_tier", tier),) if tier != "default":
                found[key] = Variant(tier, is_batch=False, context=each.when)
            case (("processing", "batch"),):
                found[key] = Variant(None, is_batch=True, context=each.when)
            case _:
                continue
    return list(found.values())


def _dates(model: ModelInfo, variant: Variant) -> Sequence[date]:
    """Return every date at which the variant's price may change, its first included."""
    starts = {
        each.constraint.start_date
        for each in _conditional(model)
        if isinstance(each.constraint, StartDateConstraint)
    }
    if not variant.context:
        return sorted({BEGINNING, *starts})
    own = [
        each.constraint.start_date
        if isinstance(each.constraint, StartDateConstraint)
        else BEGINNING
        for each in model.price_variants or ()
        if dict(each.when) == dict(variant.context)
    ]
    # Before the variant was there the package would quote the standard price: no row.
    return sorted(each for each in {*own, *starts} if each >= min(own))


def _row(
    vendor: str, model: ModelInfo, variant: Variant, at: date, notes: Notes
) -> Price | None:
    cuts = _cuts(model)
    pieces = [
        (begins, ends, _tiers(model, variant, _instant(at, begins), notes))
        for begins, ends in pairwise((*cuts, DAY_MINUTES))
    ]
    lasting: dict[tuple[PriceTier, ...], int] = {}
    for begins, ends, tiers in pieces:
        if tiers is None:
            return None
        lasting[tiers] = lasting.get(tiers, 0) + ends - begins
    # What holds for most of the day is the price, the rest are its windows.
    usual = max(lasting, key=lambda tiers: lasting[tiers])
    return Price(
        vendor=vendor,
        model=model.id,
        service_tier=variant.service_tier,
        batch=variant.is_batch,
        effective_from=_instant(at, 0),
        tiers=usual,
        source=PriceSource.VENDOR_LIST,
        windows=tuple(
            PriceWindow(from_minute=begins, until_minute=ends, tiers=tiers)
            for begins, ends, tiers in pieces
            if tiers is not None and tiers != usual
        ),
    )


def _cuts(model: ModelInfo) -> Sequence[int]:
    """Return the minutes of the day at which a price may change; 0 among them."""
    found = {0}
    for each in _conditional(model):
        if isinstance(each.constraint, TimeOfDateConstraint):
            found |= {_minute(each.constraint.start_time)}
            found |= {_minute(each.constraint.end_time)}
    return sorted(found)


def _minute(at: time) -> int:
    """Return a time's minute of the UTC day."""
    zoned = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    whole = datetime.combine(date(1970, 1, 2), zoned).astimezone(UTC)
    return whole.hour * 60 + whole.minute


def _instant(at: date, minute: int) -> datetime:
    return datetime(at.year, at.month, at.day, tzinfo=UTC) + timedelta(minutes=minute)


def _conditional(model: ModelInfo) -> Sequence[ConditionalPrice]:
    return [] if isinstance(model.prices, ModelPrice) else model.prices


def _tiers(
    model: ModelInfo, variant: Variant, at: datetime, notes: Notes
) -> tuple[PriceTier, ...] | None:
    """Return the prices at an instant; None without one per input token."""
    found = model.get_prices(at, dict(variant.context) or None)
    listed: dict[str, Decimal | TieredPrices] = {
        key: price
        for keys in KEYS.values()
        for key in keys
        if (price := getattr(found, key)) is not None
    }
    if "input_mtok" not in listed:
        return None
    sizes = {0}
    for price in listed.values():
        if isinstance(price, TieredPrices):
            sizes |= {tier.start for tier in price.tiers}
    return tuple(
        PriceTier(input_tokens_above=size, prices=_units(model, listed, size, notes))
        for size in sorted(sizes)
    )


def _units(
    model: ModelInfo,
    listed: Mapping[str, Decimal | TieredPrices],
    size: int,
    notes: Notes,
) -> UnitPrices:
    def pico(part: str) -> int:
        for key in KEYS[part]:
            if (price := listed.get(key)) is not None:
                exact = _in_tier(price, size) * PICO_PER_MILLIONTH
                whole = exact.to_integral_value(rounding=ROUND_CEILING)
                if whole != exact:
                    notes.rounded.add(model.id)
                return int(whole)
        return 0  # a model that only reads, such as one of embeddings

    return UnitPrices.model_validate({part: pico(part) for part in KEYS})


def _in_tier(price: Decimal | TieredPrices, size: int) -> Decimal:
    if isinstance(price, Decimal):
        return price
    reached = [tier.price for tier in price.tiers if tier.start <= size and size > 0]
    return reached[-1] if reached else price.base


def _names(vendor: str, model: ModelInfo) -> Iterator[ModelName]:
    clauses: list[MatchLogic] = [model.match]
    while clauses:
        clause = clauses.pop(0)
        match clause:
            case ClauseOr():
                clauses = [*clause.or_, *clauses]
                continue
            case ClauseAnd():
                kind = MatchKind.PATTERN
                text = "^" + "".join(f"(?={_pattern(each)})" for each in clause.and_)
            case ClauseRegex():
                kind, text = MatchKind.PATTERN, clause.regex
            case ClauseEquals():
                kind, text = MatchKind.EQUALS, clause.equals.lower()
            case ClauseStartsWith():
                kind, text = MatchKind.STARTS_WITH, clause.starts_with.lower()
            case ClauseEndsWith():
                kind, text = MatchKind.ENDS_WITH, clause.ends_with.lower()
            case ClauseContains():
                kind, text = MatchKind.CONTAINS, clause.contains.lower()
            case _:
                assert_never(clause)
        yield ModelName(vendor=vendor, kind=kind, text=text, model=model.id)


def _pattern(clause: MatchLogic) -> str:
    """Return what a whole name must match for one condition among several."""
    match clause:
        case ClauseEquals():
            return re.escape(clause.equals.lower()) + "$"
        case ClauseStartsWith():
            return re.escape(clause.starts_with.lower())
        case ClauseEndsWith():
            return ".*" + re.escape(clause.ends_with.lower()) + "$"
        case ClauseContains():
            return ".*" + re.escape(clause.contains.lower())
        case ClauseRegex():
            return ".*(?:" + clause.regex + ")"
        case ClauseOr():
            return "(?:" + "|".join(map(_pattern, clause.or_)) + ")"
        case ClauseAnd():
            return "".join(f"(?={_pattern(each)})" for each in clause.and_)
        case _:
            assert_never(clause)
