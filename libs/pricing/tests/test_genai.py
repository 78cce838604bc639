"""The frozen book held against ``genai-prices`` itself, over thousands of calls."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import TypeVar

import pytest
from genai_prices import Usage, calc_price
from genai_prices.data import providers
from genai_prices.types import ModelInfo, ModelPrice, StartDateConstraint

from contracts.money import PICO_PER_USD
from contracts.prices import MatchKind, PriceBook, UnitPrices
from contracts.usage import EndState, TokenUsage, UsageRecord, UsageSource
from determinism import SeededIds
from pricing import UnknownVariant, compile_book, make_book
from pricing.book import pico
from pricing.genai import VENDORS, import_with_notes
from pricing.table import PARTS, PriceTable

T = TypeVar("T")

CASES = 6_000
CEILING = UnitPrices.model_validate(dict.fromkeys(PARTS, pico("500")))
EMPTY = make_book("empty", (), CEILING)
BOOK, NOTES = import_with_notes(EMPTY)
TABLE = compile_book(BOOK)
SIZES = (0, 1, 7, 1_000, 128_000, 200_000, 200_001, 272_000, 272_001, 900_000)


class Chance:
    """Draws that a seed repeats."""

    def __init__(self, seed: int) -> None:
        self._ids = SeededIds(seed)

    def choice(self, of: Sequence[T]) -> T:
        """Return one of them."""
        return of[int(self._ids.uniform() * len(of))]


def record(vendor: str, model: str, **options: object) -> UsageRecord:
    """Return a completed attempt's record."""
    fields: dict[str, object] = {
        "attempt_id": "attempt_1",
        "revision": 0,
        "attempt_number": 1,
        "tenant": "acme",
        "completion_id": "step_1:1",
        "vendor": vendor,
        "requested_model": "smart",
        "model": model,
        "usage": TokenUsage(),
        "source": UsageSource.VENDOR,
        "end_state": EndState.COMPLETED,
        "started_at": datetime(2026, 11, 1, tzinfo=UTC),
        "occurred_at": datetime(2026, 11, 1, tzinfo=UTC),
    }
    return UsageRecord.model_validate(fields | options)


def expected(used: UsageRecord, context: dict[str, str]) -> int:
    """Return what the package says that a call costs, in pico-USD."""
    usage = used.usage
    written = usage.cache_write_5m_tokens + usage.cache_write_1h_tokens
    counts = Usage(
        input_tokens=usage.input_tokens
        + usage.cache_read_tokens
        + written
        + usage.input_audio_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=written,
        cache_write_5m_tokens=usage.cache_write_5m_tokens,
        cache_write_1h_tokens=usage.cache_write_1h_tokens,
        input_audio_tokens=usage.input_audio_tokens,
        cache_audio_read_tokens=0,
        cache_audio_write_tokens=0,
        output_tokens=usage.output_tokens
        + usage.reasoning_tokens
        + usage.output_audio_tokens,
        output_reasoning_tokens=usage.reasoning_tokens,
        output_audio_tokens=usage.output_audio_tokens,
    )
    found = calc_price(
        counts,
        model_ref=used.model,
        provider_id=VENDORS[used.vendor],
        genai_request_timestamp=used.occurred_at,
        price_context=context or None,
    )
    exact = (found.input_price + found.output_price) * PICO_PER_USD
    assert exact == int(exact)
    return int(exact)


def drawn_usage(chance: Chance) -> TokenUsage:
    """Return counts on and around the sizes at which prices change."""
    parts = {part: chance.choice((0, 0, chance.choice(SIZES))) for part in PARTS}
    return TokenUsage(**parts | {"input_tokens": chance.choice(SIZES)})


def drawn_instant(model: ModelInfo, chance: Chance) -> datetime:
    """Return a time on and around the dates and hours at which prices change."""
    prices = [] if isinstance(model.prices, ModelPrice) else model.prices
    conditions = [each.constraint for each in (*prices, *(model.price_variants or ()))]
    days = [e.start_date for e in conditions if isinstance(e, StartDateConstraint)]
    day = chance.choice([*days, date(2026, 11, 20), date(2025, 2, 1)])
    minutes = chance.choice((0, 29, 30, 60, 239, 240, 360, 600, 989, 990, 1_439))
    at = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return at + timedelta(minutes=minutes, microseconds=chance.choice((-1, 0, 1)))


