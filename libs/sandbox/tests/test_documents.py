"""What the sandbox reads in a document."""

from decimal import Decimal

import pytest

from sandbox.documents import parse_number, read_document


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("1,234.50", "1234.50"),
        ("1.234,50", "1234.50"),
        ("1'234.5", "1234.5"),
        ("12,5", "12.5"),
        ("1,234", "1234"),
        ("1.234.567", "1234567"),
        ("-3.20", "-3.20"),
        ("42", "42"),
    ],
)
def test_numbers_are_read_in_both_notations(written: str, meant: str) -> None:
    """English and continental separators mean the same number."""
    assert parse_number(written) == Decimal(meant)


@pytest.mark.parametrize(
    "line",
    [
        "3 x Widget @ 12.50 = 37.50",
        "- Widget: 3 x 12.50 = 37.50",
        "Widget    3    12.50    37.50",
        "| 1 | Widget | 3 pcs | EUR 12.50 | EUR 37.50 |",
        "1\tWidget\t3\t€12.50\t€37.50",
    ],
)
def test_a_line_item_is_read_in_every_form(line: str) -> None:
    """Quantity, unit price and amount come out whatever the layout."""
    (item,) = read_document(line).items
    assert item.label == "Widget"
    assert (item.quantity, item.unit_price) == (Decimal(3), Decimal("12.50"))
    assert item.stated == Decimal("37.50")


def test_a_letter_gives_labels_items_sums_and_sentences(letter: str) -> None:
    """A realistic letter is taken apart without mixing prose and table."""
    document = read_document(letter)
    assert ("Invoice number", "4711") in document.labels
    assert [item.quantity for item in document.items] == [6, 12, 4, 15]
    assert document.total == Decimal("930.40")
    assert document.currency == "EUR"
    assert document.letterhead == "Nordlicht Office Supplies GmbH"
    assert "The lamps carry a warranty of three years." in document.sentences
    assert not any("Toner" in sentence for sentence in document.sentences)


def test_rates_and_flat_charges_are_told_apart() -> None:
    """VAT with a percentage is a rate on the subtotal, shipping an amount."""
    document = read_document(
        "Subtotal:  100.00\nVAT 20 %:  20.00\nShipping:  5.00\nTotal due: EUR 125.00"
    )
    assert document.subtotal == Decimal(100)
    vat, shipping = document.charges
    assert (vat.rate, vat.stated) == (Decimal(20), Decimal(20))
    assert (shipping.rate, shipping.stated) == (None, Decimal(5))
    assert document.total == Decimal(125)
