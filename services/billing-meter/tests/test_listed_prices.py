"""The price file's list prices are the vendors' own, by an independent catalogue."""

from pathlib import Path

from genai_prices import Usage, calc_price

from billing_meter.app import load_book
from contracts.prices import PriceSource

PRICES = Path(__file__).parents[1] / "prices.yaml"
MILLION = 1_000_000


def test_list_prices_agree_with_genai_prices() -> None:
    """A price that was mistyped, or that a vendor has changed, is noticed."""
    book = load_book(PRICES)
    listed = [each for each in book.prices if each.source is PriceSource.VENDOR_LIST]
    assert listed
    for price in listed:
        (tier,) = price.tiers
        usage = Usage(input_tokens=MILLION, output_tokens=MILLION)
        found = calc_price(usage, model_ref=price.model, provider_id=price.vendor)
        expected = (found.input_price * 10**12, found.output_price * 10**12)
        prices = tier.prices
        assert (prices.input_tokens, prices.output_tokens) == tuple(
            int(each / MILLION) for each in expected
        ), price.model
