"""Prices resolve by instant, tenant, variant and tier, exactly."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.prices import Price, PriceSource, PriceTier, UnitPrices
from contracts.usage import EndState, TokenUsage, UsageRecord, UsageSource
from faults import PermanentFault
from pricing import UnknownVariant, compile_book, make_book, read_book
from pricing.book import ListedPrice, PriceDocument

START = datetime(2026, 1, 1, tzinfo=UTC)
COUNTS = st.integers(min_value=0, max_value=10**9)


def flat(pico: int) -> UnitPrices:
    """Return the same price for every part."""
    return UnitPrices(**dict.fromkeys(TokenUsage.model_fields, pico))


def price(pico: int, **options: object) -> Price:
    """Return a flat price of ``sandbox/small`` from START on."""
    fields: dict[str, object] = {
        "vendor": "sandbox",
        "model": "small",
        "effective_from": START,
        "tiers": (PriceTier(input_tokens_above=0, prices=flat(pico)),),
        "source": PriceSource.SANDBOX,
    }
    return Price.model_validate(fields | options)


def record(usage: TokenUsage, **options: object) -> UsageRecord:
    """Return a completed attempt's record at START."""
    fields: dict[str, object] = {
        "attempt_id": "attempt_1",
        "revision": 0,
        "attempt_number": 1,
        "tenant": "acme",
        "completion_id": "step_1:1",
        "vendor": "sandbox",
        "requested_model": "smart",
        "model": "small",
        "usage": usage,
        "source": UsageSource.VENDOR,
        "end_state": EndState.COMPLETED,
        "started_at": START,
        "occurred_at": START,
    }
    return UsageRecord.model_validate(fields | options)


def test_cost_is_the_exact_sum_of_parts() -> None:
    """$0.0375 per million tokens is 37,500 pico-USD a token, to the last one."""
    document = PriceDocument(
        version="test",
        ceiling_input="100",
        ceiling_output="500",
        prices=(
            ListedPrice(
                vendor="sandbox",
                model="small",
                effective_from=START,
                input="0.0375",
                output="0.15",
                cache_read="0.01",
            ),
        ),
    )
    table = compile_book(read_book(document))
    usage = TokenUsage(input_tokens=7, cache_read_tokens=3, output_tokens=2)
    rating = table.rate(record(usage))
    assert rating.pico_usd == 7 * 37_500 + 3 * 10_000 + 2 * 150_000
    assert rating.is_known


@given(st.builds(TokenUsage, input_tokens=COUNTS, output_tokens=COUNTS))
def test_an_unknown_model_costs_the_ceiling(usage: TokenUsage) -> None:
    """A missing price is never zero; it is marked for suspense."""
    table = compile_book(make_book("empty", [], flat(9)))
    rating = table.rate(record(usage))
    assert rating.pico_usd == 9 * usage.total
    assert not rating.is_known


def test_the_price_in_force_at_the_instant_applies() -> None:
    """A change takes effect at its instant: not a microsecond sooner."""
    later = START + timedelta(days=1)
    book = make_book("two", [price(1), price(2, effective_from=later)], flat(9))
    table = compile_book(book)
    one = TokenUsage(input_tokens=1)
    before = later - timedelta(microseconds=1)
    too_early = START - timedelta(seconds=1)
    assert table.rate(record(one, occurred_at=before)).pico_usd == 1
    assert table.rate(record(one, occurred_at=later)).pico_usd == 2
    assert not table.rate(record(one, occurred_at=too_early)).is_known


def test_a_tenants_own_price_wins_for_that_tenant_alone() -> None:
    """An override never leaks to another tenant."""
    book = make_book("own", [price(5), price(3, tenant="acme")], flat(9))
    table = compile_book(book)
    one = TokenUsage(output_tokens=1)
    assert table.rate(record(one)).pico_usd == 3
    assert table.rate(record(one, tenant="globex")).pico_usd == 5


def test_a_tier_is_a_cliff() -> None:
    """Above its size every token of the call costs the tier's rate."""
    tiers = (
        PriceTier(input_tokens_above=0, prices=flat(1)),
        PriceTier(input_tokens_above=100, prices=flat(10)),
    )
    table = compile_book(make_book("tiers", [price(1, tiers=tiers)], flat(9)))
    at_size = TokenUsage(input_tokens=60, cache_read_tokens=40, output_tokens=5)
    above = TokenUsage(input_tokens=61, cache_read_tokens=40, output_tokens=5)
    assert table.rate(record(at_size)).pico_usd == 105
    assert table.rate(record(above)).pico_usd == 1060


def test_an_unknown_variant_is_refused() -> None:
    """A batch or tier without its own price is not billed at the standard one."""
    table = compile_book(make_book("plain", [price(5)], flat(9)))
    with pytest.raises(UnknownVariant, match="batch True"):
        table.rate(record(TokenUsage(input_tokens=1), batch=True))


def test_a_price_with_a_wrong_unit_is_refused() -> None:
    """An amount that is no whole pico-USD per token names its limit."""
    document = PriceDocument(
        version="bad", ceiling_input="0.00000001", ceiling_output="1", prices=()
    )
    with pytest.raises(PermanentFault, match="six decimals"):
        read_book(document)