def drawn_context(model: ModelInfo, chance: Chance) -> dict[str, str]:
    """Return the standard tier, or a variant that a record can name."""
    wanted = ("service_tier", "processing")
    known = [
        dict(each.when)
        for each in model.price_variants or ()
        if set(each.when) <= set(wanted) and each.when.get("service_tier") != "default"
    ]
    return chance.choice([{}, *known])


def names_of(vendor: str, model: str) -> list[str]:
    """Return names that the book knows of a model."""
    found = {
        MatchKind.EQUALS: "{}",
        MatchKind.STARTS_WITH: "{}-2026-11-20",
        MatchKind.ENDS_WITH: "eu.{}",
        MatchKind.CONTAINS: "eu.{}-latest",
    }
    return [model] + [
        found[name.kind].format(name.text)
        for name in BOOK.names
        if name.vendor == vendor and name.model == model and name.kind in found
    ]


def test_thousands_of_calls_cost_what_the_package_says() -> None:
    """Dates, hours, tiers, variants, caches and names: equal to the last pico-USD."""
    chance, told = Chance(7), Counter[str]()
    priced = {(each.vendor, each.model) for each in BOOK.prices}
    known = {provider.id: provider for provider in providers}
    own = [
        (vendor, model)
        for vendor, provider in VENDORS.items()
        for model in known[provider].models
        if (vendor, model.id) in priced
    ]
    for _ in range(CASES):
        vendor, model = chance.choice(own)
        name = chance.choice(names_of(vendor, model.id))
        context = drawn_context(model, chance)
        used = record(
            vendor,
            name,
            usage=drawn_usage(chance),
            occurred_at=drawn_instant(model, chance),
            service_tier=context.get("service_tier"),
            batch=context.get("processing") == "batch",
        )
        try:
            rating = TABLE.rate(used)
        except UnknownVariant:
            # The package would quote the standard price of a variant not yet there.
            told["refused"] += 1
            assert context
            continue
        if not rating.is_known:
            # A name that leads to a model which is priced by the hour.
            told["unknown"] += 1
            continue
        try:
            cost = expected(used, context)
        except LookupError:
            # The package does not find a model by its own id; the book does.
            assert name == model.id
            continue
        assert rating.pico_usd == cost, used
        told["variant" if context else "standard"] += 1
    assert told["standard"] > CASES // 2
    assert told["variant"] > 100
    assert told["unknown"] < CASES // 100
    assert 0 < told["refused"] < CASES // 10


def test_what_an_importer_cannot_take_is_named() -> None:
    """A model that is left out is unknown later: it must not go in silence."""
    assert NOTES.rounded == set()
    assert any("openai/tts-1" in text for text in NOTES.skipped)


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("gpt-4o-2024-08-06", "gpt-4o"),
        ("GPT-4o", "gpt-4o"),
        ("gpt-5.6-luna-2026-07-01", "gpt-5.6-luna"),
        ("nobody-has-this", "nobody-has-this"),
    ],
)
def test_a_name_leads_to_its_model(name: str, model: str) -> None:
    """Vendors put dates into the names of what ran."""
    assert TABLE.model_of("openai", name) == model


def test_an_off_peak_hour_has_its_own_price() -> None:
    """DeepSeek's window begins and ends at its minute, by UTC."""
    usage = TokenUsage(input_tokens=1_000_000)

    def cost(hour: int, minute: int) -> int:
        at = datetime(2025, 6, 3, hour, minute, tzinfo=UTC)
        used = record("deepseek", "deepseek-chat", usage=usage, occurred_at=at)
        return TABLE.rate(used).pico_usd

    peak, off_peak = cost(0, 30), cost(0, 29)
    assert (peak, off_peak) == (cost(16, 29), cost(16, 30))
    assert off_peak < peak


def test_a_book_keeps_its_digest_over_the_wire() -> None:
    """Whoever fetches it can tell that it is the one that was approved."""
    again = PriceBook.model_validate_json(BOOK.encode())
    assert make_book("again", again.prices, again.ceiling, again.names) == (
        BOOK.model_copy(update={"version": "again"})
    )


def test_the_frozen_book_has_no_cheaper_reader() -> None:
    """A table of another book does not remember this one's names."""
    other = PriceTable(EMPTY)
    assert other.model_of("openai", "gpt-4o-2024-08-06") == "gpt-4o-2024-08-06"
